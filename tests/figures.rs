//! `make bench` prints figures, writes them into docs/benchmarks.md, and lists regressions.

use std::time::Duration;

use podium_test_support::bench::figures::{Aim, Better, Figure, Found, Line, Spread, Times, Unit, measure};
use podium_test_support::bench::page::{regressions, updated};

const PAGE: &str = "# Text\n\n<!-- measured: a -->\n<!-- end -->\n\nMore.\n<!-- measured: b -->\n<!-- end -->\nLast.\n";

#[test]
fn value_is_printed_with_three_significant_digits() {
    for (value, unit, printed) in [
        (0.0, Unit::Count, "0"),
        (1.2345, Unit::Ratio, "1.23 ×"),
        (0.012_345, Unit::PerMinute, "0.0123 /min"),
        (99.96, Unit::Milliseconds, "100.0 ms"),
        (345.6, Unit::Milliseconds, "346 ms"),
        (30_000.0, Unit::Count, "30,000"),
        (1_234_567.0, Unit::Bytes, "1,234,567 B"),
    ] {
        assert_eq!(measure(value, unit), printed);
    }
}

#[test]
fn percentile_is_the_nearest_rank() {
    let of = |number: u64| -> Vec<Duration> { (1..=number).rev().map(Duration::from_millis).collect() };
    let spread = |number| Spread::of(&of(number)).map(|it| (it.median.as_millis(), it.p99.as_millis(), it.number));
    assert_eq!(spread(0), None);
    assert_eq!(spread(1), Some((1, 1, 1)));
    assert_eq!(spread(4), Some((2, 4, 4)));
    assert_eq!(spread(60), Some((30, 60, 60)));
    assert_eq!(spread(200), Some((100, 198, 200)));
}

fn figure(bench: &str, what: &str, value: f64, unit: Unit, better: Better, aim: Option<Aim>) -> Line {
    Line { bench: bench.into(), found: Found::Figure(Figure { what: what.into(), value, unit, better, aim }) }
}

fn ratio(value: f64) -> Line {
    figure("a", "to the label", value, Unit::Ratio, Better::Lower, Some(Aim::AtMost(3.0)))
}

fn times(milliseconds: u64) -> Line {
    let spread = Spread::of(&[Duration::from_millis(milliseconds)]).expect("one duration");
    Line { bench: "a".into(), found: Found::Times(Times { what: "a write".into(), spread }) }
}

fn page_with(lines: &[Line]) -> String {
    updated(PAGE, lines, "Measured here.").expect("marks in the page")
}

#[test]
fn only_measured_parts_are_replaced() {
    let page = page_with(&[ratio(1.234), times(40)]);
    let part = "<!-- measured: a -->\nMeasured here.\n\n| figure | measured | aim |\n|---|---|---|\n| to the label | 1.23 × | ≤ 3 × |\n\n\
                | interval | median | 99th percentile | worst | of |\n|---|---|---|---|---|\n| a write | 40 ms | 40 ms | 40 ms | 1 |\n<!-- end -->";
    assert_eq!(page, PAGE.replace("<!-- measured: a -->\n<!-- end -->", part));
    // A second update with the same lines, and one with another value.
    assert_eq!(updated(&page, &[ratio(1.234), times(40)], "Measured here."), Ok(page.clone()));
    assert!(page_with(&[ratio(3.5)]).contains("| 3.50 × | ≤ 3 ×: missed |"));
    assert!(updated(PAGE, &[figure("c", "", 0.0, Unit::Count, Better::Lower, None)], "").is_err());
}

#[test]
fn regression_beyond_the_tolerance_is_listed() {
    let before = page_with(&[ratio(1.0), times(40)]);
    let listed = |lines: &[Line]| regressions(&before, lines).expect("marks in the page");
    assert_eq!(listed(&[ratio(1.24), times(49)]), [""; 0]);
    assert_eq!(listed(&[ratio(0.5), times(4)]), [""; 0]);
    assert_eq!(listed(&[ratio(1.26), times(40)]), ["a: to the label: 1.26 ×, was 1 ×"]);
    assert_eq!(
        listed(&[ratio(1.0), times(51)]),
        ["a: a write: median 51 ms, was 40 ms (depends on the machine, not judged)"]
    );
}

#[test]
fn any_increase_from_zero_is_listed() {
    let writes = |value| [figure("b", "writes", value, Unit::Count, Better::Lower, None)];
    assert_eq!(regressions(&page_with(&writes(0.0)), &writes(1.0)), Ok(vec!["b: writes: 1, was 0".into()]));
    assert_eq!(regressions(&page_with(&writes(0.0)), &writes(0.0)), Ok(vec![]));
}

#[test]
fn improvement_is_not_listed() {
    let speed = |value, better| [figure("b", "elected", value, Unit::Ratio, better, None)];
    let listed = |now, better| regressions(&page_with(&speed(10_000.0, better)), &speed(now, better));
    assert_eq!(listed(7_000.0, Better::Higher), Ok(vec!["b: elected: 7,000 ×, was 10,000 ×".into()]));
    assert_eq!(listed(20_000.0, Better::Higher), Ok(vec![]));
    assert_eq!(listed(20_000.0, Better::Neither), Ok(vec![]));
}

#[test]
fn missed_aim_and_missing_figure_are_listed() {
    let before = page_with(&[ratio(3.2), times(40)]);
    assert_eq!(
        regressions(&before, &[ratio(3.1)]),
        Ok(vec!["a: a write: missing in this run".into(), "a: to the label: 3.10 ×, aim ≤ 3 ×: missed".into()])
    );
}
