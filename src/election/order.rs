//! The order of candidates: total, so that the same input gives the same leader on every replica and in every run.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::snapshot::{Pod, Revision, Workload};
use crate::ids::Uid;

/// Returns the first of the eligible pods.
///
/// The order is: the holder, then the higher priority, then the newest revision of the workload, then the longest Ready, then
/// the name. The revision counts so that a rollout does not elect a pod that it is about to delete.
///
/// Revisions of two workloads are not compared: a pod only ranks lower if its own workload has a newer one. That is a property
/// of the pod, so the order stays total, which a comparison in pairs would not be.
///
/// Readiness is compared by the times in the pods' conditions, also if they are in the future: observations and clocks differ
/// between replicas. A pod without such a time comes last.
pub fn first<'a>(eligible: &[&'a Pod], incumbent: Option<&Uid>, newest: &Newest<'_>) -> Option<&'a Pod> {
    eligible.iter().copied().min_by_key(|pod| {
        (
            incumbent != Some(&pod.id.uid),
            Reverse(pod.priority),
            newest.is_outdated(pod),
            pod.transitioned.is_none(),
            pod.transitioned,
            &pod.id,
        )
    })
}

/// The newest matching pod of each workload: its revision is the workload's newest.
#[derive(Debug)]
pub struct Newest<'a>(HashMap<Workload, &'a Pod>);

impl<'a> Newest<'a> {
    /// Returns the newest of these pods.
    pub fn of(pods: &'a [Pod]) -> Self {
        let mut newest: HashMap<Workload, &Pod> = HashMap::new();
        for pod in pods.iter().filter(|pod| pod.matches) {
            let Some(Revision { workload, .. }) = &pod.revision else { continue };
            let known = newest.entry(*workload).or_insert(pod);
            if (pod.created, &pod.id) > (known.created, &known.id) {
                *known = pod;
            }
        }
        Self(newest)
    }

    /// Returns whether the pod's workload has a newer revision.
    fn is_outdated(&self, pod: &Pod) -> bool {
        let newest = pod.revision.as_ref().and_then(|revision| self.0.get(&revision.workload));
        newest.is_some_and(|newest| newest.revision != pod.revision)
    }
}
