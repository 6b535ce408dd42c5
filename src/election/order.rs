//! Who leads first: a total order, so that the same input gives the same leader on every replica and in every run.

use std::cmp::Reverse;

use super::snapshot::Pod;
use super::term::Uid;

/// The first of the eligible pods: the present holder, then the higher priority, then the newest revision (so that a rollout
/// does not elect a pod that is about to go), then the longest Ready, then the name.
pub fn first<'a>(eligible: &[&'a Pod], incumbent: Option<&Uid>, newest_revision: Option<&str>) -> Option<&'a Pod> {
    eligible.iter().copied().min_by_key(|pod| {
        (
            incumbent != Some(&pod.id.uid),
            Reverse(pod.priority),
            pod.revision.as_deref() != newest_revision,
            pod.ready_since,
            &pod.id,
        )
    })
}

/// The revision of the newest of the matching pods.
pub fn newest_revision(pods: &[Pod]) -> Option<&str> {
    pods.iter().filter(|pod| pod.matches).max_by_key(|pod| (pod.created, &pod.id))?.revision.as_deref()
}
