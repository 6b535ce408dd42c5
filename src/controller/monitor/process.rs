//! Process metrics from /proc, as Prometheus client libraries have them.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::param::{clock_ticks_per_second, page_size};

use super::table::{CPU, Definition, MOST_OPEN, OPEN, RESIDENT, STARTED, VIRTUAL};
use crate::proc_stat::ProcStat;

/// Reads /proc at each scrape.
#[derive(Debug)]
pub struct ProcessCollector;

/// Resources that the process uses.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
    /// Start of the process, after boot.
    started_seconds: f64,
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let read = |path: &str| fs::read_to_string(path).ok();
        if let Some(usage) = ProcStat::of(std::process::id()).map(usage) {
            encode(&mut encoder, &CPU, &ConstCounter::new(usage.cpu_seconds))?;
            encode(&mut encoder, &RESIDENT, &ConstGauge::new(usage.resident_bytes))?;
            encode(&mut encoder, &VIRTUAL, &ConstGauge::new(usage.virtual_bytes))?;
            if let Some(boot) = read("/proc/stat").and_then(|stat| boot_time(&stat)) {
                encode(&mut encoder, &STARTED, &ConstGauge::new(boot + usage.started_seconds))?;
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // Without the descriptor of this directory.
            encode(&mut encoder, &OPEN, &ConstGauge::new(open.count().saturating_sub(1)))?;
        }
        if let Some(most) = read("/proc/self/limits").and_then(|limits| most_open(&limits)) {
            encode(&mut encoder, &MOST_OPEN, &ConstGauge::new(most))?;
        }
        Ok(())
    }
}

fn encode(encoder: &mut DescriptorEncoder<'_>, definition: &Definition, metric: &impl EncodeMetric) -> fmt::Result {
    let unit = definition.measure.unit();
    let encoder = encoder.encode_descriptor(definition.name, definition.help, unit.as_ref(), metric.metric_type())?;
    metric.encode(encoder)
}

fn usage(stat: ProcStat) -> Usage {
    let ticks = clock_ticks_per_second() as f64;
    Usage {
        cpu_seconds: stat.cpu_ticks as f64 / ticks,
        started_seconds: stat.start_ticks as f64 / ticks,
        virtual_bytes: stat.virtual_bytes,
        resident_bytes: stat.resident_pages * page_size() as u64,
    }
}

/// Returns the boot time in seconds since 1970, from /proc/stat.
fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Returns the soft limit of open files, from /proc/self/limits.
fn most_open(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_parsed() {
        let ticks = clock_ticks_per_second();
        let line = "1 (podium) S 0 1 1 0 -1 0 0 0 0 0 2 3 0 0 20 0 4 0 5 6 7 0";
        let expected = Usage {
            cpu_seconds: 5.0 / ticks as f64,
            started_seconds: 5.0 / ticks as f64,
            virtual_bytes: 6,
            resident_bytes: 7 * page_size() as u64,
        };
        assert_eq!(ProcStat::parse(line).map(usage), Some(expected));
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n";
        assert_eq!(most_open(limits), Some(1024));
    }
}
