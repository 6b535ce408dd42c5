//! `spec.leaderDeletionCost`.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use podium_test_support::checker::Kind;
use serde_json::{Value, json};

use crate::harness::observer::Observer;
use crate::harness::{Scenario, eventually, scenario};

const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const NOTE: &str = "podium.dev/deletion-costs";

fn own(cost: Value) -> Value {
    json!({ "annotations": { COST: cost } })
}

/// Waits until the pod has this deletion cost, and a note if an Election demands it.
async fn costs(world: &Scenario, pod: &str, cost: Option<&str>, demanded: bool) {
    eventually(&format!("{pod} costs {cost:?}, demanded: {demanded}"), async || {
        let pod = world.api::<Pod>().get(pod).await.map_err(|error| error.to_string())?;
        let get = |name| pod.annotations().get(name).map(String::as_str);
        let fits = get(COST) == cost && get(NOTE).is_some() == demanded;
        if fits { Ok(()) } else { Err(format!("{:?}", pod.annotations())) }
    })
    .await;
}

#[tokio::test]
async fn deletion_cost_comes_with_the_label_and_goes_with_it() {
    scenario(async |world| {
        let observer = Observer::start(&world.cluster.client).await;
        let mut view = observer.view(&world.namespace);
        let _controller = world.controller();
        world.pod("web-0", own(json!("5"))).await;
        world.pod("web-1", json!({})).await;
        world.election_with("web", json!({ "leaderDeletionCost": 100 })).await;
        world.leader_is("web", "web-0").await;
        costs(world, "web-0", Some("100"), true).await;
        world.set_ready("web-0", false).await;
        let second = world.leader_is("web", "web-1").await;
        costs(world, "web-0", Some("5"), false).await;
        world.set_ready("web-0", true).await;
        world.set_ready("web-1", false).await;
        let third = world.leader_after("web", &second).await;
        costs(world, "web-1", None, false).await;
        // A vacancy.
        world.set_ready("web-0", false).await;
        world.vacancy("web").await;
        costs(world, "web-0", Some("5"), false).await;

        eventually("the observer has seen the end", async || {
            let seen = view.borrow_and_update();
            let leads = |name: &str| seen.pods.get(name).is_some_and(|pod| pod.labels.contains_key("leader"));
            let last = seen.leases.get("web").and_then(|lease| lease.annotations.get("podium.dev/term")?.parse().ok());
            let ended = last > Some(third.term) && !leads("web-0") && !leads("web-1");
            if ended { Ok(()) } else { Err(format!("{last:?}")) }
        })
        .await;
        let seen = view.borrow();
        let mut led = 0;
        for revision in seen.history.iter().filter(|revision| revision.kind == Kind::Pod && !revision.gone) {
            let labeled = revision.labels.contains_key("leader");
            led += usize::from(labeled);
            let before = if revision.name == "web-0" { Some("5") } else { None };
            let expected = if labeled { Some("100") } else { before };
            assert_eq!(revision.annotations.get(COST).map(String::as_str), expected, "{revision:?}");
        }
        assert!(led >= 3, "{led} revisions of a leader");
    })
    .await;
}

#[tokio::test]
async fn users_change_is_kept_while_the_pod_leads_and_given_back() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pod("web-0", own(json!("5"))).await;
        world.pod("web-1", own(json!("6"))).await;
        world.election_with("web", json!({ "leaderDeletionCost": 100 })).await;
        world.leader_is("web", "web-0").await;
        world.patch_pod("web-0", own(json!("7"))).await;
        // The pod is written for another reason: its label is restored.
        world.forge_pod("web-0", json!({ "labels": { "leader": null } })).await;
        let first = world.leader_is("web", "web-0").await;
        costs(world, "web-0", Some("7"), true).await;
        world.set_ready("web-0", false).await;
        world.leader_after("web", &first).await;
        costs(world, "web-0", Some("7"), false).await;
        world.patch_pod("web-1", own(json!(null))).await;
        world.set_ready("web-0", true).await;
        world.set_ready("web-1", false).await;
        world.leader_is("web", "web-0").await;
        costs(world, "web-0", Some("100"), true).await;
        costs(world, "web-1", None, false).await;
    })
    .await;
}

