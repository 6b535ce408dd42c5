//! Snapshots to decide about, and a server that executes plans exactly.

#![allow(missing_docs, reason = "test fixtures")]

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::cost::DeletionCost;
use super::explain::as_read;
use super::plan::{LabelChange, LeaseWrite, Outranking, Plan, PodWrite, StatusWrite, Then};
use super::snapshot::{
    Election, FollowedLease, LeaderFrom, NodeHeartbeat, Pod, PodState, Revision, Settings, Snapshot, SwitchoverRequest,
    Workload,
};
use super::{decide, plan};
use crate::api::{ElectionStatus, HolderForm, LeaderLabel};
use crate::ids::{PodRef, ResourceVersion, Term, Uid};
use crate::lease::cause::Cause;
use crate::lease::record::{Content, Lease, Record};

/// Returns a time of the tables' wall clock, in seconds.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The time of the tables' decisions.
pub fn now() -> Timestamp {
    at(1_000)
}

pub fn revision(number: i64) -> ResourceVersion {
    ResourceVersion::parse(&number.to_string()).unwrap()
}

pub fn term(number: i64) -> Term {
    Term::parse(&number.to_string()).unwrap()
}

pub fn uids<const N: usize>(uids: [&str; N]) -> BTreeSet<Uid> {
    uids.map(Uid::from).into()
}

/// An Election named `web` with a Lease at revision 100 and no pods.
pub fn world(content: Content) -> Snapshot {
    Snapshot {
        election: Election {
            namespace: "default".into(),
            name: "web".into(),
            uid: "election".into(),
            resource_version: revision(90),
            generation: 1,
            verified: false,
            settings: Ok(settings()),
            status: ElectionStatus::default(),
            switchover: SwitchoverRequest::default(),
        },
        lease: Some(Lease {
            uid: "lease".into(),
            resource_version: revision(100),
            owner: Some("web".into()),
            incarnation: Some("election".into()),
            holder_identity: None,
            renewed: false,
            duration_seconds: Some(i32::MAX),
            unchanged_for: SignedDuration::ZERO,
            allow_adoption_by: None,
            by_sidecars: false,
            former: BTreeSet::new(),
            acquired: Some(at(500)),
            transitions: Some(4),
            content,
        }),
        pods: Vec::new(),
        gone: BTreeSet::new(),
        read_after: None,
        contest: None,
        refused: None,
        outranking: BTreeMap::new(),
        unobserved: None,
        followed: None,
    }
}

pub fn settings() -> Settings {
    Settings {
        label: LeaderLabel::default(),
        lease_name: "web".into(),
        ready_condition: "Ready".into(),
        min_ready: SignedDuration::ZERO,
        retain: false,
        failover_delay: SignedDuration::ZERO,
        suspend: false,
        preempt_after: None,
        spread: false,
        leave_draining_nodes: false,
        node_timeout: None,
        leader_deletion_cost: None,
        leader_from: None,
    }
}

/// A term with this holder (`""`: a vacancy) and these unfenced pods.
pub fn held_by<const N: usize>(holder: &str, number: i64, unfenced: [&str; N]) -> Content {
    let holder = (!holder.is_empty()).then(|| pod(holder).id);
    Content::Term(Record {
        holder,
        term: term(number),
        unfenced: uids(unfenced),
        cause: Cause::Unknown,
        reason: "a reason".into(),
    })
}

/// A healthy pod that was claimed ahead of time. Its UID is its name with `-uid`.
pub fn pod(name: &str) -> Pod {
    Pod {
        id: PodRef { name: name.into(), uid: format!("{name}-uid").as_str().into() },
        resource_version: revision(80),
        matches: true,
        label: None,
        claimed: true,
        term: None,
        verified: false,
        rival: None,
        state: PodState::Running,
        ready: true,
        unchanged_for: SignedDuration::from_secs(400),
        transitioned: Some(at(600)),
        opted_out: false,
        score: 0,
        is_draining: false,
        cost: DeletionCost::default(),
        node: None,
        node_name: None,
        created: at(400),
        revision: None,
    }
}

impl Pod {
    pub fn labeled(mut self) -> Self {
        self.label = Some("true".into());
        self
    }

    pub fn unclaimed(mut self) -> Self {
        (self.claimed, self.term) = (false, None);
        self
    }

