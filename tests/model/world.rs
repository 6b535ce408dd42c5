//! The modeled world: an API server with one Lease, one Election and a few pods; controllers with stale caches; writes in
//! flight. All values are small, so that they can be hashed and compared.
//!
//! Revisions follow the real server: one counter, one increment per write, and the term of an election is the revision that
//! it replaces. Only their order matters, so they are renumbered after each step ([`World::renumber`]). Worlds that differ
//! only in elapsed revisions are one state.

use std::collections::{BTreeMap, BTreeSet};

use crate::followed::{Followed, Observed};

/// Maximum number of pod names; two or three are used.
pub const NAMES: usize = 3;

/// A revision or term. 0: none.
pub type Rev = u8;

/// A pod's UID, made of its [`name`] and its number among the pods of that name.
pub type Uid = u8;

/// A set of UIDs.
pub type Uids = u16;

/// The index of a pod's name.
pub fn name(uid: Uid) -> usize {
    usize::from(uid) % NAMES
}

/// The set with one UID.
pub fn one(uid: Uid) -> Uids {
    1 << uid
}

/// Returns whether the set contains the UID.
pub fn has(uids: Uids, uid: Uid) -> bool {
    uids & one(uid) != 0
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    pub holder: Option<Uid>,
    pub term: Rev,
    pub unfenced: Uids,
    /// In a write: the requested switchover that it carries out, by its term. 0: none.
    pub request: Rev,
    /// It is a vacancy because the followed Lease expired.
    pub expired: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Content {
    /// No term, and the UIDs that the Lease named before it was blanked.
    Blank(Uids),
    Term(Record),
    /// Edited manually, and the UIDs that it still names.
    Damaged(Uids),
    /// Podium's sidecars campaign on it: this pod holds and renews it.
    Campaign(Uid),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// The revision of its creation stands for its UID.
    pub uid: Rev,
    pub rev: Rev,
    /// UID of the Election that it was written for. 0: none.
    pub incarnation: Rev,
    pub content: Content,
}

impl Content {
    /// The part that the Lease stores.
    pub fn stored(self) -> Self {
        match self {
            Self::Term(record) => Self::Term(Record { request: 0, ..record }),
            other => other,
        }
    }
}

impl Lease {
    /// UIDs in its annotations.
    pub fn named(&self) -> Uids {
        match self.content {
            Content::Blank(former) | Content::Damaged(former) => former,
            Content::Term(record) => record.unfenced | record.holder.map_or(0, one),
            Content::Campaign(_) => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pod {
    pub uid: Uid,
    pub rev: Rev,
    pub ready: bool,
    /// It has the leader's label.
    pub label: bool,
    /// It has the Election's claim.
    pub claimed: bool,
    /// The term of its claim. 0: none.
    pub term: Rev,
    /// Its other labels were edited, so that no selector matches it.
    pub moved: bool,
    /// Its priority was raised.
    pub preferred: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Election {
    /// The revision of its creation stands for its UID.
    pub uid: Rev,
    pub rev: Rev,
    /// `status.term`
    pub term: Rev,
    pub suspend: bool,
    /// The names that it matches.
    pub selector: Selector,
    /// The term in its annotation that requests a switchover. 0: none.
    pub request: Rev,
    /// The name in the annotation that names the next leader.
    pub to: Option<usize>,
}

/// A set of names.
pub type Selector = u8;

/// The selector that matches every pod.
pub const ALL: Selector = (1 << NAMES) - 1;

impl Election {
    /// Returns whether the selector matches the pod.
    pub fn matches(&self, pod: &Pod) -> bool {
        self.selector & (1 << name(pod.uid)) != 0 && !pod.moved
    }

    /// Returns whether both are the same object with the same spec.
    pub fn same_spec(&self, other: &Self) -> bool {
        (self.uid, self.suspend, self.selector) == (other.uid, other.suspend, other.selector)
    }
}

pub type Pods = [Option<Pod>; NAMES];

/// A set of nodes that drain. Each pod name has a node of its own.
pub type Draining = u8;

/// Returns whether the pod's node drains.
pub fn drains(draining: Draining, pod: &Pod) -> bool {
    draining & (1 << name(pod.uid)) != 0
}

/// The pods that outranked the leader at the last decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outranking {
    /// The leader's term.
    pub term: Rev,
    pub pods: Uids,
    /// Those that have done so for the delay.
    pub due: Uids,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Patch {
    pub uid: Uid,
    /// The version that the decision was based on.
    pub rev: Rev,
    pub term: Rev,
    pub label: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    Lead,
    Remove,
    Keep,
}

/// A write request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Write {
    /// POST of a Lease for this incarnation of the Election.
    Create(Rev, Content),
    /// PUT of this content, for this incarnation, over this version of the Lease.
    Put(Lease, Rev, Content),
    Pod(Patch),
    Status {
        uid: Rev,
        rev: Rev,
        term: Rev,
    },
}

/// The effect of mutating admission on a successful write: one part is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lie {
    /// A removed label stays.
    KeepsLabel,
    /// An added label is missing.
    DropsLabel,
    /// The claim does not change.
    DropsClaim,
    /// The Lease loses its list of former holders.
    DropsList,
    /// The Lease keeps its former term with the new holder.
    KeepsTerm,
    /// The Lease loses all of Podium's annotations.
    DropsRecord,
    /// The Lease does not change.
    KeepsLease,
}

impl Write {
    /// The lies that have an effect on this write.
    pub fn lies(&self) -> &'static [Lie] {
        use Lie::*;
        match self {
            Self::Create(..) | Self::Status { .. } => &[],
            Self::Put(_, _, Content::Term(_)) => &[DropsList, KeepsTerm, DropsRecord, KeepsLease],
            Self::Put(..) => &[DropsList, KeepsLease],
            Self::Pod(Patch { label: Change::Remove, .. }) => &[KeepsLabel, DropsClaim],
            Self::Pod(Patch { label: Change::Lead, .. }) => &[DropsLabel, DropsClaim],
            Self::Pod(Patch { label: Change::Keep, .. }) => &[DropsClaim],
        }
    }
}

/// The next step after a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Then {
    Rest,
    Again,
    Consult,
    ReadFollowed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Plan {
    /// The claim on the next plan's pod.
    pub claim: Option<Patch>,
    pub lease: Option<Write>,
    pub fence: Vec<Patch>,
    pub label: Option<Patch>,
    pub status: Option<Write>,
    pub then: Then,
}

/// The next step of a controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Doing {
    /// Decides, once there is a reason.
    Decide,
    /// Applies the rest of a plan.
    Act(Plan),
    /// Lists the pods on the server, together with the Election unless that is a separate step.
    ListPods,
    /// Reads the Election from the server.
    GetElection,
    /// Reads the Lease from the server.
    GetLease,
    /// Reads the followed Lease from the server.
    GetFollowed,
    /// The same before the Lease: a rule is removed.
    GetFollowedFirst,
}

/// Reads from the server during one reconcile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Consulted {
    pub read_after: Rev,
    /// By name: the version that was seen before the Lease was read. The Election comes last.
    pub verified: [Rev; NAMES + 1],
    /// The version of the Lease that was known before the followed Lease was read.
    pub followed: Rev,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Controller {
    pub lease: Option<Lease>,
    /// It has observed that version of a campaigner's Lease for the lease duration.
    pub expired: bool,
    pub election: Option<Election>,
    pub pods: Pods,
    /// Former holders known to be gone.
    pub gone: Uids,
    pub consulted: Consulted,
    pub doing: Doing,
    /// The cached nodes.
    pub draining: Draining,
    pub outranking: Option<Outranking>,
    /// The background write: the claim on the next in line.
    pub background: Option<Patch>,
    /// The followed Lease, if the Election follows one.
    pub observed: Option<Observed>,
}

/// Remaining events of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Budget {
    pub delete_lease: u8,
    pub edit_lease: u8,
    pub delete_pod: u8,
    pub create_pod: u8,
    /// A pod becomes Ready or NotReady.
    pub flip: u8,
    pub wipe_status: u8,
    /// The label is removed by hand.
    pub unlabel: u8,
    pub suspend: u8,
    /// A campaigning sidecar renews.
    pub renew: u8,
    pub crash: u8,
    /// A write is applied, but its response is lost.
    pub lose_answer: u8,
    /// A write gets no response, and is applied later.
    pub delay: u8,
    /// The Election is deleted, and may be re-created later.
    pub delete_election: u8,
    pub edit_selector: u8,
    /// The labels of a pod are edited so that no selector matches it, or back.
    pub move_pod: u8,
    /// The server responds with success, but changes a part of the write.
    pub lie: u8,
    /// A user requests a switchover.
    pub request: u8,
    /// A node begins or ceases to drain.
    pub drain: u8,
    /// The priority of a pod changes.
    pub prefer: u8,
    /// The followed Lease gets another holder, or is created.
    pub hold: u8,
    /// The holder of the followed Lease renews it.
    pub renew_followed: u8,
    /// Nobody renews the followed Lease for its duration.
    pub lapse: u8,
    pub delete_followed: u8,
    /// Bounds the highest term: new elections.
    pub elect: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Broken {
    TwoLabels,
    LabelWithoutLease,
    SharedTerm,
    TermWentBack,
    PodTermLowered,
    /// Two changes of leader carried out the same request.
    RequestActedTwice,
    /// A pod was elected that the followed Lease did not name since the term before.
    ElectedUnnamed,
    /// A leader was deposed that the followed Lease named without interruption.
    DeposedWhileNamed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub lease: Option<Lease>,
    pub election: Option<Election>,
    /// The followed Lease, if the Election follows one.
    pub followed: Option<Followed>,
    pub pods: Pods,
    pub draining: Draining,
    /// Number of pods of each name so far.
    pub born: [u8; NAMES],
    pub controllers: Vec<Controller>,
    /// Abandoned writes that the server may still receive.
    pub late: Vec<Write>,
    pub left: Budget,
    /// Every term and its holder, as long as a write may still use it.
    pub named: BTreeMap<Rev, Option<Uid>>,
    /// The requests that a change of leader carried out, as long as a controller may still know one.
    pub acted: BTreeSet<Rev>,
    pub highest: Rev,
    pub broken: Option<Broken>,
}
