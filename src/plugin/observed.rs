//! One Election with its pods and its Leases, as a decision of the controller sees them.
//!
//! The objects go through the controller's own caches. What the caller may not read, or what only the controller can observe, is
//! named in [`Observed::unknown`].

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;

use super::cluster::Cluster;
use super::failure::{Failure, Request};
use crate::controller::key::{Key, Kind, Scope};
use crate::controller::limits::{LabelKeys, Limits};
use crate::controller::observe::cached::{self, Named, PodObject};
use crate::controller::observe::nodes::NodeObject;
use crate::controller::observe::snapshot::Consulted;
use crate::controller::observe::world::World;
use crate::election::explain::{as_read, owned};
use crate::election::snapshot::{Settings, Snapshot};
use crate::ids::{NotAnInteger, PodRef, Term};
use crate::lease::cause::Cause;
use crate::lease::record::{Content, NEVER_EXPIRES, Record};

/// What a decision about one Election uses.
pub struct Observed {
    /// Namespace and name.
    pub key: Key,
    /// The caches.
    pub world: World,
    /// The input of the decision.
    pub snapshot: Snapshot,
    /// What could not be observed, in sentences.
    pub unknown: Vec<String>,
}

/// A Lease that was read.
enum Read {
    Found(Box<DeserializeGuard<Lease>>),
    Absent,
    Denied(String),
}

/// Reads the Election of this name, and everything that a decision about it uses. The Leases come last, as in the controller.
///
/// # Errors
/// The Election or the pods cannot be read, or there is no such Election.
pub async fn observe(cluster: &Cluster, name: &str) -> Result<Observed, Failure> {
    let elections = cluster.list(false, None).await?;
    let Some(election) = elections.iter().find(|election| election.name() == name) else {
        return Err(Failure::Failed(cluster.request("get", name).not_found()));
    };
    let namespace = cluster.namespace.as_str();
    let request = Request { verb: "list", resource: "pods", namespace: Some(namespace), name: None };
    let pods: Api<PodObject> = Api::namespaced(cluster.client.clone(), namespace);
    let pods = request.send(pods.list(&ListParams::default())).await?.items;
    let lease = read(cluster, election.lease_name()).await?;
    let followed = match election.followed() {
        Some(followed) => Some((followed.to_owned(), read(cluster, followed).await?)),
        None => None,
    };

    let mut objects = Vec::new();
    // Which keys the controller may write is unknown. One that it may not is in the status.
    let label_keys = LabelKeys::new(elections.iter().map(|election| election.label_key().to_owned()));
    let limits = Limits { label_keys, own_lease: None };
    for election in &elections {
        objects.push(cached::election(election.typed(), &limits).map_err(unusable)?);
    }
    for pod in pods {
        objects.push(cached::pod(pod).map_err(unusable)?);
    }
    let mut unknown = Vec::new();
    let mut renewed = None;
    for (lease, is_own) in [(Some(&lease), true), (followed.as_ref().map(|(_, lease)| lease), false)] {
        match lease {
            Some(Read::Found(lease)) => {
                let named = cached::lease((**lease).clone()).map_err(unusable)?;
                let renewal = lease.0.as_ref().ok().and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
                renewed = renewal.filter(|_| !is_own).map(|time| time.0).or(renewed);
                objects.push(named);
            }
            Some(Read::Denied(why)) if is_own => unknown.push(format!("Leader and term are those of the status: {why}")),
            Some(Read::Denied(why)) => unknown.push(format!("Whom the Lease of spec.leaderFrom names is unknown: {why}")),
            Some(Read::Absent) | None => {}
        }
    }
    let key = Key { namespace: namespace.to_owned(), name: name.to_owned() };
    let mut world = world(namespace, objects);
    let settings = settings(&world, &key);
    if let Some(settings) = &settings {
        observe_nodes(cluster, settings, &mut world, &mut unknown).await?;
    }
    let Some(mut snapshot) = snapshot(&world, &key) else {
        return Err(Failure::Failed(format!("Election {key} is being deleted")));
    };
    if let Read::Denied(_) = lease {
        stand_in(&mut snapshot);
    }
    if let Some((name, lease)) = &followed {
        age(&mut snapshot, lease, renewed, Timestamp::now());
        if renewed.is_some() {
            unknown.push(format!(
                "Whether Lease {name} has expired is computed from the clock of its holder; the controller uses its own observation"
            ));
        }
    }
    as_read(&mut snapshot);
    Ok(Observed { key, world, snapshot, unknown })
}

async fn read(cluster: &Cluster, name: &str) -> Result<Read, Failure> {
    match cluster.lease(name).await {
        Ok(Some(lease)) => Ok(Read::Found(Box::new(lease))),
        Ok(None) => Ok(Read::Absent),
        Err(Failure::Denied(why)) => Ok(Read::Denied(why)),
        Err(failure) => Err(failure),
    }
}

fn unusable(error: NotAnInteger) -> Failure {
    Failure::Failed(error.to_string())
}

