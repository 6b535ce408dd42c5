//! All caches. Watches and responses to the controller's own requests update them; decisions take snapshots of them.

use std::collections::{BTreeMap, BTreeSet};

use kube::runtime::watcher::Event;
use tokio::time::Instant;

use super::cached::{CachedElection, Named, Object};
use super::compact::Name;
use super::conditions::Clocks;
use super::followed::FollowedLeases;
use super::leftovers::Leftover;
use super::namespace::{Affected, Namespace, is_known};
use super::nodes::{NodeWatch, Nodes};
use super::stream::{Stream, Ticket};
use crate::controller::key::{Key, Kind, Scope};
use crate::controller::limits::LabelKeys;
use crate::controller::options::WallClock;
use crate::ids::{ResourceVersion, Uid, Version};

/// Work that a change of the caches causes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Elections that may need a reconcile.
    pub affected: BTreeSet<Key>,
    /// Deleted Elections that may have left labels.
    pub orphaned: BTreeSet<Key>,
    /// Elections that were removed from the cache.
    pub gone: BTreeSet<Key>,
}

/// The caches.
#[derive(Clone, Debug)]
pub struct World {
    pub(super) namespaces: BTreeMap<String, Namespace>,
    streams: BTreeMap<(Kind, Option<String>), Stream>,
    cluster: bool,
    /// Namespaces whose watches have all delivered their first list. An empty name is the whole cluster.
    served: BTreeSet<String>,
    /// By kind: the newest observed revision.
    newest: BTreeMap<Kind, ResourceVersion>,
    /// Message that revisions went back, if a list showed it.
    went_back: Option<String>,
    /// Number of changes. It shows which objects were stored, and thus observed, before a request began.
    pub(super) changes: u64,
    pub(super) clocks: Clocks,
    /// The nodes, while an Election asks for them.
    pub nodes: Nodes,
    /// The Leases of other electors that Elections follow.
    pub followed: FollowedLeases,
}

impl World {
    /// Returns empty caches for these watches and this wall clock.
    pub fn new(scope: &Scope, clock: WallClock) -> Self {
        let streams = scope.watches().into_iter().flat_map(|namespace| Kind::ALL.map(|kind| (kind, namespace.clone())));
        Self {
            namespaces: BTreeMap::new(),
            streams: streams.map(|stream| (stream, Stream::default())).collect(),
            cluster: *scope == Scope::Cluster,
            served: BTreeSet::new(),
            newest: BTreeMap::new(),
            went_back: None,
            changes: 0,
            clocks: Clocks::new(clock),
            nodes: Nodes::default(),
            followed: FollowedLeases::default(),
        }
    }

    /// Returns whether the namespace is served: all its watches have delivered their first list. Until then absence proves
    /// nothing, and the namespace causes no work and blocks no other one.
    pub fn serves(&self, namespace: &str) -> bool {
        if self.cluster { self.serves_any() } else { self.served.contains(namespace) }
    }

    /// Returns whether any namespace is served.
    pub fn serves_any(&self) -> bool {
        !self.served.is_empty()
    }

    /// Namespaces to serve, unless it is the whole cluster.
    pub fn scope(&self) -> BTreeSet<&str> {
        self.streams.keys().filter_map(|(_, namespace)| namespace.as_deref()).collect()
    }

    /// The watches that have not delivered their first list.
    pub fn unlisted(&self) -> Vec<(Kind, Option<String>)> {
        self.streams.iter().filter(|(_, stream)| !stream.is_synced()).map(|(watch, _)| watch.clone()).collect()
    }

    /// Number of cached objects of each kind.
    pub fn counts(&self) -> [(Kind, usize); 3] {
        Kind::ALL.map(|kind| (kind, self.namespaces.values().map(|cache| cache.count(kind)).sum()))
    }

    /// All Elections, each with its namespace and name.
    pub fn elections(&self) -> impl Iterator<Item = (&str, &str, &CachedElection)> {
        self.namespaces.iter().flat_map(|(namespace, cache)| {
            cache.elections.iter().map(move |(name, seen)| (&**namespace, &**name, &seen.value))
        })
    }

    /// The number of the latest change.
    pub fn now(&self) -> u64 {
        self.changes
    }

    /// Newest observed revision of this kind. Kinds are not comparable: each may have an etcd of its own.
    pub fn newest(&self, kind: Kind) -> Option<ResourceVersion> {
        self.newest.get(&kind).copied()
    }

