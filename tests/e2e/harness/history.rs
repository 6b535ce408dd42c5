//! The history of a test: every revision of every pod and Lease in its namespace.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, WatchParams};
use kube::{Api, Client};
use podium_test_support::checker::{Kind, Revision};
use podium_test_support::recorder::{END, EventType, end, follow_metadata, position};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::waiting::eventually;

/// Records until [`Self::finish`].
pub struct Recorder {
    client: Client,
    namespace: String,
    history: Arc<Mutex<Vec<Revision>>>,
    watches: JoinSet<String>,
}

impl Recorder {
    /// Starts to record the namespace.
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
        let from = position(&api, &ListParams::default(), true).await;
        let history = self.history.clone();
        self.watches.spawn(follow_metadata(api, WatchParams::default(), from, move |object, event| {
            let revision = Revision::of(kind, object.metadata, event == EventType::Deleted);
            history.lock().expect("no panic").push(revision);
        }));
    }

    /// Returns all revisions in order. The history is complete: it has the last revision of each kind.
    pub async fn finish(mut self) -> Vec<Revision> {
        end(&self.client, &self.namespace).await;
        eventually("the history is complete", async || {
            if let Some(gap) = self.watches.try_join_next() {
                panic!("the history has a gap: {gap:?}");
            }
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