/// Returns the caches of one namespace with these objects.
fn world(namespace: &str, objects: Vec<Named>) -> World {
    let scope = BTreeSet::from([namespace.to_owned()]);
    let mut world = World::new(&Scope::Namespaces(scope), Arc::new(Timestamp::now));
    for kind in Kind::ALL {
        world.watched(kind, Some(namespace), Event::Init);
    }
    for object in objects {
        world.watched(object.object.kind(), Some(namespace), Event::InitApply(object));
    }
    for kind in [Kind::Elections, Kind::Leases, Kind::Pods] {
        world.watched(kind, Some(namespace), Event::InitDone);
    }
    world
}

/// Returns the snapshot of an Election where all objects were read just now. `None`: it is being deleted.
pub fn snapshot(world: &World, key: &Key) -> Option<Snapshot> {
    let all = Consulted { read_after: None, verified_at: u64::MAX, followed_at: u64::MAX };
    let (mut snapshot, _) = world.snapshot(key, all)?;
    as_read(&mut snapshot);
    Some(snapshot)
}

fn settings(world: &World, key: &Key) -> Option<Settings> {
    snapshot(world, key)?.election.settings.ok()
}

/// Observes the nodes that the Election asks for, if the caller may.
async fn observe_nodes(
    cluster: &Cluster,
    settings: &Settings,
    world: &mut World,
    unknown: &mut Vec<String>,
) -> Result<(), Failure> {
    if settings.leave_draining_nodes {
        let nodes: Api<NodeObject> = Api::all(cluster.client.clone());
        let request = Request { verb: "list", resource: "nodes", namespace: None, name: None };
        match request.send(nodes.list(&ListParams::default())).await {
            Ok(nodes) => {
                world.nodes.node(Event::Init);
                nodes.items.into_iter().for_each(|node| drop(world.nodes.node(Event::InitApply(node))));
                world.nodes.node(Event::InitDone);
            }
            Err(Failure::Denied(why)) => unknown.push(format!("Which nodes drain is unknown: {why}")),
            Err(failure) => return Err(failure),
        }
    }
    if settings.node_timeout.is_some() {
        unknown.push(
            "Only the controller observes the heartbeats of nodes: a pod on a silent node counts as eligible here".into(),
        );
    }
    Ok(())
}

/// Puts the leader and the term of the status in place of a Lease that cannot be read.
fn stand_in(snapshot: &mut Snapshot) {
    let status = &snapshot.election.status;
    let term = status.term.and_then(|term| Term::parse(&term.to_string()));
    let holder = status.leader.clone().zip(status.leader_uid.as_deref());
    let holder = holder.map(|(name, uid)| PodRef { name, uid: uid.into() });
    let content = term.map_or(Content::Blank, |term| {
        let (cause, reason) = (Cause::Unknown, String::new());
        Content::Term(Record { holder, term, unfenced: BTreeSet::new(), cause, reason })
    });
    let acquired = status.acquire_time.as_ref().map(|time| time.0);
    let transitions = Some(status.leader_transitions);
    // The Election's own revision is above its term, unless Leases have an etcd of their own. It is not shown.
    let lease = owned(snapshot, snapshot.election.resource_version, content);
    snapshot.lease =
        Some(crate::lease::record::Lease { acquired, transitions, duration_seconds: Some(NEVER_EXPIRES), ..lease });
}

/// Sets for how long the followed Lease is unchanged: this process has seen it only once.
fn age(snapshot: &mut Snapshot, lease: &Read, renewed: Option<Timestamp>, now: Timestamp) {
    let Some(followed) = &mut snapshot.followed else { return };
    followed.unchanged_for = match (lease, renewed) {
        (Read::Found(_), Some(renewed)) => now.duration_since(renewed).max(SignedDuration::ZERO),
        (Read::Absent, _) => SignedDuration::MAX,
        (Read::Found(_) | Read::Denied(_), _) => SignedDuration::ZERO,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::fixtures;
    use crate::election::explain::holder;

    #[test]
    fn caches_are_filled_in_any_order() {
        let objects = vec![
            fixtures::lease("web", 20, "a", 10),
            fixtures::pod("a", 21, fixtures::claimed),
            fixtures::election("web", 22, |_| {}),
        ];
        let world = world("default", objects);
        let snapshot = snapshot(&world, &fixtures::key("web")).unwrap();
        assert_eq!(holder(&snapshot).map(|holder| &*holder.name), Some("a"));
        assert_eq!(snapshot.pods.len(), 1);
        assert!(snapshot.pods[0].verified && snapshot.election.verified);
    }

    #[test]
    fn unreadable_lease_is_replaced_by_the_status() {
        let status = serde_json::json!({ "leader": "a", "leaderUID": "a-uid", "term": 10, "observedGeneration": 1 });
        let election = fixtures::election("web", 22, |election| election["status"] = status);
        let world = fixtures::world([election, fixtures::pod("a", 21, fixtures::claimed)]);
        let mut snapshot = snapshot(&world, &fixtures::key("web")).unwrap();
        assert!(holder(&snapshot).is_none());
        stand_in(&mut snapshot);
        assert_eq!(holder(&snapshot).map(|holder| &*holder.name), Some("a"));
    }
}
