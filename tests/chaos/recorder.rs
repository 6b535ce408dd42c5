//! The record: every revision of every pod and Lease of the namespace, whatever happens to the servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::JoinSet;

use crate::checker::{Kind, Revision};
use crate::harness::waiting::eventually_within;
use crate::world::{FORGED, World, is_eligible};

/// An object of this name ends the record of its kind.
const END: &str = "end";

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
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow<K>(&mut self, world: &World, kind: Kind, eligible: fn(&K) -> bool)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let api = world.api::<K>();
        let list = api.list(&ListParams::default()).await.expect("the namespace can be listed");
        assert!(list.items.is_empty(), "the record begins before the first {kind:?}");
        let mut from = list.metadata.resource_version.expect("a list has a resourceVersion");
        let record = self.record.clone();
        self.watches.spawn(async move {
            loop {
                let Ok(events) = api.watch(&WatchParams::default(), &from).await else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let mut events = events.boxed();
                while let Some(Ok(event)) = events.next().await {
                    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                    let (object, is_new, gone) = match event {
                        WatchEvent::Added(object) => (object, true, false),
                        WatchEvent::Modified(object) => (object, false, false),
                        WatchEvent::Deleted(object) => (object, false, true),
                        WatchEvent::Bookmark(bookmark) => {
                            from = bookmark.metadata.resource_version;
                            continue;
                        }
                        WatchEvent::Error(status) if status.code == 410 => {
                            record
                                .gaps
                                .push(format!("{kind:?}: what came after {from} is no longer kept: {}", status.message));
                            return;
                        }
                        // The servers are in trouble; it goes on from where it was.
                        WatchEvent::Error(_) => break,
                    };
                    let eligible = !gone && eligible(&object);
                    let revision = Revision::of(kind, object.meta().clone(), gone);
                    from = revision.version.to_string();
                    record.take(Entry { revision, at: Instant::now(), eligible }, is_new);
                }
            }
        });
    }

    /// The record, complete: the last revision of each kind was seen.
    pub async fn finish(self, world: &World) -> Record {
        let metadata = json!({ "name": END });
        // A gate keeps it from being scheduled and changed.
        let pod = json!({ "metadata": metadata, "spec": {
            "schedulingGates": [{ "name": "chaos.example/never" }],
            "containers": [{ "name": "none", "image": "none" }],
        }});
        let pod = serde_json::from_value(pod).expect("a pod");
        let lease = serde_json::from_value(json!({ "metadata": metadata })).expect("a Lease");
        world.api::<Pod>().create(&PostParams::default(), &pod).await.expect("a last pod");
        world.api::<Lease>().create(&PostParams::default(), &lease).await.expect("a last Lease");
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
