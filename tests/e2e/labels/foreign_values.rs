//! Other users of the label key.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{Scenario, eventually, scenario};

#[tokio::test]
async fn pod_with_a_foreign_label_value_is_reported_and_ineligible() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        world.pods(["web-2"]).await;
        world.patch_pod("web-1", json!({ "labels": { "leader": "maybe" } })).await;
        let message = world.condition("web", "Degraded", "True", "LabelConflict").await;
        assert!(message.contains("web-1") && message.contains("leader") && message.contains("remove it"), "{message}");
        world.eligible("web", 2, 3).await;
        world.set_ready("web-0", false).await;
        let second = world.leader_is("web", "web-2").await;
        let other = world.api::<Pod>().get("web-1").await.expect("the pod is there");
        assert_eq!(other.labels()["leader"], "maybe", "it is its user's");
        world.patch_pod("web-1", json!({ "labels": { "leader": null } })).await;
        world.recovered("web").await;
        world.eligible("web", 2, 3).await;
        assert_eq!(world.leader("web").await, second);
        world.set_ready("web-2", false).await;
        world.leader_is("web", "web-1").await;
    })
    .await;
}

#[tokio::test]
async fn leader_with_a_foreign_label_value_is_replaced() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        world.forge_pod("web-0", json!({ "labels": { "leader": "maybe" } })).await;
        world.leader_is("web", "web-1").await;
        let message = world.condition("web", "Degraded", "True", "LabelConflict").await;
        assert!(message.contains("web-0"), "{message}");
        let former = world.api::<Pod>().get("web-0").await.expect("the pod is there");
        assert_eq!(former.labels()["leader"], "maybe");
    })
    .await;
}

#[tokio::test]
async fn label_on_a_non_matching_pod_is_removed_only_if_podium_set_it() {
    scenario(async |world| {
        let _controller = world.controller();
        let leader = world.led().await;
        let labels = |name: &str| json!({ "app": name, "leader": "true" });
        world.forged_pod("db-0", json!({ "labels": labels("db") })).await;
        let claimed = json!({ "labels": labels("cache"), "annotations": { "term.podium.dev/web": "1" } });
        world.forged_pod("cache-0", claimed).await;
        eventually("the claimed pod lost the label", async || {
            let pod = world.api::<Pod>().get("cache-0").await.map_err(|error| error.to_string())?;
            if pod.labels().contains_key("leader") { Err(format!("{:?}", pod.metadata)) } else { Ok(()) }
        })
        .await;
        let fenced = world.api::<Pod>().get("cache-0").await.expect("the pod is there");
        assert_eq!(fenced.annotations()["term.podium.dev/web"], leader.term.to_string());
        let theirs = world.api::<Pod>().get("db-0").await.expect("the pod is there");
        assert_eq!(theirs.labels()["leader"], "true", "somebody else's");
        let lease = world.api::<Lease>().get("web").await.expect("the Lease is there");
        assert_eq!(lease.annotations()["podium.dev/term"], leader.term.to_string());
        // The harness would count it as a second leader.
        world.force_delete_pod("db-0").await;
        assert_eq!(world.leader("web").await, leader);
    })
    .await;
}

/// Changes the labels in the pod template of the Deployment `web`, which replaces all its pods.
async fn set_template_labels(world: &Scenario, labels: Value) {
    let patch = Patch::Merge(json!({ "spec": { "template": { "metadata": { "labels": labels } } } }));
    let deployments = world.api::<Deployment>();
    deployments.patch("web", &PatchParams::default(), &patch).await.expect("the template is changed");
    eventually("the rollout is complete", async || {
        let deployment = deployments.get("web").await.map_err(|error| error.to_string())?;
        let (generation, status) = (deployment.metadata.generation, deployment.status.unwrap_or_default());
        let counts = (status.updated_replicas, status.replicas, status.ready_replicas);
        let complete = status.observed_generation == generation && counts == (Some(3), Some(3), Some(3));
        complete.then_some(()).ok_or_else(|| format!("{status:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_template_with_the_leaders_label_makes_no_leaders() {
    scenario(async |world| {
        world.forged_births();
        let _controller = world.controller();
        let template = json!({ "metadata": { "labels": { "leader": "true" } } });
        world.workload::<Deployment>("web", json!({ "replicas": 3, "template": template })).await;
        eventually("there are three pods", async || {
            let deployment = world.api::<Deployment>().get("web").await.map_err(|error| error.to_string())?;
            let ready = deployment.status.and_then(|status| status.ready_replicas);
            if ready == Some(3) { Ok(()) } else { Err(format!("{ready:?}")) }
        })
        .await;
        world.election("web").await;
        let message = world.condition("web", "Stalled", "True", "LabelConflict").await;
        assert!(message.contains("web-") && message.contains("template"), "{message}");

        set_template_labels(world, json!({ "leader": null })).await;
        let first = world.leader("web").await;
        world.recovered("web").await;

        // With an Election that has a term, a pod created with the label loses it.
        set_template_labels(world, json!({ "leader": "true" })).await;
        let second = world.leader_after("web", &first).await;
        assert_ne!(second.uid, first.uid);
        let labeled = world.api::<Pod>().list(&kube::api::ListParams::default().labels("app=web,leader=true")).await;
        let labeled: Vec<_> = labeled.expect("pods can be listed").iter().map(ResourceExt::name_any).collect();
        assert_eq!(labeled, [second.name]);
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_no_longer_allowed_leaves_leader_and_label_as_they_are() {
    scenario(async |world| {
        let mut controller = world.controller();
        let leader = world.led().await;
        let lease = world.api::<Lease>().get("web").await.expect("the Lease is there");
        controller.kill();
        let mut controller =
            world.controller_with(&world.cluster.controllers, &["--allowed-label-keys", "a.example/leader"]);
        let message = world.condition("web", "Stalled", "True", "LabelKeyNotAllowed").await;
        for words in ["spec.label.key \"leader\"", "--allowed-label-keys", "a.example/leader"] {
            assert!(message.contains(words), "no {words:?} in {message}");
        }
        world.condition("web", "Ready", "True", "LeaderElected").await;
        assert_eq!(world.leader("web").await, leader);

        // The leader is not replaced, and the status is not Ready.
        world.delete_pod("web-0").await;
        world.condition("web", "Ready", "False", "LabelKeyNotAllowed").await;
        let after = world.api::<Lease>().get("web").await.expect("the Lease is there");
        assert_eq!(after.resource_version(), lease.resource_version());

        controller.kill();
        let _controller = world.controller();
        world.leader_is("web", "web-1").await;
        world.recovered("web").await;
    })
    .await;
}
