//! The initial election.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use serde_json::json;

use crate::harness::scenario;
use crate::harness::workloads::{last_write, transition};

#[tokio::test]
async fn one_of_the_ready_pods_is_elected() {
    scenario(async |world| {
        let _controller = world.controller();
        let [pod, ..] = world.pods(["web-0", "web-1", "web-2"]).await;
        world.election("web").await;
        let leader = world.leader("web").await;
        assert_eq!((leader.name.as_str(), Some(leader.uid)), ("web-0", pod.uid()), "the longest Ready, then the name");
        assert_eq!(leader.transitions, 0);
        let status = world.status("web").await.expect("a current status");
        assert_eq!((status.lease_name.as_deref(), status.candidates), (Some("web"), 3));
    })
    .await;
}

#[tokio::test]
async fn an_election_older_than_its_pods_elects_the_first_that_comes() {
    scenario(async |world| {
        let _controller = world.controller();
        world.election("web").await;
        world.condition("web", "Ready", "False", "NoMatchingPods").await;
        world.pods(["web-0"]).await;
        world.leader_is("web", "web-0").await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_leads_only_after_it_has_been_ready_for_min_ready_seconds() {
    scenario(async |world| {
        let _controller = world.controller();
        world.election_with("web", json!({ "minReadySeconds": 3 })).await;
        let pod = world.pod("web-0", json!({})).await;
        let leader = world.leader("web").await;
        // Both times have a resolution of one second, by the server and the kubelet.
        let elected = last_write(&world.api::<Lease>().get("web").await.expect("the Lease is there"));
        let labeled = last_write(&world.api::<Pod>().get(&leader.name).await.expect("the pod is there"));
        let due = transition(&pod, "Ready") + SignedDuration::from_secs(3);
        assert!(elected >= due && labeled >= due, "due {due}, elected {elected}, labeled {labeled}");
    })
    .await;
}

#[tokio::test]
async fn the_higher_priority_is_elected_first_and_never_preempts_a_leader() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        world.pod("web-1", json!({ "annotations": { "podium.dev/priority": "10" } })).await;
        world.election("web").await;
        let first = world.leader_is("web", "web-1").await;
        world.pod("web-2", json!({ "annotations": { "podium.dev/priority": "100" } })).await;
        world.eligible("web", 3, 3).await;
        assert_eq!(world.leader("web").await, first);
        world.delete_pod("web-1").await;
        world.leader_is("web", "web-2").await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_opts_out_does_not_lead_and_a_leader_that_does_is_replaced() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pod("web-0", json!({ "annotations": { "podium.dev/candidate": "false" } })).await;
        world.pods(["web-1", "web-2"]).await;
        world.election("web").await;
        world.leader_is("web", "web-1").await;
        world.patch_pod("web-1", json!({ "annotations": { "podium.dev/candidate": "false" } })).await;
        world.leader_is("web", "web-2").await;
        world.patch_pod("web-0", json!({ "annotations": { "podium.dev/candidate": null } })).await;
        world.eligible("web", 2, 3).await;
        world.leader_is("web", "web-2").await;
    })
    .await;
}

#[tokio::test]
async fn the_leader_carries_the_label_that_the_election_asks_for() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        world
            .election_with("web", json!({ "label": { "key": "a.example/leader", "value": "yes" }, "leaseName": "lock" }))
            .await;
        let leader = world.leader("web").await;
        let pod = world.api::<Pod>().get(&leader.name).await.expect("the pod is there");
        assert_eq!(pod.labels().get("a.example/leader").map(String::as_str), Some("yes"));
        assert_eq!(pod.labels().get("leader"), None);
        assert_eq!(world.status("web").await.expect("a current status").lease_name.as_deref(), Some("lock"));
    })
    .await;
}

#[tokio::test]
async fn elections_with_different_keys_share_pods_without_mixing_their_terms() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        for (name, key) in [("a", "a.example/leader"), ("b", "b.example/leader"), ("plain", "leader")] {
            world.election_with(name, json!({ "label": { "key": key } })).await;
        }
        let (a, b, plain) = (world.leader("a").await, world.leader("b").await, world.leader("plain").await);
        world.api::<Lease>().delete("a", &<_>::default()).await.expect("the Lease is deleted");
        world.leader_after("a", &a).await;
        assert_eq!((world.leader("b").await, world.leader("plain").await), (b, plain), "the others go on undisturbed");
        world.delete_pod("web-0").await;
        let (a, b, plain) = (
            world.leader_is("a", "web-1").await,
            world.leader_is("b", "web-1").await,
            world.leader_is("plain", "web-1").await,
        );
        assert!(a.term != b.term && b.term != plain.term && a.term != plain.term, "{a:?} {b:?} {plain:?}");
    })
    .await;
}

#[tokio::test]
async fn older_of_two_elections_with_one_key_wins_and_the_younger_reports_it() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        world.election("older").await;
        let leader = world.leader("older").await;
        world.election("younger").await;
        let message = world.condition("younger", "Stalled", "True", "OverlappingElections").await;
        assert!(message.contains("older") && message.contains("spec.selector"), "{message}");
        assert_eq!(world.leader("older").await, leader);
    })
    .await;
}

#[tokio::test]
async fn forbidden_label_key_stalls_only_its_election() {
    scenario(async |world| {
        let _controller =
            world.controller_with(&world.cluster.kubeconfig, &["--allowed-label-keys", "leader,role.example/primary"]);
        world.pods(["web-0"]).await;
        world.election_with("a", json!({ "label": { "key": "app" } })).await;
        world.election_with("b", json!({ "label": { "key": "role.example/primary" } })).await;
        let message = world.condition("a", "Stalled", "True", "LabelKeyNotAllowed").await;
        assert!(message.contains("spec.label.key") && message.contains("--allowed-label-keys"), "{message}");
        world.leader("b").await;
    })
    .await;
}

#[tokio::test]
async fn foreign_lease_is_left_alone_until_it_is_gone() {
    scenario(async |world| {
        let lease =
            json!({ "metadata": { "name": "web" }, "spec": { "holderIdentity": "somebody", "leaseDurationSeconds": 15 } });
        let lease = serde_json::from_value(lease).expect("a Lease");
        let theirs = world.api::<Lease>().create(&<_>::default(), &lease).await.expect("the Lease is created");
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        world.election("web").await;
        let message = world.condition("web", "Stalled", "True", "LeaseConflict").await;
        assert!(message.contains("somebody") && message.contains("spec.leaseName"), "{message}");
        let now = world.api::<Lease>().get("web").await.expect("the Lease is there");
        assert_eq!(now.resource_version(), theirs.resource_version());
        world.api::<Lease>().delete("web", &<_>::default()).await.expect("the Lease is deleted");
        world.leader("web").await;
    })
    .await;
}
