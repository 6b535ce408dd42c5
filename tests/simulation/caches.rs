//! Several API servers: each has a watch cache for each kind, which may stand still while the others go on. Reads without
//! resourceVersion are consistent on all of them.

use std::collections::BTreeMap;

use podium_test_support::random::Random;
use podium_test_support::server::Resource;
use podium_test_support::server::Resource::{Elections, Leases, Pods};

/// How many API servers there are.
const SERVERS: u64 = 3;

/// The watch caches that stand still.
#[derive(Debug, Default)]
pub struct Caches {
    /// By API server and kind: the revision up to which the cache shows what happened.
    still: BTreeMap<(u64, Resource), i64>,
}

impl Caches {
    /// The API server that a new watch is connected to.
    pub fn pick(random: &mut Random) -> u64 {
        random.between(0, SERVERS)
    }

    /// How much of what happened an API server shows to watches of a kind.
    pub fn position(&self, server: u64, resource: Resource) -> i64 {
        self.still.get(&(server, resource)).copied().unwrap_or(i64::MAX)
    }

    /// A cache stands still from now on, or goes on.
    /// Returns what happened, in words.
    pub fn stop_or_go_on(&mut self, random: &mut Random, revision: i64) -> String {
        let resource = random.pick(&[Pods, Leases, Elections]).copied().unwrap_or(Pods);
        let server = Self::pick(random);
        let stands = self.still.remove(&(server, resource)).is_none();
        if stands {
            self.still.insert((server, resource), revision);
        }
        format!("the watch cache of server {server} for {resource:?} {}", if stands { "stands still" } else { "goes on" })
    }

    /// All of them go on.
    pub fn go_on(&mut self) {
        self.still.clear();
    }
}
