//! Who leads first: a total order, so that the same input gives the same leader on every replica and in every run.

use std::cmp::Reverse;

use super::snapshot::Pod;
use super::term::Uid;

/// The first of the eligible pods: the present holder, then the higher priority, then the newest revision (so that a rollout
/// does not elect a pod that is about to go), then the longest Ready, then the name.
///
/// Readiness is compared by the times that the pods themselves report, as they stand: what a controller observed, and what its
/// clock says of a time in the future, differs between replicas. A pod without such a time comes last.
pub fn first<'a>(eligible: &[&'a Pod], incumbent: Option<&Uid>, newest_revision: Option<&str>) -> Option<&'a Pod> {
    eligible.iter().copied().min_by_key(|pod| {
        (
            incumbent != Some(&pod.id.uid),
            Reverse(pod.priority),
            pod.revision.as_deref() != newest_revision,
            pod.transitioned.is_none(),
            pod.transitioned,
            &pod.id,
        )
    })
}

/// The revision of the newest of the matching pods.
pub fn newest_revision(pods: &[Pod]) -> Option<&str> {
    pods.iter().filter(|pod| pod.matches).max_by_key(|pod| (pod.created, &pod.id))?.revision.as_deref()
}