    /// Message that revisions went back, if a list showed it. Events cannot show it, because a watch may lag.
    pub fn went_back(&self) -> Option<&str> {
        self.went_back.as_deref()
    }

    /// Returns whether this watch has delivered its first list.
    pub fn has_listed(&self, kind: Kind, namespace: Option<&str>) -> bool {
        self.streams.get(&(kind, namespace.map(str::to_owned))).is_some_and(Stream::is_synced)
    }

    /// Returns the ticket of a request that begins now, for objects of this kind and namespace.
    pub fn ticket(&mut self, kind: Kind, namespace: &str) -> Ticket {
        self.stream(kind, namespace).ticket()
    }

    /// Applies an event of a watch. `namespace`: the one that it watches, unless it watches the cluster.
    pub fn watched(&mut self, kind: Kind, namespace: Option<&str>, event: Event<Named>) -> Changes {
        let key = (kind, namespace.map(str::to_owned));
        if let Event::Apply(item) | Event::InitApply(item) | Event::Delete(item) = &event {
            self.note(kind, item.object.version().resource_version);
        }
        match event {
            Event::Init => self.streams.entry(key).or_default().begin_list(),
            Event::InitApply(item) => self.streams.entry(key).or_default().list_item(item),
            Event::InitDone => {
                let items = self.streams.entry(key).or_default().end_list();
                let changes = self.replace(kind, namespace, items);
                return if self.begin_to_serve(namespace) { self.everything_in(namespace) } else { changes };
            }
            Event::Apply(item) => {
                let version = item.object.version();
                let stream = self.streams.entry(key).or_default();
                stream.advance(version.resource_version);
                stream.come_to(&item.namespace, &item.name, &version, false);
                if stream.is_past(&item.namespace, &item.name, &version) {
                    return Changes::default();
                }
                return self.store(item);
            }
            Event::Delete(Named { namespace, name, object }) => {
                let version = object.version();
                let stream = self.streams.entry(key).or_default();
                stream.advance(version.resource_version);
                stream.come_to(&namespace, &name, &version, true);
                return self.remove(kind, &namespace, &name, &version.uid);
            }
        }
        Changes::default()
    }

    /// Applies the response to the controller's own request, unless the watch is past it.
    pub fn answered(&mut self, ticket: Ticket, item: Named) -> Changes {
        let version = item.object.version();
        self.note(item.object.kind(), version.resource_version);
        let stream = self.stream(item.object.kind(), &item.namespace);
        let is_news = stream.admits(ticket, version.resource_version);
        if is_news && !stream.is_past(&item.namespace, &item.name, &version) { self.store(item) } else { Changes::default() }
    }

    /// Applies a response that shows the object of this UID to be deleted.
    pub fn answered_gone(&mut self, kind: Kind, namespace: &str, name: &str, uid: &Uid) -> Changes {
        if let Some(known) = self.version(kind, namespace, name).filter(|known| known.uid == *uid) {
            self.stream(kind, namespace).note_gone(namespace, name, known);
        }
        self.remove(kind, namespace, name, uid)
    }

    /// Returns whether responses since the ticket were applied or already cached: no list came in between.
    pub fn is_current(&mut self, kind: Kind, namespace: &str, ticket: Ticket) -> bool {
        self.stream(kind, namespace).is_current(ticket)
    }

    /// The cached version of the object.
    pub fn version(&self, kind: Kind, namespace: &str, name: &str) -> Option<Version> {
        self.namespaces.get(namespace)?.version(kind, name)
    }

    /// Names and versions of the cached objects of this kind.
    pub fn all(&self, kind: Kind, namespace: &str) -> BTreeMap<String, Version> {
        self.namespaces.get(namespace).map(|cache| cache.all(kind)).unwrap_or_default()
    }

    /// The holder that the Election's Lease names and those that it lists as unfenced.
    pub fn former_holders(&self, key: &Key) -> BTreeSet<Uid> {
        self.namespaces
            .get(&key.namespace)
            .map(|cache| cache.former_holders(&key.name).cloned().collect())
            .unwrap_or_default()
    }

    /// Records that these pods are deleted, for those that the Election's Lease names.
    pub fn note_gone(&mut self, key: &Key, uids: BTreeSet<Uid>) {
        if let Some(cache) = self.namespaces.get_mut(&key.namespace) {
            cache.note_gone(&key.name, uids);
        }
    }

    /// See [`Namespace::retired`].
    pub fn retired(&self, key: &Key) -> Option<Uid> {
        self.namespaces.get(&key.namespace)?.retired(&key.name).cloned()
    }

