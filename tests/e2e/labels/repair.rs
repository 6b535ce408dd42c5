//! Repair of changes by others, accidental or not.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::harness::scenario;

#[tokio::test]
async fn deleted_lease_is_recreated_with_the_same_leader_and_a_higher_term() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        world.api::<Lease>().delete("web", &DeleteParams::default()).await.expect("the Lease is deleted");
        let second = world.leader_after("web", &first).await;
        assert_eq!((&second.uid, second.transitions), (&first.uid, first.transitions), "the leader did not change");
    })
    .await;
}

#[tokio::test]
async fn an_edited_lease_is_replaced_by_a_consistent_one_with_a_higher_term() {
    scenario(async |world| {
        let _controller = world.controller();
        let mut leader = world.led().await;
        let edits = [
            json!({ "spec": { "holderIdentity": "web-1" } }),
            json!({ "metadata": { "annotations": { "podium.dev/term": "9223372036854775807" } } }),
            json!({ "metadata": { "annotations": { "podium.dev/holder": "nonsense" } } }),
            json!({ "metadata": { "annotations": { "podium.dev/term": null } } }),
        ];
        for edit in edits {
            let edited = world.api::<Lease>().patch("web", &PatchParams::default(), &Patch::Merge(&edit)).await;
            world.forged(&edited.expect("the Lease is edited"));
            let after = world.leader_after("web", &leader).await;
            assert_eq!(after.uid, leader.uid, "the leader stays after {edit}");
            leader = after;
        }
    })
    .await;
}

#[tokio::test]
async fn removed_label_is_restored() {
    scenario(async |world| {
        let _controller = world.controller();
        let leader = world.led().await;
        let stripped = world.forge_pod("web-0", json!({ "labels": { "leader": null } })).await;
        assert!(!stripped.labels().contains_key("leader"));
        assert_eq!(world.leader("web").await, leader, "neither the leader nor the term changed");
    })
    .await;
}

#[tokio::test]
async fn a_label_forged_on_a_follower_is_removed() {
    scenario(async |world| {
        let _controller = world.controller();
        let leader = world.led().await;
        world.forge_pod("web-1", json!({ "labels": { "leader": "true" } })).await;
        assert_eq!(world.leader("web").await, leader, "neither the leader nor the term changed");
    })
    .await;
}

/// Terms that the controller never writes.
const FORGED: [&str; 4] = ["9223372036854775807", "99999999999999999999999", "-1", "garbage"];

#[tokio::test]
async fn forged_term_on_the_leader_is_repaired() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        for forged in FORGED {
            world.forge_pod("web-0", json!({ "annotations": { "term.podium.dev/web": forged } })).await;
            world.leader_is("web", "web-0").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_term_forged_on_a_follower_does_not_keep_it_from_leading() {
    scenario(async |world| {
        let _controller = world.controller();
        let mut leader = world.led().await;
        for forged in FORGED {
            let follower = if leader.name == "web-0" { "web-1" } else { "web-0" };
            world.forge_pod(follower, json!({ "annotations": { "term.podium.dev/web": forged } })).await;
            world.set_ready(&leader.name, false).await;
            let next = world.leader_is("web", follower).await;
            assert!(next.term > leader.term);
            world.set_ready(&leader.name, true).await;
            world.ready(&leader.name).await;
            leader = next;
        }
    })
    .await;
}

#[tokio::test]
async fn a_status_wiped_or_forged_by_hand_is_written_again() {
    scenario(async |world| {
        let _controller = world.controller();
        let leader = world.led().await;
        let forged = json!({ "status": { "leader": "web-1", "term": leader.term + 1, "leaderTransitions": 99 } });
        for status in [json!({ "status": null }), forged] {
            let elections = world.api::<podium::api::Election>();
            elections
                .patch_status("web", &PatchParams::default(), &Patch::Merge(status))
                .await
                .expect("the status is patched");
            // A higher term follows a term that a client may have read, never a lower one.
            let now = world.leader("web").await;
            assert_eq!((&now.name, &now.uid, now.transitions), (&leader.name, &leader.uid, leader.transitions));
            assert!(now.term >= leader.term, "{now:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn leader_that_stops_matching_loses_the_label() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        world.patch_pod("web-0", json!({ "labels": { "app": "other" } })).await;
        world.leader_is("web", "web-1").await;
        let former = world.api::<Pod>().get("web-0").await.expect("the pod is there");
        assert!(!former.labels().contains_key("leader"));
    })
    .await;
}

#[tokio::test]
async fn label_in_use_before_the_first_election_is_reported_as_conflict() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pod("web-0", json!({ "labels": { "leader": "maybe" } })).await;
        world.pods(["web-1"]).await;
        world.election("web").await;
        let message = world.condition("web", "Stalled", "True", "LabelConflict").await;
        assert!(message.contains("web-0") && message.contains("remove it"), "{message}");
        world.patch_pod("web-0", json!({ "labels": { "leader": null } })).await;
        world.leader("web").await;
        world.recovered("web").await;
    })
    .await;
}
