//! All randomness of a world: the same numbers for a seed on every machine (SplitMix64).

use std::time::Duration;

/// A generator. Each actor has its own, so that its number of draws does not affect others.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a world.
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        random.next();
        random
    }

    /// A separate generator for an actor.
    pub fn child(&mut self) -> Self {
        Self::new(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `from` up to, but not including, `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from).max(1)
    }

    /// Returns true in this many of a thousand cases.
    pub fn permille(&mut self, often: u64) -> bool {
        self.next() % 1000 < often
    }

    /// Draws a time between these milliseconds.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }

    /// Draws an element.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let index = self.between(0, of.len() as u64);
        of.get(usize::try_from(index).unwrap_or_default())
    }
}
