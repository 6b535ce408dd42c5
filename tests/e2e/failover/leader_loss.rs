//! Failover after the loss of a leader.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use serde_json::json;

use crate::harness::scenario;

#[tokio::test]
async fn deleted_leader_is_replaced() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        world.delete_pod("web-0").await;
        let second = world.leader_is("web", "web-1").await;
        assert!(second.term > first.term);
        assert_eq!(second.transitions, 1);
    })
    .await;
}

#[tokio::test]
async fn terminating_leader_is_replaced_immediately() {
    scenario(async |world| {
        let _controller = world.controller();
        // Its finalizer keeps the pod.
        world.pod("web-0", json!({ "finalizers": ["e2e.example/hold"] })).await;
        world.pods(["web-1"]).await;
        world.election("web").await;
        world.leader_is("web", "web-0").await;
        world.delete_pod("web-0").await;
        let second = world.leader_is("web", "web-1").await;
        let former = world.patch_pod("web-0", json!({ "finalizers": null })).await;
        assert!(former.metadata.deletion_timestamp.is_some());
        let fence = &former.annotations()["term.podium.dev/web"];
        assert_eq!(*fence, second.term.to_string(), "the former leader is fenced with the new term");
    })
    .await;
}

#[tokio::test]
async fn force_deleted_leader_is_replaced() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        world.force_delete_pod("web-0").await;
        assert!(world.leader_is("web", "web-1").await.term > first.term);
    })
    .await;
}

#[tokio::test]
async fn not_ready_leader_is_replaced_and_stays_a_follower_when_it_recovers() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        world.set_ready("web-0", false).await;
        let second = world.leader_is("web", "web-1").await;
        world.set_ready("web-0", true).await;
        // The controller has observed the recovery when it counts the pod again.
        world.eligible("web", 2, 2).await;
        assert_eq!(world.leader("web").await, second);
    })
    .await;
}

#[tokio::test]
async fn evicted_leader_is_replaced() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        world.evict("web-0").await;
        world.leader_is("web", "web-1").await;
    })
    .await;
}

#[tokio::test]
async fn recreated_stateful_set_pod_leads_with_a_new_uid_and_term() {
    scenario(async |world| {
        let _controller = world.controller();
        world.workload::<StatefulSet>("web", json!({ "serviceName": "web", "replicas": 1 })).await;
        world.election("web").await;
        let first = world.leader_is("web", "web-0").await;
        world.delete_pod("web-0").await;
        let second = world.leader_when("web", "the new web-0 leads", |leader| leader.uid != first.uid).await;
        assert_eq!(second.name, "web-0");
        assert!(second.term > first.term);
        // More than one if the first new pod was gone before it was labeled, as happens on busy fake nodes.
        assert!(second.transitions > first.transitions, "the same name is not the same pod");
    })
    .await;
}

#[tokio::test]
async fn vacancy_without_eligible_pods_has_its_own_term() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        world.election("web").await;
        let first = world.leader_is("web", "web-0").await;
        world.set_ready("web-0", false).await;
        let vacancy = world.vacancy("web").await;
        assert!(vacancy.term > Some(first.term), "{vacancy:?}");
        let message = world.condition("web", "Ready", "False", "NoEligibleCandidate").await;
        assert!(message.contains("web-0 is not Ready"), "{message}");
        world.set_ready("web-0", true).await;
        let second = world.leader("web").await;
        assert_eq!(second.uid, first.uid);
        assert!(Some(second.term) > vacancy.term);
    })
    .await;
}

#[tokio::test]
async fn election_without_pods_is_ready_without_a_leader() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        world.election("web").await;
        world.leader("web").await;
        world.delete_pod("web-0").await;
        world.condition("web", "Ready", "False", "NoMatchingPods").await;
        let status = world.status("web").await.expect("a current status");
        assert_eq!((status.leader, status.eligible_candidates, status.candidates), (None, 0, 0));
    })
    .await;
}
