//! Changes of the leader during rollouts, with Kubernetes' own workload controllers.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{Leader, Scenario, eventually, scenario};

/// The label by which Argo's Rollouts tell revisions.
const ROLLOUT: &str = "rollouts-pod-template-hash";

#[tokio::test]
async fn rollout_of_a_deployment_changes_the_leader_once() {
    scenario(async |world| {
        let _controller = world.controller();
        world.workload::<Deployment>("web", json!({ "replicas": 3 })).await;
        let first = leader_of_three(world).await;
        next_second(world).await;
        world.roll_out::<Deployment>("web").await;
        eventually("the rollout is complete", async || {
            let deployment = world.api::<Deployment>().get("web").await.map_err(|error| error.to_string())?;
            let status = deployment.status.unwrap_or_default();
            let complete = status.observed_generation == deployment.metadata.generation
                && (status.updated_replicas, status.replicas) == (Some(3), Some(3));
            complete.then_some(()).ok_or_else(|| format!("{status:?}"))
        })
        .await;
        assert_eq!(changes(world, "a Deployment", "pod-template-hash", &first).await, 1);
    })
    .await;
}

/// It replaces its pods from the last to the first.
#[tokio::test]
async fn rollout_of_a_stateful_set_changes_the_leader_once_or_twice() {
    for (leader, expected) in [("web-0", 1), ("web-1", 1), ("web-2", 2)] {
        scenario(async |world| {
            let _controller = world.controller();
            world.workload::<StatefulSet>("web", json!({ "serviceName": "web", "replicas": 3 })).await;
            let mut first = leader_of_three(world).await;
            if first.name != leader {
                let request = json!({ "metadata": { "annotations": {
                    "podium.dev/switchover-term": first.term.to_string(),
                    "podium.dev/switchover-to": leader,
                }}});
                let elections = world.api::<podium::api::Election>();
                elections.patch("web", &PatchParams::default(), &Patch::Merge(request)).await.expect("it is annotated");
                first = world.leader_is("web", leader).await;
            }
            next_second(world).await;
            world.roll_out::<StatefulSet>("web").await;
            eventually("the rollout is complete", async || {
                let set = world.api::<StatefulSet>().get("web").await.map_err(|error| error.to_string())?;
                let status = set.status.unwrap_or_default();
                let complete = status.observed_generation == set.metadata.generation
                    && (status.updated_replicas, status.ready_replicas) == (Some(3), Some(3));
                complete.then_some(()).ok_or_else(|| format!("{status:?}"))
            })
            .await;
            let what = format!("a StatefulSet that {leader} leads");
            assert_eq!(changes(world, &what, "controller-revision-hash", &first).await, expected);
        })
        .await;
    }
}

/// A Rollout's ReplicaSets, scaled in steps of one pod as its controller does.
#[tokio::test]
async fn canary_of_a_rollout_changes_the_leader_once() {
    scenario(async |world| {
        let _controller = world.controller();
        for (revision, replicas) in [("5d8c7f9b64", 3), ("6b9f4c7d58", 0)] {
            let labels = json!({ (ROLLOUT): revision });
            let spec = json!({
                "replicas": replicas,
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels } },
            });
            world.workload::<ReplicaSet>(&format!("web-{revision}"), spec).await;
        }
        let first = leader_of_three(world).await;
        next_second(world).await;
        for step in 1..=3 {
            scale(world, "web-6b9f4c7d58", step).await;
            scale(world, "web-5d8c7f9b64", 3 - step).await;
        }
        assert_eq!(changes(world, "a Rollout, a canary in steps of one pod", ROLLOUT, &first).await, 1);
    })
    .await;
}

async fn leader_of_three(world: &Scenario) -> Leader {
    world.election("web").await;
    world.eligible("web", 3, 3).await;
    world.leader("web").await
}

/// Waits until pods made from now on are newer than all others by their times, which are whole seconds.
pub async fn next_second(world: &Scenario) {
    let pods = pods(world).await;
    let newest = pods.iter().filter_map(|pod| pod.creation_timestamp()).max().expect("there are pods").0;
    eventually("a second has passed", async || {
        let now = Timestamp::now();
        if now.as_second() > newest.as_second() { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
}

async fn pods(world: &Scenario) -> Vec<Pod> {
    world.api::<Pod>().list(&ListParams::default()).await.expect("pods can be listed").items
}

/// Scales a ReplicaSet, and waits until all its pods are Ready, and the others gone.
async fn scale(world: &Scenario, set: &str, replicas: i32) {
    let sets = world.api::<ReplicaSet>();
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    let generation = sets.patch(set, &PatchParams::default(), &patch).await.expect("it is scaled").metadata.generation;
    let owned = |pod: &Pod| pod.owner_references().iter().any(|owner| owner.name == set);
    eventually(&format!("{set} has {replicas} pods"), async || {
        let status = sets.get(set).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        let pods = pods(world).await.iter().filter(|pod| owned(pod)).count();
        let (ready, seen) = (status.ready_replicas.unwrap_or_default(), status.observed_generation);
        let complete = (ready, seen) == (replicas, generation) && i32::try_from(pods) == Ok(replicas);
        complete.then_some(()).ok_or_else(|| format!("{pods} pods, {status:?}"))
    })
    .await;
}

/// Waits until a pod of the new revision leads. Prints and returns how often the leader changed since `first`.
async fn changes(world: &Scenario, what: &str, label: &str, first: &Leader) -> i32 {
    let revisions: Vec<Value> = pods(world).await.iter().map(|pod| json!(pod.labels().get(label))).collect();
    let leader = eventually("a pod of the new revision leads", async || {
        let leader = world.leader("web").await;
        match world.api::<Pod>().get(&leader.name).await {
            Ok(pod) if pod.uid().as_ref() == Some(&leader.uid) && pod.metadata.deletion_timestamp.is_none() => Ok(leader),
            other => Err(format!("{leader:?}: {other:?}")),
        }
    })
    .await;
    assert!(revisions.windows(2).all(|pair| pair[0] == pair[1]), "{revisions:?}");
    let changes = leader.transitions - first.transitions;
    println!("FIGURE rollout of {what}: {changes} changes of the leader");
    changes
}
