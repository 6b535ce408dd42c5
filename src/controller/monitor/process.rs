//! What the process takes: what Prometheus' own client libraries tell, from /proc.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::param::{clock_ticks_per_second, page_size};

use super::table::{CPU, Definition, MOST_OPEN, OPEN, RESIDENT, STARTED, VIRTUAL};

/// Reads anew each time that it is asked.
#[derive(Debug)]
pub struct Process;

/// What /proc says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
    /// After the machine's start.
    started_seconds: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let read = |path: &str| fs::read_to_string(path).ok();
        if let Some(usage) = read("/proc/self/stat").and_then(|stat| usage(&stat)) {
            tell(&mut encoder, &CPU, &ConstCounter::new(usage.cpu_seconds))?;
            tell(&mut encoder, &RESIDENT, &ConstGauge::new(usage.resident_bytes))?;
            tell(&mut encoder, &VIRTUAL, &ConstGauge::new(usage.virtual_bytes))?;
            if let Some(boot) = read("/proc/stat").and_then(|stat| boot_time(&stat)) {
                tell(&mut encoder, &STARTED, &ConstGauge::new(boot + usage.started_seconds))?;
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // Not the one by which it is read.
            tell(&mut encoder, &OPEN, &ConstGauge::new(open.count().saturating_sub(1)))?;
        }
        if let Some(most) = read("/proc/self/limits").and_then(|limits| most_open(&limits)) {
            tell(&mut encoder, &MOST_OPEN, &ConstGauge::new(most))?;
        }
        Ok(())
    }
}

fn tell(encoder: &mut DescriptorEncoder<'_>, definition: &Definition, metric: &impl EncodeMetric) -> fmt::Result {
    let unit = definition.measure.unit();
    let encoder = encoder.encode_descriptor(definition.name, definition.help, unit.as_ref(), metric.metric_type())?;
    metric.encode(encoder)
}

/// From /proc/self/stat, see proc_pid_stat(5): fields 14, 15, 22, 23 and 24.
fn usage(stat: &str) -> Option<Usage> {
    // The second field is the program's name in parentheses, and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = clock_ticks_per_second() as f64;
    Some(Usage {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
        started_seconds: field(22)? as f64 / ticks,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page_size() as u64,
    })
}

/// From /proc/stat: when the machine started, since 1970.
fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// From /proc/self/limits: the soft limit.
fn most_open(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_manual() {
        let ticks = clock_ticks_per_second();
        let mut fields: Vec<u64> = (4..=52).map(|number| number * ticks).collect();
        fields[24 - 4] = 3;
        let fields: Vec<String> = fields.iter().map(u64::to_string).collect();
        let stat = format!("17 (a ) b) S {}\n", fields.join(" "));
        let expected = Usage {
            cpu_seconds: 29.0,
            started_seconds: 22.0,
            virtual_bytes: 23 * ticks,
            resident_bytes: 3 * page_size() as u64,
        };
        assert_eq!(usage(&stat), Some(expected));
        assert_eq!((usage(""), usage("1 (a) S 2")), (None, None));
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n";
        assert_eq!(most_open(limits), Some(1024));
    }
}
