//! The history recorder: every revision of every pod and Lease of a namespace, from before the test acts to its end.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::JoinSet;

use super::waiting::eventually;
use crate::checker::{Kind, Revision};

/// An object of this name ends the history of its kind.
const END: &str = "end-of-history";

/// Records until it is asked for the history.
pub struct Recorder {
    client: Client,
    namespace: String,
    history: Arc<Mutex<Vec<Revision>>>,
    watches: JoinSet<()>,
}

impl Recorder {
    /// Records everything that happens in the namespace from now on.
    pub async fn start(client: &Client, namespace: &str) -> Self {
        let mut recorder =
            Self { client: client.clone(), namespace: namespace.into(), history: Arc::default(), watches: JoinSet::new() };
        recorder.record::<Pod>(Kind::Pod).await;
        recorder.record::<Lease>(Kind::Lease).await;
        recorder
    }

    async fn record<K>(&mut self, kind: Kind)
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + 'static,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = api.list_metadata(&ListParams::default()).await.expect("the namespace can be listed");
        assert!(list.items.is_empty(), "the history begins before the first {kind:?}");
        let from = list.metadata.resource_version.expect("a list has a resourceVersion");
        let history = self.history.clone();
        self.watches.spawn(follow(api, kind, from, history));
    }

    /// All revisions in their order, complete: the last one of each kind was seen.
    pub async fn finish(mut self) -> Vec<Revision> {
        let metadata = json!({ "name": END });
        // A gate keeps it from being scheduled and changed.
        let pod = json!({ "metadata": metadata, "spec": {
            "schedulingGates": [{ "name": "podium.dev/never" }],
            "containers": [{ "name": "none", "image": "none" }],
        }});
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        pods.create(&PostParams::default(), &serde_json::from_value(pod).expect("a pod")).await.expect("a last pod");
        let lease = serde_json::from_value(json!({ "metadata": metadata })).expect("a Lease");
        leases.create(&PostParams::default(), &lease).await.expect("a last Lease");
        eventually("the history is complete", async || {
            assert!(self.watches.try_join_next().is_none(), "a watch of the history ended: some revisions may be missing");
            let history = self.history.lock().expect("no panic");
            let seen = |kind| history.iter().any(|revision| revision.kind == kind && revision.name == END);
            (seen(Kind::Pod) && seen(Kind::Lease)).then_some(()).ok_or_else(|| format!("{} revisions", history.len()))
        })
        .await;
        let mut history = std::mem::take(&mut *self.history.lock().expect("no panic"));
        history.retain(|revision| revision.name != END);
        history.sort_by_key(|revision| revision.version);
        history
    }
}

/// Watches without a gap: a watch that ends is continued where it ended. Returns only if that is not possible.
async fn follow<K>(api: Api<K>, kind: Kind, mut from: String, history: Arc<Mutex<Vec<Revision>>>)
where
    K: Clone + Debug + DeserializeOwned + 'static,
{
    loop {
        let Ok(events) = api.watch_metadata(&WatchParams::default(), &from).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let mut events = events.boxed();
        while let Some(Ok(event)) = events.next().await {
            let (object, gone) = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                WatchEvent::Bookmark(bookmark) => {
                    from = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(_) => return,
            };
            let revision = Revision::of(kind, object.metadata, gone);
            from = revision.version.to_string();
            history.lock().expect("no panic").push(revision);
        }
    }
}
