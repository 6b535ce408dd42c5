//! Builds the snapshot for a decision from the caches.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::cached::{CachedElection, CachedLease, CachedPod};
use super::compact::Name;
use super::conditions::{Condition, Moment};
use super::namespace::{KnownPod, Namespace, Stored};
use super::nodes::{NodeWatch, Nodes};
use super::settings::Parsed;
use super::world::World;
use crate::api::names;
use crate::controller::key::Key;
use crate::election::snapshot::{Election, Pod, Revision, Snapshot};
use crate::ids::{PodRef, ResourceVersion, Term};
use k8s_openapi::jiff::SignedDuration;
use kube::core::SelectorExt;
use tokio::time::Instant;

/// Reads from the API server during this reconcile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Consulted {
    /// Revision of the Lease that was known before the pods and the Election were read.
    pub read_after: Option<ResourceVersion>,
    /// Number of cache changes before the Lease was read.
    pub verified_at: u64,
    /// Number of cache changes before the followed Lease was read.
    pub followed_at: u64,
}

impl World {
    /// Returns the snapshot of this Election, and its Lease as it must be written back. `None`: the Election is not cached,
    /// or is terminating.
    pub fn snapshot(&self, key: &Key, consulted: Consulted) -> Option<(Snapshot, Option<CachedLease>)> {
        let cache = self.namespaces.get(&key.namespace)?;
        let Stored { value: election, at } = cache.elections.get(&*key.name).filter(|seen| !seen.value.terminating)?;
        let lease = election.parsed.as_ref().ok().and_then(|parsed| cache.leases.get(&parsed.settings.lease_name));
        let followed_is_verified = lease.is_some_and(|seen| seen.at <= consulted.followed_at);
        let lease = lease.map(|seen| owned(&key.name, cache, aged(seen.value.clone())));
        let from = election.parsed.as_ref().ok().and_then(|parsed| parsed.settings.leader_from.as_ref());
        let followed =
            from.and_then(|from| self.followed.snapshot(&key.namespace, &from.lease, followed_is_verified, Instant::now()));

        let related = cache.related.get(&*key.name).into_iter().flatten().cloned();
        let former = cache.former_holders(&key.name).filter_map(|uid| cache.pod_names.get(uid).cloned());
        let names: BTreeSet<Name> = related.chain(former).collect();
        let pods = names.iter().filter_map(|name| Some((name, cache.pods.get(name)?)));

        let now = self.clocks.now();
        let snapshot = Snapshot {
            election: Election {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                uid: election.version.uid.clone(),
                resource_version: election.version.resource_version,
                generation: election.generation,
                verified: *at <= consulted.verified_at,
                settings: election.parsed.as_ref().map(|parsed| parsed.settings.clone()).map_err(Clone::clone),
                status: election.status.clone(),
                switchover: election.switchover.clone(),
            },
            lease: lease.as_ref().map(|cached| cached.lease.clone()),
            pods: pods.map(|pod| seen_by(&key.name, election, (cache, &self.nodes), pod, consulted, now)).collect(),
            gone: cache.gone.get(&key.name).cloned().unwrap_or_default(),
            read_after: consulted.read_after,
            // Not from the caches: see `Shared::snapshot`.
            contest: None,
            refused: None,
            // Not from the caches, either: see `Reconciler`.
            outranking: BTreeMap::new(),
            unobserved: self.unobserved(election),
            followed,
        };
        Some((snapshot, lease))
    }

    /// Why the nodes cannot be observed that the Election asks for.
    fn unobserved(&self, election: &CachedElection) -> Option<String> {
        let settings = &election.parsed.as_ref().ok()?.settings;
        let problem = |asks: bool, watch| self.nodes.problem(watch).filter(|_| asks);
        let drains = problem(settings.leave_draining_nodes, NodeWatch::Drains);
        drains.or_else(|| problem(settings.node_timeout.is_some(), NodeWatch::Heartbeats)).cloned()
    }
}

/// Returns the Lease with the time since this version was first observed.
fn aged(mut lease: CachedLease) -> CachedLease {
    lease.lease.unchanged_for = SignedDuration::try_from(lease.seen.elapsed()).unwrap_or(SignedDuration::MAX);
    lease
}

/// Returns the Lease with its owner, if need be by the UID that it was written for.
fn owned(election: &str, cache: &Namespace, mut lease: CachedLease) -> CachedLease {
    if lease.lease.owner.is_none() {
        let name = lease.object.metadata.name.clone().unwrap_or_default();
        let mut users = cache.lease_users(&name).filter(|(name, _)| *name != election);
        let owner = users.find(|(_, other)| Some(&other.version.uid) == lease.lease.incarnation.as_ref());
        lease.lease.owner = owner.map(|(name, _)| name.to_owned());
    }
    lease
}

