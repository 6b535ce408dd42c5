//! Several API servers: each has a watch cache per kind, which may stall alone. Reads without resourceVersion are consistent
//! on all.

use std::collections::BTreeMap;

use podium_test_support::random::Random;
use podium_test_support::server::Resource;
use podium_test_support::server::Resource::{Elections, Leases, Nodes, Pods};

/// Number of API servers.
const SERVERS: u64 = 3;

/// The stalled watch caches.
#[derive(Debug, Default)]
pub struct Caches {
    /// By API server and kind: the last revision in the cache.
    still: BTreeMap<(u64, Resource), i64>,
}

impl Caches {
    /// Draws the API server of a new watch.
    pub fn pick(random: &mut Random) -> u64 {
        random.between(0, SERVERS)
    }

    /// The last revision that watches of a kind can deliver.
    pub fn position(&self, server: u64, resource: Resource) -> i64 {
        self.still.get(&(server, resource)).copied().unwrap_or(i64::MAX)
    }

    /// Stalls or resumes a cache. Returns a description.
    pub fn stop_or_go_on(&mut self, random: &mut Random, revision: i64) -> String {
        let resource = random.pick(&[Pods, Leases, Elections, Nodes]).copied().unwrap_or(Pods);
        let server = Self::pick(random);
        let stands = self.still.remove(&(server, resource)).is_none();
        if stands {
            self.still.insert((server, resource), revision);
        }
        format!("the watch cache of server {server} for {resource:?} {}", if stands { "stands still" } else { "goes on" })
    }

    /// Resumes all caches.
    pub fn go_on(&mut self) {
        self.still.clear();
    }
}
