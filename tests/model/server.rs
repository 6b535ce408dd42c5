//! The modeled API server: how it applies a write.

use crate::world::*;

/// The response to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Lease(Lease),
    Pod(Pod),
    Election(Election),
    /// 409: changed since the decision.
    Conflict,
    /// 404
    NotFound,
}

impl World {
    /// Applies a write completely or partly, or rejects it.
    pub fn apply(&mut self, write: Write, guards: Guards, lie: Option<Lie>) -> Answer {
        let next = self.latest() + 1;
        match write {
            Write::Create(..) if self.lease.is_some() => Answer::Conflict,
            Write::Create(incarnation, content) => self.put(Lease { uid: next, rev: next, incarnation, content }),
            Write::Put(version, incarnation, content) => match self.lease {
                Some(lease) if (lease.uid == version.uid && lease.rev == version.rev) || !guards.lease_version => {
                    let after = Lease { uid: lease.uid, rev: next, incarnation, content };
                    self.put(altered(lease, after, lie, guards))
                }
                // A PUT without UID creates a missing object.
                None if !guards.lease_uid => self.put(Lease { uid: next, rev: next, incarnation, content }),
                _ => Answer::Conflict,
            },
            Write::Pod(patch) => self.patch(patch, next, guards, lie),
            Write::Status { uid, rev, term } => match &mut self.election {
                Some(election) if (election.uid, election.rev) == (uid, rev) => {
                    (election.rev, election.term) = (next, term);
                    Answer::Election(*election)
                }
                Some(_) => Answer::Conflict,
                None => Answer::NotFound,
            },
        }
    }

    fn put(&mut self, lease: Lease) -> Answer {
        self.begin(lease);
        let lease = Lease { content: lease.content.stored(), ..lease };
        self.lease = Some(lease);
        Answer::Lease(lease)
    }

    fn begin(&mut self, lease: Lease) {
        self.judge_followed(lease.content);
        let Content::Term(record) = lease.content else { return };
        if *self.named.entry(record.term).or_insert(record.holder) != record.holder {
            self.broken = self.broken.or(Some(Broken::SharedTerm));
        }
        if record.term < self.highest {
            self.broken = self.broken.or(Some(Broken::TermWentBack));
        }
        self.highest = self.highest.max(record.term);
        if record.request != 0 && !self.acted.insert(record.request) {
            self.broken = self.broken.or(Some(Broken::RequestActedTwice));
        }
    }

    fn patch(&mut self, patch: Patch, next: Rev, guards: Guards, lie: Option<Lie>) -> Answer {
        let Patch { uid, rev, term, label } = patch;
        let version = match label {
            Change::Lead => guards.label_version,
            Change::Remove => guards.fence_version,
            Change::Keep => guards.claim_version,
        };
        let Some(pod) = &mut self.pods[name(uid)] else { return Answer::NotFound };
        if (guards.pod_uid && pod.uid != uid) || (version && pod.rev != rev) {
            return Answer::Conflict;
        }
        let before = *pod;
        pod.rev = next;
        pod.label = match label {
            Change::Lead => before.label || lie != Some(Lie::DropsLabel),
            Change::Remove => before.label && lie == Some(Lie::KeepsLabel),
            Change::Keep => before.label,
        };
        if lie != Some(Lie::DropsClaim) && (label == Change::Lead || guards.fence_term) {
            (pod.claimed, pod.term) = (true, term);
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
}

impl Answer {
    /// Returns whether the status code reports success.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Lease(_) | Self::Pod(_) | Self::Election(_))
    }

    /// Returns whether the object returned by a successful write has the requested values.
    pub fn shows(&self, write: &Write, guards: Guards) -> bool {
        match (*self, *write) {
            (Self::Lease(lease), Write::Create(incarnation, content) | Write::Put(_, incarnation, content)) => {
                (lease.incarnation, lease.content) == (incarnation, content.stored())
            }
            (Self::Pod(pod), Write::Pod(Patch { term, label, .. })) => {
                let claim = (pod.claimed && pod.term == term) || !guards.fence_term;
                claim && (label == Change::Keep || pod.label == (label == Change::Lead))
            }
            (Self::Election(election), Write::Status { term, .. }) => election.term == term,
            _ => false,
        }
    }
}

/// The part of a Lease that the server stores before it responds with success.
fn altered(before: Lease, after: Lease, lie: Option<Lie>, guards: Guards) -> Lease {
    let Lease { rev, .. } = after;
    // Readers detect inconsistent annotations by their checksum.
    let partly = |record: Record| {
        let lease = Lease { content: Content::Term(record), ..after };
        if guards.checksum { Lease { content: Content::Damaged(lease.named()), ..after } } else { lease }
    };
    match (lie, before.content, after.content) {
        (Some(Lie::KeepsLease), ..) => Lease { rev, ..before },
        (Some(Lie::DropsRecord), ..) => Lease { content: Content::Damaged(0), ..after },
        (Some(Lie::DropsList), _, Content::Term(record)) if record.unfenced != 0 => partly(Record { unfenced: 0, ..record }),
        (Some(Lie::DropsList), _, Content::Blank(_)) => Lease { content: Content::Blank(0), ..after },
        (Some(Lie::KeepsTerm), Content::Term(old), Content::Term(record)) => partly(Record { term: old.term, ..record }),
        _ => after,
    }
}

/// Checks of the server before a write, and contents of a fence; all of them, unless a rule is removed.
#[derive(Clone, Copy, Debug)]
pub struct Guards {
    pub lease_version: bool,
    pub lease_uid: bool,
    pub label_version: bool,
    pub fence_version: bool,
    pub claim_version: bool,
    pub pod_uid: bool,
    pub fence_term: bool,
    /// A Lease with inconsistent annotations is damaged.
    pub checksum: bool,
}
