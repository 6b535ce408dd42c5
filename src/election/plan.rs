//! The output of a decision: all writes, in the order in which they may be sent.

use std::collections::BTreeSet;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::cost::DeletionCost;
use crate::api::ElectionStatus;
use crate::ids::{PodRef, ResourceVersion, Term, Uid, Version};
use crate::lease::cause::Cause;
use crate::lease::record::Record;

/// The complete plan. Its parts are executed in the order of the fields; the first denied or unanswered write ends it.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Plan {
    /// Claims the next leader, which no Lease has named yet. Nothing after it may start before it is acknowledged.
    pub claim: Option<PodWrite>,
    /// The compare-and-swap. Nothing after it may start before it is acknowledged.
    pub lease: Option<LeaseWrite>,
    /// Pods to fence. All of them must be fenced before any pod is labeled.
    pub fence: Vec<PodWrite>,
    /// The pod to label.
    pub label: Option<PodWrite>,
    /// The status, and after it the Event.
    pub status: Option<StatusWrite>,
    /// Claims the pod that would be elected next, so that its election need not wait for the claim. In the background.
    pub claim_next: Option<PodWrite>,
    /// Pods that get or lose the follower's value. In the background: neither a status nor a failover waits for them.
    pub follow: Vec<PodWrite>,
    /// Pods of which only the deletion cost is to be corrected: the settings changed, or another client changed the annotations.
    /// In the background.
    pub cost: Vec<PodWrite>,
    /// The pods that outrank the leader now, to be given back with the time since they do. `None`: they were not compared.
    pub outranking: Option<Outranking>,
    /// The next step after all of these writes.
    pub then: Then,
}

/// Eligible pods with a higher score than the leader, where `spec.preemption` lets them replace it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outranking {
    /// The leader's term.
    pub term: Term,
    /// The pods.
    pub pods: BTreeSet<Uid>,
}

/// The next step after a plan was executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// Wait for a change.
    #[default]
    AwaitChange,
    /// Decide again after this time, or after an earlier change.
    RequeueAfter(SignedDuration),
    /// Decide again at once: the writes made the next step possible.
    DecideAgain,
    /// The caches do not suffice, for this reason: read pods, Election and Lease from the server, in this order, and decide again.
    Consult(&'static str),
    /// The cached version of the followed Lease does not suffice, for this reason: read it from the server, and decide again.
    ReadFollowedLease(&'static str),
}

/// A write to the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseWrite {
    /// Create it, blank. A create never names a holder, not even the first.
    Create,
    /// Blank a Lease that cannot be trusted, for this reason.
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
    /// Returns whether it has writes that neither a status nor a failover waits for. They are sent after the rest of the
    /// plan.
    pub fn has_background_writes(&self) -> bool {
        self.claim_next.is_some() || !self.follow.is_empty() || !self.cost.is_empty()
    }

    /// Returns whether it only prepares another decision: it reads or claims, or begins a term.
    pub fn precedes_a_decision(&self) -> bool {
        self.claim.is_some()
            || self.lease.is_some()
            || matches!(self.then, Then::DecideAgain | Then::Consult(_) | Then::ReadFollowedLease(_))
    }

    /// Returns whether it has writes that come before its background writes. The status does not count.
    pub fn has_foreground_writes(&self) -> bool {
        self.claim.is_some() || self.lease.is_some() || !self.fence.is_empty() || self.label.is_some()
    }
}

/// A write to one pod, guarded by its UID and resourceVersion: the claim with this term, and the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodWrite {
    /// The pod.
    pub pod: PodRef,
    /// The version that the plan is based on.
    pub resource_version: ResourceVersion,
    /// Change of the label.
    pub label: LabelChange,
    /// The term in the claim. `None`: a claim without a term, on a pod whose claim has none.
    pub term: Option<Term>,
    /// The deletion cost, if it changes.
    pub cost: Option<DeletionCost>,
    /// The label was correct under this term before, and another client changed it.
    pub is_repair: bool,
}

/// The change of a pod's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelChange {
    /// The pod becomes the leader.
    Lead,
    /// The pod becomes a follower, where the Election has a value for followers.
    Follow,
    /// The label is removed.
    Remove,
    /// The label stays unchanged: it is correct, or belongs to another client.
    Keep,
}

/// A write to the Election's status, guarded by its resourceVersion.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusWrite {
    /// The Election's UID and the version that the plan is based on.
    pub guard: Version,
    /// The whole status.
    pub status: ElectionStatus,
    /// Only counts and messages changed: the write may be delayed and coalesced with the next one.
    pub can_wait: bool,
    /// The change of leader to announce after the status is written.
    pub announce: Option<Announcement>,
}

/// A change of leader, as an Event reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The previous leader, according to the status.
    pub from: Option<String>,
    /// The leader; `None` is a vacancy.
    pub to: Option<String>,
    /// The term that began.
    pub term: Term,
    /// The cause.
    pub cause: Cause,
    /// The cause in words.
    pub reason: String,
}
