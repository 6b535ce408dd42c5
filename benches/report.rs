//! Updates docs/benchmarks.md with new results, and lists regressions. `benches/run` calls it.
//!
//! `report LINES HOW NEW` reads the results of `$PODIUM_FIGURES` from the file LINES. It writes the page with new parts, each headed
//! by HOW, to the file NEW, and prints regressions from the present page.

use std::process::ExitCode;

use podium_test_support::bench::figures::Line;
use podium_test_support::bench::page;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.md");

fn main() -> ExitCode {
    // Cargo adds an argument.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let listed = match arguments.as_slice() {
        [lines, how, new] => report(lines, how, new),
        _ => Err("usage: report LINES HOW NEW; `benches/run` calls it".to_owned()),
    };
    match listed {
        Ok(listed) => {
            println!("{listed}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn report(lines: &str, how: &str, new: &str) -> Result<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let lines: Result<Vec<Line>, _> = read(lines)?.lines().map(serde_json::from_str).collect();
    let lines = lines.map_err(|error| format!("invalid line: {error}"))?;
    let page = read(PAGE)?;
    let listed = page::regressions(&page, &lines)?;
    std::fs::write(new, page::updated(&page, &lines, how)?).map_err(|error| format!("{new}: {error}"))?;
    if listed.is_empty() {
        return Ok("No regression from docs/benchmarks.md, and no missed aim.".to_owned());
    }
    let percent = page::TOLERANCE * 100.0;
    Ok(format!("Worse than docs/benchmarks.md by more than {percent} %, or than the aim:\n  {}", listed.join("\n  ")))
}
