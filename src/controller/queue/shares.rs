//! Shares of slots, so that few groups cannot hold all of them.

use std::collections::HashMap;

/// Slots with a dynamic limit for each group.
///
/// A group may take a slot while it holds fewer than are free. Alone it gets half of them, and the next group half of the rest.
/// So a few groups that release nothing never hold all slots, and a group without slots gets one at once. When many groups ask,
/// no slot is idle. (Network switches share memory between ports by such dynamic thresholds: Choudhury and Hahne, 1998.)
#[derive(Debug)]
pub struct Shares {
    all: usize,
    taken: usize,
    by_group: HashMap<String, usize>,
}

impl Shares {
    /// Returns this number of free slots.
    pub fn new(all: usize) -> Self {
        Self { all, taken: 0, by_group: HashMap::new() }
    }

    /// Returns the number of free slots.
    pub fn free(&self) -> usize {
        self.all.saturating_sub(self.taken)
    }

    /// Returns the number of slots that the group holds.
    pub fn held(&self, group: &str) -> usize {
        self.by_group.get(group).copied().unwrap_or(0)
    }

    /// Returns whether the group may take a slot.
    pub fn admits(&self, group: &str) -> bool {
        self.held(group) < self.free()
    }

    /// Takes a slot for the group.
    pub fn take(&mut self, group: &str) {
        self.taken += 1;
        *self.by_group.entry(group.to_owned()).or_default() += 1;
    }

    /// Releases a slot of the group.
    pub fn release(&mut self, group: &str) {
        let Some(held) = self.by_group.get_mut(group) else { return };
        self.taken -= 1;
        *held -= 1;
        if *held == 0 {
            self.by_group.remove(group);
        }
    }

    /// Releases all slots.
    pub fn clear(&mut self) {
        self.taken = 0;
        self.by_group.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each group takes all that it can, in turn, and releases nothing.
    #[test]
    fn greedy_groups_leave_a_slot_for_the_next() {
        let mut shares = Shares::new(32);
        let mut taken = Vec::new();
        for group in ["a", "b", "c", "d"] {
            while shares.admits(group) {
                shares.take(group);
            }
            taken.push(shares.held(group));
        }
        assert_eq!((taken, shares.free()), (vec![16, 8, 4, 2], 2));
        for _ in 0..16 {
            shares.release("a");
        }
        assert!(shares.admits("b") && shares.admits("a"));
    }
}
