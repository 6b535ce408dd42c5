//! Puts what benchmarks found into docs/benchmarks.md, and says what got worse. For `benches/run`.
//!
//! `report LINES HOW NEW`: reads the lines that `$PODIUM_FIGURES` collected in the file LINES, writes the page with their parts
//! replaced, and HOW above each, to the file NEW, and prints what compares badly with the page as it is.

#[allow(dead_code, reason = "the benchmarks use the rest of it")]
#[path = "harness/figures.rs"]
mod figures;
#[path = "harness/page.rs"]
mod page;

use std::process::ExitCode;

use figures::Line;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.md");

fn main() -> ExitCode {
    // Cargo adds its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let told = match arguments.as_slice() {
        [lines, how, new] => report(lines, how, new),
        _ => Err("usage: report LINES HOW NEW; `benches/run` calls it".to_owned()),
    };
    match told {
        Ok(told) => {
            println!("{told}");
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
    let lines = lines.map_err(|error| format!("a line that no benchmark wrote: {error}"))?;
    let page = read(PAGE)?;
    let told = page::compared(&page, &lines)?;
    std::fs::write(new, page::renewed(&page, &lines, how)?).map_err(|error| format!("{new}: {error}"))?;
    if told.is_empty() {
        return Ok("Nothing is worse than in docs/benchmarks.md, and no aim is missed.".to_owned());
    }
    let percent = page::TOLERANCE * 100.0;
    Ok(format!("Worse than in docs/benchmarks.md by more than {percent} %, or than aimed at:\n  {}", told.join("\n  ")))
}
