//! The input of one decision: plain values, taken from the caches at one moment.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::cost::DeletionCost;
use crate::api::{ElectionStatus, HolderForm, LeaderLabel, Reason};
use crate::hash::fnv;
use crate::ids::{PodRef, ResourceVersion, Term, Uid};
use crate::lease::record::Lease;

/// One Election, its Lease and its pods.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The Election itself.
    pub election: Election,
    /// Its Lease. `None`: not observed, which proves nothing.
    pub lease: Option<Lease>,
    /// Every pod that matches, carries the Election's claim, is the holder or is listed as unfenced.
    pub pods: Vec<Pod>,
    /// UIDs that the server showed to be gone, by a deletion event or by a list without them. UIDs never come back.
    pub gone: BTreeSet<Uid>,
    /// The revision of the Lease that was known *before* pods and Election were last read from the server.
    pub read_after: Option<ResourceVersion>,
    /// Set while another client keeps changing the label and the controller keeps restoring it.
    pub contest: Option<Contest>,
    /// The API server's response to a denied background write, until one succeeds.
    pub refused: Option<Refused>,
    /// The pods that outranked the holder at the last decisions, each with the time since then without interruption, on a
    /// monotonic clock. Another term clears it.
    pub outranking: BTreeMap<Uid, SignedDuration>,
    /// Why the nodes cannot be observed that the settings ask for.
    pub unobserved: Option<String>,
    /// The Lease of `spec.leaderFrom`, if the settings have one.
    pub followed: Option<FollowedLease>,
}

/// A Lease on which others elect, as this process observed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedLease {
    /// The version that was observed last, also if it is deleted. `None`: the Lease was never observed.
    pub lease: Option<Lease>,
    /// The Lease is not observed to be deleted, or never to have existed.
    pub exists: bool,
    /// The time since this version was first observed, on a monotonic clock. Renewals make new versions.
    pub unchanged_for: SignedDuration,
    /// The part of that time at whose end the server showed this version to be the newest. A watch may be silent.
    pub confirmed_for: SignedDuration,
    /// It was read from the server after this version of the Election's own Lease was observed.
    pub verified: bool,
}

/// The pause between two looks for a renewal, while an Election waits for one.
pub const RENEWAL_PAUSE: SignedDuration = SignedDuration::from_secs(1);

impl FollowedLease {
    /// A Lease that was not observed yet.
    pub const UNOBSERVED: Self = Self {
        lease: None,
        exists: false,
        unchanged_for: SignedDuration::ZERO,
        confirmed_for: SignedDuration::ZERO,
        verified: false,
    };
}

/// A denied background write, with the API server's response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Of a follower's label, or of a claim in advance.
    Follower(String),
    /// Of a deletion cost alone.
    Cost(String),
}

/// The minimum time between two repairs of a contested label.
pub const REPAIR_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// The time without a repair after which a label is no longer contested.
pub const CONTEST_TIMEOUT: SignedDuration = SignedDuration::from_secs(60);

/// A label that another client keeps changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contest {
    /// The time since the last repair, on a monotonic clock.
    pub repaired_ago: SignedDuration,
}

/// The Election's identity, settings and status.
#[derive(Clone, Debug)]
pub struct Election {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: Uid,
    /// `metadata.resourceVersion`, the guard of a status write.
    pub resource_version: ResourceVersion,
    /// `metadata.generation`
    pub generation: i64,
    /// The Lease was read from the server after this version of the Election was observed, as in [`Pod::verified`].
    pub verified: bool,
    /// The spec, if it is usable.
    pub settings: Result<Settings, Problem>,
    /// The status in the cache. It may be stale, wiped or forged.
    pub status: ElectionStatus,
    /// The switchover that its annotations request.
    pub switchover: SwitchoverRequest,
}

/// The annotations that request a switchover, as written. They are an action and no desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchoverRequest {
    /// `podium.dev/switchover-term`: the term to end.
    pub term: Option<String>,
    /// `podium.dev/switchover-to`: the name of the pod to elect.
    pub to: Option<String>,
}

/// A usable spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The label that marks the leader.
    pub label: LeaderLabel,
    /// The Lease's name, defaulted.
    pub lease_name: String,
    /// The pod condition that makes a candidate eligible.
    pub ready_condition: String,
    /// The time that a pod must have been Ready before it may become leader.
    pub min_ready: SignedDuration,
    /// A leader that is merely not Ready keeps the label while no other candidate is eligible.
    pub retain: bool,
    /// The time that a leader that became NotReady keeps the label.
    pub failover_delay: SignedDuration,
    /// No term begins.
    pub suspend: bool,
    /// A healthy leader is replaced after an eligible pod has outranked it for this time. `None`: it stays.
    pub preempt_after: Option<SignedDuration>,
    /// Among equals a hash decides, and not who is Ready longest.
    pub spread: bool,
    /// A leader on a draining node hands over.
    pub leave_draining_nodes: bool,
    /// A pod is unreachable if its node was silent for this time.
    pub node_timeout: Option<SignedDuration>,
    /// The deletion cost of the leader's pod.
    pub leader_deletion_cost: Option<i32>,
    /// The Lease that decides who leads.
    pub leader_from: Option<LeaderFrom>,
}

/// The Lease that decides who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderFrom {
    /// Its name.
    pub lease: String,
    /// What its `holderIdentity` is.
    pub holder: HolderForm,
    /// Fields of the spec that are set and have no effect beside it.
    pub without_effect: Vec<&'static str>,
}

