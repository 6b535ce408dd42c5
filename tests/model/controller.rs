//! A controller: stale caches, Podium's own `decide`, and the steps of `act` and `consult`.
//!
//! The model repeats what the shell does around `decide`, step by step, because another controller, the server or a fault
//! may act between any two steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use podium::api::{ElectionStatus, LeaderLabel};
use podium::election::cost::DeletionCost;
use podium::election::plan::{self, LabelChange, LeaseWrite, PodWrite};
use podium::election::snapshot::{self, PodState, Settings};
use podium::election::{Snapshot, decide};
use podium::ids::{PodRef, ResourceVersion, Term, Uid as CoreUid};
use podium::lease::cause::Cause;
use podium::lease::record;

use crate::followed::{Followed, Observed, leader_from};
use crate::mutation::Mutation;
use crate::server::Answer;
use crate::world::*;

/// Values of the core, created once.
struct Values {
    revisions: Vec<ResourceVersion>,
    terms: Vec<Term>,
    uids: Vec<CoreUid>,
    elections: Vec<CoreUid>,
    status: Vec<ElectionStatus>,
}

static VALUES: LazyLock<Values> = LazyLock::new(|| {
    let numbers = 1..=i64::from(Rev::MAX);
    Values {
        revisions: numbers.clone().map(|number| ResourceVersion::parse(&number.to_string()).expect("a number")).collect(),
        terms: numbers.clone().map(|number| Term::parse(&number.to_string()).expect("a number")).collect(),
        uids: (0..16).map(|uid: Uid| CoreUid::from(uid.to_string().as_str())).collect(),
        elections: (0..=Rev::MAX).map(|rev| CoreUid::from(format!("election-{rev}").as_str())).collect(),
        status: [None]
            .into_iter()
            .chain(numbers.map(Some))
            .map(|term| ElectionStatus { term, ..ElectionStatus::default() })
            .collect(),
    }
});

pub fn revision(rev: Rev) -> ResourceVersion {
    VALUES.revisions[usize::from(rev) - 1]
}

fn term(rev: Rev) -> Term {
    VALUES.terms[usize::from(rev) - 1]
}

fn rev_of(term: Term) -> Rev {
    Rev::try_from(term.number()).expect("a small number")
}

impl Controller {
    /// A controller that has just started with the server's state.
    pub fn started(lease: Option<Lease>, election: Option<Election>, pods: Pods, followed: Option<Followed>) -> Self {
        Self {
            lease,
            expired: false,
            election,
            pods,
            gone: 0,
            consulted: Consulted::default(),
            doing: Doing::Decide,
            draining: 0,
            outranking: None,
            background: None,
            observed: followed.map(Observed::started),
        }
    }

    /// A watch or response delivers the Lease.
    pub fn see_lease(&mut self, lease: Option<Lease>) {
        self.expired &= lease == self.lease;
        self.lease = lease;
    }

    /// A watch or response delivers the Election. With another spec, the caches forget which pods are gone.
    pub fn see_election(&mut self, election: Option<Election>) {
        let same = self.election.zip(election).is_some_and(|(before, after)| before.same_spec(&after));
        if !same {
            self.gone = 0;
        }
        self.election = election;
    }

    /// The watch of pods catches up.
    pub fn see_pods(&mut self, pods: &Pods) {
        for (before, now) in std::mem::replace(&mut self.pods, *pods).iter().zip(pods) {
            if let Some(gone) = before.filter(|before| now.is_none_or(|now| now.uid != before.uid)) {
                self.note_removed(&gone);
            }
        }
    }

    /// Returns whether the pod is in the cache's index of the Election.
    fn is_related(&self, pod: &Pod) -> bool {
        pod.claimed || self.election.is_some_and(|election| election.matches(pod))
    }

    /// Records that a pod left the cache.
    fn note_removed(&mut self, pod: &Pod) {
        if self.is_related(pod) {
            self.note_gone(one(pod.uid));
        }
    }

    /// The cached Lease's holder and former holders.
    fn former_holders(&self) -> Uids {
        self.election.and(self.lease).map_or(0, |lease| lease.named())
    }

    fn note_gone(&mut self, uids: Uids) {
        self.gone = (self.gone | uids) & self.former_holders();
    }

