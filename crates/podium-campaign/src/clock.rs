//! The clock that campaigns run on: it counts the time that the machine is suspended.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Counts the time that the machine is suspended, so that a leader notices a deadline that passed in between. `CLOCK_MONOTONIC`, which
/// the standard library and tokio use, does not on Linux.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// A point in time on the clock of one machine: the time that the clock has run. Meaningless on other machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// Before every other moment.
    pub const START: Self = Self(Duration::ZERO);

    /// After every other moment: no clock reaches it.
    pub const NEVER: Self = Self(Duration::MAX);

    /// Returns the moment at which the clock has run for so long.
    pub const fn after(running: Duration) -> Self {
        Self(running)
    }

    /// Returns this moment on the machine's clock.
    pub fn now() -> Self {
        let time = clock_gettime(CLOCK);
        // Neither is ever negative.
        let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Self(Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default()))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// Returns the time between two moments; zero if `self` is the earlier one.
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The clocks of a campaign. Tests have their own.
#[derive(Clone)]
pub struct Clock {
    moment: Arc<dyn Fn() -> Moment + Send + Sync>,
    wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Clock {
    /// Returns the machine's clocks: [`Moment::now`], and the wall clock, which only dates records.
    pub fn machine() -> Self {
        Self::new(Moment::now, Timestamp::now)
    }

    /// Returns other clocks. `moment` must never go back.
    pub fn new(
        moment: impl Fn() -> Moment + Send + Sync + 'static,
        wall: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        Self { moment: Arc::new(moment), wall: Arc::new(wall) }
    }

    /// Returns this moment.
    pub fn moment(&self) -> Moment {
        (self.moment)()
    }

    /// Returns the wall clock time.
    pub fn wall(&self) -> Timestamp {
        (self.wall)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Clock").field(&self.moment()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_clock_never_goes_back_and_counts_from_boot() {
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