/// The problem of an unusable spec: a condition's reason, and a message that names the field and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The reason of the Stalled condition.
    pub reason: Reason,
    /// The field, its problem and the remedy.
    pub message: String,
}

/// One pod, as far as elections care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Name and UID.
    pub id: PodRef,
    /// `metadata.resourceVersion`, the guard of a write to the pod.
    pub resource_version: ResourceVersion,
    /// The selector matches it.
    pub matches: bool,
    /// The value under the Election's label key.
    pub label: Option<String>,
    /// It carries the Election's claim, with any value.
    pub claimed: bool,
    /// The term in the claim, if the value is a term.
    pub term: Option<Term>,
    /// The Lease was read from the server after this version of the pod was observed: only then is a term beyond the Lease's
    /// revision known to be forged. Otherwise the Lease may be the stale one.
    pub verified: bool,
    /// The other Election that owns this pod under the same label key, if one does.
    pub rival: Option<String>,
    /// The pod's state, from `status.phase` and `metadata.deletionTimestamp`.
    pub state: PodState,
    /// The condition that makes a candidate eligible is True.
    pub ready: bool,
    /// The time since `ready` changed, on the reader's monotonic clock. Delays count from there.
    pub unchanged_for: SignedDuration,
    /// The `lastTransitionTime` of that condition, by the reporter's clock. Delays do not count from there.
    pub transitioned: Option<Timestamp>,
    /// `podium.dev/candidate: "false"`
    pub opted_out: bool,
    /// `podium.dev/priority` and the weights of the matching `spec.preferences`. The higher one is elected first.
    pub score: i64,
    /// Its node drains, and the settings ask for it.
    pub is_draining: bool,
    /// Its deletion cost, and what Elections demand of it.
    pub cost: DeletionCost,
    /// The heartbeats of its node, if the settings ask for them and they are observed.
    pub node: Option<NodeHeartbeat>,
    /// `spec.nodeName`, if the settings take the leader from a Lease.
    pub node_name: Option<String>,
    /// `metadata.creationTimestamp`
    pub created: Timestamp,
    /// The revision that it was created from, if its workload has revisions.
    pub revision: Option<Revision>,
}

/// The heartbeats of a node, on the observer's monotonic clock. Only its own observations count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeHeartbeat {
    /// The node's name.
    pub name: String,
    /// The time since its last observed renewal, or since it was first observed.
    pub silent_for: SignedDuration,
    /// The time since which renewals were observed without a gap of more than [`HEARTBEAT_GAP`]. `None`: the last one is longer
    /// ago than that.
    pub renewing_for: Option<SignedDuration>,
}

/// The longest time between two heartbeats of a node that renews in time, with a reserve for delays.
///
/// The kubelet renews after 10 to 10.4 s. When that fails, it tries again after 0.2 s, then after twice as long each time. So a
/// node whose renewals an outage of 12.7 s or more hits is silent for at least 13 s.
pub const HEARTBEAT_GAP: SignedDuration = SignedDuration::from_millis(12_500);

/// The shortest silence that counts. A shorter outage silences a node for 23 s at most: 10.4 s until it begins, and 12.6 s until
/// the retry that succeeds.
pub const LEAST_SILENCE: SignedDuration = SignedDuration::from_secs(24);

/// A revision of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The workload.
    pub workload: Workload,
    /// The value of the revision label, for example of `pod-template-hash`.
    pub hash: String,
}

/// A workload, by a hash of its names: decisions only compare the workloads of two pods, and every pod stores one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Workload(u64);

impl Workload {
    /// The workload of these names.
    pub fn of(names: &[&str]) -> Self {
        Self(fnv(names.join("\n").into_bytes()))
    }
}

/// The state of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    /// Not running yet, or in an unknown phase.
    Pending,
    /// Running, without a deletionTimestamp.
    Running,
    /// It has a deletionTimestamp.
    Terminating,
    /// Failed, evicted included.
    Failed,
    /// Succeeded.
    Succeeded,
}

impl Snapshot {
    /// The pod with this UID, if it is observed.
    pub fn pod(&self, uid: &Uid) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.id.uid == *uid)
    }

    /// The Lease that decides who leads, if the settings have one: as it was observed.
    pub fn followed_by<'a>(&'a self, settings: &'a Settings) -> Option<(&'a LeaderFrom, &'a FollowedLease)> {
        let from = settings.leader_from.as_ref()?;
        Some((from, self.followed.as_ref().unwrap_or(const { &FollowedLease::UNOBSERVED })))
    }
}

impl Pod {
    /// Returns whether it carries the leader's value under the Election's label key, written by any client.
    pub fn has_value(&self, label: &LeaderLabel) -> bool {
        self.label.as_deref() == Some(label.value.as_str())
    }

    /// Returns whether it carries the leader's label, and no other Election owns the pod under that key.
    pub fn is_labeled(&self, label: &LeaderLabel) -> bool {
        self.rival.is_none() && self.has_value(label)
    }

    /// The term in the claim, unless the Lease at `revision` proves it forged: then it counts as none.
    pub fn term_unless_forged(&self, revision: ResourceVersion) -> Option<Term> {
        self.term.filter(|term| !(self.verified && term.is_beyond(revision)))
    }
}
