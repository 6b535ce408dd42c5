//! Which pod the Lease names, and what makes that pod lead or not.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;

use super::lock::{HOUR, Lock};
use super::{announced, follow, ready_says, vacant};
use crate::harness::label_watch::LabelWatch;
use crate::harness::scenario;

#[tokio::test]
async fn leader_is_the_pod_that_the_lease_names() {
    scenario(async |world| {
        let _controller = world.controller();
        let labels = LabelWatch::start(world).await;
        let [_, second] = world.pods(["web-0", "web-1"]).await;
        let lock = Lock::held_by(world, "web-1_5a3e-41", HOUR).await;
        follow(world, json!({})).await;
        let mut leader = world.leader_is("web", "web-1").await;
        announced(world, &format!("Pod web-1 became leader (term {}): initial election", leader.term)).await;
        for (identity, pod) in [("web-0", "web-0"), (&*second.uid().unwrap(), "web-1"), ("web-0_5a3e-42", "web-0")] {
            lock.hold(identity).await;
            let next = world.leader_after("web", &leader).await;
            assert_eq!((&*next.name, next.transitions), (pod, leader.transitions + 1), "{identity}");
            assert_eq!(world.cause("web").await, "holder_changed");
            announced(world, &format!("Pod {pod} became leader (term {}): Lease lock names {pod}", next.term)).await;
            leader = next;
        }
        println!("the watch saw no label for {:?}", labels.gap("web-1", "web-0").await);
        let lease = lock.hold("web-0_another-process").await;
        world.serve_another("other").await;
        assert_eq!(world.leader("web").await, leader, "another process in the same pod");
        lock.assert_unchanged_since(&lease).await;
        assert_eq!(world.status("web").await.unwrap().next_leader, None);
    })
    .await;
}

#[tokio::test]
async fn lease_that_names_a_node_makes_the_pod_on_it_leader() {
    scenario(async |world| {
        let _controller = world.controller();
        let (a, b) = (world.node("a").await, world.node("b").await);
        world.pod_on(&a, "web-0", json!({})).await;
        world.pod_on(&b, "web-1", json!({})).await;
        let lock = Lock::held_by(world, &format!("{}_5a3e", b.name), HOUR).await;
        follow(world, json!({ "leaderFrom": { "lease": { "name": "lock", "holder": "NodeName" } } })).await;
        world.leader_is("web", "web-1").await;
        lock.hold(&a.name).await;
        world.leader_is("web", "web-0").await;

        world.pod_on(&a, "web-2", json!({})).await;
        vacant(world, &format!("Lease lock is held by {:?}, which names several pods: web-0, web-2", a.name)).await;
        assert_eq!(world.cause("web").await, "holder_changed");
        world.force_delete_pod("web-2").await;
        world.leader_is("web", "web-0").await;
        lock.hold("web-1_5a3e").await;
        let hint = "the name of a pod: create the Election with spec.leaderFrom.lease.holder: PodName";
        vacant(world, &format!("Lease lock is held by \"web-1_5a3e\", {hint}")).await;
    })
    .await;
}

#[tokio::test]
async fn identity_that_names_no_pod_is_a_vacancy_until_such_a_pod_arrives() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        let lock = Lock::held_by(world, "web-0", HOUR).await;
        follow(world, json!({})).await;
        let first = world.leader_is("web", "web-0").await;
        let node = world.api::<Pod>().get("web-0").await.unwrap().spec.unwrap().node_name.unwrap();
        lock.hold(&node).await;
        let hint = "the name of a pod's node: create the Election with spec.leaderFrom.lease.holder: NodeName";
        vacant(world, &format!("Lease lock is held by {node:?}, {hint}")).await;
        lock.hold("web-1_5a3e").await;
        let would = "which names no matching pod: of web-0 it would be \"web-0\", \"web-0_…\" or its UID";
        vacant(world, &format!("Lease lock is held by \"web-1_5a3e\", {would}")).await;
        world.pod("web-1", json!({ "labels": { "app": "other" } })).await;
        world.serve_another("another").await;
        vacant(world, &format!("Lease lock is held by \"web-1_5a3e\", {would}")).await;
        world.patch_pod("web-1", json!({ "labels": { "app": "web" } })).await;
        let second = world.leader_is("web", "web-1").await;
        assert!(second.term > first.term);
    })
    .await;
}

