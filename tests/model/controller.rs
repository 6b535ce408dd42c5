//! A controller: stale caches, Podium's own `decide`, and the steps of `act` and `consult`.
//!
//! What the shell does around `decide` is written down here once more, step by step, because another controller, the server
//! or a fault may come between any two of them.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use podium::api::{ElectionStatus, LeaderLabel};
use podium::election::plan::{self, LabelChange, LeaseWrite, PodWrite};
use podium::election::snapshot::{self, PodState, Settings};
use podium::election::term::{PodRef, ResourceVersion, Term, Uid as CoreUid};
use podium::election::{Snapshot, decide};
use podium::lease::record;

use crate::mutation::Mutation;
use crate::world::*;

/// The core's values, made once.
struct Values {
    revisions: Vec<ResourceVersion>,
    terms: Vec<Term>,
    uids: Vec<CoreUid>,
    status: Vec<ElectionStatus>,
}

static VALUES: LazyLock<Values> = LazyLock::new(|| {
    let numbers = 1..=i64::from(Rev::MAX);
    Values {
        revisions: numbers.clone().map(|number| ResourceVersion::parse(&number.to_string()).expect("a number")).collect(),
        terms: numbers.clone().map(|number| Term::parse(&number.to_string()).expect("a number")).collect(),
        uids: (0..16).map(|uid: Uid| CoreUid::from(uid.to_string().as_str())).collect(),
        status: [None]
            .into_iter()
            .chain(numbers.map(Some))
            .map(|term| ElectionStatus { term, ..ElectionStatus::default() })
            .collect(),
    }
});

fn revision(rev: Rev) -> ResourceVersion {
    VALUES.revisions[usize::from(rev) - 1]
}

fn term(rev: Rev) -> Term {
    VALUES.terms[usize::from(rev) - 1]
}

fn rev_of(term: Term) -> Rev {
    Rev::try_from(term.number()).expect("a small number")
}

impl Controller {
    /// One that has just started: it knows what the server knows.
    pub fn started(lease: Option<Lease>, election: Election, pods: Pods) -> Self {
        Self {
            lease,
            expired: false,
            election: Some(election),
            pods,
            gone: 0,
            consulted: Consulted::default(),
            doing: Doing::Decide,
        }
    }

    /// The watch, or an answer, shows the Lease.
    pub fn see_lease(&mut self, lease: Option<Lease>) {
        self.expired &= lease == self.lease;
        self.lease = lease;
    }

    /// The watch of pods catches up.
    pub fn see_pods(&mut self, pods: &Pods) {
        for (cached, now) in self.pods.iter_mut().zip(pods) {
            let gone = cached.filter(|cached| now.is_none_or(|now| now.uid != cached.uid)).map(|cached| cached.uid);
            *cached = *now;
            if let Some(uid) = gone {
                note_gone(&mut self.gone, &self.lease, one(uid));
            }
        }
    }

    /// What the controller decides, and what it will ask the server for if the caches cannot tell. `None`: nothing.
    pub fn decide(&self, latest: Rev, mutation: Option<Mutation>) -> Option<(Plan, Rev)> {
        let mut snapshot = self.snapshot(mutation);
        if let Some(mutation) = mutation {
            mutation.before(self, &mut snapshot);
        }
        let mut plan = decide(&snapshot, now());
        if mutation == Some(Mutation::CreateWithHolder) && plan.lease == Some(LeaseWrite::Create) {
            plan = self.create_with_holder(snapshot, latest);
            return Some((self.translate(plan, true), latest));
        }
        let mut plan = self.translate(plan, false);
        if let Some(mutation) = mutation {
            mutation.after(self, &mut plan);
        }
        Some((plan, self.lease.map_or(0, |lease| lease.rev)))
    }

    fn create_with_holder(&self, mut snapshot: Snapshot, latest: Rev) -> plan::Plan {
        let blank = Lease { uid: latest, rev: latest, content: Content::Blank };
        snapshot.lease = Some(core_lease(blank, false));
        snapshot.read_after = Some(revision(latest));
        decide(&snapshot, now())
    }