    pub fn term(mut self, number: i64) -> Self {
        self.claimed = true;
        self.term = Some(term(number));
        self
    }

    /// Sets the workload and its revision that it was created from, and when.
    pub fn made_from(mut self, workload: &str, hash: &str, second: i64) -> Self {
        self.revision = Some(Revision { workload: Workload::of(&[workload]), hash: hash.into() });
        self.created = at(second);
        self
    }

    /// Sets `ready`, and the seconds since it changed.
    pub fn ready_for(mut self, ready: bool, seconds: i64) -> Self {
        (self.ready, self.unchanged_for) = (ready, SignedDuration::from_secs(seconds));
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn score(mut self, score: i64) -> Self {
        self.score = score;
        self
    }

    /// Puts it on this node, whose last heartbeat was observed so many seconds ago, and which renews since so many seconds.
    pub fn on(mut self, node: &str, silent_for: i64, renewing_for: Option<i64>) -> Self {
        let (silent_for, renewing_for) =
            (SignedDuration::from_secs(silent_for), renewing_for.map(SignedDuration::from_secs));
        self.node = Some(NodeHeartbeat { name: node.into(), silent_for, renewing_for });
        self
    }
}

/// The Lease `lock` at this revision, with this holder (`""`: none) and a duration of 15 s, observed just now.
pub fn lock(holder: &str, number: i64) -> FollowedLease {
    let Snapshot { lease, .. } = world(Content::Blank);
    FollowedLease {
        lease: lease.map(|lease| Lease {
            resource_version: revision(number),
            owner: None,
            incarnation: None,
            holder_identity: Some(holder.to_owned()).filter(|holder| !holder.is_empty()),
            renewed: true,
            duration_seconds: Some(15),
            ..lease
        }),
        exists: true,
        ..FollowedLease::UNOBSERVED
    }
}

impl FollowedLease {
    /// It has been unchanged for so many seconds, and was last read after so many.
    pub fn unchanged_for(self, seconds: i64, confirmed: i64) -> Self {
        let (unchanged_for, confirmed_for) = (SignedDuration::from_secs(seconds), SignedDuration::from_secs(confirmed));
        Self { unchanged_for, confirmed_for, ..self }
    }

    /// It was deleted.
    pub fn deleted(self) -> Self {
        Self { exists: false, ..self }
    }
}

/// Decide again after these seconds.
pub fn requeue_after(seconds: i64) -> Then {
    Then::RequeueAfter(SignedDuration::from_secs(seconds))
}

impl Snapshot {
    pub fn pods<const N: usize>(mut self, pods: [Pod; N]) -> Self {
        self.pods = pods.into();
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(self.election.settings.as_mut().unwrap());
        self
    }

    /// Takes the leader from this Lease, whose holder is the name of a pod.
    pub fn following(self, lease: FollowedLease) -> Self {
        let from = LeaderFrom { lease: "lock".into(), holder: HolderForm::PodName, without_effect: Vec::new() };
        self.settings(|settings| settings.leader_from = Some(from)).with(|world| world.followed = Some(lease))
    }

    /// Requests a switchover by annotation.
    pub fn switchover(mut self, term: &str, to: Option<&str>) -> Self {
        self.election.switchover = SwitchoverRequest { term: Some(term.into()), to: to.map(str::to_owned) };
        self
    }

    /// The snapshot after reading pods, Election and Lease from the server: absent pods are gone.
    pub fn consulted(mut self) -> Self {
        as_read(&mut self);
        self
    }

    /// The snapshot after reading the followed Lease from the server, where it did not change.
    pub fn followed_lease_read(mut self) -> Self {
        let followed = self.followed.as_mut().unwrap();
        (followed.confirmed_for, followed.verified) = (followed.unchanged_for, true);
        self
    }

    pub fn plan(&self) -> Plan {
        decide(self, now())
    }
}

/// Returns the name, the term and the label change of each pod write.
pub fn writes(writes: &[PodWrite]) -> Vec<(&str, i64, LabelChange)> {
    writes.iter().map(|write| (write.pod.name.as_str(), write.term.map_or(0, Term::number), write.label)).collect()
}

/// Returns the term that a plan begins: the holder's name (`""`: a vacancy), the term, the unfenced. Panics if it begins none.
pub fn elected(plan: &Plan) -> (&str, i64, BTreeSet<Uid>) {
    match &plan.lease {
        Some(LeaseWrite::Elect { record, .. }) => {
            (record.holder.as_ref().map_or("", |holder| &holder.name), record.term.number(), record.unfenced.clone())
        }
        other => panic!("no election but {other:?}"),
    }
}

/// A server that never fails. Its revisions begin above those of the tables.
pub struct PerfectServer {
    revision: i64,
}

impl PerfectServer {
    pub fn new() -> Self {
        Self { revision: 10_000 }
    }