#[tokio::test]
async fn changed_field_corrects_the_leaders_pod_without_a_new_term() {
    scenario(async |world| {
        let _controller = world.controller();
        let leader = world.led().await;
        costs(world, "web-0", None, false).await;
        for (field, cost) in [(json!(100), Some("100")), (json!(-3), Some("-3")), (json!(null), None)] {
            world.patch_election("web", json!({ "leaderDeletionCost": field })).await.expect("the field may change");
            costs(world, "web-0", cost, cost.is_some()).await;
        }
        assert_eq!(world.leader("web").await, leader);
        costs(world, "web-1", None, false).await;
        let refused = world.patch_election("web", json!({ "leaderDeletionCost": 2_147_483_648_i64 })).await;
        assert!(refused.is_err(), "a deletion cost has 32 bits");
    })
    .await;
}

#[tokio::test]
async fn highest_cost_of_several_elections_counts_and_a_deleted_election_gives_its_own_back() {
    scenario(async |world| {
        let mut controller = world.controller();
        world.pod("web-0", own(json!("5"))).await;
        world.election_with("web", json!({ "leaderDeletionCost": 100 })).await;
        world.leader_is("web", "web-0").await;
        let other = json!({ "label": { "key": "other.example/leader" }, "leaderDeletionCost": 200 });
        world.election_with("other", other).await;
        world.leader_is("other", "web-0").await;
        costs(world, "web-0", Some("200"), true).await;
        world.delete_election("other").await;
        costs(world, "web-0", Some("100"), true).await;
        world.nobody_labeled("other.example/leader").await;
        // The last one is deleted while no controller runs.
        controller.kill();
        world.delete_election("web").await;
        let _controller = world.controller();
        costs(world, "web-0", Some("5"), false).await;
        world.nobody_labeled("leader").await;
    })
    .await;
}

/// Scales a Deployment to one pod, whose leader Kubernetes would delete first: it became Ready last. Returns whether the leader
/// remains.
async fn leader_survives_a_scale_down(world: &Scenario, name: &str, fields: Value) -> bool {
    let labels = json!({ "set": name });
    // Pods on one node: Kubernetes prefers to delete pods of the node that has the most.
    let nodes: Api<Node> = Api::all(world.cluster.client.clone());
    let managed = ListParams::default().labels("type=kwok");
    let node = nodes.list_metadata(&managed).await.expect("the nodes").items[0].name_any();
    let set = json!({ "replicas": 3, "selector": { "matchLabels": labels },
        "template": { "metadata": { "labels": labels }, "spec": { "nodeName": node } } });
    world.workload::<Deployment>(name, set).await;
    let selected = ListParams::default().labels(&format!("set={name}"));
    let pods = eventually("three pods are there", async || {
        let pods = world.api::<Pod>().list(&selected).await.map_err(|error| error.to_string())?.items;
        if pods.len() == 3 { Ok(pods) } else { Err(format!("{} pods", pods.len())) }
    })
    .await;
    for pod in &pods {
        world.ready(&pod.name_any()).await;
    }
    let (leader, others) = pods.split_first().expect("three pods");
    let leader = leader.name_any();
    for other in others {
        let hours = Timestamp::from_second(Timestamp::now().as_second()).expect("a time") - SignedDuration::from_hours(100);
        let ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": hours.to_string() });
        let patch = Patch::Strategic(json!({ "status": { "conditions": [ready] } }));
        let pods = world.api::<Pod>();
        pods.patch_status(&other.name_any(), &PatchParams::default(), &patch).await.expect("the status is patched");
    }
    world.patch_pod(&leader, json!({ "annotations": { "podium.dev/priority": "10" } })).await;
    let mut spec = json!({ "selector": { "matchLabels": labels } });
    for (field, value) in fields.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    world.election_with(name, spec).await;
    world.leader_is(name, &leader).await;
    let one = Patch::Merge(json!({ "spec": { "replicas": 1 } }));
    world.api::<Deployment>().patch(name, &PatchParams::default(), &one).await.expect("the Deployment is scaled");
    let left = eventually("one pod is left", async || {
        let pods = world.api::<Pod>().list(&selected).await.map_err(|error| error.to_string())?.items;
        let left: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        if left.len() == 1 { Ok(left) } else { Err(format!("{left:?}")) }
    })
    .await;
    world.leader_is(name, &left[0]).await;
    left == [leader]
}

#[tokio::test]
async fn deployment_that_scales_down_deletes_followers_first() {
    scenario(async |world| {
        let _controller = world.controller();
        let with = leader_survives_a_scale_down(world, "with", json!({ "leaderDeletionCost": 100 })).await;
        assert!(with, "the leader remains");
        let without = leader_survives_a_scale_down(world, "without", json!({})).await;
        assert!(!without, "without the field Kubernetes deletes this leader");
    })
    .await;
}