    fn snapshot(&self, mutation: Option<Mutation>) -> Snapshot {
        let names = mutation == Some(Mutation::NamesForUids);
        let uid = |uid: Uid| VALUES.uids[if names { name(uid) } else { usize::from(uid) }].clone();
        let election = self.election.expect("the Election is there");
        let settled = |index: usize, rev: Rev| self.consulted.settled[index] == rev;
        let pods = self.pods.iter().flatten().map(|pod| snapshot::Pod {
            id: PodRef { name: name_text(pod.uid).into(), uid: uid(pod.uid) },
            resource_version: revision(pod.rev),
            matches: true,
            label: pod.label.then(|| "true".into()),
            claimed: pod.term != 0,
            term: (pod.term != 0).then(|| term(pod.term)),
            settled: settled(name(pod.uid), pod.rev),
            rival: None,
            state: PodState::Running,
            ready: pod.ready,
            unchanged_for: SignedDuration::ZERO,
            transitioned: None,
            opted_out: false,
            priority: 0,
            created: Timestamp::UNIX_EPOCH,
            revision: None,
        });
        let mut lease = self.lease.map(|lease| core_lease(lease, self.expired));
        if names && let Some(record::Lease { content: record::Content::Term(record), .. }) = &mut lease {
            record.holder.iter_mut().for_each(|holder| holder.uid = uid(holder.uid.as_ref().parse().expect("a number")));
            record.unfenced = record.unfenced.iter().map(|held| uid(held.as_ref().parse().expect("a number"))).collect();
        }
        Snapshot {
            election: snapshot::Election {
                namespace: "default".into(),
                name: "web".into(),
                uid: "election".into(),
                resource_version: revision(election.rev),
                generation: 1,
                settled: settled(NAMES, election.rev),
                settings: Ok(settings(election.suspend)),
                status: VALUES.status[usize::from(election.term)].clone(),
            },
            lease,
            pods: pods.collect(),
            gone: (0..16).filter(|uid| has(self.gone, *uid)).map(uid).collect(),
            read_after: (self.consulted.read_after != 0).then(|| revision(self.consulted.read_after)),
        }
    }

    /// From the core's plan to that of the model.
    fn translate(&self, plan: plan::Plan, creates: bool) -> Plan {
        let plan::Plan { lease, fence, label, status, follow, then } = plan;
        assert!(follow.is_empty(), "followers are not modelled");
        let version = self.lease;
        let lease = lease.map(|write| match write {
            LeaseWrite::Create => Write::Create(Content::Blank),
            LeaseWrite::Blank(..) => Write::Put(version.expect("what is emptied"), Content::Blank),
            LeaseWrite::Elect { record, .. } => {
                let record::Record { holder, term, unfenced, .. } = record;
                let content = Content::Term(Record {
                    holder: holder.map(|pod| self.known(&pod)),
                    term: rev_of(term),
                    unfenced: unfenced.iter().map(|uid| one(number(uid))).fold(0, |all, one| all | one),
                });
                if creates { Write::Create(content) } else { Write::Put(version.expect("what is replaced"), content) }
            }
        });
        let status = status.map(|write| Write::Status {
            rev: self.election.expect("the Election is there").rev,
            term: write.status.term.map_or(0, |term| Rev::try_from(term).expect("a small number")),
        });
        let status = status.filter(|write| matches!(write, Write::Status { term, .. } if Some(*term) != self.election.map(|election| election.term)));
        Plan {
            lease,
            fence: fence.into_iter().map(|write| self.patch(write)).collect(),
            label: label.map(|write| self.patch(write)),
            status,
            then: match then {
                plan::Then::Rest | plan::Then::LookAgain(_) => Then::Rest,
                plan::Then::DecideAgain => Then::Again,
                plan::Then::Consult(_) => Then::Consult,
            },
        }
    }

    fn patch(&self, write: PodWrite) -> Patch {
        let uid = self.known(&write.pod);
        let label = match write.label {
            LabelChange::Lead => Change::Lead,
            LabelChange::Remove => Change::Remove,
            LabelChange::Keep => Change::Keep,
            LabelChange::Follow => unreachable!("followers are not modelled"),
        };
        let rev = self.pods[name(uid)].expect("a pod that is seen").rev;
        Patch { uid, rev, term: rev_of(write.term), label }
    }

