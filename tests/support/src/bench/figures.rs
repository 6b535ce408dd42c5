//! Results of a benchmark: printed, and written as lines that `benches/run` passes to `benches/report.rs`.

use std::io::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The unit of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Relative to another measurement of the same run.
    Ratio,
    /// Pieces: writes, requests, pods.
    Count,
    Bytes,
    MiB,
    Microseconds,
    Milliseconds,
    Seconds,
    PerSecond,
    PerMinute,
    Percent,
}

impl Unit {
    /// Returns the printed symbol.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Ratio => "×",
            Self::Count => "",
            Self::Bytes => "B",
            Self::MiB => "MiB",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::PerSecond => "/s",
            Self::PerMinute => "/min",
            Self::Percent => "%",
        }
    }

    /// Returns whether the same program gives other values on another machine or day. Such values are reported and never judged.
    pub fn depends_on_machine(self) -> bool {
        match self {
            Self::Microseconds | Self::Milliseconds | Self::Seconds | Self::PerSecond => true,
            Self::Ratio | Self::Count | Self::Bytes | Self::MiB | Self::PerMinute | Self::Percent => false,
        }
    }
}

/// The direction of an improvement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Better {
    Lower,
    Higher,
    /// Context for other values.
    Neither,
}

/// The target of a value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

impl Aim {
    /// Returns whether the value meets the target.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The measurement in words. Unique in its benchmark, because comparisons use it as key.
    pub what: String,
    pub value: f64,
    pub unit: Unit,
    pub better: Better,
    pub aim: Option<Aim>,
}

/// Durations of one operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    pub what: String,
    pub spread: Spread,
}

/// A summary of durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    pub median: Duration,
    /// The 99th percentile by nearest rank. Of fewer than 100 it is the worst.
    pub p99: Duration,
    pub worst: Duration,
    pub number: usize,
}

impl Spread {
    /// Returns the summary, or `None` without durations.
    pub fn of(durations: &[Duration]) -> Option<Self> {
        let mut sorted = durations.to_vec();
        sorted.sort();
        Some(Self {
            median: percentile(&sorted, 50)?,
            p99: percentile(&sorted, 99)?,
            worst: *sorted.last()?,
            number: sorted.len(),
        })
    }
}

/// Returns the percentile of a sorted set by nearest rank: the least value that `percent` % of the values do not exceed.
pub fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Returns `duration` as a multiple of `floor`.
pub fn ratio(duration: Duration, floor: Duration) -> f64 {
    duration.as_secs_f64() / floor.as_secs_f64()
}

/// A line of the file `$PODIUM_FIGURES`: one value of one benchmark, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub bench: String,
    #[serde(flatten)]
    pub found: Found,
}

/// The value of a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    Figure(Figure),
    Times(Times),
}

/// The results of one benchmark, in order.
#[must_use = "finish writes the figures"]
pub struct Figures {
    bench: &'static str,
    found: Vec<Found>,
}

impl Figures {
    /// Returns an empty set. The benchmark has the name of its file and of its section in docs/benchmarks.md.
    pub fn new(bench: &'static str) -> Self {
        Self { bench, found: Vec::new() }
    }

    /// Adds a value and prints it at once, so that a benchmark that fails later has printed its results.
    pub fn add(&mut self, what: impl Into<String>, value: f64, unit: Unit, better: Better, aim: Option<Aim>) {
        let figure = Figure { what: what.into(), value, unit, better, aim };
        println!("  {:60} {:>12}  {}", figure.what, measure(value, unit), format_aim(&figure));
        self.found.push(Found::Figure(figure));
    }

    /// Adds durations. They are reported and never judged. Ratios are judged, see [`Self::add`].
    pub fn add_times(&mut self, what: impl Into<String>, spread: Spread) {
        let what = what.into();
        let Spread { median, p99, worst, number } = spread;
        println!("  {what:60} {:>12}  p99 {}, worst {}, of {number}", duration(median), duration(p99), duration(worst));
        self.found.push(Found::Times(Times { what, spread }));
    }

    /// Appends all results to the file `$PODIUM_FIGURES`, if it is set.
    pub fn finish(self) -> std::io::Result<()> {
        let Some(path) = std::env::var_os("PODIUM_FIGURES") else { return Ok(()) };
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        for found in self.found {
            let line = serde_json::to_string(&Line { bench: self.bench.to_owned(), found })?;
            writeln!(file, "{line}")?;
        }
        Ok(())
    }
}

/// Returns the target of a figure, and whether the figure misses it.
pub fn format_aim(figure: &Figure) -> String {
    let (sign, value) = match figure.aim {
        None => return String::new(),
        Some(Aim::AtMost(most)) => ("≤", most),
        Some(Aim::AtLeast(least)) => ("≥", least),
    };
    let met = figure.aim.is_some_and(|aim| aim.is_met(figure.value));
    format!("{sign} {}{}", measure(value, figure.unit), if met { "" } else { ": missed" })
}

/// Formats a value with its unit and three significant digits.
pub fn measure(value: f64, unit: Unit) -> String {
    format!("{} {}", digits(value), unit.symbol()).trim_end().to_owned()
}

/// Formats a duration in a unit that fits its size.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        0.0 => measure(0.0, Unit::Milliseconds),
        ..1e-3 => measure(seconds * 1e6, Unit::Microseconds),
        ..1.0 => measure(seconds * 1e3, Unit::Milliseconds),
        _ => measure(seconds, Unit::Seconds),
    }
}

fn digits(value: f64) -> String {
    if value == value.round() || value.abs() >= 100.0 {
        return thousands(value.round() as i64);
    }
    // 0.0123, 0.123, 1.23, 12.3
    let decimals = (2 - value.abs().log10().floor() as i32).clamp(0, 6);
    format!("{value:.*}", decimals as usize)
}

fn thousands(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if value < 0 { format!("-{grouped}") } else { grouped }
}
