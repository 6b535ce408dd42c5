//! All caches together: fed by the watches and by the answers to our own requests, asked for snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::Event;

use super::cached::Named;
use super::compact::Name;
use super::conditions::Clocks;
use super::leftovers::Leftover;
use super::namespace::{Affected, Namespace, is_known};
use super::settings::LabelKeys;
use super::stream::{Kind, Stream, Ticket};
use crate::api::ElectionStatus;
use crate::controller::Clock;
use crate::controller::queue::Grouped;
use crate::election::term::{Uid, Version};

/// An Election, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Grouped for Key {
    fn group(&self) -> &str {
        &self.namespace
    }
}

/// What a change of the caches asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Elections that may have to decide again.
    pub affected: BTreeSet<Key>,
    /// Names of Elections that are gone and of which something may be left.
    pub orphaned: BTreeSet<Key>,
}

/// What is watched: the whole cluster, or these namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All namespaces, one watch for each kind.
    Cluster,
    /// One watch for each kind and namespace.
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// The namespaces of the single watches; `None` is the whole cluster.
    pub fn watches(&self) -> Vec<Option<String>> {
        match self {
            Self::Cluster => vec![None],
            Self::Namespaces(names) => names.iter().cloned().map(Some).collect(),
        }
    }
}

/// The caches.
#[derive(Clone, Debug)]
pub struct World {
    pub(super) namespaces: BTreeMap<String, Namespace>,
    streams: BTreeMap<(Kind, Option<String>), Stream>,
    cluster: bool,
    /// Counts the changes: what was stored by which is known to have been seen before a request that began after it.
    pub(super) changes: u64,
    pub(super) clocks: Clocks,
}

impl World {
    /// Empty caches for these watches, on a machine with this wall clock.
    pub fn new(scope: &Scope, clock: Clock) -> Self {
        let streams = scope.watches().into_iter().flat_map(|namespace| Kind::ALL.map(|kind| (kind, namespace.clone())));
        Self {
            namespaces: BTreeMap::new(),
            streams: streams.map(|stream| (stream, Stream::default())).collect(),
            cluster: *scope == Scope::Cluster,
            changes: 0,
            clocks: Clocks::new(clock),
        }
    }

    /// Whether every watch has delivered its first list: before that, absence means nothing at all.
    pub fn is_synced(&self) -> bool {
        self.streams.values().all(Stream::is_synced)
    }

    /// The watches that have not delivered their first list.
    pub fn unlisted(&self) -> Vec<(Kind, Option<String>)> {
        self.streams.iter().filter(|(_, stream)| !stream.is_synced()).map(|(watch, _)| watch.clone()).collect()
    }

    /// How many objects of each kind there are.
    pub fn counts(&self) -> [(Kind, usize); 3] {
        Kind::ALL.map(|kind| (kind, self.namespaces.values().map(|cache| cache.count(kind)).sum()))
    }

    /// All Elections: when each was created, and its status.
    pub fn statuses(&self) -> impl Iterator<Item = (Timestamp, &ElectionStatus)> {
        let elections = self.namespaces.values().flat_map(|cache| cache.elections.values());
        elections.map(|seen| (seen.value.created, &seen.value.status))
    }

    /// The number of the latest change.
    pub fn now(&self) -> u64 {
        self.changes
    }

    /// The mark of a request for objects of this kind in this namespace that begins now.
    pub fn ticket(&mut self, kind: Kind, namespace: &str) -> Ticket {
        self.stream(kind, namespace).ticket()
    }

    /// Takes in what a watch delivered. `namespace`: the one that it watches, if it does not watch the cluster.
    pub fn watched(&mut self, kind: Kind, namespace: Option<&str>, event: Event<Named>) -> Changes {
        let key = (kind, namespace.map(str::to_owned));
        match event {
            Event::Init => self.streams.entry(key).or_default().begin_list(),
            Event::InitApply(item) => self.streams.entry(key).or_default().list_item(item),
            Event::InitDone => {
                let items = self.streams.entry(key).or_default().end_list();
                return self.replace(kind, namespace, items);
            }
            Event::Apply(item) => {
                let revision = item.object.version().resource_version;
                let stream = self.streams.entry(key).or_default();
                stream.advance(revision);
                if stream.is_past(&item.namespace, &item.name, revision) {
                    return Changes::default();
                }
                return self.store(item);
            }
            Event::Delete(Named { namespace, name, object }) => {
                let version = object.version();
                let stream = self.streams.entry(key).or_default();
                stream.advance(version.resource_version);
                stream.is_past(&namespace, &name, version.resource_version);
                return self.remove(kind, &namespace, &name, &version.uid);
            }
        }
        Changes::default()
    }

    /// Takes in the answer to our own request, unless the watch knows better.
    pub fn answered(&mut self, ticket: Ticket, item: Named) -> Changes {
        let stream = self.stream(item.object.kind(), &item.namespace);
        if stream.admits(ticket, item.object.version().resource_version) { self.store(item) } else { Changes::default() }
    }

