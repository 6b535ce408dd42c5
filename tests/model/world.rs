//! The modelled world: an API server with one Lease, one Election and a few pods; controllers with stale caches; writes that
//! are under way. Plain small values that can be hashed and compared.
//!
//! Revisions are what the real server gives: one counter, one step for every write, and the term of an election is the revision
//! that it replaces. As nothing but their order matters, they are renumbered after each step ([`World::renumber`]), so that
//! worlds that differ only in how long they took are one state.

use std::collections::BTreeMap;

/// The names that pods may have: two or three of them are used.
pub const NAMES: usize = 3;

/// A revision, or the term that is one. 0: none.
pub type Rev = u8;

/// A pod's UID: its name is [`name`], and which of the pods of that name it is the rest.
pub type Uid = u8;

/// A set of UIDs.
pub type Uids = u16;

/// The name of a pod, as an index.
pub fn name(uid: Uid) -> usize {
    usize::from(uid) % NAMES
}

/// The set of one.
pub fn one(uid: Uid) -> Uids {
    1 << uid
}

/// Whether the set has it.
pub fn has(uids: Uids, uid: Uid) -> bool {
    uids & one(uid) != 0
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    pub holder: Option<Uid>,
    pub term: Rev,
    pub unfenced: Uids,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Content {
    /// No term. The UIDs that the Lease named before it was blanked.
    Blank(Uids),
    Term(Record),
    /// Somebody edited it. The UIDs that it still names.
    Damaged(Uids),
    /// Podium's sidecars elect by it: this pod holds it and renews it.
    Campaign(Uid),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// The revision at which it was created stands for its UID.
    pub uid: Rev,
    pub rev: Rev,
    /// The UID of the Election that it was written for. 0: none.
    pub incarnation: Rev,
    pub content: Content,
}

impl Lease {
    /// The UIDs that its annotations name.
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
    /// It carries the leader's label.
    pub label: bool,
    /// It carries the Election's claim.
    pub claimed: bool,
    /// The term in its claim. 0: none.
    pub term: Rev,
    /// Its other labels were edited so that no selector matches it.
    pub moved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Election {
    /// The revision at which it was created stands for its UID.
    pub uid: Rev,
    pub rev: Rev,
    /// `status.term`
    pub term: Rev,
    pub suspend: bool,
    /// The names that its selector matches.
    pub selector: Selector,
}

/// A set of names.
pub type Selector = u8;

/// The selector that matches every pod.
pub const ALL: Selector = (1 << NAMES) - 1;

impl Election {
    /// Whether the selector matches the pod.
    pub fn matches(&self, pod: &Pod) -> bool {
        self.selector & (1 << name(pod.uid)) != 0 && !pod.moved
    }

    /// Whether both are the same object with the same spec.
    pub fn same_spec(&self, other: &Self) -> bool {
        (self.uid, self.suspend, self.selector) == (other.uid, other.suspend, other.selector)
    }
}

pub type Pods = [Option<Pod>; NAMES];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Patch {
    pub uid: Uid,
    /// The version that was decided on.
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

/// A request that changes something.
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

/// What the API server does with a write that it answers with success: mutating admission changes a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lie {
    /// A label that was to be removed stays.
    KeepsLabel,
    /// A label that was to be added is missing.
    DropsLabel,
    /// The claim stays as it was.
    DropsClaim,
    /// The Lease loses the list of former holders.
    DropsList,
    /// The Lease keeps its former term under the new holder.
    KeepsTerm,
    /// The Lease loses all of Podium's annotations.
    DropsRecord,
    /// The Lease stays as it was.
    KeepsLease,
}

impl Write {
    /// The lies that make a difference.
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

/// What follows on a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Then {
    Rest,
    Again,
    Consult,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Plan {
    /// The claim on the pod that the next plan elects.
    pub claim: Option<Patch>,
    pub lease: Option<Write>,
    pub fence: Vec<Patch>,
    pub label: Option<Patch>,
    pub status: Option<Write>,
    pub then: Then,
}

/// What a controller is about to do next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Doing {
    /// To decide, as soon as there is a reason.
    Decide,
    /// To carry out the rest of a plan.
    Act(Plan),
    /// To read the pods from the server, and at the same moment the Election, unless that is a step of its own.
    ListPods,
    /// To read the Election from the server.
    GetElection,
    /// To read the Lease from the server.
    GetLease,
}

/// What one pass read from the server itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Consulted {
    pub read_after: Rev,
    /// By name: the version that was seen before the Lease was read. The Election comes last.
    pub verified: [Rev; NAMES + 1],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Controller {
    pub lease: Option<Lease>,
    /// It has seen that version of a campaigner's Lease for as long as the Lease lasts.
    pub expired: bool,
    pub election: Option<Election>,
    pub pods: Pods,
    /// Former holders that are known to be gone for ever.
    pub gone: Uids,
    pub consulted: Consulted,
    pub doing: Doing,
    /// The claim on the next in line, which is written in the background.
    pub background: Option<Patch>,
}

/// How often things may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Budget {
    pub delete_lease: u8,
    pub edit_lease: u8,
    pub delete_pod: u8,
    pub create_pod: u8,
    /// A pod turns ready or unready.
    pub flip: u8,
    pub wipe_status: u8,
    /// The label is taken from a pod by hand.
    pub unlabel: u8,
    pub suspend: u8,
    /// A campaigning sidecar renews.
    pub renew: u8,
    pub crash: u8,
    /// A write is applied, and the answer is lost.
    pub lose_answer: u8,
    /// A write is not answered, and is applied at some later time.
    pub delay: u8,
    /// The Election is deleted. It may be created again at any time.
    pub delete_election: u8,
    /// The Election's selector is edited.
    pub edit_selector: u8,
    /// The labels of a pod are edited so that no selector matches it, or back.
    pub move_pod: u8,
    /// The server answers a write with success and changes a part of it.
    pub lie: u8,
    /// Elections that begin: bounds the highest term.
    pub elect: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Broken {
    TwoLabels,
    LabelWithoutLease,
    SharedTerm,
    TermWentBack,
    PodTermLowered,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub lease: Option<Lease>,
    pub election: Option<Election>,
    pub pods: Pods,
    /// How many pods of each name there were.
    pub born: [u8; NAMES],
    pub controllers: Vec<Controller>,
    /// Writes that nobody waits for any more, and that the server may still get.
    pub late: Vec<Write>,
    pub left: Budget,
    /// Every term that began, and its holder, as far as anybody may still act on it.
    pub named: BTreeMap<Rev, Option<Uid>>,
    /// The highest term of all.
    pub highest: Rev,
    pub broken: Option<Broken>,
}