#[tokio::test]
async fn named_pod_keeps_the_label_while_it_is_not_ready_or_terminates() {
    scenario(async |world| {
        let _controller = world.controller();
        let lock = Lock::held_by(world, "web-0", HOUR).await;
        // It leads from the start, also before it is Ready.
        world.pod("web-0", json!({ "finalizers": ["e2e.example/work"] })).await;
        world.pod("web-1", json!({})).await;
        world.set_ready("web-0", false).await;
        follow(world, json!({ "minReadySeconds": 3600 })).await;
        let leader = world.leader_is("web", "web-0").await;
        for ready in [true, false] {
            world.set_ready("web-0", ready).await;
            world.serve_another(&format!("ready-{ready}")).await;
            assert_eq!(world.leader("web").await, leader, "Ready: {ready}");
            world.condition("web", "Ready", "True", "LeaderElected").await;
        }
        world.delete_pod("web-0").await;
        world.serve_another("terminating").await;
        assert!(world.api::<Pod>().get("web-0").await.unwrap().metadata.deletion_timestamp.is_some());
        assert_eq!(world.leader("web").await, leader, "the elector decides when it stops");
        world.condition("web", "Ready", "True", "LeaderElected").await;

        world.patch_pod("web-0", json!({ "finalizers": null })).await;
        world.vacancy("web").await;
        assert_eq!(world.cause("web").await, "gone");
        lock.hold("web-1").await;
        world.leader_is("web", "web-1").await;
    })
    .await;
}

#[tokio::test]
async fn named_pod_that_failed_or_opted_out_does_not_lead() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        let lock = Lock::held_by(world, "web-0", HOUR).await;
        follow(world, json!({ "whenNoneEligible": "Retain" })).await;
        world.leader_is("web", "web-0").await;
        world.patch_pod("web-0", json!({ "annotations": { "podium.dev/candidate": "false" } })).await;
        let unnamed = "web-1 is not named by the Lease of spec.leaderFrom";
        vacant(world, &format!("No candidate is eligible: web-0 has podium.dev/candidate: \"false\", {unnamed}")).await;
        assert_eq!(world.cause("web").await, "opted_out");
        world.patch_pod("web-0", json!({ "annotations": { "podium.dev/candidate": null } })).await;
        world.leader_is("web", "web-0").await;
        world.evict("web-0").await;
        vacant(world, &format!("No candidate is eligible: web-0 failed, {unnamed}")).await;
        assert_eq!(world.cause("web").await, "ended");
        lock.hold("web-1").await;
        world.leader_is("web", "web-1").await;
    })
    .await;
}

#[tokio::test]
async fn recreated_pod_leads_if_the_lease_has_its_name() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        let _lock = Lock::held_by(world, "web-0_5a3e", HOUR).await;
        follow(world, json!({})).await;
        let first = world.leader_is("web", "web-0").await;
        world.force_delete_pod("web-0").await;
        let gone = "which names no matching pod: of web-1 it would be \"web-1\", \"web-1_…\" or its UID";
        vacant(world, &format!("Lease lock is held by \"web-0_5a3e\", {gone}")).await;
        world.pods(["web-0"]).await;
        let again = world.leader_is("web", "web-0").await;
        assert!(again.term > first.term && again.uid != first.uid, "{first:?} {again:?}");
        assert_eq!(ready_says(world, &format!("Pod web-0 is the leader (term {})", again.term)).await, "LeaderElected");
    })
    .await;
}

#[tokio::test]
async fn recreated_pod_does_not_lead_if_the_lease_has_a_uid() {
    scenario(async |world| {
        let _controller = world.controller();
        let [first, _] = world.pods(["web-0", "web-1"]).await;
        let uid = first.uid().unwrap();
        let lock = Lock::held_by(world, &uid, HOUR).await;
        follow(world, json!({})).await;
        world.leader_is("web", "web-0").await;
        world.force_delete_pod("web-0").await;
        world.vacancy("web").await;
        assert_eq!(world.cause("web").await, "gone");
        let [again] = world.pods(["web-0"]).await;
        world.eligible("web", 0, 2).await;
        world.serve_another("other").await;
        let would = "which names no matching pod: of web-0 it would be \"web-0\", \"web-0_…\" or its UID";
        vacant(world, &format!("Lease lock is held by {uid:?}, {would}")).await;
        lock.hold(&again.uid().unwrap()).await;
        world.leader_is("web", "web-0").await;
    })
    .await;
}
