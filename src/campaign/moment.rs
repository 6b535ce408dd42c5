//! A point in time on one machine's own clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time on one machine's own clock: how long that clock has run. Means nothing to any other machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// Before everything.
    pub const START: Self = Self(Duration::ZERO);

    /// After everything: for what no clock ends.
    pub const NEVER: Self = Self(Duration::MAX);

    /// When the clock has run for so long.
    pub const fn after(running: Duration) -> Self {
        Self(running)
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

    /// How long the one is after the other; nothing if it is before.
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
