//! How few groups are kept from holding all that there is.

use std::collections::HashMap;

/// Places of which a group gets the more the more are free.
///
/// A group may have another one while it has less than are free: alone it gets half of them, and the next one half of the rest. So
/// what few groups hold without giving it back is never all, and a group that has nothing gets a place at once; where many groups
/// ask, no place is idle. (These are the dynamic thresholds of switches whose ports share their memory: Choudhury and Hahne, 1998.)
#[derive(Debug)]
pub struct Shares {
    all: usize,
    taken: usize,
    by_group: HashMap<String, usize>,
}

impl Shares {
    /// So many, all of them free.
    pub fn new(all: usize) -> Self {
        Self { all, taken: 0, by_group: HashMap::new() }
    }

    /// How many nobody holds.
    pub fn free(&self) -> usize {
        self.all.saturating_sub(self.taken)
    }

    /// How many the group holds.
    pub fn held(&self, group: &str) -> usize {
        self.by_group.get(group).copied().unwrap_or(0)
    }

    /// Whether the group may have one more.
    pub fn admits(&self, group: &str) -> bool {
        self.held(group) < self.free()
    }

    /// The group has one more.
    pub fn take(&mut self, group: &str) {
        self.taken += 1;
        *self.by_group.entry(group.to_owned()).or_default() += 1;
    }

    /// The group has one less.
    pub fn give_back(&mut self, group: &str) {
        let Some(held) = self.by_group.get_mut(group) else { return };
        self.taken -= 1;
        *held -= 1;
        if *held == 0 {
            self.by_group.remove(group);
        }
    }

    /// All are free.
    pub fn clear(&mut self) {
        self.taken = 0;
        self.by_group.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups that come one after the other, each of which takes all that it can and gives nothing back.
    #[test]
    fn greedy_groups_leave_a_place_for_the_next_one() {
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
            shares.give_back("a");
        }
        assert!(shares.admits("b") && shares.admits("a"));
    }
}
