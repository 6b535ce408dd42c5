//! The pods: their creation, kubelet and deletion.

use std::sync::Arc;
use std::time::Duration;

use podium_test_support::random::Random;
use podium_test_support::server::Resource::Pods;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::steering;

/// Caller in the history.
const WHO: &str = "workload";

/// Parameters of the pods.
#[derive(Clone, Debug)]
pub struct Workload {
    pub names: Vec<String>,
    /// Deletions of a pod, per thousand checks.
    pub deletes: u64,
    /// Changes of its readiness.
    pub flips: u64,
    /// Maximum pause between two checks, in milliseconds.
    pub pause: u64,
}

/// Rarer events of a pod, per thousand checks.
const RARE: u64 = 6;

/// Runs until it is calm, then brings every pod to rest.
pub async fn run(cluster: Arc<Cluster>, workload: Workload, mut random: Random, calm: impl Fn() -> bool) {
    for name in &workload.names {
        if random.permille(800) {
            create(&cluster, name, &mut random);
        }
    }
    while !calm() {
        sleep(random.millis(10, workload.pause)).await;
        let Some(name) = random.pick(&workload.names).cloned() else { return };
        match cluster.all(Pods).remove(&name) {
            None => create(&cluster, &name, &mut random),
            Some(pod) => live(&cluster, &workload, &name, &pod, &mut random),
        }
    }
    finish_all(&cluster).await;
}

/// Brings every pod to rest: it ends if deleted, and runs otherwise.
pub async fn finish_all(cluster: &Cluster) {
    for _ in 0..2 {
        sleep(Duration::from_secs(1)).await;
        for (name, pod) in cluster.all(Pods) {
            finish(cluster, &name, &pod);
        }
    }
}

fn live(cluster: &Cluster, workload: &Workload, name: &str, pod: &Value, random: &mut Random) {
    if is_terminating(pod) {
        // Most end in time.
        if random.permille(500) {
            finish(cluster, name, pod);
        } else if random.permille(300) {
            set_ready(cluster, name, false);
        }
        return;
    }
    if pod["status"]["phase"] == "Pending" {
        return run_it(cluster, name, random.permille(850));
    }
    if random.permille(workload.deletes) {
        let grace = if random.permille(300) { json!({ "gracePeriodSeconds": 0 }) } else { Value::Null };
        cluster.ask(WHO, "DELETE", (Pods, name), grace);
        // Like a StatefulSet: the same name at once.
        if random.permille(400) && !cluster.all(Pods).contains_key(name) {
            create(cluster, name, random);
            run_it(cluster, name, true);
        }
    } else if random.permille(workload.flips) {
        let ready = pod["status"]["conditions"][0]["status"] == "True";
        set_ready(cluster, name, !ready);
    } else if random.permille(RARE) {
        let phase = if random.permille(700) { "Failed" } else { "Succeeded" };
        cluster.ask_status(WHO, (Pods, name), json!({ "status": { "phase": phase } }));
    } else if random.permille(RARE) {
        let candidate = if random.permille(500) { json!("false") } else { Value::Null };
        annotate(cluster, name, &json!({ "podium.dev/candidate": candidate }));
    } else if random.permille(2 * RARE) {
        steering::prioritize(cluster, WHO, name, random);
    } else if random.permille(2 * RARE) {
        steering::drain(cluster, WHO, random);
    } else if random.permille(2 * RARE) {
        let app = random.pick(&["web", "web", "db", "none"]).copied().unwrap_or_default();
        cluster.ask(WHO, "PATCH", (Pods, name), json!({ "metadata": { "labels": { "app": app } } }));
    } else if random.permille(5 * RARE) {
        // Irrelevant, except that it outdates every resourceVersion in a patch.
        annotate(cluster, name, &json!({ "example.com/note": random.between(0, 1000).to_string() }));
    }
}

fn create(cluster: &Cluster, name: &str, random: &mut Random) {
    let app = random.pick(&["web", "web", "web", "db"]).copied().unwrap_or_default();
    let hash = if random.permille(500) { "old" } else { "new" };
    let body = json!({
        "metadata": { "name": name, "labels": { "app": app, "pod-template-hash": hash, "zone": steering::zone(random) } },
        "spec": { "nodeName": steering::node(random), "terminationGracePeriodSeconds": random.between(1, 30) },
    });
    cluster.ask(WHO, "POST", (Pods, name), body);
}

/// Runs the pod.
pub fn run_it(cluster: &Cluster, name: &str, ready: bool) {
    cluster.ask_status(
        WHO,
        (Pods, name),
        json!({ "status": { "phase": "Running", "conditions": [condition(cluster, ready)] } }),
    );
}

/// Sets its readiness.
pub fn set_ready(cluster: &Cluster, name: &str, ready: bool) {
    cluster.ask_status(WHO, (Pods, name), json!({ "status": { "conditions": [condition(cluster, ready)] } }));
}

fn condition(cluster: &Cluster, holds: bool) -> Value {
    let status = if holds { "True" } else { "False" };
    json!({ "type": "Ready", "status": status, "lastTransitionTime": cluster.now().to_string() })
}

fn annotate(cluster: &Cluster, name: &str, annotations: &Value) {
    cluster.ask(WHO, "PATCH", (Pods, name), json!({ "metadata": { "annotations": annotations } }));
}

/// Completes a pod: it runs, or ends.
pub fn finish(cluster: &Cluster, name: &str, pod: &Value) {
    if is_terminating(pod) {
        let body = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": pod["metadata"]["uid"] } });
        cluster.ask(WHO, "DELETE", (Pods, name), body);
    } else if pod["status"]["phase"] == "Pending" {
        run_it(cluster, name, true);
    }
}

fn is_terminating(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
}
