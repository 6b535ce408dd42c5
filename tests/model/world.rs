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
    Blank,
    Term(Record),
    /// Somebody edited it.
    Damaged,
    /// Podium's sidecars elect by it: this pod holds it and renews it.
    Campaign(Uid),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// The revision at which it was created stands for its UID.
    pub uid: Rev,
    pub rev: Rev,
    pub content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pod {
    pub uid: Uid,
    pub rev: Rev,
    pub ready: bool,
    pub label: bool,
    /// The term in its claim.
    pub term: Rev,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Election {
    pub rev: Rev,
    /// `status.term`
    pub term: Rev,
    pub suspend: bool,
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
    Create(Content),
    /// PUT of this content over this version of the Lease.
    Put(Lease, Content),
    Pod(Patch),
    Status {
        rev: Rev,
        term: Rev,
    },
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
    /// To read the pods and then the Election from the server.
    ListPods,
    /// To read the Lease from the server.
    GetLease,
}

/// What one pass read from the server itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Consulted {
    pub read_after: Rev,
    /// By name: the version that was seen before the Lease was read. The Election comes last.
    pub settled: [Rev; NAMES + 1],
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
    pub election: Election,
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

/// What a request was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Lease(Lease),
    Pod(Pod),
    Election(Election),
    /// 409: not as it was decided on.
    Conflict,
    /// 404
    NotFound,
}

impl World {
    /// The server carries out a write, or refuses it.
    pub fn apply(&mut self, write: Write, guards: Guards) -> Answer {
        let next = self.latest() + 1;
        match write {
            Write::Create(content) => {
                if self.lease.is_some() {
                    return Answer::Conflict;
                }
                self.begin(content);
                self.put(Lease { uid: next, rev: next, content })
            }
            Write::Put(version, content) => match self.lease {
                Some(lease) if (lease.uid == version.uid && lease.rev == version.rev) || !guards.lease_version => {
                    self.begin(content);
                    self.put(Lease { uid: lease.uid, rev: next, content })
                }
                // The server creates what a PUT without UID does not find.
                None if !guards.lease_uid => {
                    self.begin(content);
                    self.put(Lease { uid: next, rev: next, content })
                }
                _ => Answer::Conflict,
            },
            Write::Pod(patch) => self.patch(patch, next, guards),
            Write::Status { rev, term } => {
                if self.election.rev != rev {
                    return Answer::Conflict;
                }
                self.election = Election { rev: next, term, ..self.election };
                Answer::Election(self.election)
            }
        }
    }

    fn put(&mut self, lease: Lease) -> Answer {
        self.lease = Some(lease);
        Answer::Lease(lease)
    }

    fn begin(&mut self, content: Content) {
        let Content::Term(record) = content else { return };
        if *self.named.entry(record.term).or_insert(record.holder) != record.holder {
            self.broken = self.broken.or(Some(Broken::SharedTerm));
        }
        if record.term < self.highest {
            self.broken = self.broken.or(Some(Broken::TermWentBack));
        }
        self.highest = self.highest.max(record.term);
    }

    fn patch(&mut self, patch: Patch, next: Rev, guards: Guards) -> Answer {
        let Patch { uid, rev, term, label } = patch;
        let version = if label == Change::Lead { guards.label_version } else { guards.fence_version };
        let Some(pod) = &mut self.pods[name(uid)] else { return Answer::NotFound };
        if (guards.pod_uid && pod.uid != uid) || (version && pod.rev != rev) {
            return Answer::Conflict;
        }
        let before = *pod;
        pod.rev = next;
        match label {
            Change::Lead => (pod.label, pod.term) = (true, term),
            Change::Remove | Change::Keep => {
                pod.label = false;
                if guards.fence_term {
                    pod.term = term;
                }
            }
        }
        let after = *pod;
        if after.term < before.term {
            self.broken = self.broken.or(Some(Broken::PodTermLowered));
        }
        if label == Change::Lead && self.named.get(&term) != Some(&Some(after.uid)) {
            self.broken = self.broken.or(Some(Broken::LabelWithoutLease));
        }
        if self.pods.iter().flatten().filter(|pod| pod.label).count() > 1 {
            self.broken = self.broken.or(Some(Broken::TwoLabels));
        }
        Answer::Pod(after)
    }

    /// The highest revision that anybody still knows of.
    pub fn latest(&self) -> Rev {
        let mut latest = 0;
        self.clone().each_revision(&mut |rev| latest = latest.max(*rev));
        latest
    }

