//! The installed controllers.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::harness::install::NAMESPACE;
use crate::harness::pods::node;
use crate::harness::{World, eventually, world};

#[tokio::test]
async fn the_charts_own_test_passes() {
    world(async |world| {
        world.install_podium().await;
        let said = world.helm(&["test", "podium", "--namespace", NAMESPACE, "--timeout", "60s"]).await;
        assert!(said.contains("Succeeded"), "{said}");
    })
    .await;
}

#[tokio::test]
async fn controllers_are_on_different_nodes_and_small_at_rest() {
    world(async |world| {
        world.install_podium().await;
        world.all_controllers_ready().await;
        let controllers = world.controllers().await;
        let nodes: Vec<String> = controllers.iter().map(node).collect();
        assert_ne!(nodes[0], nodes[1]);
        for controller in &controllers {
            println!("FIGURE {}: {} MiB resident", controller.name_any(), resident(world, controller).await / 1024);
        }
    })
    .await;
}

#[tokio::test]
async fn a_controller_does_not_run_as_root_and_its_probes_are_answered() {
    world(async |world| {
        world.install_podium().await;
        for controller in world.controllers().await {
            let process = process_of(world, &controller).await;
            let status = in_node(world, &controller, &["cat", &format!("/proc/{process}/status")]).await;
            let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
            assert!(line("Uid:").split_whitespace().all(|id| id == "65532"), "{status}");
            assert!(line("CapEff:").chars().all(|digit| digit == '0'), "{status}");
            assert_eq!(line("NoNewPrivs:"), "1", "{status}");
            let refused =
                world.cluster.try_node(&["enter", &node(&controller), "touch", &format!("/proc/{process}/root/file")]).await;
            assert!(!refused, "its root directory is read-only, for root, too");
        }
    })
    .await;
}

/// Process 1 of the pod's container, by its PID on the node.
async fn process_of(world: &World, pod: &Pod) -> String {
    let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()).expect("a status");
    let container = status[0].container_id.as_deref().expect("a container").trim_start_matches("containerd://").to_owned();
    eventually("the container's process is known", async || {
        let tasks = in_node(world, pod, &["ctr", "tasks", "list"]).await;
        let task = tasks.lines().find(|line| line.starts_with(&container));
        task.and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned).ok_or(tasks.clone())
    })
    .await
}

/// In KiB.
async fn resident(world: &World, pod: &Pod) -> u64 {
    let process = process_of(world, pod).await;
    let status = in_node(world, pod, &["cat", &format!("/proc/{process}/status")]).await;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

async fn in_node(world: &World, pod: &Pod, command: &[&str]) -> String {
    world.cluster.node(&[&["enter", &node(pod)], command].concat()).await
}
