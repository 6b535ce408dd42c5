//! A decision for people: every candidate with its place and its obstacle, and what the controller does next.
//!
//! Both come from [`Candidates`], [`Order`] and [`decide()`], so they agree with the controller.

use std::collections::BTreeSet;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::candidate::{Candidates, Ineligible};
use super::decide;
use super::order::{Order, Precedence};
use super::plan::{LeaseWrite, Plan, Then};
use super::snapshot::{Pod, Settings, Snapshot};
use crate::ids::{PodRef, ResourceVersion};
use crate::lease::record::{Content, Lease};

/// The maximum number of preparations before a change of leader: create the Lease, blank it, read, claim.
const PREPARATIONS: usize = 5;

/// A pod of the Election, as a decision sees it.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The Lease names it as the holder.
    pub leads: bool,
    /// Why it is ineligible.
    pub obstacle: Option<Ineligible>,
    /// Its place in the order of succession. The pod at 1 is elected if the leader's pod goes now.
    pub place: Option<usize>,
    /// The pod at the place before, and why that pod ranks before this one.
    pub behind: Option<(&'a Pod, Precedence)>,
    /// Its workload has a newer revision.
    pub is_outdated: bool,
}

/// Returns the leader, then the eligible pods in the order of succession, then the others.
///
/// The order is that of [`ElectionStatus::next_leader`](crate::api::ElectionStatus::next_leader): without the leader's pod. Whom a
/// followed Lease names next is unknown, so its pods have no places.
pub fn succession<'a>(snapshot: &'a Snapshot, settings: &Settings) -> Vec<Candidate<'a>> {
    let holder = holder(snapshot);
    let incumbent = holder.map(|holder| &holder.uid);
    let lease = snapshot.lease.clone().unwrap_or_else(|| blank(snapshot));
    let named = snapshot.followed_by(settings).map(|(from, followed)| followed.named(from, snapshot, &lease, incumbent));
    let leads = |pod: &Pod| incumbent == Some(&pod.id.uid);
    let shown = || snapshot.pods.iter().filter(|pod| pod.matches || leads(pod));
    let now = Candidates::of(shown(), settings, incumbent, named.as_ref());
    let after = match named {
        None => Candidates::of(shown().filter(|pod| !leads(pod)), settings, None, None),
        Some(_) => Candidates::of(shown().filter(|pod| !leads(pod)), settings, incumbent, named.as_ref()),
    };
    let newest = Order::of(snapshot.pods.iter(), settings, &snapshot.election.uid);
    let candidate = |pod: &'a Pod, obstacle: Option<Ineligible>| Candidate {
        pod,
        leads: leads(pod),
        obstacle,
        place: None,
        behind: None,
        is_outdated: newest.is_outdated(pod),
    };
    let leader = now.eligible.iter().copied().find(|pod| leads(pod)).map(|pod| candidate(pod, None));
    let obstructed = now.ineligible.iter().find(|(pod, _)| leads(pod)).map(|(pod, why)| candidate(pod, Some(why.clone())));
    let mut all: Vec<Candidate<'a>> = leader.or(obstructed).into_iter().collect();

    let order = Order::of(shown().filter(|pod| !leads(pod)), settings, &snapshot.election.uid);
    let mut before: Option<&Pod> = None;
    for (index, pod) in order.sorted(after.eligible).into_iter().enumerate() {
        let place = settings.leader_from.is_none().then_some(index + 1);
        let behind = before.filter(|_| place.is_some()).map(|first| (first, order.precedence(first, pod)));
        all.push(Candidate { place, behind, ..candidate(pod, None) });
        before = Some(pod);
    }
    let mut others = after.ineligible;
    others.sort_by_key(|(pod, _)| &pod.id);
    all.extend(others.into_iter().map(|(pod, why)| candidate(pod, Some(why))));
    all
}

/// The holder that the Election's own Lease names, also if its pod is gone.
pub fn holder(snapshot: &Snapshot) -> Option<&PodRef> {
    let lease = snapshot.lease.as_ref().filter(|lease| lease.incarnation.as_ref() == Some(&snapshot.election.uid))?;
    match &lease.content {
        Content::Term(record) => record.holder.as_ref(),
        Content::Blank | Content::Damaged(_) => None,
    }
}

/// Returns the plan that follows from this snapshot after its preparations: a Lease that is created or blanked, reads that change
/// nothing, and the claim on the next leader.
pub fn foresee(mut snapshot: Snapshot, now: Timestamp) -> Plan {
    for _ in 0..PREPARATIONS {
        let plan = decide(&snapshot, now);
        if let Some(claim) = &plan.claim {
            snapshot.pods.iter_mut().filter(|pod| pod.id == claim.pod).for_each(|pod| pod.claimed = true);
            continue;
        }
        match (&plan.lease, &plan.then) {
            (Some(LeaseWrite::Create | LeaseWrite::Blank(..)), _) => snapshot.lease = Some(blank(&snapshot)),
            (None, Then::Consult(_) | Then::ReadFollowedLease(_)) => {}
            _ => return plan,
        }
        as_read(&mut snapshot);
    }
    decide(&snapshot, now)
}

/// Marks everything in the snapshot as read from the server after its Lease was observed: absent pods are gone.
pub fn as_read(snapshot: &mut Snapshot) {
    snapshot.election.verified = true;
    snapshot.pods.iter_mut().for_each(|pod| pod.verified = true);
    snapshot.read_after = snapshot.lease.as_ref().map(|lease| lease.resource_version);
    if let Some(followed) = &mut snapshot.followed {
        (followed.verified, followed.confirmed_for) = (true, followed.unchanged_for);
    }
    let former = snapshot.lease.iter().flat_map(|lease| match &lease.content {
        Content::Term(record) => record.unfenced.iter().chain(record.holder.iter().map(|holder| &holder.uid)).collect(),
        Content::Blank | Content::Damaged(_) => Vec::new(),
    });
    let gone: BTreeSet<_> = former.filter(|uid| snapshot.pod(uid).is_none()).cloned().collect();
    snapshot.gone.extend(gone);
}

/// The Lease after it was created or blanked.
fn blank(snapshot: &Snapshot) -> Lease {
    let Snapshot { election, lease, .. } = snapshot;
    let revision = lease.as_ref().map_or(election.resource_version, |lease| lease.resource_version);
    Lease {
        former: lease.iter().flat_map(|lease| lease.former.clone()).collect(),
        transitions: lease.as_ref().and_then(|lease| lease.transitions),
        ..owned(snapshot, revision, Content::Blank)
    }
}

/// A Lease of this Election with this revision and content.
pub fn owned(snapshot: &Snapshot, resource_version: ResourceVersion, content: Content) -> Lease {
    let holder_identity = match &content {
        Content::Term(record) => record.holder.as_ref().map(|holder| holder.name.clone()),
        Content::Blank | Content::Damaged(_) => None,
    };
    Lease {
        uid: "".into(),
        resource_version,
        owner: Some(snapshot.election.name.clone()),
        incarnation: Some(snapshot.election.uid.clone()),
        holder_identity,
        renewed: false,
        duration_seconds: None,
        unchanged_for: SignedDuration::ZERO,
        allow_adoption_by: None,
        by_sidecars: false,
        acquired: None,
        transitions: None,
        former: BTreeSet::new(),
        content,
    }
}