    /// Returns the decision, and the reads it needs where the caches do not suffice. `None`: no action.
    pub fn decide(&mut self, latest: Rev, mutation: Option<Mutation>) -> Option<(Plan, Rev)> {
        let mut snapshot = self.snapshot(mutation)?;
        if let Some(mutation) = mutation {
            mutation.before(self, &mut snapshot);
        }
        let mut plan = decide(&snapshot, now());
        self.note_outranking(&plan);
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

    /// Notes the pods that outrank the leader, as the memory of the controller does. Their delay elapses at any time.
    fn note_outranking(&mut self, plan: &plan::Plan) {
        let Some(plan::Outranking { term, pods }) = &plan.outranking else {
            self.outranking = self.outranking.filter(|_| plan.precedes_a_decision());
            return;
        };
        let (term, pods) = (rev_of(*term), pods.iter().map(|uid| one(number(uid))).fold(0, |all, one| all | one));
        let due = self.outranking.filter(|before| before.term == term).map_or(0, |before| before.due & pods);
        self.outranking = (pods != 0).then_some(Outranking { term, pods, due });
    }

    /// The times since when pods outrank the leader of the cached Lease: all of the delay, or nothing.
    fn outranking(&self) -> BTreeMap<CoreUid, SignedDuration> {
        let Some(Lease { content: Content::Term(record), .. }) = self.lease else { return BTreeMap::new() };
        let known = self.outranking.filter(|known| known.term == record.term);
        let due = known.map_or(0, |known| known.due);
        core_uids(due).into_iter().map(|uid| (uid, SignedDuration::MAX)).collect()
    }

    fn create_with_holder(&self, mut snapshot: Snapshot, latest: Rev) -> plan::Plan {
        let incarnation = self.election.map_or(0, |election| election.uid);
        let blank = Lease { uid: latest, rev: latest, incarnation, content: Content::Blank(0) };
        snapshot.lease = Some(core_lease(blank, false));
        snapshot.read_after = Some(revision(latest));
        decide(&snapshot, now())
    }

    /// `None`: the Election is unknown or deleted.
    fn snapshot(&self, mutation: Option<Mutation>) -> Option<Snapshot> {
        let names = mutation == Some(Mutation::NamesForUids);
        let uid = |uid: Uid| VALUES.uids[if names { name(uid) } else { usize::from(uid) }].clone();
        let election = self.election?;
        let former = self.former_holders();
        let verified = |index: usize, rev: Rev| self.consulted.verified[index] == rev;
        let seen = self.pods.iter().flatten().filter(|pod| self.is_related(pod) || has(former, pod.uid));
        let pods = seen.map(|pod| snapshot::Pod {
            id: PodRef { name: name_text(pod.uid).into(), uid: uid(pod.uid) },
            resource_version: revision(pod.rev),
            matches: election.matches(pod),
            label: pod.label.then(|| "true".into()),
            claimed: pod.claimed,
            term: (pod.term != 0).then(|| term(pod.term)),
            verified: verified(name(pod.uid), pod.rev),
            rival: None,
            state: PodState::Running,
            ready: pod.ready,
            unchanged_for: SignedDuration::MAX,
            transitioned: None,
            opted_out: false,
            score: pod.preferred.into(),
            is_draining: drains(self.draining, pod),
            cost: DeletionCost::default(),
            node: None,
            node_name: None,
            created: Timestamp::UNIX_EPOCH,
            revision: None,
        });
        let mut lease = self.lease.map(|lease| core_lease(lease, self.expired));
        if names && let Some(record::Lease { content: record::Content::Term(record), .. }) = &mut lease {
            record.holder.iter_mut().for_each(|holder| holder.uid = uid(holder.uid.as_ref().parse().expect("a number")));
            record.unfenced = record.unfenced.iter().map(|held| uid(held.as_ref().parse().expect("a number"))).collect();
        }
        Some(Snapshot {
            election: snapshot::Election {
                namespace: "default".into(),
                name: "web".into(),
                uid: VALUES.elections[usize::from(election.uid)].clone(),
                resource_version: revision(election.rev),
                generation: 1,
                verified: verified(NAMES, election.rev),
                settings: Ok(settings(election.suspend, self.observed.is_some())),
                status: VALUES.status[usize::from(election.term)].clone(),
                switchover: snapshot::SwitchoverRequest {
                    term: (election.request != 0).then(|| election.request.to_string()),
                    to: election.to.map(|to| name_text(Uid::try_from(to).expect("few pods")).to_owned()),
                },
            },
            followed: self.observed.map(|observed| observed.snapshot(self.is_followed_verified())),
            lease,
            pods: pods.collect(),
            gone: (0..16).filter(|uid| has(self.gone, *uid)).map(uid).collect(),
            contest: None,
            refused: None,
            outranking: self.outranking(),
            unobserved: None,
            read_after: (self.consulted.read_after != 0).then(|| revision(self.consulted.read_after)),
        })
    }

    /// Translates the core's plan to the model's.
    fn translate(&mut self, plan: plan::Plan, creates: bool) -> Plan {
        // The background worker decides independently, at the earliest when no other write is left.
        let background = plan.claim_next.clone().filter(|_| !plan.has_foreground_writes()).map(|write| self.patch(write));
        self.background = background.or(self.background);
        let plan::Plan { claim, lease, fence, label, status, claim_next: _, follow, cost, outranking: _, then } = plan;
        assert!(follow.is_empty() && cost.is_empty(), "neither followers nor deletion costs are modelled");
        let version = self.lease;
        let Election { uid, rev, term: before, request, .. } = self.election.expect("an Election that is decided about");
        let lease = lease.map(|write| match write {
            LeaseWrite::Create => Write::Create(uid, Content::Blank(0)),
            LeaseWrite::Blank(..) => {
                let version = version.expect("the Lease that is blanked");
                Write::Put(version, uid, Content::Blank(version.named()))
            }
            LeaseWrite::Elect { record, .. } => {
                let record::Record { holder, term, unfenced, cause, .. } = record;
                let expired = holder.is_none() && cause == Cause::LeaseExpired;
                let content = Content::Term(Record {
                    holder: holder.map(|pod| self.known(&pod)),
                    term: rev_of(term),
                    unfenced: unfenced.iter().map(|uid| one(number(uid))).fold(0, |all, one| all | one),
                    request: if cause == Cause::Switchover { request } else { 0 },
                    expired,
                });
                match version.filter(|_| !creates) {
                    Some(version) => Write::Put(version, uid, content),
                    None => Write::Create(uid, content),
                }
            }
        });
        let number =
            |write: plan::StatusWrite| write.status.term.map_or(0, |term| Rev::try_from(term).expect("a small number"));
        let status = status.map(number).filter(|term| *term != before).map(|term| Write::Status { uid, rev, term });
        Plan {
            claim: claim.map(|write| self.patch(write)),
            lease,
            fence: fence.into_iter().map(|write| self.patch(write)).collect(),
            label: label.map(|write| self.patch(write)),
            status,
            then: match then {
                plan::Then::AwaitChange | plan::Then::RequeueAfter(_) => Then::Rest,
                plan::Then::DecideAgain => Then::Again,
                plan::Then::Consult(_) => Then::Consult,
                plan::Then::ReadFollowedLease(_) => Then::ReadFollowed,
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
        Patch { uid, rev, term: write.term.map_or(0, rev_of), label }
    }

    /// The pod that the plan refers to: if names stand for UIDs, the cached one of that name.
    fn known(&self, pod: &PodRef) -> Uid {
        let index = (0..NAMES).find(|index| name_text(Uid::try_from(*index).expect("small")) == pod.name);
        let cached = index.and_then(|index| self.pods[index]);
        cached.map_or_else(|| number(&pod.uid), |cached| cached.uid)
    }

    /// Merges the response to a read or write of the controller.
    pub fn merge(&mut self, answer: Answer) {
        match answer {
            Answer::Lease(lease) => self.see_lease(Some(lease)),
            Answer::Election(election) => self.see_election(Some(election)),
            Answer::Pod(pod) => {
                let gone = self.pods[name(pod.uid)].filter(|cached| cached.uid != pod.uid);
                self.pods[name(pod.uid)] = Some(pod);
                if let Some(gone) = gone {
                    self.note_removed(&gone);
                }
            }
            Answer::Conflict | Answer::NotFound => {}
        }
    }

    /// Merges a list: former holders that are not in it are gone.
    pub fn list(&mut self, pods: &Pods) {
        let former = self.former_holders();
        let found = pods.iter().flatten().fold(0, |all, pod| all | one(pod.uid));
        pods.iter().flatten().for_each(|pod| self.merge(Answer::Pod(*pod)));
        self.note_gone(former & !found);
        let versions = self.pods.map(|pod| pod.map_or(0, |pod| pod.rev));
        self.consulted.verified[..NAMES].copy_from_slice(&versions);
    }

    /// Merges the Election from a GET.
    pub fn get_election(&mut self, election: Option<Election>) {
        self.see_election(election);
        self.consulted.verified[NAMES] = election.map_or(0, |election| election.rev);
    }

    /// Returns whether the followed Lease was read after the cached Lease was observed.
    pub fn is_followed_verified(&self) -> bool {
        self.lease.is_some_and(|lease| lease.rev == self.consulted.followed)
    }

    /// Notes that the followed Lease is read now.
    pub fn note_followed_read(&mut self) {
        self.consulted.followed = self.lease.map_or(0, |lease| lease.rev);
    }

    pub fn forget(&mut self, uid: Uid) {
        if self.pods[name(uid)].is_some_and(|pod| pod.uid == uid) {
            let gone = self.pods[name(uid)].take();
            gone.iter().for_each(|pod| self.note_removed(pod));
        }
    }
}

fn number(uid: &CoreUid) -> Uid {
    uid.as_ref().parse().expect("a small number")
}

/// Names of the pods.
pub fn name_text(uid: Uid) -> &'static str {
    ["a", "b", "c"][name(uid)]
}

fn core_lease(lease: Lease, expired: bool) -> record::Lease {
    let (campaign, owner) = match lease.content {
        Content::Campaign(holder) => (Some(holder), None),
        _ => (None, Some("web".to_owned())),
    };
    let named = lease.named();
    let content = match lease.content {
        Content::Blank(_) => record::Content::Blank,
        Content::Damaged(_) | Content::Campaign(_) => record::Content::Damaged("an edit"),
        Content::Term(Record { holder, term: number, unfenced, request: _, expired }) => {
            record::Content::Term(record::Record {
                holder: holder.map(|uid| PodRef { name: name_text(uid).into(), uid: VALUES.uids[usize::from(uid)].clone() }),
                term: term(number),
                unfenced: core_uids(unfenced),
                cause: if expired { Cause::LeaseExpired } else { Cause::Unknown },
                reason: String::new(),
            })
        }
    };
    record::Lease {
        uid: VALUES.uids[0].clone(),
        resource_version: revision(lease.rev),
        incarnation: owner.as_ref().map(|_| VALUES.elections[usize::from(lease.incarnation)].clone()),
        owner,
        holder_identity: campaign.map(|uid| name_text(uid).to_owned()),
        renewed: campaign.is_some(),
        duration_seconds: campaign.map(|_| 15),
        unchanged_for: if expired { SignedDuration::MAX } else { SignedDuration::ZERO },
        allow_adoption_by: None,
        by_sidecars: campaign.is_some(),
        former: core_uids(named),
        acquired: None,
        transitions: None,
        content,
    }
}

fn core_uids(uids: Uids) -> BTreeSet<CoreUid> {
    (0..16).filter(|uid| has(uids, *uid)).map(|uid| VALUES.uids[usize::from(uid)].clone()).collect()
}

fn settings(suspend: bool, follows: bool) -> Settings {
    Settings {
        label: LeaderLabel::default(),
        lease_name: "web".into(),
        ready_condition: String::new(),
        min_ready: SignedDuration::ZERO,
        retain: false,
        failover_delay: SignedDuration::ZERO,
        suspend,
        preempt_after: Some(SignedDuration::from_secs(300)).filter(|_| !follows),
        spread: false,
        leave_draining_nodes: !follows,
        node_timeout: None,
        leader_deletion_cost: None,
        leader_from: follows.then(leader_from),
    }
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}
