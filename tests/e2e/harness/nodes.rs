//! Nodes that neither a kubelet nor the fake nodes' controller manages: only the test changes them, their heartbeats and their
//! pods.
//!
//! They belong to the test's namespace, so garbage collection deletes them after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::access::RIGHTS;
use super::scenario::Scenario;
use super::waiting::eventually;
use super::workloads::merge;

/// Namespace of the nodes' Leases.
const NODE_LEASES: &str = "kube-node-lease";

/// Interval of heartbeats, as of the kubelet.
pub const BEAT: Duration = Duration::from_secs(10);

/// A node of one test. It is Ready as long as the test lasts, and has no room for pods that the scheduler places.
pub struct TestNode {
    /// Its name, which differs from that of every other test.
    pub name: String,
    nodes: Api<Node>,
}

/// The heartbeats of a node, by a task that renews its Lease as the kubelet does.
pub struct Heartbeats {
    name: String,
    leases: Api<Lease>,
    beats: Arc<AtomicBool>,
    /// Difference, in seconds, between the written times and the true ones.
    shift: Arc<AtomicI64>,
    /// The last renewal, in microseconds since the epoch.
    last: Arc<AtomicI64>,
    _task: JoinSet<()>,
}

impl Scenario {
    /// Creates a node. A task keeps its status fresh, so that Kubernetes does not mark it as lost.
    pub async fn node(&self, name: &str) -> TestNode {
        self.node_named(&format!("{}-{name}", self.namespace)).await
    }

