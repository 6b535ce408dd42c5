//! The record: every revision of every pod and Lease of the namespace, whatever happens to the servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Resource;
use kube::api::{ListParams, WatchParams};
use kube::core::NamespaceResourceScope;
use podium_test_support::checker::{Kind, Revision};
use podium_test_support::recorder::{END, EventType, end, follow, position};
use podium_test_support::waiting::eventually_within;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::world::{FORGED, NAMESPACE, World, is_eligible};

/// One revision, and what else is to be known of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The revision.
    pub revision: Revision,
    /// When the watch brought it.
    pub at: Instant,
    /// Whether it is a pod that may lead.
    pub eligible: bool,
}

/// What the watches have brought so far.
#[derive(Debug, Default)]
pub struct Record {
    /// In order for each kind.
    pub entries: Vec<Entry>,
    /// The revisions that were written to deceive Podium.
    pub forged: BTreeSet<i64>,
    /// Why the record cannot be complete.
    pub gaps: Vec<String>,
    /// The pods that there are, by name.
    pub pods: BTreeMap<String, Entry>,
    /// By kind (a pod?) and UID: what lives.
    alive: BTreeSet<(bool, String)>,
    /// By UID: the last mark of a forgery.
    marks: BTreeMap<String, String>,
}

/// Records until it is asked for the record.
pub struct Recorder {
    record: Arc<Mutex<Record>>,
    watches: JoinSet<()>,
}

impl Recorder {
    /// Records everything that happens from now on.
    pub async fn start(world: &World) -> Self {
        let mut recorder = Self { record: Arc::default(), watches: JoinSet::new() };
        recorder.follow(world, Kind::Pod, is_eligible).await;
        recorder.follow(world, Kind::Lease, |_: &Lease| false).await;
        recorder
    }

    /// What there is so far.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }

    async fn follow<K>(&mut self, world: &World, kind: Kind, eligible: fn(&K) -> bool)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let api = world.api::<K>();
        let from = position(&api, &ListParams::default(), true).await;
        let record = self.record.clone();
        self.watches.spawn(async move {
            let watch = |from: String| {
                let api = api.clone();
                async move { Ok(api.watch(&WatchParams::default(), &from).await?.boxed()) }
            };
            let into = record.clone();
            let gap = follow(watch, from, move |object: K, event| {
                let gone = event == EventType::Deleted;
                let eligible = !gone && eligible(&object);
                let revision = Revision::of(kind, object.meta().clone(), gone);
                lock(&into).take(Entry { revision, at: Instant::now(), eligible }, event == EventType::Added);
            });
            let gap = gap.await;
            lock(&record).gaps.push(format!("{kind:?}: {gap}"));
        });
    }

    /// The record, complete: the last revision of each kind was seen.
    pub async fn finish(self, world: &World) -> Record {
        end(&world.client, NAMESPACE).await;
        eventually_within(Duration::from_secs(60), "the record is complete", async || {
            let record = self.record();
            let ends = record.entries.iter().filter(|entry| entry.revision.name == END).count();
            if ends == 2 || !record.gaps.is_empty() { Ok(()) } else { Err(format!("{} revisions", record.entries.len())) }
        })
        .await;
        let mut record = std::mem::take(&mut *self.record());
        record.entries.retain(|entry| entry.revision.name != END);
        record.entries.sort_by_key(|entry| entry.revision.version);
        record
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    /// Takes what a watch brought. `is_new`: the watch says that this revision created the object.
    pub fn take(&mut self, entry: Entry, is_new: bool) {
        let Revision { version, kind, name, uid, annotations, gone, .. } = &entry.revision;
        let key = (*kind == Kind::Pod, uid.clone());
        // What a watch says of an object and what it said before fit together, unless something is missing in between.
        if self.alive.contains(&key) == is_new {
            let said = if is_new { "created, and was known" } else { "changed, and was not known" };
            self.gaps.push(format!("{kind:?} {name} {uid} was {said}, at revision {version}"));
        }
        if *gone {
            self.alive.remove(&key);
        } else {
            self.alive.insert(key);
        }
        if let Some(mark) = annotations.get(FORGED)
            && self.marks.insert(uid.clone(), mark.clone()).as_ref() != Some(mark)
        {
            self.forged.insert(*version);
        }
        if *kind == Kind::Pod {
            if *gone {
                self.pods.remove(name);
            } else {
                self.pods.insert(name.clone(), entry.clone());
            }
        }
        self.entries.push(entry);
    }
}
