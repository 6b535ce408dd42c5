//! Fields that delay a failover.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use serde_json::json;

use crate::harness::workloads::{last_write, transition};
use crate::harness::{eventually, scenario};

#[tokio::test]
async fn custom_condition_decides_eligibility() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        world.election_with("web", json!({ "readyCondition": "example.com/in-sync" })).await;
        world.condition("web", "Ready", "False", "NoEligibleCandidate").await;
        world.set_condition("web-1", "example.com/in-sync", true).await;
        let leader = world.leader_is("web", "web-1").await;
        world.set_condition("web-0", "example.com/in-sync", true).await;
        world.set_ready("web-1", false).await;
        world.eligible("web", 2, 2).await;
        assert_eq!(world.leader("web").await, leader, "Ready is not asked for");
        world.set_condition("web-1", "example.com/in-sync", false).await;
        world.leader_is("web", "web-0").await;
    })
    .await;
}

#[tokio::test]
async fn held_leader_keeps_the_label_until_another_pod_is_eligible_or_it_is_gone() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        world.election_with("web", json!({ "whenNoneEligible": "Retain" })).await;
        let first = world.leader_is("web", "web-0").await;
        world.set_ready("web-0", false).await;
        world.condition("web", "Ready", "True", "LeaderRetained").await;
        assert_eq!(world.leader("web").await, first);
        world.pods(["web-1"]).await;
        world.leader_is("web", "web-1").await;
        world.set_ready("web-1", false).await;
        world.condition("web", "Ready", "True", "LeaderRetained").await;
        world.delete_pod("web-1").await;
        world.vacancy("web").await;
    })
    .await;
}

#[tokio::test]
async fn not_ready_leader_stays_leader_for_the_failover_delay() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led_with(json!({ "failoverDelaySeconds": 3 })).await;
        let unready = world.set_ready("web-0", false).await;
        world.leader_is("web", "web-1").await;
        let elected = last_write(&world.api::<Lease>().get("web").await.expect("the Lease is there"));
        let due = transition(&unready, "Ready") + SignedDuration::from_secs(3);
        assert!(elected >= due, "due {due}, elected {elected}");
    })
    .await;
}

#[tokio::test]
async fn failover_delay_applies_to_readiness_but_not_to_deletion() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led_with(json!({ "failoverDelaySeconds": 86400 })).await;
        world.set_ready("web-0", false).await;
        world.eligible("web", 1, 2).await;
        assert_eq!(world.leader("web").await, first);
        world.set_ready("web-0", true).await;
        world.eligible("web", 2, 2).await;
        assert_eq!(world.leader("web").await, first);
        world.delete_pod("web-0").await;
        world.leader_is("web", "web-1").await;
    })
    .await;
}

#[tokio::test]
async fn a_suspended_election_repairs_labels_and_begins_no_term() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        world.patch_election("web", json!({ "suspend": true })).await.expect("it may be suspended");
        world.forge_pod("web-1", json!({ "labels": { "leader": "true" } })).await;
        world.forge_pod("web-0", json!({ "labels": { "leader": null } })).await;
        assert_eq!(world.leader("web").await, first);
        world.force_delete_pod("web-0").await;
        world.condition("web", "Ready", "False", "Suspended").await;
        let lease = world.api::<Lease>().get("web").await.expect("the Lease is there");
        assert_eq!(lease.annotations().get("podium.dev/term"), Some(&first.term.to_string()));
        eventually("nobody is labeled", async || {
            let pod = world.api::<Pod>().get("web-1").await.map_err(|error| error.to_string())?;
            if pod.labels().contains_key("leader") { Err(format!("{:?}", pod.labels())) } else { Ok(()) }
        })
        .await;
        world.patch_election("web", json!({ "suspend": false })).await.expect("it may go on");
        world.leader_is("web", "web-1").await;
    })
    .await;
}
