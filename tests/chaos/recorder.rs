//! Records every revision of every pod and Lease of the namespace, also while servers fail.

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

/// One revision, its time, and the pod's eligibility.
#[derive(Clone, Debug)]
pub struct Entry {
    pub revision: Revision,
    /// Time at which the watch delivered it.
    pub at: Instant,
    /// Set for an eligible pod.
    pub eligible: bool,
}

/// Everything the watches have delivered so far.
#[derive(Debug, Default)]
pub struct Record {
    /// In order for each kind.
    pub entries: Vec<Entry>,
    /// Revisions written to deceive Podium.
    pub forged: BTreeSet<i64>,
    /// Reasons why the record is incomplete.
    pub gaps: Vec<String>,
    /// Existing pods by name.
    pub pods: BTreeMap<String, Entry>,
    /// Existing objects: whether it is a pod, and UID.
    alive: BTreeSet<(bool, String)>,
    /// The last forgery mark of each UID.
    marks: BTreeMap<String, String>,
}

/// Records in the background until it is finished.
pub struct Recorder {
    record: Arc<Mutex<Record>>,
    watches: JoinSet<()>,
}

impl Recorder {
    /// Starts to record.
    pub async fn start(world: &World) -> Self {
        let mut recorder = Self { record: Arc::default(), watches: JoinSet::new() };
        recorder.follow(world, Kind::Pod, is_eligible).await;
        recorder.follow(world, Kind::Lease, |_: &Lease| false).await;
        recorder
    }

    /// The record so far.
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

    /// Returns the complete record: it has the last revision of each kind.
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
    /// Adds an entry from a watch. `is_new`: this revision created the object, according to the watch.
    pub fn take(&mut self, entry: Entry, is_new: bool) {
        let Revision { version, kind, name, uid, annotations, gone, .. } = &entry.revision;
        let key = (*kind == Kind::Pod, uid.clone());
        // Two entries of an object that do not fit together mean that one in between is missing.
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