    /// See [`Namespace::cleaned_up`].
    pub fn cleaned_up(&mut self, key: &Key, keys: &LabelKeys) {
        if let Some(cache) = self.namespaces.get_mut(&key.namespace) {
            cache.cleaned_up(&key.name, keys);
        }
    }

    /// See [`Namespace::leftovers`].
    pub fn leftovers(&self, key: &Key, keys: &LabelKeys) -> Vec<Leftover> {
        self.namespaces.get(&key.namespace).map(|cache| cache.leftovers(&key.name, keys)).unwrap_or_default()
    }

    fn note(&mut self, kind: Kind, revision: ResourceVersion) {
        let newest = self.newest.entry(kind).or_insert(revision);
        *newest = revision.max(*newest);
    }

    /// Marks a namespace, or the cluster, as served if all its watches have listed. Returns whether that is new.
    fn begin_to_serve(&mut self, namespace: Option<&str>) -> bool {
        let namespace = namespace.map(str::to_owned);
        let listed = |kind| self.streams.get(&(kind, namespace.clone())).is_some_and(Stream::is_synced);
        Kind::ALL.into_iter().all(listed) && self.served.insert(namespace.clone().unwrap_or_default())
    }

    fn stream(&mut self, kind: Kind, namespace: &str) -> &mut Stream {
        let namespace = (!self.cluster).then(|| namespace.to_owned());
        self.streams.entry((kind, namespace)).or_default()
    }

    fn store(&mut self, item: Named) -> Changes {
        let Named { namespace, name, object } = item;
        let version = object.version();
        let kind = object.kind();
        let cache = self.namespaces.entry(namespace.clone()).or_default();
        if is_known(version.resource_version, cache.version(kind, &name).as_ref()) {
            return Changes::default();
        }
        self.changes += 1;
        if let Object::Election(election) = &object {
            let settings = election.parsed.as_ref().ok().map(|parsed| &parsed.settings);
            let drains = settings.is_some_and(|settings| settings.leave_draining_nodes).then_some(NodeWatch::Drains);
            let heartbeats = settings.and_then(|settings| settings.node_timeout).map(|_| NodeWatch::Heartbeats);
            let key = Key { namespace: namespace.clone(), name: name.clone() };
            self.nodes.ask(&key, drains.into_iter().chain(heartbeats));
            let followed = settings.and_then(|settings| settings.leader_from.as_ref()).map(|from| from.lease.as_str());
            let cached = followed.and_then(|lease| cache.leases.get(lease)).map(|lease| &lease.value);
            self.followed.follow(&key, followed, cached, Instant::now());
        }
        let following = match &object {
            Object::Lease(lease) => self.followed.observe(&namespace, &name, lease),
            Object::Election(_) | Object::Pod(_) => BTreeSet::new(),
        };
        let mut affected = cache.put(&name, object, self.changes, self.clocks.now());
        affected.extend(following.into_iter().map(Name::from));
        self.changed(&namespace, affected)
    }

    fn remove(&mut self, kind: Kind, namespace: &str, name: &str, uid: &Uid) -> Changes {
        let Some(cache) = self.namespaces.get_mut(namespace) else { return Changes::default() };
        if cache.version(kind, name).is_none_or(|cached| cached.uid != *uid) {
            return Changes::default();
        }
        self.changes += 1;
        let mut affected = cache.remove(kind, name);
        match kind {
            Kind::Elections => {
                let key = Key { namespace: namespace.into(), name: name.into() };
                self.nodes.forget(&key);
                self.followed.forget(&key);
            }
            Kind::Leases => affected.extend(self.followed.deleted(namespace, name).into_iter().map(Name::from)),
            Kind::Pods => {}
        }
        let mut changes = self.changed(namespace, affected);
        if kind == Kind::Elections && self.serves(namespace) {
            changes.gone.insert(Key { namespace: namespace.into(), name: name.into() });
        }
        if self.namespaces.get(namespace).is_some_and(Namespace::is_empty) {
            self.namespaces.remove(namespace);
        }
        changes
    }

    /// Splits the affected names into cached Elections and those that may have left labels; it may be both.
    fn changed(&self, namespace: &str, affected: Affected) -> Changes {
        let served = self.namespaces.get(namespace).filter(|_| self.serves(namespace));
        let Some(cache) = served else { return Changes::default() };
        let key = |name: &Name| Key { namespace: namespace.into(), name: name.to_string() };
        let orphaned = affected.iter().filter(|name| cache.is_orphaned(name));
        let known = affected.iter().filter(|name| cache.elections.contains_key(*name));
        Changes { affected: known.map(key).collect(), orphaned: orphaned.map(key).collect(), gone: BTreeSet::new() }
    }