    /// Numbers all revisions anew, from 1, in the order that they have.
    pub fn renumber(&mut self) {
        let mut seen = [false; 256];
        self.forget_terms();
        self.each_revision(&mut |rev| seen[usize::from(*rev)] = true);
        let mut numbers = [0; 256];
        let mut next = 0;
        for rev in 1..256 {
            if seen[rev] {
                next += 1;
                numbers[rev] = next;
            }
        }
        self.each_revision(&mut |rev| *rev = numbers[usize::from(*rev)]);
    }

    /// Forgets who had the terms that nobody can write any more.
    fn forget_terms(&mut self) {
        let mut alive = [false; 256];
        let mut lease = |lease: &Option<Lease>| {
            if let Some(Lease { content: Content::Term(record), .. }) = lease {
                alive[usize::from(record.term)] = true;
            }
        };
        lease(&self.lease);
        self.controllers.iter().for_each(|controller| lease(&controller.lease));
        let mut write = |write: &Write| match write {
            Write::Put(_, Content::Term(record)) | Write::Create(Content::Term(record)) => {
                alive[usize::from(record.term)] = true;
            }
            Write::Pod(patch) => alive[usize::from(patch.term)] = true,
            Write::Create(_) | Write::Put(..) | Write::Status { .. } => {}
        };
        self.late.iter().for_each(&mut write);
        for controller in &self.controllers {
            if let Doing::Act(plan) = &controller.doing {
                plan.lease.iter().for_each(&mut write);
                plan.fence.iter().chain(&plan.label).for_each(|patch| write(&Write::Pod(*patch)));
            }
        }
        self.named.retain(|term, _| alive[usize::from(*term)]);
    }

    /// Visits every revision and term.
    fn each_revision(&mut self, visit: &mut impl FnMut(&mut Rev)) {
        fn lease(lease: &mut Lease, visit: &mut impl FnMut(&mut Rev)) {
            visit(&mut lease.uid);
            visit(&mut lease.rev);
            content(&mut lease.content, visit);
        }
        fn content(content: &mut Content, visit: &mut impl FnMut(&mut Rev)) {
            if let Content::Term(record) = content {
                visit(&mut record.term);
            }
        }
        fn pods(pods: &mut Pods, visit: &mut impl FnMut(&mut Rev)) {
            for pod in pods.iter_mut().flatten() {
                visit(&mut pod.rev);
                visit(&mut pod.term);
            }
        }
        fn election(election: &mut Election, visit: &mut impl FnMut(&mut Rev)) {
            visit(&mut election.rev);
            visit(&mut election.term);
        }
        fn patch(patch: &mut Patch, visit: &mut impl FnMut(&mut Rev)) {
            visit(&mut patch.rev);
            visit(&mut patch.term);
        }
        fn write(write: &mut Write, visit: &mut impl FnMut(&mut Rev)) {
            match write {
                Write::Create(created) => content(created, visit),
                Write::Put(version, put) => {
                    lease(version, visit);
                    content(put, visit);
                }
                Write::Pod(change) => patch(change, visit),
                Write::Status { rev, term } => {
                    visit(rev);
                    visit(term);
                }
            }
        }
        self.lease.iter_mut().for_each(|object| lease(object, visit));
        election(&mut self.election, visit);
        pods(&mut self.pods, visit);
        for controller in &mut self.controllers {
            controller.lease.iter_mut().for_each(|object| lease(object, visit));
            controller.election.iter_mut().for_each(|object| election(object, visit));
            pods(&mut controller.pods, visit);
            visit(&mut controller.consulted.read_after);
            controller.consulted.settled.iter_mut().for_each(&mut *visit);
            if let Doing::Act(plan) = &mut controller.doing {
                plan.lease.iter_mut().chain(&mut plan.status).for_each(|object| write(object, visit));
                plan.fence.iter_mut().chain(&mut plan.label).for_each(|object| patch(object, visit));
            }
        }
        self.late.iter_mut().for_each(|object| write(object, visit));
        let named = std::mem::take(&mut self.named);
        let visited = |(mut term, holder)| {
            visit(&mut term);
            (term, holder)
        };
        self.named = named.into_iter().map(visited).collect();
        visit(&mut self.highest);
    }
}

/// What the server checks before it writes, and what a fence writes. All of it, unless a rule is removed.
#[derive(Clone, Copy, Debug)]
pub struct Guards {
    pub lease_version: bool,
    pub lease_uid: bool,
    pub label_version: bool,
    pub fence_version: bool,
    pub pod_uid: bool,
    pub fence_term: bool,
}
