//! The order of candidates: total, so that the same input gives the same leader on every replica and in every run.

use std::cmp::Reverse;
use std::collections::HashMap;

use k8s_openapi::jiff::Timestamp;

use super::snapshot::{Pod, Revision, Settings, Workload};
use crate::hash::{fnv, mix};
use crate::ids::{PodRef, Uid};

/// The order of candidates of one Election.
///
/// The order is: the holder, then pods on nodes that do not drain, then the higher score, then the newest revision of the
/// workload, then the tie-break, then the name. A leader on a draining node would have to hand over at once. The revision counts
/// so that a rollout does not elect a pod that it is about to delete.
///
/// Revisions of two workloads are not compared: a pod only ranks lower if its own workload has a newer one. That is a property
/// of the pod, so the order stays total, which a comparison in pairs would not be.
///
/// The tie-break is the longest Ready, by the times in the pods' conditions, also if they are in the future: observations and
/// clocks differ between replicas. A pod without such a time comes last. With `tieBreak: Spread` it is a rendezvous hash of
/// Election and pod instead: another pod that comes or goes does not change how two pods compare.
#[derive(Debug)]
pub struct Order<'a> {
    newest: HashMap<Workload, &'a Pod>,
    /// The Election's UID, if a hash decides among equals.
    spread: Option<&'a Uid>,
}

/// The place of a pod: the lowest one is elected.
type Rank<'a> = (bool, bool, Reverse<i64>, bool, Option<Reverse<u64>>, bool, Option<Timestamp>, &'a PodRef);

/// A rule that ranks one pod before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// Its node does not drain.
    Node,
    /// It has the higher score.
    Score,
    /// It has its workload's newest revision.
    Revision,
    /// It has the higher weight of `tieBreak: Spread`.
    Spread,
    /// It is Ready longer.
    LongestReady,
    /// Its name comes first.
    Name,
}

impl<'a> Order<'a> {
    /// Returns the order of these pods, which are all that the Election knows.
    pub fn of(pods: impl Iterator<Item = &'a Pod>, settings: &Settings, election: &'a Uid) -> Self {
        let mut newest: HashMap<Workload, &Pod> = HashMap::new();
        for pod in pods.filter(|pod| pod.matches) {
            let Some(Revision { workload, .. }) = &pod.revision else { continue };
            let known = newest.entry(*workload).or_insert(pod);
            if (pod.created, &pod.id) > (known.created, &known.id) {
                *known = pod;
            }
        }
        Self { newest, spread: settings.spread.then_some(election) }
    }

    /// Returns the first of the eligible pods.
    pub fn first<'b>(&self, eligible: impl IntoIterator<Item = &'b Pod>, incumbent: Option<&Uid>) -> Option<&'b Pod> {
        eligible.into_iter().min_by_key(|pod| self.rank(pod, incumbent))
    }

    /// Returns the eligible pods in this order, none of them the holder.
    pub fn sorted<'b>(&self, eligible: impl IntoIterator<Item = &'b Pod>) -> Vec<&'b Pod> {
        let mut pods: Vec<&Pod> = eligible.into_iter().collect();
        pods.sort_by_key(|pod| self.rank(pod, None));
        pods
    }

    /// Returns the first rule by which one of the pods ranks before the other, neither of them the holder.
    pub fn precedence(&self, first: &Pod, second: &Pod) -> Precedence {
        let (_, draining, score, outdated, spread, unknown, since, _) = self.rank(first, None);
        let other = self.rank(second, None);
        match () {
            () if draining != other.1 => Precedence::Node,
            () if score != other.2 => Precedence::Score,
            () if outdated != other.3 => Precedence::Revision,
            () if spread != other.4 => Precedence::Spread,
            () if (unknown, since) != (other.5, other.6) => Precedence::LongestReady,
            () => Precedence::Name,
        }
    }

    fn rank<'b>(&self, pod: &'b Pod, incumbent: Option<&Uid>) -> Rank<'b> {
        (
            incumbent != Some(&pod.id.uid),
            pod.is_draining,
            Reverse(pod.score),
            self.is_outdated(pod),
            self.spread.map(|election| Reverse(rendezvous(election, &pod.id.uid))),
            pod.transitioned.is_none(),
            pod.transitioned,
            &pod.id,
        )
    }

    /// Returns whether the pod's workload has a newer revision. The workload's newest pod has it.
    pub fn is_outdated(&self, pod: &Pod) -> bool {
        let newest = pod.revision.as_ref().and_then(|revision| self.newest.get(&revision.workload));
        newest.is_some_and(|newest| newest.revision != pod.revision)
    }
}

/// The weight of the pod in a rendezvous of this Election: the highest one is elected.
fn rendezvous(election: &Uid, pod: &Uid) -> u64 {
    let (election, pod): (&str, &str) = (election.as_ref(), pod.as_ref());
    mix(fnv(election.bytes().chain(*b"/").chain(pod.bytes())))
}