    /// The pod that the plan means: where names stand for UIDs, the one of that name that is cached.
    fn known(&self, pod: &PodRef) -> Uid {
        let index = (0..NAMES).find(|index| name_text(Uid::try_from(*index).expect("small")) == pod.name);
        let cached = index.and_then(|index| self.pods[index]);
        cached.map_or_else(|| number(&pod.uid), |cached| cached.uid)
    }

    /// Takes in the answer to a read or a write of the controller's own.
    pub fn merge(&mut self, answer: Answer) {
        match answer {
            Answer::Lease(lease) => self.see_lease(Some(lease)),
            Answer::Election(election) => self.election = Some(election),
            Answer::Pod(pod) => {
                let gone = self.pods[name(pod.uid)].filter(|cached| cached.uid != pod.uid);
                self.pods[name(pod.uid)] = Some(pod);
                if let Some(gone) = gone {
                    note_gone(&mut self.gone, &self.lease, one(gone.uid));
                }
            }
            Answer::Conflict | Answer::NotFound => {}
        }
    }

    /// The answer to a list: what is found is taken in, and former holders that are not are gone.
    pub fn list(&mut self, pods: &Pods, election: Election) {
        let former = former_holders(&self.lease);
        let found = pods.iter().flatten().fold(0, |all, pod| all | one(pod.uid));
        pods.iter().flatten().for_each(|pod| self.merge(Answer::Pod(*pod)));
        note_gone(&mut self.gone, &self.lease, former & !found);
        self.election = Some(election);
        let versions = self.pods.map(|pod| pod.map_or(0, |pod| pod.rev));
        self.consulted.settled[..NAMES].copy_from_slice(&versions);
        self.consulted.settled[NAMES] = election.rev;
    }

    /// The pod of this UID is gone.
    pub fn forget(&mut self, uid: Uid) {
        if self.pods[name(uid)].is_some_and(|pod| pod.uid == uid) {
            self.pods[name(uid)] = None;
            note_gone(&mut self.gone, &self.lease, one(uid));
        }
    }
}

fn former_holders(lease: &Option<Lease>) -> Uids {
    match lease {
        Some(Lease { content: Content::Term(record), .. }) => record.unfenced | record.holder.map_or(0, one),
        _ => 0,
    }
}

fn note_gone(gone: &mut Uids, lease: &Option<Lease>, uids: Uids) {
    *gone = (*gone | uids) & former_holders(lease);
}

fn number(uid: &CoreUid) -> Uid {
    uid.as_ref().parse().expect("a small number")
}

/// What pods are called.
pub fn name_text(uid: Uid) -> &'static str {
    ["a", "b", "c"][name(uid)]
}

fn core_lease(lease: Lease, expired: bool) -> record::Lease {
    let (campaign, owner) = match lease.content {
        Content::Campaign(holder) => (Some(holder), None),
        _ => (None, Some("web".to_owned())),
    };
    let content = match lease.content {
        Content::Blank => record::Content::Blank,
        Content::Damaged | Content::Campaign(_) => record::Content::Damaged("an edit"),
        Content::Term(Record { holder, term: number, unfenced }) => record::Content::Term(record::Record {
            holder: holder.map(|uid| PodRef { name: name_text(uid).into(), uid: VALUES.uids[usize::from(uid)].clone() }),
            term: term(number),
            unfenced: (0..16)
                .filter(|uid| has(unfenced, *uid))
                .map(|uid| VALUES.uids[usize::from(uid)].clone())
                .collect::<BTreeSet<_>>(),
            reason: String::new(),
        }),
    };
    record::Lease {
        uid: VALUES.uids[0].clone(),
        resource_version: revision(lease.rev),
        incarnation: owner.as_ref().map(|_| "election".into()),
        owner,
        holder_identity: campaign.map(|uid| name_text(uid).to_owned()),
        renewed: campaign.is_some(),
        duration_seconds: campaign.map(|_| 15),
        unchanged_for: if expired { SignedDuration::MAX } else { SignedDuration::ZERO },
        adopt_by: None,
        by_sidecars: campaign.is_some(),
        former: BTreeSet::new(),
        acquired: None,
        transitions: None,
        content,
    }
}

fn settings(suspend: bool) -> Settings {
    Settings {
        label: LeaderLabel::default(),
        lease_name: "web".into(),
        ready_condition: String::new(),
        min_ready: SignedDuration::ZERO,
        hold: false,
        failover_delay: SignedDuration::ZERO,
        suspend,
    }
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}
