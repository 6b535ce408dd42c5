//! Memory of the pods that outrank leaders: since when each of them does, without interruption.
//!
//! It is on the monotonic clock of this process, and no decision acts early without it: a pod that is not in it begins its delay.
//! So a preemption comes late after a restart, never early.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use k8s_openapi::jiff::SignedDuration;
use tokio::time::Instant;

use super::key::Key;
use crate::election::plan::{Outranking, Plan};
use crate::election::snapshot::Snapshot;
use crate::ids::{Term, Uid};
use crate::lease::record::Content;
use crate::sync::lock;

/// The pods that outrank the leaders of all Elections.
#[derive(Debug, Default)]
pub struct OutrankingPods(Mutex<HashMap<Key, Outranked>>);

/// The pods that outrank one leader.
#[derive(Debug)]
struct Outranked {
    /// The leader's term. The same leader may have another pod's term between two of its own.
    term: Term,
    /// By pod: the first of the decisions in a row that found it to outrank the leader.
    since: BTreeMap<Uid, Instant>,
}

impl OutrankingPods {
    /// Returns the pods that outranked the present leader at the last decision, each with the time since when.
    pub fn times(&self, key: &Key, snapshot: &Snapshot, now: Instant) -> BTreeMap<Uid, SignedDuration> {
        let lease = snapshot.lease.as_ref().map(|lease| &lease.content);
        let Some(Content::Term(record)) = lease else { return BTreeMap::new() };
        let time = |since: &Instant| SignedDuration::try_from(now.saturating_duration_since(*since)).unwrap_or_default();
        let all = lock(&self.0);
        let known = all.get(key).filter(|known| known.term == record.term);
        known.into_iter().flat_map(|known| known.since.iter().map(|(pod, since)| (pod.clone(), time(since)))).collect()
    }

    /// Notes the pods that outrank the leader according to this plan.
    ///
    /// A plan that did not compare them interrupts their time, unless another decision follows it at once.
    pub fn note(&self, key: &Key, plan: &Plan, now: Instant) {
        let mut all = lock(&self.0);
        let Some(Outranking { term, pods }) = &plan.outranking else {
            if !plan.precedes_a_decision() {
                all.remove(key);
            }
            return;
        };
        let before = all.remove(key).filter(|before| before.term == *term).map(|before| before.since).unwrap_or_default();
        let since = |pod: &Uid| (pod.clone(), before.get(pod).copied().unwrap_or(now));
        if !pods.is_empty() {
            all.insert(key.clone(), Outranked { term: *term, since: pods.iter().map(since).collect() });
        }
    }

    /// Forgets an Election.
    pub fn forget(&self, key: &Key) {
        lock(&self.0).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::election::fixtures::{held_by, term, uids, world};
    use crate::election::plan::{LeaseWrite, Then};

    fn key() -> Key {
        Key { namespace: "default".into(), name: "web".into() }
    }

    /// A memory in virtual time, about the leader with this term.
    struct Memory {
        pods: OutrankingPods,
        now: Instant,
        term: i64,
    }

    impl Memory {
        fn new() -> Self {
            Self { pods: OutrankingPods::default(), now: Instant::now(), term: 90 }
        }

        /// The seconds for which each pod has outranked the leader.
        fn times(&self) -> Vec<(String, i64)> {
            let times = self.pods.times(&key(), &world(held_by("a", self.term, [])), self.now);
            times.into_iter().map(|(pod, time)| (pod.to_string(), time.as_secs())).collect()
        }

        /// After these seconds, a decision makes this plan.
        fn decided(&mut self, seconds: u64, plan: &Plan) -> Vec<(String, i64)> {
            self.now += Duration::from_secs(seconds);
            self.pods.note(&key(), plan, self.now);
            self.times()
        }

        /// After these seconds, a decision finds that these pods outrank the leader.
        fn found<const N: usize>(&mut self, seconds: u64, pods: [&str; N]) -> Vec<(String, i64)> {
            let outranking = Some(Outranking { term: term(self.term), pods: uids(pods) });
            self.decided(seconds, &Plan { outranking, ..Plan::default() })
        }
    }

    fn times<const N: usize>(times: [(&str, i64); N]) -> Vec<(String, i64)> {
        times.map(|(pod, seconds)| (pod.to_owned(), seconds)).into()
    }

    #[test]
    fn time_counts_from_the_first_decision_that_finds_the_pod_to_outrank_the_leader() {
        let mut memory = Memory::new();
        assert_eq!(memory.found(5, ["b"]), times([("b", 0)]));
        memory.now += Duration::from_secs(7);
        assert_eq!(memory.times(), times([("b", 7)]));
        assert_eq!(memory.found(3, ["b", "c"]), times([("b", 10), ("c", 0)]));
        assert_eq!(memory.found(1, ["b", "c"]), times([("b", 11), ("c", 1)]));
    }

    #[test]
    fn interruption_begins_the_time_anew_for_that_pod_only() {
        let mut memory = Memory::new();
        memory.found(0, ["b", "c"]);
        assert_eq!(memory.found(10, ["c"]), times([("c", 10)]));
        assert_eq!(memory.found(10, ["b", "c"]), times([("b", 0), ("c", 20)]));
        assert_eq!(memory.found(10, []), times([]));
    }

    #[test]
    fn another_term_begins_the_time_anew_even_of_the_same_leader() {
        let mut memory = Memory::new();
        memory.found(0, ["b"]);
        memory.term = 95;
        memory.now += Duration::from_secs(10);
        assert_eq!(memory.times(), times([]));
        assert_eq!(memory.found(0, ["b"]), times([("b", 0)]));
        memory.term = 90;
        assert_eq!(memory.times(), times([]));
    }

    #[test]
    fn plan_that_compares_no_pods_begins_the_time_anew() {
        let mut memory = Memory::new();
        memory.found(0, ["b"]);
        assert_eq!(memory.decided(10, &Plan::default()), times([]), "the policy is Never, or the Election is stalled");
        assert_eq!(memory.found(10, ["b"]), times([("b", 0)]));
    }

    #[test]
    fn plan_that_only_prepares_a_decision_keeps_the_time() {
        let mut memory = Memory::new();
        memory.found(0, ["b"]);
        let reads = Plan { then: Then::Consult("a reason"), ..Plan::default() };
        assert_eq!(memory.decided(10, &reads), times([("b", 10)]));
        // A compare-and-swap may be refused.
        let creates = Plan { lease: Some(LeaseWrite::Create), ..Plan::default() };
        assert_eq!(memory.decided(10, &creates), times([("b", 20)]));
    }

    #[test]
    fn new_memory_and_forgotten_election_have_no_times() {
        let mut memory = Memory::new();
        memory.found(0, ["b"]);
        memory.pods.forget(&key());
        assert_eq!(memory.times(), times([]));
        memory.found(0, ["b"]);
        memory.pods = OutrankingPods::default();
        assert_eq!(memory.found(10, ["b"]), times([("b", 0)]), "a restart");
    }
}
