//! The world of one run: a namespace, pods that only the test changes, and the observer's view.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use podium::api::Election;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::goal::Goal;
use crate::harness::cluster::Cluster;
use crate::harness::faulty::{Answer, Control};
use crate::harness::inside::{Connections, Inside};
use crate::harness::observer::{Observer, View};
use crate::harness::waiting::DEADLINE;

pub struct World {
    /// Everything observed so far.
    pub view: watch::Receiver<View>,
    client: Client,
    connections: Connections,
    pub namespace: String,
    /// Revisions that the test wrote.
    own: Mutex<BTreeSet<i64>>,
    forged: Mutex<BTreeSet<i64>>,
}

impl World {
    /// Creates a namespace.
    pub async fn new(cluster: &Cluster, connections: &Connections, observer: &Arc<Observer>) -> Self {
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let namespace = serde_json::from_value(json!({ "metadata": { "generateName": "faults-" } })).expect("a namespace");
        let namespace = namespaces.create(&PostParams::default(), &namespace).await.expect("a new namespace").name_any();
        // No pod is accepted without this account. The cluster also creates it, a little later.
        let account = serde_json::from_value(json!({ "metadata": { "name": "default" } })).expect("an account");
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), &namespace);
        match accounts.create(&PostParams::default(), &account).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            created => drop(created.expect("the account is created")),
        }
        Self {
            view: observer.view(&namespace),
            client: cluster.client.clone(),
            connections: connections.clone(),
            namespace,
            own: Mutex::default(),
            forged: Mutex::default(),
        }
    }

    pub fn controller(&self, control: Arc<Control>) -> Inside {
        Inside::start(&self.connections, &self.namespace, control)
    }

    /// Creates a running pod, Ready or NotReady. No scheduler binds it, so only the test and Podium write to it.
    pub async fn pod(&self, name: &str, ready: bool, labels: Value) {
        let pod = json!({
            "metadata": { "name": name, "labels": labels },
            "spec": {
                "schedulerName": "nobody",
                "automountServiceAccountToken": false,
                "containers": [{ "name": "app", "image": "app" }],
            },
        });
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        self.wrote(&self.api::<Pod>().create(&PostParams::default(), &pod).await.expect("the pod is created"));
        self.set_ready(name, ready).await;
    }

    /// Makes the pod Ready or NotReady, as a kubelet would.
    pub async fn set_ready(&self, name: &str, ready: bool) {
        let status = if ready { "True" } else { "False" };
        let condition = json!({ "type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z" });
        let patch = Patch::Strategic(json!({ "status": { "phase": "Running", "conditions": [condition] } }));
        let patched = self.api::<Pod>().patch_status(name, &PatchParams::default(), &patch).await;
        self.wrote(&patched.expect("the pod's status is patched"));
    }

    /// Merges into the object.
    pub async fn patch<K>(&self, name: &str, patch: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let patched = self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        let patched = patched.unwrap_or_else(|error| panic!("{name} is patched: {error}"));
        self.wrote(&patched);
        patched
    }

    /// Like [`Self::patch`], to deceive Podium.
    pub async fn forge<K>(&self, name: &str, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let forged = self.patch::<K>(name, patch).await;
        self.forged.lock().expect("no panic").extend(version(&forged));
    }

    /// Deletes the object, at once if it has no finalizer.
    pub async fn delete<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let deleted = self.api::<K>().delete(name, &DeleteParams::default().grace_period(0)).await;
        deleted.unwrap_or_else(|error| panic!("{name} is deleted: {error}"));
    }

    /// Creates the Election `web` of the pods labeled `app: web`.
    pub async fn election(&self) {
        let election = json!({
            "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": { "name": "web" },
            "spec": { "selector": { "matchLabels": { "app": "web" } } },
        });
        self.create::<Election>(election).await;
    }

    /// Creates the Lease `web` as another elector released it.
    pub async fn foreign_lease(&self) {
        let lease = json!({
            "metadata": { "name": "web" },
            "spec": { "holderIdentity": "", "leaseDurationSeconds": 15, "leaseTransitions": 3 },
        });
        self.create::<Lease>(lease).await;
    }

    async fn create<K>(&self, object: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
    {
        let object: K = serde_json::from_value(object).expect("an object");
        self.wrote(&self.api::<K>().create(&PostParams::default(), &object).await.expect("it is created"));
    }

    /// Removes the owner reference of the Lease, so that the garbage collector ignores it.
    pub async fn disown_lease(&self) {
        self.patch::<Lease>("web", json!({ "metadata": { "ownerReferences": null } })).await;
    }

    /// Waits until the goal is reached by the known writes of the test and these controllers. Returns the term.
    ///
    /// # Errors
    /// The missing part at the deadline.
    pub async fn reach(&self, goal: &Goal, controls: &[&Control]) -> Result<i64, String> {
        let mut missing = String::new();
        let mut view = self.view.clone();
        let reached = async {
            loop {
                let known = self.known(controls);
                let found = {
                    let view = view.borrow_and_update();
                    let unseen = known.iter().find(|version| !view.versions.contains(version));
                    unseen.map_or_else(|| goal.check(&view), |version| Err(format!("revision {version} is not seen yet")))
                };
                match found {
                    Ok(term) => return term,
                    Err(reason) => missing = reason,
                }
                // The controller's response may arrive after the watch event.
                let _ = tokio::time::timeout(Duration::from_millis(20), view.changed()).await;
            }
        };
        let reached = tokio::time::timeout(DEADLINE, reached).await;
        reached.map_err(|_| format!("after {} s still not: {goal:?}; {missing}", DEADLINE.as_secs()))
    }

    /// Waits until the view satisfies `seen`.
    pub async fn sees(&self, what: &str, seen: impl FnMut(&View) -> bool) {
        let mut view = self.view.clone();
        let waited = tokio::time::timeout(DEADLINE, view.wait_for(seen)).await;
        drop(waited.unwrap_or_else(|_| panic!("after {} s still not: {what}", DEADLINE.as_secs())));
    }

    /// The revisions of all known writes.
    fn known(&self, controls: &[&Control]) -> BTreeSet<i64> {
        let mut known = self.others(controls);
        for control in controls {
            known.extend(control.noted().iter().filter_map(|noted| match noted.answer {
                Some(Answer::Applied(revision)) => revision,
                _ => None,
            }));
        }
        known
    }

    /// Revisions that Podium did not write.
    pub fn others(&self, controls: &[&Control]) -> BTreeSet<i64> {
        let own = self.own.lock().expect("no panic").clone();
        own.into_iter().chain(controls.iter().flat_map(|control| control.edits())).collect()
    }

    /// Revisions written to deceive Podium.
    pub fn forged(&self) -> BTreeSet<i64> {
        self.forged.lock().expect("no panic").clone()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn wrote(&self, object: &impl ResourceExt) {
        self.own.lock().expect("no panic").extend(version(object));
    }
}

fn version(object: &impl ResourceExt) -> Option<i64> {
    object.resource_version()?.parse().ok()
}
