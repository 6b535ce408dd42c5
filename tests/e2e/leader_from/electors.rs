//! Electors of others, as they are: client-go, the components of Kubernetes, controller-runtime, and Podium's own campaigns.

use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::coordination::v1::Lease;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use podium_campaign::{Campaign, CampaignConfig, LeaseLock};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{follow, vacant};
use crate::harness::access::SUPPORTTOOLS;
use crate::harness::sidecar::Sidecar;
use crate::harness::{Scenario, eventually, scenario};

#[tokio::test]
async fn client_go_is_followed_by_name_and_by_uid() {
    scenario(async |world| {
        let _controller = world.controller();
        let [_, second] = world.pods(["web-0", "web-1"]).await;
        follow(world, json!({})).await;
        let one = world.elector("lock", "web-0_5a3e");
        one.leads().await;
        let leader = world.leader_is("web", "web-0").await;
        let other = world.elector("lock", &second.uid().unwrap());
        other.says("ew leader elected", 1).await;
        world.serve_another("other").await;
        assert_eq!(world.leader("web").await, leader, "a candidate is no leader");
        let began = Instant::now();
        one.terminate().await;
        other.leads().await;
        let leads = began.elapsed();
        assert_eq!(world.leader_is("web", "web-1").await.transitions, leader.transitions + 1);
        println!(
            "client-go led {leads:?} after SIGTERM of its predecessor, and its pod was labeled after {:?}",
            began.elapsed()
        );
        other.terminate().await;
        vacant(world, "Lease lock has no holder").await;
    })
    .await;
}

#[tokio::test]
async fn leaders_of_kubernetes_components_are_labeled_by_their_nodes() {
    scenario(async |world| {
        let system = world.elsewhere("kube-system");
        let _controller = system.controller();
        for component in ["kube-controller-manager", "kube-scheduler"] {
            let before = system.api::<Lease>().get(component).await.expect("the component elects on a Lease");
            let holder = before.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).expect("it has a leader");
            let (host, _) = holder.split_once('_').expect("HOSTNAME_UUID");
            // As of a static pod in the host's network, whose host name is that of its node.
            let node = world.node_named(host).await;
            let name = format!("{component}-{}", world.namespace);
            let name = name[..name.len().min(63)].trim_end_matches('-');
            let labels = json!({ "app": name });
            system.pod_on(&node, name, json!({ "labels": labels, "ownerReferences": [world.owner().await] })).await;
            let spec = json!({
                "selector": { "matchLabels": labels },
                "leaderFrom": { "lease": { "name": component, "holder": "NodeName" } },
            });
            system.election_with(name, spec).await;
            system.leader_is(name, name).await;
            let after = system.api::<Lease>().get(component).await.expect("the Lease is there");
            let managers = after.managed_fields().iter().filter_map(|entry| entry.manager.clone());
            let managers: Vec<String> = managers.filter(|manager| manager.contains("podium")).collect();
            assert!(managers.is_empty(), "{managers:?}");
            system.delete_election(name).await;
            system.unlabeled(name).await;
        }
    })
    .await;
}

#[tokio::test]
async fn controller_runtime_is_followed_by_its_own_identity() {
    scenario(async |world| {
        let _controller = world.controller();
        // The name of a pod is the name of its host.
        let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux");
        let host = host.trim();
        world.pod(host, json!({})).await;
        world.pods(["web-1"]).await;
        follow(world, json!({})).await;
        let manager = world.manager(&world.cluster.kubeconfig, "lock", "");
        manager.says("elected", 1).await;
        let leader = world.leader_is("web", host).await;
        let lease = world.api::<Lease>().get("lock").await.expect("the Lease is there");
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        assert!(holder.starts_with(&format!("{host}_")), "{holder}");
        manager.terminate().await;
        vacant(world, "Lease lock has no holder").await;
        let _again = world.manager(&world.cluster.kubeconfig, "lock", "");
        assert!(world.leader_is("web", host).await.term > leader.term);
    })
    .await;
}

#[tokio::test]
async fn campaign_in_rust_is_followed_by_uid() {
    scenario(async |world| {
        let _controller = world.controller();
        let [_, second] = world.pods(["web-0", "web-1"]).await;
        follow(world, json!({})).await;
        let config = Config::from_custom_kubeconfig(world.cluster.kubeconfig.clone(), &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.expect("a usable kubeconfig")).expect("a usable kubeconfig");
        let lock = LeaseLock::new(client, &world.namespace, "lock");
        let campaign = Campaign::new(lock, CampaignConfig::new(second.uid().unwrap())).expect("valid");
        let (stop, stopped) = oneshot::channel::<()>();
        let campaign = tokio::spawn(campaign.run(async { drop(stopped.await) }));
        world.leader_is("web", "web-1").await;
        drop(stop);
        campaign.await.expect("no panic").expect("no Election");
        vacant(world, "Lease lock has no holder").await;
    })
    .await;
}

/// `podium run` in the campaign on the Lease `lock`. Its command keeps a file as long as it runs.
async fn run(world: &Scenario, pod: &str, account: &Kubeconfig) -> (Sidecar, PathBuf) {
    let (directory, number) = world.next_process();
    let file = directory.join(format!("runs-{number}-{pod}"));
    let script =
        format!("trap 'rm {0}; exit 0' TERM; echo $PODIUM_NAME > {0}; while :; do sleep 0.05; done", file.display());
    let call = world.sidecar(pod, account).variable("POD_NAMESPACE", &world.namespace);
    let call = call.arguments(&["run", "--mode=campaign", "--election=lock", "--", "/bin/sh", "-c", &script]);
    (call.start().await, file)
}

#[tokio::test]
async fn command_of_podium_run_runs_in_the_labeled_pod_only() {
    scenario(async |world| {
        let account = world.account_with("pods", &SUPPORTTOOLS).await;
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        follow(world, json!({})).await;
        let (mut first, in_first) = run(world, "web-0", &account).await;
        world.leader_is("web", "web-0").await;
        let (mut second, in_second) = run(world, "web-1", &account).await;
        second.names("web-0").await;
        let runs_only_in = async |file: &PathBuf, other: &PathBuf| {
            eventually("the command runs in the labeled pod only", async || match (file.exists(), other.exists()) {
                (true, false) => Ok(()),
                seen => Err(format!("{seen:?}")),
            })
            .await;
        };
        runs_only_in(&in_first, &in_second).await;

        first.terminate().await;
        world.leader_is("web", "web-1").await;
        runs_only_in(&in_second, &in_first).await;
        let (again, in_again) = run(world, "web-0", &account).await;
        again.names("web-1").await;
        second.kill();
        world.leader_is("web", "web-0").await;
        runs_only_in(&in_again, &in_second).await;
    })
    .await;
}
