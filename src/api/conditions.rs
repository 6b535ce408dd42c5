//! The conditions of an Election, in the conventions of kstatus.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::wire_names::wire_names;

/// The API server has confirmed the label on `status.leader` for `status.term`. Always present.
pub const READY: &str = "Ready";

/// Elections work and something needs attention. Present only while it is true.
pub const DEGRADED: &str = "Degraded";

/// No progress without a person. Present only while it is true, because kstatus reads it as a failure.
pub const STALLED: &str = "Stalled";

wire_names! {
    /// The reason of a condition.
    pub enum Reason {
        /// Ready: the leader is labeled.
        LeaderElected = "LeaderElected",
        /// Ready: the leader is not Ready and keeps the label, because no other candidate is eligible or the delay is not over.
        LeaderRetained = "LeaderRetained",
        /// Not Ready: a leader is elected and its label is not confirmed.
        LeaderNotActive = "LeaderNotActive",
        /// Not Ready: the selector matches no pod.
        NoMatchingPods = "NoMatchingPods",
        /// Not Ready: pods match and none is eligible.
        NoEligibleCandidate = "NoEligibleCandidate",
        /// Not Ready: elections are suspended and there is no leader.
        Suspended = "Suspended",
        /// Degraded, or Stalled before the first term and where it concerns all pods: a pod carries the label's key with a foreign
        /// value.
        LabelConflict = "LabelConflict",
        /// Degraded, or Stalled before the first term and where it concerns all pods: another Election with the same label key owns
        /// the pod.
        OverlappingElections = "OverlappingElections",
        /// Degraded: a planned change of the leader waits.
        SwitchoverPending = "SwitchoverPending",
        /// Degraded: another client keeps changing the label.
        LabelContested = "LabelContested",
        /// Degraded: the API server denies writes to followers.
        FollowersNotLabeled = "FollowersNotLabeled",
        /// Stalled: the selector is unusable.
        InvalidSelector = "InvalidSelector",
        /// Stalled: another part of the spec is unusable.
        InvalidSpec = "InvalidSpec",
        /// Stalled: the controller may not write the label's key.
        LabelKeyNotAllowed = "LabelKeyNotAllowed",
        /// Stalled: the Lease belongs to another Election or client.
        LeaseConflict = "LeaseConflict",
        /// Stalled: the API server denies a request, by RBAC or by an admission policy. Degraded: it denies the controller to
        /// observe nodes.
        RequestDenied = "RequestDenied",
        /// Stalled: more pods match than the Lease can account for.
        TooManyPods = "TooManyPods",
    }
}

/// The longest message, in characters.
const MESSAGE_CHARACTERS: usize = 2_000;

/// Returns the condition `kind`. Its transition time is that of `before` while the status stays the same.
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
        reason: reason.as_str().into(),
        message: shortened(message),
        observed_generation: Some(generation),
        last_transition_time: since,
    }
}

/// Cuts a message that quotes what others wrote, such as the holder of a foreign Lease: the API server rejects a status with a
/// message of more than 32 KiB.
fn shortened(message: String) -> String {
    match message.char_indices().nth(MESSAGE_CHARACTERS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    }
}

/// Truncates to the seconds that the API server stores: a finer time would differ from the stored one.
pub(crate) fn whole_second(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_message_is_cut_between_characters() {
        let said = |message: String| {
            condition(None, READY, false, (Reason::LeaseConflict, message), 1, Timestamp::UNIX_EPOCH).message
        };
        assert_eq!(said("ä".repeat(2_000)), "ä".repeat(2_000));
        assert_eq!(said("ä".repeat(100_000)), format!("{}…", "ä".repeat(2_000)));
    }
}
