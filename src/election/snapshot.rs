//! What one decision looks at: plain values, taken from the caches at one moment.

use std::collections::BTreeSet;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::{ElectionStatus, LeaderLabel, Reason};
use crate::hash::fnv;
use crate::ids::{PodRef, ResourceVersion, Term, Uid};
use crate::lease::record::Lease;

/// One Election, its Lease and its pods.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The Election itself.
    pub election: Election,
    /// Its Lease. `None`: not seen, which proves nothing.
    pub lease: Option<Lease>,
    /// Every pod that matches, carries the Election's claim, is the holder or is listed as unfenced.
    pub pods: Vec<Pod>,
    /// UIDs that the server itself showed to be gone: by a deletion event, or by a list without them. UIDs never come back.
    pub gone: BTreeSet<Uid>,
    /// The revision of the Lease that was known *before* pods and Election were last read from the server.
    pub read_after: Option<ResourceVersion>,
    /// Somebody else keeps changing the label, and the controller put it back several times lately.
    pub contest: Option<Contest>,
    /// The answer to a follower write that was refused, until one succeeds.
    pub refused: Option<String>,
}

/// The minimum time between two repairs of a contested label.
pub const REPAIR_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// The time without a repair after which a label is no longer contested.
pub const CONTEST_TIMEOUT: SignedDuration = SignedDuration::from_secs(60);

/// A label that others keep changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contest {
    /// The time since the last repair, on a monotonic clock.
    pub repaired_ago: SignedDuration,
}

/// The Election's identity, its settings, and the status that it has.
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
    /// Whether the Lease was read from the server after this version of the Election was seen, as in [`Pod::verified`].
    pub verified: bool,
    /// The spec, if it can be used.
    pub settings: Result<Settings, Problem>,
    /// The status as it is, a projection that may be stale, wiped or forged.
    pub status: ElectionStatus,
}

/// A spec that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The label that marks the leader.
    pub label: LeaderLabel,
    /// The Lease's name, defaulted.
    pub lease_name: String,
    /// The pod condition that makes a candidate.
    pub ready_condition: String,
    /// How long a pod must have been Ready before it may become leader.
    pub min_ready: SignedDuration,
    /// A leader that is merely not Ready keeps the label while no other candidate is eligible.
    pub retain: bool,
    /// How long a leader whose readiness turned false keeps the podium.
    pub failover_delay: SignedDuration,
    /// No new term.
    pub suspend: bool,
}

/// Why a spec cannot be used: a condition's reason, and a message that names the field and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The reason of the Stalled condition.
    pub reason: Reason,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// One pod, as far as elections care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Name and UID.
    pub id: PodRef,
    /// `metadata.resourceVersion`, the guard of a write to the pod.
    pub resource_version: ResourceVersion,
    /// Whether the selector matches.
    pub matches: bool,
    /// The value under the Election's label key.
    pub label: Option<String>,
    /// Whether it carries the Election's claim, with whatever value.
    pub claimed: bool,
    /// The term in the claim, if it is one.
    pub term: Option<Term>,
    /// Whether the Lease was read from the server after this version of the pod was seen: only then is a term beyond the
    /// Lease's revision known to be forged. Otherwise the Lease may be the stale one.
    pub verified: bool,
    /// The Election that has the better right to this pod under the same label key, if one has.
    pub rival: Option<String>,
    /// `status.phase` and what belongs to it.
    pub state: PodState,
    /// Whether the condition that makes a candidate is true.
    pub ready: bool,
    /// For how long it has or has not been, on a monotonic clock of the reader's: what delays are counted from.
    pub unchanged_for: SignedDuration,
    /// The `lastTransitionTime` of that condition, by the clock of whoever reported it. Delays do not start here.
    pub transitioned: Option<Timestamp>,
    /// `podium.dev/candidate: "false"`
    pub opted_out: bool,
    /// `podium.dev/priority`, 0 by default.
    pub priority: i64,
    /// `metadata.creationTimestamp`
    pub created: Timestamp,
    /// What it was made from, if its workload has revisions.
    pub revision: Option<Revision>,
}

/// A revision of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The workload.
    pub workload: Workload,
    /// The value of the revision label, for example of `pod-template-hash`.
    pub hash: String,
}

/// A workload, by a hash of its names: all that matters is whether two pods are of the same one, and every pod has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Workload(u64);

impl Workload {
    /// The workload of these names.
    pub fn of(names: &[&str]) -> Self {
        Self(fnv(names.join("\n").into_bytes()))
    }
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    /// Not running yet, or in a phase that we do not know.
    Pending,
    /// Running and not asked to go.
    Running,
    /// It has a deletionTimestamp.
    Terminating,
    /// Failed, evicted included.
    Failed,
    /// Succeeded.
    Succeeded,
}

impl Snapshot {
    /// The pod of this UID, if it is seen.
    pub fn pod(&self, uid: &Uid) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.id.uid == *uid)
    }
}

impl Pod {
    /// Whether it carries the leader's value under the Election's label key, whoever wrote it.
    pub fn has_value(&self, label: &LeaderLabel) -> bool {
        self.label.as_deref() == Some(label.value.as_str())
    }

    /// Whether it carries the leader's label, and the label is this Election's to judge.
    pub fn is_labelled(&self, label: &LeaderLabel) -> bool {
        self.rival.is_none() && self.has_value(label)
    }

    /// The term in the claim, unless the Lease at `revision` proves it forged: then it counts as none.
    pub fn term_unless_forged(&self, revision: ResourceVersion) -> Option<Term> {
        self.term.filter(|term| !(self.verified && term.is_beyond(revision)))
    }
}