    /// Applies a complete list of one kind: absent objects are deleted.
    fn replace(&mut self, kind: Kind, scope: Option<&str>, items: Vec<Named>) -> Changes {
        let listed: BTreeSet<(&str, &str, Uid)> =
            items.iter().map(|item| (item.namespace.as_str(), item.name.as_str(), item.object.version().uid)).collect();
        let namespaces = self.namespaces.iter().filter(|(namespace, _)| scope.is_none_or(|scope| scope == *namespace));
        let absent: Vec<(String, String, Uid)> = namespaces
            .flat_map(|(namespace, cache)| {
                cache.all(kind).into_iter().map(move |(name, known)| (namespace.clone(), name, known.uid))
            })
            .filter(|(namespace, name, uid)| !listed.contains(&(namespace.as_str(), name.as_str(), uid.clone())))
            .collect();
        let mut all = Changes::default();
        for (namespace, name, uid) in absent {
            all.add(self.remove(kind, &namespace, &name, &uid));
        }
        for item in items {
            let version = item.object.version();
            // No response was applied since the list was requested, and the list is the most recent state.
            let known = self.version(kind, &item.namespace, &item.name).filter(|known| known.uid == version.uid);
            if let Some(known) = known.filter(|known| known.resource_version > version.resource_version) {
                self.went_back.get_or_insert_with(|| went_back(kind, known.resource_version, version.resource_version));
            }
            all.add(self.store(item));
        }
        all
    }

    /// The Elections that ask for this, and have a pod on one of these nodes.
    pub fn on_nodes(&self, watch: NodeWatch, nodes: impl Fn(&str) -> bool) -> BTreeSet<Key> {
        let is_on = |key: &&Key| {
            let cache = self.namespaces.get(&key.namespace);
            cache.is_some_and(|cache| cache.nodes_of(&key.name).any(&nodes))
        };
        self.nodes.asking(watch).filter(is_on).cloned().collect()
    }

    /// See [`FollowedLeases::expired`]: those in served namespaces.
    pub fn expired(&mut self, now: Instant) -> (BTreeSet<Key>, Option<Instant>) {
        let (mut expired, next) = self.followed.expired(now);
        expired.retain(|key| self.serves(&key.namespace));
        (expired, next)
    }

    /// Returns all served Elections, and all of [`World::orphaned`].
    pub fn everything(&self) -> Changes {
        self.everything_in(None)
    }

    /// The same in one namespace.
    fn everything_in(&self, scope: Option<&str>) -> Changes {
        let mut changes = Changes::default();
        for (namespace, cache) in self.served_caches().filter(|(namespace, _)| scope.is_none_or(|scope| scope == *namespace))
        {
            let key = |name: String| Key { namespace: namespace.to_owned(), name };
            changes.affected.extend(cache.elections.keys().map(|name| key(name.to_string())));
            changes.orphaned.extend(cache.orphaned().into_iter().map(key));
        }
        changes
    }

    /// Returns the deleted Elections of served namespaces that may have left labels.
    pub fn orphaned(&self) -> BTreeSet<Key> {
        let claims = |(namespace, cache): (&str, &Namespace)| {
            let namespace = namespace.to_owned();
            cache.orphaned().into_iter().map(move |name| Key { namespace: namespace.clone(), name })
        };
        self.served_caches().flat_map(claims).collect()
    }

    fn served_caches(&self) -> impl Iterator<Item = (&str, &Namespace)> {
        let caches = self.namespaces.iter().map(|(namespace, cache)| (namespace.as_str(), cache));
        caches.filter(|(namespace, _)| self.serves(namespace))
    }
}

/// Message that a consistent response showed an older revision than one observed before.
pub fn went_back(kind: Kind, from: ResourceVersion, to: ResourceVersion) -> String {
    format!(
        "revisions of the API server went back (of {}, from {from} to {to}), as after a restore of etcd from a backup without \
         --bump-revision: the controller writes nothing until it is restarted, once all API servers are back",
        kind.plural()
    )
}

impl Changes {
    fn add(&mut self, other: Self) {
        let Self { affected, orphaned, gone } = other;
        self.affected.extend(affected);
        self.orphaned.extend(orphaned);
        self.gone.extend(gone);
    }
}