/// Returns the pod as this Election sees it.
fn seen_by(
    name: &str,
    election: &CachedElection,
    (cache, nodes): (&Namespace, &Nodes),
    (pod_name, known): (&Name, &KnownPod),
    consulted: Consulted,
    now: Moment,
) -> Pod {
    let KnownPod { value: pod, at, matching } = known;
    let parsed = election.parsed.as_ref().ok();
    let leaves_draining_nodes = parsed.is_some_and(|parsed| parsed.settings.leave_draining_nodes);
    let asks_for_heartbeats = parsed.is_some_and(|parsed| parsed.settings.node_timeout.is_some());
    let follows = parsed.is_some_and(|parsed| parsed.settings.leader_from.is_some());
    let node = pod.node.as_deref();
    let claim = pod.claims.get(name);
    let kind = parsed.map_or("", |parsed| &parsed.settings.ready_condition);
    let Condition { holds, unchanged_for, transitioned } = pod.conditions.get(kind, now);
    Pod {
        id: PodRef { name: pod_name.to_string(), uid: pod.version.uid.clone() },
        resource_version: pod.version.resource_version,
        matches: matching.iter().any(|matching| **matching == *name),
        label: parsed.and_then(|parsed| pod.labels.get(&parsed.settings.label.key)).map(str::to_owned),
        claimed: claim.is_some(),
        term: claim.and_then(Term::parse),
        verified: *at <= consulted.verified_at,
        rival: rival(name, election, cache, known),
        state: pod.state,
        ready: holds,
        unchanged_for,
        transitioned,
        opted_out: pod.opted_out,
        score: pod.priority.saturating_add(parsed.map_or(0, |parsed| preference(parsed, pod))),
        is_draining: leaves_draining_nodes && node.is_some_and(|node| nodes.is_draining(node)),
        cost: pod.cost.as_deref().cloned().unwrap_or_default(),
        node: node.filter(|_| asks_for_heartbeats).and_then(|node| nodes.heartbeat_of(node, Instant::now())),
        // Also where the Lease names pods: the message explains an identity that is a node's.
        node_name: node.filter(|_| follows).map(str::to_owned),
        created: pod.created,
        revision: revision(pod),
    }
}

/// Returns the sum of the weights of all preferences that match the pod.
fn preference(parsed: &Parsed, pod: &CachedPod) -> i64 {
    if parsed.preferences.is_empty() {
        return 0;
    }
    let labels = pod.labels.to_map();
    parsed.preferences.iter().filter(|(_, selector)| selector.matches(&labels)).map(|(weight, _)| i64::from(*weight)).sum()
}

/// The parts of a pod's score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreParts {
    /// `podium.dev/priority`
    pub priority: i64,
    /// The sum of the weights of all matching `spec.preferences`.
    pub preferences: i64,
}

impl World {
    /// Returns the parts of the score that the pod has in this Election.
    pub fn score_parts(&self, election: &Key, pod: &str) -> Option<ScoreParts> {
        let cache = self.namespaces.get(&election.namespace)?;
        let parsed = cache.elections.get(&*election.name)?.value.parsed.as_ref().ok()?;
        let pod = &cache.pods.get(pod)?.value;
        Some(ScoreParts { priority: pod.priority, preferences: preference(parsed, pod) })
    }
}

fn revision(pod: &CachedPod) -> Option<Revision> {
    let label = names::REVISION_LABELS.get(usize::from(pod.revision_label?))?;
    Some(Revision { workload: pod.workload, hash: pod.labels.get(label)?.to_owned() })
}

/// Returns the other Election with precedence on the pod under the same label key. A match decides first, then a claim, then
/// age.
fn rival(name: &str, election: &CachedElection, cache: &Namespace, pod: &KnownPod) -> Option<String> {
    let key = &election.parsed.as_ref().ok()?.settings.label.key;
    let own_matches = pod.matching.iter().any(|matching| **matching == *name);
    let right = |matches: bool, name: &str, election: &CachedElection| {
        (matches, pod.value.claims.get(name).is_some(), Reverse((election.created, election.version.uid.clone())))
    };
    let own = right(own_matches, name, election);
    cache
        .matching(pod)
        .filter(|(other, _)| ***other != *name)
        .filter(|(_, other)| other.parsed.as_ref().is_ok_and(|parsed| parsed.settings.label.key == *key))
        .map(|(other_name, other)| (right(true, other_name, other), other_name))
        .filter(|(right, _)| *right > own)
        .max()
        .map(|(_, other)| other.to_string())
}
