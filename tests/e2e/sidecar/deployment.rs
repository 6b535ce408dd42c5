//! `podium run` in a Deployment with readiness probes, with Kubernetes' own workload controllers.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::failover::rollouts::next_second;
use crate::harness::nodes::BEAT;
use crate::harness::{Scenario, eventually, scenario};
use crate::sidecar::follow::{FOLLOW, account};

/// Changes the Deployment, and waits until this many pods of its newest revision are Ready, and no others are left.
async fn change(world: &Scenario, spec: Value, replicas: i32) {
    let deployments = world.api::<Deployment>();
    let patch = Patch::Merge(json!({ "spec": spec }));
    deployments.patch("web", &PatchParams::default(), &patch).await.expect("the Deployment is patched");
    eventually(&format!("{replicas} pods are Ready"), async || {
        let deployment = deployments.get("web").await.map_err(|error| error.to_string())?;
        let status = deployment.status.unwrap_or_default();
        let counts = [status.updated_replicas, status.replicas, status.ready_replicas];
        let complete = status.observed_generation == deployment.metadata.generation && counts == [Some(replicas); 3];
        complete.then_some(()).ok_or_else(|| format!("{status:?}"))
    })
    .await;
    world.eligible("web", replicas, replicas).await;
}

#[tokio::test]
async fn restart_of_a_deployment_changes_the_leader_once_and_scaling_does_not() {
    scenario(async |world| {
        let account = account(world, FOLLOW).await;
        let node = world.node("a").await;
        let _beats = world.heartbeats(&node, BEAT).await;
        let (directory, _) = world.next_process();
        let ready = format!("'{}/ready-'$PODIUM_NAME", directory.display());
        let command = format!("trap 'exit 0' TERM; sleep 1; : > {ready}; while :; do sleep 0.05; done");
        let check = format!("--ready-command=test -e {ready}");
        let run = |pod: &str| {
            let arguments = ["run", "--election=web", "--allow-overlap", "--restart", "--ready-interval=100ms", &check];
            let call = world.sidecar(pod, &account).variable("POD_NAMESPACE", &world.namespace).arguments(&arguments);
            call.arguments(&["--", "/bin/sh", "-c", &command])
        };
        let test = async {
            let _controller = world.controller();
            let pod = json!({ "nodeName": node.name, "terminationGracePeriodSeconds": 30 });
            world.workload::<Deployment>("web", json!({ "replicas": 3, "template": { "spec": pod } })).await;
            world.election_with("web", json!({ "leaderDeletionCost": 100 })).await;
            change(world, json!({ "replicas": 3 }), 3).await;
            let first = world.leader("web").await;

            change(world, json!({ "replicas": 4 }), 4).await;
            assert_eq!(world.leader("web").await, first, "a Deployment that grows keeps its leader");

            next_second(world).await;
            let restarted = json!({ "kubectl.kubernetes.io/restartedAt": "2026-11-30T12:00:00Z" });
            change(world, json!({ "template": { "metadata": { "annotations": restarted } } }), 4).await;
            let second = world.leader("web").await;
            println!("FIGURE restart of a Deployment with probes: {} changes", second.transitions - first.transitions);
            assert_eq!(second.transitions, first.transitions + 1);
            eventually("the new leader's command is ready", async || {
                let ready = directory.join(format!("ready-{}", second.name));
                if ready.exists() { Ok(()) } else { Err("it is not".into()) }
            })
            .await;

            change(world, json!({ "replicas": 2 }), 2).await;
            assert_eq!(world.leader("web").await, second, "a Deployment that shrinks keeps its leader");
        };
        tokio::select! {
            never = world.run_pods(run) => match never {},
            () = test => {}
        }
    })
    .await;
}