    fn next(&mut self) -> ResourceVersion {
        self.revision += 1;
        revision(self.revision)
    }

    /// Executes plans until none has a write. Returns the world at rest and the number of decisions.
    pub fn run(&mut self, mut world: Snapshot) -> (Snapshot, usize) {
        for decisions in 0..20 {
            let plan = world.plan();
            let idle = !plan.has_foreground_writes() && plan.status.is_none() && !plan.has_background_writes();
            let then = plan.then.clone();
            world = self.carry_out(plan, world);
            match then {
                Then::AwaitChange | Then::RequeueAfter(_) if idle => return (world, decisions),
                Then::Consult(_) => world = world.consulted(),
                Then::ReadFollowedLease(_) => world = world.followed_lease_read(),
                Then::AwaitChange | Then::RequeueAfter(_) | Then::DecideAgain => {}
            }
        }
        panic!("no rest after 20 decisions: {:#?}", world.plan());
    }

    /// Executes a plan.
    pub fn carry_out(&mut self, plan: Plan, mut world: Snapshot) -> Snapshot {
        let Plan { claim, lease, fence, label, status, claim_next, follow, cost, outranking, then: _ } = plan;
        if let Some(Outranking { term: _, pods }) = outranking {
            world.outranking.retain(|pod, _| pods.contains(pod));
        }
        if let Some(write) = claim {
            self.write(write, &mut world);
        }
        if let Some(write) = lease {
            let resource_version = self.next();
            let before = world.lease.take();
            world.lease = Some(written(write, before, resource_version, &world.election.uid));
        }
        for write in fence.into_iter().chain(label).chain(claim_next).chain(follow).chain(cost) {
            self.write(write, &mut world);
        }
        if let Some(StatusWrite { status, .. }) = status {
            world.election.resource_version = self.next();
            world.election.status = status;
        }
        world
    }

    fn write(&mut self, write: PodWrite, world: &mut Snapshot) {
        let resource_version = self.next();
        let pod = world.pods.iter_mut().find(|pod| pod.id == write.pod).expect("a pod that exists");
        assert_eq!(pod.resource_version, write.resource_version, "guarded by the observed version");
        assert!(write.term.is_some() || pod.term.is_none(), "a claim without a term lowers none");
        *pod = Pod { resource_version, claimed: true, term: write.term, ..pod.clone() };
        if let Some(cost) = write.cost {
            assert_ne!(cost, pod.cost, "a write changes something");
            pod.cost = cost;
        }
        match write.label {
            plan::LabelChange::Lead => pod.label = Some("true".into()),
            plan::LabelChange::Follow => pod.label = Some("false".into()),
            plan::LabelChange::Remove => pod.label = None,
            plan::LabelChange::Keep => {}
        }
    }
}

fn written(write: LeaseWrite, before: Option<Lease>, resource_version: ResourceVersion, election: &Uid) -> Lease {
    let blank = Lease {
        uid: "lease".into(),
        resource_version,
        owner: Some("web".into()),
        incarnation: Some(election.clone()),
        holder_identity: None,
        renewed: false,
        duration_seconds: None,
        unchanged_for: SignedDuration::ZERO,
        allow_adoption_by: None,
        by_sidecars: false,
        former: BTreeSet::new(),
        acquired: None,
        transitions: before.as_ref().and_then(|lease| lease.transitions),
        content: Content::Blank,
    };
    match write {
        LeaseWrite::Create | LeaseWrite::Blank(..) => blank,
        LeaseWrite::Elect { guard, record, acquired, transitions } => {
            assert_eq!(before.map(|lease| lease.resource_version), Some(guard.resource_version), "a compare-and-swap");
            let holder_identity = record.holder.as_ref().map(|holder| holder.name.clone());
            Lease {
                acquired: Some(acquired),
                transitions: Some(transitions),
                holder_identity,
                content: Content::Term(record),
                ..blank
            }
        }
    }
}
