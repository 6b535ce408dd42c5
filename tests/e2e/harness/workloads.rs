//! Pods on fake nodes, and changes to them.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::scenario::Scenario;
use super::waiting::eventually;

impl Scenario {
    /// Creates pods labeled `app: web` one by one, and waits until each is Ready.
    pub async fn pods<const N: usize>(&self, names: [&str; N]) -> [Pod; N] {
        let mut pods = Vec::new();
        for name in names {
            pods.push(self.pod(name, json!({})).await);
        }
        pods.try_into().expect("as many as there are names")
    }

    /// Creates a pod labeled `app: web` with additional metadata, and waits until it is Ready.
    pub async fn pod(&self, name: &str, metadata: Value) -> Pod {
        self.new_pod(name, metadata).await;
        self.ready(name).await
    }

    /// Like [`Self::pod`], to deceive Podium.
    pub async fn forged_pod(&self, name: &str, metadata: Value) -> Pod {
        let pod = self.new_pod(name, metadata).await;
        self.forged(&pod);
        self.ready(name).await
    }

    async fn new_pod(&self, name: &str, metadata: Value) -> Pod {
        let mut pod = json!({
            "metadata": { "name": name, "labels": { "app": "web" } },
            "spec": pod_spec(),
        });
        merge(&mut pod["metadata"], metadata);
        let pod = serde_json::from_value(pod).expect("a pod");
        self.api::<Pod>().create(&PostParams::default(), &pod).await.expect("the pod is created")
    }

    /// Waits until the pod is Ready.
    pub async fn ready(&self, name: &str) -> Pod {
        eventually(&format!("{name} is Ready"), async || {
            let pod = self.api::<Pod>().get(name).await.map_err(|error| error.to_string())?;
            let ready = condition(&pod, "Ready").is_some_and(|condition| condition.status == "True");
            ready.then(|| pod.clone()).ok_or_else(|| format!("{:?}", pod.status))
        })
        .await
    }

    /// Waits until the pod has no label `leader`.
    pub async fn unlabeled(&self, name: &str) -> Pod {
        eventually(&format!("{name} is not labeled"), async || {
            let pod = self.api::<Pod>().get(name).await.map_err(|error| error.to_string())?;
            if pod.labels().contains_key("leader") { Err(format!("{:?}", pod.labels())) } else { Ok(pod) }
        })
        .await
    }

    /// Makes the pod Ready or NotReady, as a kubelet would.
    pub async fn set_ready(&self, name: &str, ready: bool) -> Pod {
        self.set_condition(name, "Ready", ready).await
    }

    pub async fn set_condition(&self, name: &str, kind: &str, holds: bool) -> Pod {
        let now = Timestamp::from_second(Timestamp::now().as_second()).expect("a time");
        let status = if holds { "True" } else { "False" };
        let condition = json!({ "type": kind, "status": status, "lastTransitionTime": now.to_string() });
        self.patch_pod_status(name, json!({ "conditions": [condition] })).await
    }

    /// Ends the pod like an eviction by the kubelet.
    pub async fn evict(&self, name: &str) {
        let ready = json!({ "type": "Ready", "status": "False", "reason": "PodFailed" });
        self.patch_pod_status(name, json!({ "phase": "Failed", "reason": "Evicted", "conditions": [ready] })).await;
    }

    pub(super) async fn patch_pod_status(&self, name: &str, status: Value) -> Pod {
        let patch = Patch::Strategic(json!({ "status": status }));
        self.api::<Pod>().patch_status(name, &PatchParams::default(), &patch).await.expect("the status is patched")
    }

    pub async fn patch_pod(&self, name: &str, metadata: Value) -> Pod {
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        self.api::<Pod>().patch(name, &PatchParams::default(), &patch).await.expect("the pod is patched")
    }

    /// Like [`Self::patch_pod`], to deceive Podium.
    pub async fn forge_pod(&self, name: &str, metadata: Value) -> Pod {
        let pod = self.patch_pod(name, metadata).await;
        self.forged(&pod);
        pod
    }

    /// Deletes the pod gracefully.
    pub async fn delete_pod(&self, name: &str) {
        self.api::<Pod>().delete(name, &DeleteParams::default()).await.expect("the pod is deleted");
    }

    /// Deletes the pod by force: it is gone at once, regardless of its node.
    pub async fn force_delete_pod(&self, name: &str) {
        self.api::<Pod>().delete(name, &DeleteParams::default().grace_period(0)).await.expect("the pod is deleted");
    }

    /// Creates a workload of pods labeled `app: web`, with these spec fields.
    pub async fn workload<K>(&self, name: &str, spec: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let labels = json!({ "app": "web" });
        let mut workload = json!({ "metadata": { "name": name }, "spec": {
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": pod_spec() },
        }});
        merge(&mut workload["spec"], spec);
        let workload = serde_json::from_value(workload).expect("a workload");
        self.api::<K>().create(&PostParams::default(), &workload).await.expect("the workload is created");
    }

    /// Changes the workload's pod template, which replaces all its pods.
    pub async fn roll_out<K>(&self, workload: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let patch = json!({ "spec": { "template": { "metadata": { "annotations": { "e2e.example/revision": "2" } } } } });
        let patched = self.api::<K>().patch(workload, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.expect("the workload is patched");
    }
}

/// The pods run nothing, because their nodes are fake.
pub fn pod_spec() -> Value {
    json!({ "terminationGracePeriodSeconds": 1, "containers": [{ "name": "app", "image": "app" }] })
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Last transition of the pod's condition.
pub fn transition(pod: &Pod, kind: &str) -> Timestamp {
    let time = condition(pod, kind).and_then(|condition| condition.last_transition_time.as_ref());
    time.expect("the condition has a time").0
}

/// Time of Podium's last write to this object, in whole seconds.
pub fn last_write(object: &impl ResourceExt) -> Timestamp {
    let entries = object.managed_fields().iter();
    let ours = entries.filter(|entry| entry.manager.as_deref().is_some_and(|name| name.starts_with("podium")));
    ours.filter_map(|entry| entry.time.as_ref()).map(|time| time.0).max().expect("Podium wrote it")
}

/// JSON merge patch, without deletions.
pub(super) fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}
