//! The two conditions of an Election, in the conventions of kstatus.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Why a condition of an Election is as it is: the closed set of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Ready: the one labelled pod is `status.leader`.
    LeaderElected,
    /// Not Ready: the selector matches no pod at all.
    NoPods,
    /// Not Ready: pods match, but none of them may lead.
    NoEligiblePod,
    /// Ready: a leader that is not Ready itself is kept, because there is no other or because the delay is not over.
    LeaderHeld,
    /// Not Ready: a leader is elected, and its label is not confirmed.
    LeaderNotActive,
    /// Elections are suspended and there is no leader.
    Suspended,
    /// Not Stalled: nothing here needs a person.
    AsDeclared,
    /// Stalled: the selector cannot be used.
    InvalidSelector,
    /// Stalled: another part of the spec cannot be used.
    InvalidSpec,
    /// Stalled: the label's key is not one that this controller may write.
    ForbiddenLabelKey,
    /// Stalled: a pod carries the label's key with a value that is not ours.
    LabelConflict,
    /// Stalled: others change the label again and again.
    LabelContested,
    /// Stalled: another Election with the same label key claims some of the pods.
    OverlappingElections,
    /// Stalled: the Lease belongs to somebody else.
    LeaseConflict,
    /// Stalled: the API server refuses a write, or a read that must come before one, for want of a right or by an admission
    /// policy.
    WriteRefused,
    /// Stalled: more pods match than the Lease can account for.
    TooManyPods,
}

/// The condition `kind` as it should read now. Its transition time is carried over from `before` while the status stays.
pub fn condition(
    before: Option<&Condition>,
    kind: &str,
    holds: bool,
    (reason, message): (Reason, String),
    generation: i64,
    now: Timestamp,
) -> Condition {
    let status = if holds { "True" } else { "False" };
    let since = before
        .filter(|before| before.status == status)
        .map_or_else(|| whole_second(now), |before| before.last_transition_time.clone());
    Condition {
        type_: kind.into(),
        status: status.into(),
        reason: format!("{reason:?}"),
        message,
        observed_generation: Some(generation),
        last_transition_time: since,
    }
}

/// The API server stores whole seconds: a finer time would never equal what comes back.
pub(crate) fn whole_second(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(Timestamp::MAX))
}
