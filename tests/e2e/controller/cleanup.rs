//! `podium cleanup`.

use std::process::{Command, Output};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use podium::api::Election;
use serde_json::json;

use crate::harness::{Scenario, scenario};

/// Runs `podium cleanup` with these arguments as an administrator.
fn cleanup(world: &Scenario, arguments: &[&str]) -> Output {
    let kubeconfig = world.kubeconfig("cleanup");
    let mut command = Command::new(env!("CARGO_BIN_EXE_podium"));
    command.arg("cleanup").args(arguments).env_clear().env("KUBECONFIG", kubeconfig).output().expect("podium runs")
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cleanup_removes_the_labels_of_elections_and_nothing_else() {
    scenario(async |world| {
        let mut controller = world.controller();
        let foreign = json!({ "labels": { "app": "db", "team.example/leader": "alice" } });
        world.pod("db-0", foreign).await;
        let fields = json!({ "label": { "key": "leader", "followerValue": "false" }, "leaderDeletionCost": 100 });
        let leader = world.led_with(fields).await;
        world.pod("web-2", json!({ "labels": { "part": "gone" } })).await;
        let gone = json!({ "selector": { "matchLabels": { "part": "gone" } }, "label": { "key": "gone.example/leader" } });
        world.election_with("gone", gone).await;
        world.leader_is("gone", "web-2").await;
        controller.kill();
        world.api::<Election>().delete("gone", &<_>::default()).await.expect("the Election is deleted");

        let there = ["--namespaces", &world.namespace];
        let labels = ["web-0: leader=true", "web-1: leader=false", "web-2: gone.example/leader=true", "web-2: leader=false"];
        let dry = printed(&cleanup(world, &[&there[..], &["--dry-run"]].concat()));
        let costs = ["pod-deletion-cost=100 removed (dry run)", "podium.dev/deletion-costs=web=100; original= removed"];
        let lines = [&labels[..], &costs].concat();
        assert!(lines.iter().all(|line| dry.contains(line)) && dry.lines().count() == 6, "{dry}");
        assert_eq!(world.leader("web").await, leader, "a dry run removes nothing");

        assert_eq!(printed(&cleanup(world, &there)), dry.replace(" (dry run)", ""));
        for name in ["web-0", "web-1", "web-2"] {
            let pod = world.unlabeled(name).await;
            assert!(!pod.labels().contains_key("gone.example/leader"));
            assert!(pod.annotations().contains_key("term.podium.dev/web"), "the term is the fence");
            assert!(!pod.annotations().contains_key("controller.kubernetes.io/pod-deletion-cost"), "it had none");
        }
        let foreign = world.api::<Pod>().get("db-0").await.expect("the pod is there");
        assert!(foreign.labels().contains_key("team.example/leader"));
        assert_eq!(printed(&cleanup(world, &there)), "", "there is nothing left");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cleanup_requires_a_scope() {
    scenario(async |world| {
        let output = cleanup(world, &[]);
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains("--namespaces") && message.contains("--all-namespaces"), "{message}");
    })
    .await;
}
