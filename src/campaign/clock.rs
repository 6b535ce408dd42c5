//! The clock that campaigns run on, and the time that people read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use super::moment::Moment;

/// Counts the time that the machine is suspended: a leader that slept through its deadline must notice. `CLOCK_MONOTONIC`,
/// which is also what the standard library and tokio use, stands still meanwhile on Linux.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Tells the time to a campaign. Tests have one of their own.
#[derive(Clone)]
pub struct Clock {
    moment: Arc<dyn Fn() -> Moment + Send + Sync>,
    wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Clock {
    /// The machine's clocks: one that counts suspended time where there is one, and the wall clock, which only dates records.
    pub fn machine() -> Self {
        Self::new(boottime, Timestamp::now)
    }

    /// Any other clocks. `moment` never goes back.
    pub fn new(
        moment: impl Fn() -> Moment + Send + Sync + 'static,
        wall: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        Self { moment: Arc::new(moment), wall: Arc::new(wall) }
    }

    /// This moment.
    pub fn moment(&self) -> Moment {
        (self.moment)()
    }

    /// What the wall clock shows.
    pub fn wall(&self) -> Timestamp {
        (self.wall)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Clock").field(&self.moment()).finish()
    }
}

fn boottime() -> Moment {
    let time = clock_gettime(CLOCK);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    // Neither is ever negative.
    Moment::after(Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_clock_never_goes_back_and_counts_from_the_start_of_the_machine() {
        let clock = Clock::machine();
        let (first, second) = (clock.moment(), clock.moment());
        assert!(second >= first);
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        if let Some(uptime) = uptime.split(' ').next().and_then(|seconds| seconds.parse::<f64>().ok()) {
            let difference = (first - Moment::START).as_secs_f64() - uptime;
            assert!(difference.abs() < 30.0, "boottime, as /proc/uptime shows it: {difference} s apart");
        }
    }
}
