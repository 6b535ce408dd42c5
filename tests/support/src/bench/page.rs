//! Updates the measured parts of docs/benchmarks.md, and compares new results with them.
//!
//! A measured part stands between `<!-- measured: NAME -->` and `<!-- end -->`. The rest of the page does not change.

use std::time::Duration;

use super::figures::{Better, Figure, Found, Line, Times, Unit, duration, format_aim, measure};

/// Values that are worse than the page by no more than this share are not listed. The medians of two runs of the same program
/// mostly differ by less.
pub const TOLERANCE: f64 = 0.25;

/// Returns the page with new parts of the benchmarks that ran. `how` names machine, date and commit.
pub fn updated(page: &str, lines: &[Line], how: &str) -> Result<String, String> {
    let mut page = page.to_owned();
    for bench in benches(lines) {
        let (before, rest) = around(&page, bench)?;
        page = format!("{before}\n{}{rest}", part(&of(lines, bench), how));
    }
    Ok(page)
}

/// Lists values that are worse than the page by more than the tolerance, missed targets, and values that only the page has.
pub fn regressions(page: &str, lines: &[Line]) -> Result<Vec<String>, String> {
    let mut listed = Vec::new();
    for bench in benches(lines) {
        let (before, rest) = around(page, bench)?;
        let measured = &page[before.len()..page.len() - rest.len()];
        let rows: Vec<(&str, f64)> = measured.lines().filter_map(row).collect();
        let found = of(lines, bench);
        for (what, _) in &rows {
            if !found.iter().any(|found| name(found) == *what) {
                listed.push(format!("{bench}: {what}: missing in this run"));
            }
        }
        for found in found {
            let before = rows.iter().find(|(what, _)| *what == name(found)).map(|(_, value)| *value);
            listed.extend(regression(found, before).map(|sentence| format!("{bench}: {}: {sentence}", name(found))));
        }
    }
    Ok(listed)
}

fn regression(found: &Found, before: Option<f64>) -> Option<String> {
    match found {
        Found::Figure(figure) => {
            let missed = figure.aim.is_some_and(|aim| !aim.is_met(figure.value));
            let worse = before.filter(|before| is_worse(*before, figure.value, figure.better));
            let machine = if figure.unit.depends_on_machine() { " (depends on the machine, not judged)" } else { "" };
            let now = measure(figure.value, figure.unit);
            match (worse, missed) {
                (Some(before), _) => Some(format!("{}, was {}{machine}", now, measure(before, figure.unit))),
                (None, true) => Some(format!("{now}, aim {}", format_aim(figure))),
                (None, false) => None,
            }
        }
        Found::Times(Times { spread, .. }) => {
            let before = before.filter(|before| is_worse(*before, spread.median.as_secs_f64(), Better::Lower))?;
            let was = duration(Duration::from_secs_f64(before));
            Some(format!("median {}, was {was} (depends on the machine, not judged)", duration(spread.median)))
        }
    }
}

fn is_worse(before: f64, now: f64, better: Better) -> bool {
    match better {
        Better::Lower => now > before * (1.0 + TOLERANCE),
        Better::Higher => now < before * (1.0 - TOLERANCE),
        Better::Neither => false,
    }
}

/// Returns the names of the benchmarks, in the order of the lines.
fn benches(lines: &[Line]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for line in lines {
        if !names.contains(&line.bench.as_str()) {
            names.push(&line.bench);
        }
    }
    names
}

fn of<'a>(lines: &'a [Line], bench: &str) -> Vec<&'a Found> {
    lines.iter().filter(|line| line.bench == bench).map(|line| &line.found).collect()
}

fn name(found: &Found) -> &str {
    match found {
        Found::Figure(figure) => &figure.what,
        Found::Times(times) => &times.what,
    }
}

/// Splits the page after the part's first mark and before its second.
fn around<'a>(page: &'a str, bench: &str) -> Result<(&'a str, &'a str), String> {
    let (begin, end) = (format!("<!-- measured: {bench} -->"), "<!-- end -->");
    let from = page.find(&begin).ok_or(format!("docs/benchmarks.md has no line {begin}"))? + begin.len();
    let until = page[from..].find(end).ok_or(format!("docs/benchmarks.md has no {end} after {begin}"))? + from;
    Ok((&page[..from], &page[until..]))
}

fn part(found: &[&Found], how: &str) -> String {
    let mut part = format!("{how}\n");
    let figures: Vec<&Figure> =
        found.iter().filter_map(|it| if let Found::Figure(figure) = it { Some(figure) } else { None }).collect();
    let times: Vec<&Times> =
        found.iter().filter_map(|it| if let Found::Times(times) = it { Some(times) } else { None }).collect();
    if !figures.is_empty() {
        part += "\n| figure | measured | aim |\n|---|---|---|\n";
    }
    for figure in figures {
        part += &format!("| {} | {} | {} |\n", figure.what, measure(figure.value, figure.unit), format_aim(figure));
    }
    if !times.is_empty() {
        part += "\n| interval | median | 99th percentile | worst | of |\n|---|---|---|---|---|\n";
    }
    for Times { what, spread } in times {
        let [median, p99, worst] = [spread.median, spread.p99, spread.worst].map(duration);
        part += &format!("| {what} | {median} | {p99} | {worst} | {} |\n", spread.number);
    }
    part
}

/// Returns name and value of a table row. Durations of the tables of times are in seconds.
fn row(line: &str) -> Option<(&str, f64)> {
    let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
    let (what, value) = (*cells.first()?, *cells.get(1)?);
    let (number, symbol) = value.split_once(' ').unwrap_or((value, ""));
    let number: f64 = number.replace(',', "").parse().ok()?;
    let seconds = match symbol {
        _ if cells.len() != 5 => 1.0,
        symbol if symbol == Unit::Microseconds.symbol() => 1e-6,
        symbol if symbol == Unit::Milliseconds.symbol() => 1e-3,
        _ => 1.0,
    };
    Some((what, number * seconds))
}