    /// Creates a node of exactly this name, or takes over the one of an earlier test.
    pub async fn node_named(&self, name: &str) -> TestNode {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "ownerReferences": [self.owner().await] },
        });
        self.cluster.apply(node).await;
        let nodes: Api<Node> = Api::all(self.cluster.client.clone());
        report_ready(&nodes, name).await;
        TestNode { name: name.into(), nodes }
    }

    /// The owner reference of objects that go with the test's namespace.
    pub async fn owner(&self) -> Value {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        let namespace = namespaces.get(&self.namespace).await.expect("the namespace is there");
        json!({ "apiVersion": "v1", "kind": "Namespace", "name": self.namespace, "uid": namespace.uid() })
    }

    /// Creates a pod labeled `app: web` on this node with additional metadata, which runs and is Ready.
    pub async fn pod_on(&self, node: &TestNode, name: &str, metadata: Value) -> Pod {
        let mut pod = json!({
            "metadata": { "name": name, "labels": { "app": "web" } },
            // No kubelet confirms the end of a grace period.
            "spec": {
                "nodeName": node.name, "terminationGracePeriodSeconds": 0, "containers": [{ "name": "app", "image": "app" }],
            },
        });
        merge(&mut pod["metadata"], metadata);
        let pod = serde_json::from_value(pod).expect("a pod");
        self.api::<Pod>().create(&PostParams::default(), &pod).await.expect("the pod is created");
        self.patch_pod_status(name, json!({ "phase": "Running" })).await;
        self.set_ready(name, true).await
    }

    /// Starts the heartbeats of the node. The second one comes after `phase`, the others every 10 s.
    pub async fn heartbeats(&self, node: &TestNode, phase: Duration) -> Heartbeats {
        let leases: Api<Lease> = Api::namespaced(self.cluster.client.clone(), NODE_LEASES);
        let lease = json!({
            "metadata": { "name": node.name, "ownerReferences": [self.owner().await] },
            "spec": { "holderIdentity": node.name, "leaseDurationSeconds": 40 },
        });
        let lease = serde_json::from_value(lease).expect("a Lease");
        leases.create(&PostParams::default(), &lease).await.expect("the node's Lease is created");
        let mut heartbeats = Heartbeats {
            name: node.name.clone(),
            leases,
            beats: Arc::new(AtomicBool::new(true)),
            shift: Arc::default(),
            last: Arc::default(),
            _task: JoinSet::new(),
        };
        let Heartbeats { name, leases, beats, shift, last, _task } = &heartbeats;
        let (name, leases, nodes) = (name.clone(), leases.clone(), node.nodes.clone());
        let (beats, shift, last) = (beats.clone(), shift.clone(), last.clone());
        renew(&leases, &name, &shift, &last).await;
        heartbeats._task.spawn(async move {
            let mut ticks = interval_at(Instant::now() + phase, BEAT);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                report_ready(&nodes, &name).await;
                if beats.load(Ordering::SeqCst) {
                    renew(&leases, &name, &shift, &last).await;
                }
            }
        });
        heartbeats
    }

    /// The kubeconfig of a new ServiceAccount that may serve the namespace, and watch neither nodes nor their Leases.
    pub async fn account_without_nodes(&self) -> Kubeconfig {
        self.account_with("podium", &*RIGHTS).await
    }

    /// The kubeconfig of a new ServiceAccount that may serve the namespace, and watch nodes and their Leases.
    pub async fn account_with_nodes(&self) -> Kubeconfig {
        let kubeconfig = self.account_without_nodes().await;
        self.permit_nodes().await;
        self.permit_node_leases().await;
        kubeconfig
    }

    /// Lets the ServiceAccount `podium` watch nodes.
    pub async fn permit_nodes(&self) {
        let rule = json!({ "apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"] });
        self.permit("Cluster", json!({}), rule).await;
        self.until_allowed_with("podium", "watch", ("", "nodes", None), true).await;
    }

    /// Lets the ServiceAccount `podium` watch the nodes' Leases.
    pub async fn permit_node_leases(&self) {
        let rule = json!({ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["list", "watch"] });
        self.permit("", json!({ "namespace": NODE_LEASES }), rule).await;
    }

    /// Creates a role with this rule and its binding, cluster-wide or in a namespace.
    async fn permit(&self, scope: &str, place: Value, rule: Value) {
        let group = "rbac.authorization.k8s.io";
        let mut metadata = json!({
            "name": format!("podium-nodes-{}", self.namespace), "ownerReferences": [self.owner().await],
        });
        merge(&mut metadata, place);
        let kind = format!("{scope}Role");
        let role = json!({ "apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata, "rules": [rule] });
        let binding = json!({
            "apiVersion": format!("{group}/v1"), "kind": format!("{kind}Binding"), "metadata": metadata,
            "roleRef": { "apiGroup": group, "kind": kind, "name": metadata["name"] },
            "subjects": [{ "kind": "ServiceAccount", "name": "podium", "namespace": self.namespace }],
        });
        self.cluster.apply(role).await;
        self.cluster.apply(binding).await;
    }
}

impl TestNode {
    /// Cordons or uncordons the node, as `kubectl cordon` does, and waits until Kubernetes has set its taint.
    pub async fn cordon(&self, unschedulable: bool) {
        let patch = Patch::Merge(json!({ "spec": { "unschedulable": unschedulable } }));
        self.nodes.patch(&self.name, &PatchParams::default(), &patch).await.expect("the node is patched");
        eventually(&format!("{} has the taint of a cordoned node: {unschedulable}", self.name), async || {
            let (_, taints) = self.taints().await;
            let tainted = taints.iter().any(|taint| taint["key"] == "node.kubernetes.io/unschedulable");
            if tainted == unschedulable { Ok(()) } else { Err(format!("{taints:?}")) }
        })
        .await;
    }

    /// Adds a taint, or changes its effect.
    pub async fn taint(&self, key: &str, effect: &str) {
        self.change_taints(key, Some(json!({ "key": key, "effect": effect }))).await;
    }

    pub async fn untaint(&self, key: &str) {
        self.change_taints(key, None).await;
    }

    /// Replaces the taints of this key. Kubernetes sets others meanwhile, so the write has a guard.
    async fn change_taints(&self, key: &str, taint: Option<Value>) {
        eventually(&format!("the taints of {} are changed", self.name), async || {
            let (version, taints) = self.taints().await;
            let others = taints.into_iter().filter(|taint| taint["key"] != key);
            let taints: Vec<Value> = others.chain(taint.clone()).collect();
            let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "taints": taints } });
            let how = PatchParams::default();
            self.nodes.patch(&self.name, &how, &Patch::Merge(patch)).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// The version of the node, and its taints.
    async fn taints(&self) -> (Option<String>, Vec<Value>) {
        let node = self.nodes.get(&self.name).await.expect("the node is there");
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let taints = taints.into_iter().map(|taint| serde_json::to_value(taint).expect("a taint"));
        (node.metadata.resource_version, taints.collect())
    }
}

impl Heartbeats {
    /// Stops the heartbeats. Returns the time of the last one.
    pub fn stop(&self) -> Timestamp {
        self.beats.store(false, Ordering::SeqCst);
        Timestamp::from_microsecond(self.last.load(Ordering::SeqCst)).expect("a time")
    }

    /// Resumes them with one at once.
    pub async fn resume(&self) {
        renew(&self.leases, &self.name, &self.shift, &self.last).await;
        self.beats.store(true, Ordering::SeqCst);
    }

    /// Shifts the clock of the node.
    pub fn shift(&self, seconds: i64) {
        self.shift.store(seconds, Ordering::SeqCst);
    }

    /// Waits until there were this many more heartbeats.
    pub async fn beat(&self, times: usize) {
        for _ in 0..times {
            let before = self.last.load(Ordering::SeqCst);
            eventually(&format!("{} sends a heartbeat", self.name), async || {
                if self.last.load(Ordering::SeqCst) > before { Ok(()) } else { Err("it does not".into()) }
            })
            .await;
        }
    }
}

async fn report_ready(nodes: &Api<Node>, name: &str) {
    let now = format!("{:.0}", Timestamp::now());
    let ready = json!({ "type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now });
    let patch = Patch::Strategic(json!({ "status": { "conditions": [ready] } }));
    nodes.patch_status(name, &PatchParams::default(), &patch).await.expect("the node's status is patched");
}

async fn renew(leases: &Api<Lease>, name: &str, shift: &AtomicI64, last: &AtomicI64) {
    let shift = SignedDuration::from_secs(shift.load(Ordering::SeqCst));
    // Nobody can observe the renewal before this time.
    let now = Timestamp::now();
    let time = format!("{:.6}", now.checked_add(shift).expect("a time"));
    let patch = Patch::Merge(json!({ "spec": { "renewTime": time } }));
    leases.patch(name, &PatchParams::default(), &patch).await.expect("the node's Lease is renewed");
    last.store(now.as_microsecond(), Ordering::SeqCst);
}
