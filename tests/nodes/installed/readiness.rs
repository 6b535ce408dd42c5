//! `podium run` in a Deployment whose probes ask `podium`.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::install::TAG;
use crate::harness::pods::{get, ip};
use crate::harness::{World, eventually, world};

/// The pod template. The command that runs on the leader only is another sidecar, because the image has no other program.
fn template() -> Value {
    let arguments = [
        "run",
        "--election=web",
        "--allow-overlap",
        "--restart",
        "--http=:4040",
        "--ready-url=http://localhost:8080/healthz",
        "--",
        "/podium",
        "sidecar",
        "--election=web",
        "--http=:8080",
    ];
    let probe = |path: &str| json!({ "httpGet": { "path": path, "port": 4040 }, "periodSeconds": 1 });
    json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": {
            "serviceAccountName": "web",
            "containers": [{
                "name": "main", "image": TAG, "args": arguments,
                "readinessProbe": probe("/readyz"), "livenessProbe": probe("/healthz"),
            }],
        },
    })
}

/// Waits until the command runs on this pod, and on no other of three.
async fn runs_on(world: &World, leader: &str) {
    eventually(&format!("the command runs on {leader} only"), async || {
        for pod in world.all_ready("app=web", 3).await {
            let (is_leader, command) = (pod.name_any() == leader, get(&format!("{}:8080", ip(&pod)), "/healthz").await);
            let ready = get(&format!("{}:4040", ip(&pod)), "/readyz").await?;
            let line = if is_leader {
                "leader: the command is ready"
            } else {
                "standby: this pod does not lead, and runs no command"
            };
            if command.is_ok() != is_leader || ready != (200, line.into()) {
                return Err(format!("{}: {command:?} {ready:?}", pod.name_any()));
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn deployment_of_standbys_becomes_ready_and_a_restart_changes_its_leader_once() {
    world(async |world| {
        world.install_podium().await;
        world.create::<ServiceAccount>(json!({ "metadata": { "name": "web" } })).await;
        world.allow_sidecar("web", "web", "follow").await;
        let spec = json!({ "replicas": 3, "selector": { "matchLabels": { "app": "web" } }, "template": template() });
        world.create::<Deployment>(json!({ "metadata": { "name": "web" }, "spec": spec })).await;
        world.all_ready("app=web", 3).await;
        let leads = world.record_leads().await;
        world.elect("web", json!({ "matchLabels": { "app": "web" } })).await;
        let first = leads.leader("somebody", |_| true).await;
        runs_on(world, &first).await;
        let restarted = json!({ "kubectl.kubernetes.io/restartedAt": "2026-11-30T12:00:00Z" });
        let patch = json!({ "spec": { "template": { "metadata": { "annotations": restarted } } } });
        let how = PatchParams::default();
        world.api::<Deployment>().patch("web", &how, &Patch::Merge(patch)).await.expect("it is restarted");
        eventually("the restart is complete", async || {
            let deployment = world.api::<Deployment>().get("web").await.map_err(|error| error.to_string())?;
            let status = deployment.status.unwrap_or_default();
            let counts = [status.updated_replicas, status.replicas, status.ready_replicas];
            let complete = status.observed_generation == deployment.metadata.generation && counts == [Some(3); 3];
            complete.then_some(()).ok_or_else(|| format!("{status:?}"))
        })
        .await;
        let second = leads.leader("a pod of the new revision", |pod| pod != first).await;
        runs_on(world, &second).await;
        let all = leads.all();
        println!("FIGURE restart of a Deployment of standbys: {} changes of the leader", all.len() - 1);
        assert_eq!(all.len(), 2, "{all:?}");
    })
    .await;
}
