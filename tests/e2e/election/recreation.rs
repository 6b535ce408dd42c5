//! Deleted and re-created Elections.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use podium::api::Election;
use serde_json::json;

use crate::harness::{Scenario, eventually, scenario};

async fn delete_election(world: &Scenario, name: &str) {
    world.api::<Election>().delete(name, &DeleteParams::default()).await.expect("the Election is deleted");
}

#[tokio::test]
async fn deleted_election_removes_label_and_lease_but_keeps_the_term() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        world.election("web").await;
        let leader = world.leader("web").await;
        delete_election(world, "web").await;
        eventually("the label is gone", async || {
            let pod = world.api::<Pod>().get("web-0").await.map_err(|error| error.to_string())?;
            let claim = pod.annotations().get("term.podium.dev/web");
            assert_eq!(claim, Some(&leader.term.to_string()), "the term is the fence");
            if pod.labels().contains_key("leader") { Err(format!("{:?}", pod.labels())) } else { Ok(()) }
        })
        .await;
        eventually("the Lease is garbage-collected", async || match world.api::<Lease>().get_opt("web").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn label_of_an_election_deleted_without_a_controller_is_removed_by_the_next() {
    scenario(async |world| {
        let mut controller = world.controller();
        world.pods(["web-0"]).await;
        world.election("web").await;
        world.leader("web").await;
        controller.kill();
        delete_election(world, "web").await;
        let _controller = world.controller();
        eventually("the label is gone", async || {
            let pod = world.api::<Pod>().get("web-0").await.map_err(|error| error.to_string())?;
            if pod.labels().contains_key("leader") { Err(format!("{:?}", pod.labels())) } else { Ok(()) }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn label_set_by_a_user_after_the_deletion_survives_a_restart() {
    scenario(async |world| {
        let mut controller = world.controller();
        world.pods(["web-0"]).await;
        world.election("web").await;
        world.leader("web").await;
        delete_election(world, "web").await;
        world.nobody_labeled("leader").await;
        let by_hand = json!({ "labels": { "leader": "true", "team.example/leader": "alice" } });
        world.forge_pod("web-0", by_hand).await;
        world.serve_another("another").await;
        controller.kill();
        let _controller = world.controller();
        world.serve_another("third").await;
        let pod = world.api::<Pod>().get("web-0").await.expect("the pod is there");
        for (label, value) in [("leader", "true"), ("team.example/leader", "alice")] {
            assert_eq!(pod.labels().get(label).map(String::as_str), Some(value));
        }
    })
    .await;
}

#[tokio::test]
async fn election_recreated_immediately_continues_with_a_higher_term() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        world.election("web").await;
        let mut former = world.leader("web").await;
        for _ in 0..5 {
            delete_election(world, "web").await;
            world.election("web").await;
            former = world.leader_after("web", &former).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_changed_selector_moves_the_leadership_to_the_pods_that_it_matches() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        world.pod("db-0", json!({ "labels": { "app": "db" } })).await;
        world.election("web").await;
        world.leader_is("web", "web-0").await;
        let selector = json!({ "matchLabels": null, "matchExpressions": [
            { "key": "app", "operator": "In", "values": ["db", "cache"] },
        ] });
        world.patch_election("web", json!({ "selector": selector })).await.expect("the selector is changed");
        world.leader_is("web", "db-0").await;
    })
    .await;
}

#[tokio::test]
async fn election_recreated_with_another_label_leaves_no_old_label() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        world.election("web").await;
        let former = world.leader("web").await;
        delete_election(world, "web").await;
        world.election_with("web", json!({ "label": { "key": "a.example/leader" } })).await;
        world.leader_after("web", &former).await;
        eventually("the old label is gone", async || {
            let pods = world.api::<Pod>().list(&kube::api::ListParams::default().labels("leader")).await;
            let names: Vec<_> = pods.map_err(|error| error.to_string())?.iter().map(ResourceExt::name_any).collect();
            if names.is_empty() { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn deleted_election_leaves_foreign_labels_unchanged() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pod("web-0", json!({ "labels": { "team.example/leader": "alice" } })).await;
        world.election("web").await;
        world.leader("web").await;
        delete_election(world, "web").await;
        eventually("the label is gone", async || {
            let pod = world.api::<Pod>().get("web-0").await.map_err(|error| error.to_string())?;
            assert!(pod.labels().contains_key("team.example/leader"), "taken with it: {:?}", pod.labels());
            if pod.labels().contains_key("leader") { Err(format!("{:?}", pod.labels())) } else { Ok(()) }
        })
        .await;
    })
    .await;
}
