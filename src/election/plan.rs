//! What a decision results in: everything that is to be written, in the order in which it may be written.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::ElectionStatus;
use crate::ids::{PodRef, ResourceVersion, Term, Version};
use crate::lease::cause::Cause;
use crate::lease::record::Record;

/// The complete plan. Its parts are carried out in the order of the fields; the first refusal or unknown answer ends it.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Plan {
    /// Claims the next leader, which no Lease has named yet. Nothing after it may start before it is acknowledged.
    pub claim: Option<PodWrite>,
    /// The compare-and-swap. Nothing after it may start before it is acknowledged.
    pub lease: Option<LeaseWrite>,
    /// Pods to fence. All of them must be fenced before anybody is labelled.
    pub fence: Vec<PodWrite>,
    /// The pod to label.
    pub label: Option<PodWrite>,
    /// The status, and after it the Event.
    pub status: Option<StatusWrite>,
    /// Claims the pod that would lead next, so that its election need not wait for that. In the background.
    pub claim_next: Option<PodWrite>,
    /// Pods that get or lose the follower's value. In the background: neither a status nor a failover waits for them.
    pub follow: Vec<PodWrite>,
    /// What follows when all of that is done.
    pub then: Then,
}

/// What follows on a plan that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// Nothing, until something changes.
    #[default]
    Rest,
    /// Look again after this time, if nothing changes before.
    LookAgain(SignedDuration),
    /// Decide again at once: the writes made the next step possible.
    DecideAgain,
    /// Read pods, Election and Lease from the server, in this order, and decide again: the caches cannot tell. Why.
    Consult(&'static str),
}

/// A write to the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseWrite {
    /// Create it, blank. A create never names a holder, not even the first.
    Create,
    /// Empty one that cannot be trusted. Why.
    Blank(Version, &'static str),
    /// Begin a term.
    Elect {
        /// The version that is replaced; its revision is the new term.
        guard: Version,
        /// The new term.
        record: Record,
        /// When it begins.
        acquired: Timestamp,
        /// How often the leader changed, this change included.
        transitions: i32,
    },
}

impl Plan {
    /// Whether it has writes that neither a status nor a failover waits for. They are sent after the rest of the plan.
    pub fn has_background_writes(&self) -> bool {
        self.claim_next.is_some() || !self.follow.is_empty()
    }

    /// Whether it has writes that come before its background writes. The status does not count.
    pub fn has_foreground_writes(&self) -> bool {
        self.claim.is_some() || self.lease.is_some() || !self.fence.is_empty() || self.label.is_some()
    }
}

/// A write to one pod, guarded by its UID and resourceVersion: the claim with this term, and the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodWrite {
    /// The pod.
    pub pod: PodRef,
    /// The version that was decided on.
    pub resource_version: ResourceVersion,
    /// What happens to the label.
    pub label: LabelChange,
    /// The term that the claim says from then on. `None`: none yet, on a pod that carries no claim.
    pub term: Option<Term>,
    /// The label was as the Lease says before, and somebody else changed it.
    pub is_repair: bool,
}

/// What happens to the label of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelChange {
    /// The pod becomes the leader.
    Lead,
    /// The pod becomes a follower, where the Election has a value for followers.
    Follow,
    /// The label goes.
    Remove,
    /// What is there stays: it is as it should be, or not ours.
    Keep,
}

/// A write to the Election's status, guarded by its resourceVersion.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusWrite {
    /// The Election's UID and the version that was decided on.
    pub guard: Version,
    /// The whole status.
    pub status: ElectionStatus,
    /// Mere counts and messages changed: the write may wait for more of them.
    pub can_wait: bool,
    /// The change of leader to announce once the status is written.
    pub announce: Option<Announcement>,
}

/// A change of leader, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The leader before, as far as the status knew.
    pub from: Option<String>,
    /// The leader now; `None` is a vacancy.
    pub to: Option<String>,
    /// The term that began.
    pub term: Term,
    /// The cause.
    pub cause: Cause,
    /// The cause in words.
    pub reason: String,
}