    /// Takes in that the server does not know the object of this UID any more.
    pub fn answered_gone(&mut self, kind: Kind, namespace: &str, name: &str, uid: &Uid) -> Changes {
        if let Some(known) = self.version(kind, namespace, name).filter(|known| known.uid == *uid) {
            self.stream(kind, namespace).note_gone(namespace, name, known.resource_version);
        }
        self.remove(kind, namespace, name, uid)
    }

    /// Whether answers to requests since the ticket were taken in, or found known: no list came in between.
    pub fn is_current(&mut self, kind: Kind, namespace: &str, ticket: Ticket) -> bool {
        self.stream(kind, namespace).is_current(ticket)
    }

    /// The version of the object that the caches have.
    pub fn version(&self, kind: Kind, namespace: &str, name: &str) -> Option<Version> {
        self.namespaces.get(namespace)?.version(kind, name)
    }

    /// The names and UIDs of the objects of this kind that the caches have.
    pub fn all(&self, kind: Kind, namespace: &str) -> Vec<(String, Uid)> {
        self.namespaces.get(namespace).map(|cache| cache.all(kind)).unwrap_or_default()
    }

    /// The holder that the Election's Lease names and those that it lists as unfenced.
    pub fn former_holders(&self, key: &Key) -> BTreeSet<Uid> {
        self.namespaces
            .get(&key.namespace)
            .map(|cache| cache.former_holders(&key.name).cloned().collect())
            .unwrap_or_default()
    }

    /// Takes in that these pods are gone for ever, as far as the Election's Lease names them.
    pub fn note_gone(&mut self, key: &Key, uids: BTreeSet<Uid>) {
        if let Some(cache) = self.namespaces.get_mut(&key.namespace) {
            cache.note_gone(&key.name, uids);
        }
    }

    /// See [`Namespace::retired`].
    pub fn retired(&self, key: &Key) -> Option<Uid> {
        self.namespaces.get(&key.namespace)?.retired(&key.name).cloned()
    }

    /// See [`Namespace::swept`].
    pub fn swept(&mut self, key: &Key, keys: &LabelKeys) {
        if let Some(cache) = self.namespaces.get_mut(&key.namespace) {
            cache.swept(&key.name, keys);
        }
    }

    /// See [`Namespace::leftovers`].
    pub fn leftovers(&self, key: &Key, keys: &LabelKeys) -> Vec<Leftover> {
        self.namespaces.get(&key.namespace).map(|cache| cache.leftovers(&key.name, keys)).unwrap_or_default()
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
        let affected = cache.put(&name, object, self.changes, self.clocks.now());
        self.changed(&namespace, affected)
    }

    fn remove(&mut self, kind: Kind, namespace: &str, name: &str, uid: &Uid) -> Changes {
        let Some(cache) = self.namespaces.get_mut(namespace) else { return Changes::default() };
        if cache.version(kind, name).is_none_or(|cached| cached.uid != *uid) {
            return Changes::default();
        }
        self.changes += 1;
        let affected = cache.remove(kind, name);
        let changes = self.changed(namespace, affected);
        if self.namespaces.get(namespace).is_some_and(Namespace::is_empty) {
            self.namespaces.remove(namespace);
        }
        changes
    }

    /// Tells the Elections among the affected names from those that are gone or that only pods know; it may be both.
    fn changed(&self, namespace: &str, affected: Affected) -> Changes {
        let Some(cache) = self.namespaces.get(namespace) else { return Changes::default() };
        let key = |name: &Name| Key { namespace: namespace.into(), name: name.to_string() };
        let orphaned = affected.iter().filter(|name| cache.is_orphaned(name));
        let known = affected.iter().filter(|name| cache.elections.contains_key(*name));
        Changes { affected: known.map(key).collect(), orphaned: orphaned.map(key).collect() }
    }

    /// A complete list of one kind: what is not in it is gone.
    fn replace(&mut self, kind: Kind, scope: Option<&str>, items: Vec<Named>) -> Changes {
        let listed: BTreeSet<(&str, &str, Uid)> =
            items.iter().map(|item| (item.namespace.as_str(), item.name.as_str(), item.object.version().uid)).collect();
        let namespaces = self.namespaces.iter().filter(|(namespace, _)| scope.is_none_or(|scope| scope == *namespace));
        let absent: Vec<(String, String, Uid)> = namespaces
            .flat_map(|(namespace, cache)| {
                cache.all(kind).into_iter().map(move |(name, uid)| (namespace.clone(), name, uid))
            })
            .filter(|(namespace, name, uid)| !listed.contains(&(namespace.as_str(), name.as_str(), uid.clone())))
            .collect();
        let mut all = Changes::default();
        for (namespace, name, uid) in absent {
            all.add(self.remove(kind, &namespace, &name, &uid));
        }
        for item in items {
            all.add(self.store(item));
        }
        all
    }

    /// All names of Elections that are gone and of which something may be left.
    pub fn orphaned(&self) -> BTreeSet<Key> {
        let claims = |(namespace, cache): (&String, &Namespace)| {
            let namespace = namespace.clone();
            cache.orphaned().into_iter().map(move |name| Key { namespace: namespace.clone(), name })
        };
        self.namespaces.iter().flat_map(claims).collect()
    }
}

impl Changes {
    fn add(&mut self, other: Self) {
        self.affected.extend(other.affected);
        self.orphaned.extend(other.orphaned);
    }
}
