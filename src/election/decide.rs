//! The decision about one Election: a snapshot in, the complete plan out.

mod fill;
mod handover;
mod replace;
mod report;

use k8s_openapi::jiff::Timestamp;

use handover::Handover;

use super::candidate::Candidates;
use super::followed::Named;
use super::order::Order;
use super::ownership::Ownership;
use super::plan::{LabelChange, LeaseWrite, Plan, PodWrite, Then};
use super::snapshot::{Pod, Settings, Snapshot};
use super::status;
use crate::api::Reason;
use crate::ids::{Uid, Version};
use crate::lease::record::{Content, Lease, Record};

/// The maximum number of pods that a selector may match. Their UIDs fit into the annotation of former holders, with a reserve.
pub const MOST_PODS: usize = 5_000;

/// The maximum number of followers that one plan writes to.
pub const FOLLOWERS_AT_ONCE: usize = 64;

/// Decides which writes an Election needs.
///
/// `now` is the local wall clock. It dates what is written and decides nothing.
pub fn decide(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let settings = match &snapshot.election.settings {
        Ok(settings) => settings,
        Err(problem) => return stalled(snapshot, None, problem.reason, problem.message.clone(), now),
    };
    let matching = snapshot.pods.iter().filter(|pod| pod.matches).count();
    if matching > MOST_PODS {
        let message = format!("spec.selector must match at most {MOST_PODS} pods and matches {matching}: narrow it");
        return stalled(snapshot, Some(settings), Reason::TooManyPods, message, now);
    }
    let followed = snapshot.followed_by(settings);
    if let Some((from, owner)) = followed.and_then(|(from, lease)| Some((from, lease.election()?))) {
        let message = format!(
            "Lease {} belongs to Election {owner}: create the Election with a spec.leaderFrom.lease.name on which others elect",
            from.lease
        );
        return stalled(snapshot, Some(settings), Reason::LeaseConflict, message, now);
    }
    let Some(lease) = &snapshot.lease else {
        return Plan { lease: Some(LeaseWrite::Create), then: Then::DecideAgain, ..Plan::default() };
    };
    let ownership = Ownership::of(lease, snapshot, settings);
    if let Ownership::Foreign { message, left } = ownership {
        let then = left.map_or(Then::AwaitChange, Then::RequeueAfter);
        return Plan { then, ..stalled(snapshot, Some(settings), Reason::LeaseConflict, message, now) };
    }
    if let Some(why) = followed.and_then(|(_, lease)| lease.unconfirmed()).filter(|_| !settings.suspend) {
        return Plan { then: Then::ReadFollowedLease(why), ..Plan::default() };
    }
    let decision = Decision::new(snapshot, settings, lease, &ownership, now);
    if decision.status_may_be_newer() {
        return consult("the status has a term above the Lease's");
    }
    let of_this_election = decision.is_of_this_election();
    match &lease.content {
        Content::Term(record) if of_this_election => decision.keep_or_replace(record),
        // Emptying a Lease ends its term, and filling it begins one: a suspended Election does neither.
        _ if settings.suspend => Plan { status: status::suspended(snapshot, settings, now), ..Plan::default() },
        _ if decision.adopts => decision.fill(),
        Content::Damaged(why) => decision.blank(why),
        Content::Blank if of_this_election => decision.fill(),
        // The Lease may be of a later Election, and this one deleted: two controllers would take it from each other forever.
        Content::Blank | Content::Term(_) if !snapshot.election.verified => consult("the Lease is of another incarnation"),
        Content::Blank | Content::Term(_) => decision.blank("it was written for a former Election of this name"),
    }
}

fn stalled(snapshot: &Snapshot, settings: Option<&Settings>, reason: Reason, message: String, now: Timestamp) -> Plan {
    Plan { status: status::stalled(snapshot, settings, (reason, message), now), ..Plan::default() }
}

/// A decision about a Lease that this Election may write.
struct Decision<'a> {
    snapshot: &'a Snapshot,
    settings: &'a Settings,
    lease: &'a Lease,
    now: Timestamp,
    /// The Lease is foreign, and its owner allows this Election to adopt it.
    adopts: bool,
    /// The holder of an adopted Lease is a pod that stays leader.
    holder_stays: bool,
    /// The UID of the leader that the Lease names. Where the Lease lost it: of the pod that still carries the label.
    incumbent: Option<Uid>,
    /// Whom the followed Lease names, if the Election follows one.
    named: Option<Named<'a>>,
    candidates: Candidates<'a>,
    order: Order<'a>,
    /// The planned change of leader that is due.
    handover: Option<Handover<'a>>,
}

impl<'a> Decision<'a> {
    fn new(
        snapshot: &'a Snapshot,
        settings: &'a Settings,
        lease: &'a Lease,
        ownership: &Ownership<'_>,
        now: Timestamp,
    ) -> Self {
        let incumbent = match (&lease.content, ownership) {
            (_, Ownership::Adoptable { holder: Some(pod) }) => Some(pod.id.uid.clone()),
            (Content::Term(Record { holder, .. }), _) => holder.as_ref().map(|holder| holder.uid.clone()),
            (Content::Blank | Content::Damaged(_), _) => {
                let labeled = snapshot.pods.iter().filter(|pod| pod.is_labeled(&settings.label));
                labeled
                    .max_by_key(|pod| (pod.term_unless_forged(lease.resource_version), &pod.id))
                    .map(|pod| pod.id.uid.clone())
            }
        };
        let named =
            snapshot.followed_by(settings).map(|(from, followed)| followed.named(from, snapshot, lease, incumbent.as_ref()));
        let candidates = Candidates::of(snapshot.pods.iter(), settings, incumbent.as_ref(), named.as_ref());
        let order = Order::of(snapshot.pods.iter(), settings, &snapshot.election.uid);
        let adopts = matches!(ownership, Ownership::Adoptable { .. });
        let holder_stays = matches!(ownership, Ownership::Adoptable { holder: Some(_) });
        let handover = None;
        let decision =
            Self { snapshot, settings, lease, now, adopts, holder_stays, incumbent, named, candidates, order, handover };
        Self { handover: decision.handover_due(), ..decision }
    }

    fn is_of_this_election(&self) -> bool {
        self.lease.incarnation.as_ref() == Some(&self.snapshot.election.uid)
    }

    fn guard(&self) -> Version {
        Version { uid: self.lease.uid.clone(), resource_version: self.lease.resource_version }
    }
}

fn consult(why: &'static str) -> Plan {
    Plan { then: Then::Consult(why), ..Plan::default() }
}

/// The claim on a pod that no Lease has named yet. It has no term, so it makes no label stale and proves no pod fenced.
fn claim(pod: &Pod) -> PodWrite {
    let Pod { id, resource_version, .. } = pod;
    let (pod, resource_version) = (id.clone(), *resource_version);
    PodWrite { pod, resource_version, label: LabelChange::Keep, term: None, cost: None, is_repair: false }
}
