//! `label.followerValue`.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use crate::harness::{Scenario, eventually, scenario};

const ROLES: &str = r#"{ "label": { "key": "example.com/leader", "value": "primary", "followerValue": "replica" } }"#;

/// Waits until exactly these pods have the label with this value.
async fn carry(world: &Scenario, value: &str, names: &[&str]) {
    eventually(&format!("{names:?} are {value}"), async || {
        let selector = ListParams::default().labels(&format!("example.com/leader={value}"));
        let pods = world.api::<Pod>().list_metadata(&selector).await.map_err(|error| error.to_string())?;
        let found: Vec<String> = pods.items.iter().map(ResourceExt::name_any).collect();
        if found == names { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test]
async fn every_pod_that_could_lead_and_does_not_carries_the_followers_value() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1", "web-2"]).await;
        world.election_with("web", serde_json::from_str(ROLES).expect("fields")).await;
        world.leader_is("web", "web-0").await;
        carry(world, "replica", &["web-1", "web-2"]).await;

        world.set_ready("web-1", false).await;
        carry(world, "replica", &["web-2"]).await;
        world.set_ready("web-0", false).await;
        world.leader_is("web", "web-2").await;
        carry(world, "replica", &[]).await;
        world.set_ready("web-0", true).await;
        world.set_ready("web-1", true).await;
        carry(world, "replica", &["web-0", "web-1"]).await;
        carry(world, "primary", &["web-2"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_followers_value_can_be_added_and_goes_with_the_election() {
    scenario(async |world| {
        let _controller = world.controller();
        let leader = world.led_with(json!({ "label": { "key": "example.com/leader", "value": "primary" } })).await;
        let add = json!({ "label": { "followerValue": "replica" } });
        world.patch_election("web", add).await.expect("the follower value is added");
        carry(world, "replica", &["web-1"]).await;
        assert_eq!(world.leader("web").await, leader);
        let refused = world.patch_election("web", json!({ "label": { "followerValue": "other" } })).await;
        assert!(refused.is_err_and(|error| error.to_string().contains("spec.label is immutable")));
        world.api::<podium::api::Election>().delete("web", &<_>::default()).await.expect("the Election is deleted");
        carry(world, "replica", &[]).await;
        carry(world, "primary", &[]).await;
    })
    .await;
}
