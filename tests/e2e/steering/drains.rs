//! Leaders on nodes that drain.

use serde_json::{Value, json};

use crate::harness::label_watch::LabelWatch;
use crate::harness::nodes::TestNode;
use crate::harness::proxy::Proxy;
use crate::harness::{Scenario, eventually, scenario};

/// Taints of a node that drains, beside that of a cordoned one, which Kubernetes sets itself.
const TAINTS: [&str; 4] = [
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "node.cloudprovider.kubernetes.io/shutdown",
    "node.kubernetes.io/out-of-service",
];

fn switchover() -> Value {
    json!({ "whenNodeDrains": "Switchover" })
}

/// Three pods on nodes of their own.
async fn on_three_nodes(world: &Scenario) -> [TestNode; 3] {
    let nodes = [world.node("a").await, world.node("b").await, world.node("c").await];
    for (number, node) in nodes.iter().enumerate() {
        world.pod_on(node, &format!("web-{number}"), json!({})).await;
    }
    nodes
}

/// Waits until Degraded's message has these words.
async fn degraded_with(world: &Scenario, reason: &str, words: &str) -> String {
    eventually(&format!("Degraded's message has {words:?}"), async || {
        let message = world.condition("web", "Degraded", "True", reason).await;
        if message.contains(words) { Ok(message) } else { Err(message) }
    })
    .await
}

#[tokio::test]
async fn leader_on_a_cordoned_node_hands_over_while_it_is_healthy() {
    scenario(async |world| {
        let _controller = world.controller_with(&world.account_with_nodes().await, &[]);
        let labels = LabelWatch::start(world).await;
        let nodes = on_three_nodes(world).await;
        world.election_with("web", switchover()).await;
        world.leader_is("web", "web-0").await;
        nodes[1].cordon(true).await;
        world.next_is("web", Some("web-2")).await;
        nodes[0].cordon(true).await;
        let second = world.leader_is("web", "web-2").await;
        println!("the watch saw no label for {:?}", labels.gap("web-0", "web-2").await);
        assert_eq!((second.transitions, &*world.cause("web").await), (1, "node_draining"));
        world.next_is("web", Some("web-0")).await;

        // With `Ignore`, nothing depends on nodes.
        world.patch_election("web", json!({ "whenNodeDrains": "Ignore" })).await.expect("it may be changed");
        nodes[2].cordon(true).await;
        world.serve_another("other").await;
        assert_eq!(world.leader("web").await, second);
        world.patch_election("web", switchover()).await.expect("it may be changed");
        world.condition("web", "Degraded", "True", "SwitchoverPending").await;
        nodes[0].cordon(false).await;
        world.leader_is("web", "web-0").await;
    })
    .await;
}

#[tokio::test]
async fn each_hard_taint_of_a_drain_moves_the_leader_and_no_soft_one() {
    scenario(async |world| {
        let _controller = world.controller_with(&world.account_with_nodes().await, &[]);
        let nodes = on_three_nodes(world).await;
        // The third pod shows how far the controller has observed the nodes: it is next unless its node drains.
        world.patch_pod("web-2", json!({ "annotations": { "podium.dev/priority": "1" } })).await;
        world.patch_pod("web-0", json!({ "annotations": { "podium.dev/priority": "2" } })).await;
        world.election_with("web", switchover()).await;
        let mut leader = world.leader_is("web", "web-0").await;
        world.next_is("web", Some("web-2")).await;
        let (mut here, mut elsewhere) = (0, 1);
        for taint in TAINTS {
            nodes[here].taint(taint, "PreferNoSchedule").await;
            nodes[here].taint("example.com/drains-not", "NoSchedule").await;
            nodes[2].taint(taint, "NoSchedule").await;
            // The watch delivers the changes of all nodes in order.
            world.next_is("web", Some(&format!("web-{elsewhere}"))).await;
            assert_eq!(world.leader("web").await, leader, "{taint} is soft");
            nodes[here].taint(taint, "NoSchedule").await;
            let next = world.leader_after("web", &leader).await;
            assert_eq!(next.name, format!("web-{elsewhere}"), "{taint}");
            assert_eq!(world.cause("web").await, "node_draining");
            nodes[here].untaint(taint).await;
            nodes[2].untaint(taint).await;
            (here, elsewhere, leader) = (elsewhere, here, next);
            world.patch_pod(&leader.name, json!({ "annotations": { "podium.dev/priority": "2" } })).await;
            world.patch_pod(&format!("web-{elsewhere}"), json!({ "annotations": { "podium.dev/priority": "0" } })).await;
            world.next_is("web", Some("web-2")).await;
        }
    })
    .await;
}

#[tokio::test]
async fn drain_without_an_eligible_pod_elsewhere_is_reported_until_it_ends() {
    scenario(async |world| {
        let _controller = world.controller_with(&world.account_with_nodes().await, &[]);
        let [a, b, c] = on_three_nodes(world).await;
        world.election_with("web", switchover()).await;
        let first = world.leader_is("web", "web-0").await;
        world.set_ready("web-1", false).await;
        world.eligible("web", 2, 3).await;
        c.cordon(true).await;
        world.next_is("web", Some("web-2")).await;
        a.cordon(true).await;
        let message = degraded_with(world, "SwitchoverPending", "waits").await;
        let expected = "The node of leader web-0 drains, and the switchover waits: no other candidate is eligible (the node of web-2 drains, web-1 is not Ready)";
        assert_eq!(message, expected);
        assert_eq!(world.leader("web").await, first, "web-2 would have to hand over, too");
        world.condition("web", "Ready", "True", "LeaderElected").await;
        a.cordon(false).await;
        world.recovered("web").await;
        assert_eq!(world.leader("web").await, first);

        a.cordon(true).await;
        world.condition("web", "Degraded", "True", "SwitchoverPending").await;
        world.set_ready("web-1", true).await;
        world.leader_is("web", "web-1").await;
        world.recovered("web").await;
        // A leader that fails is replaced even by a pod on a node that drains.
        b.cordon(true).await;
        world.set_ready("web-1", false).await;
        world.leader_after("web", &first).await;
    })
    .await;
}

#[tokio::test]
async fn missing_permission_on_nodes_is_reported_and_elections_continue() {
    scenario(async |world| {
        let _controller = world.controller_with(&world.account_without_nodes().await, &[]);
        let [a, _, _] = on_three_nodes(world).await;
        world.election_with("web", switchover()).await;
        let first = world.leader_is("web", "web-0").await;
        let message = degraded_with(world, "RequestDenied", "rbac.watchNodes=true").await;
        assert!(message.starts_with("spec.whenNodeDrains: Switchover has no effect"), "{message}");
        assert!(message.contains("cannot list resource \"nodes\""), "{message}");
        a.cordon(true).await;
        world.serve_another("other").await;
        assert_eq!(world.leader("web").await, first);
        world.set_ready("web-0", false).await;
        let second = world.leader_is("web", "web-1").await;
        world.set_ready("web-0", true).await;
        world.condition("web", "Degraded", "True", "RequestDenied").await;
        // An Election that asks for the other one names that.
        world
            .patch_election("web", json!({ "whenNodeDrains": null, "nodeHeartbeatTimeoutSeconds": 25 }))
            .await
            .expect("valid");
        let message = degraded_with(world, "RequestDenied", "rbac.watchNodeLeases=true").await;
        assert!(message.starts_with("spec.nodeHeartbeatTimeoutSeconds has no effect"), "{message}");
        assert!(message.contains("cannot list resource \"leases\""), "{message}");
        world.permit_node_leases().await;
        world.recovered("web").await;

        world.patch_election("web", switchover()).await.expect("valid");
        degraded_with(world, "RequestDenied", "rbac.watchNodes=true").await;
        world.permit_nodes().await;
        world.recovered("web").await;
        assert_eq!(world.leader("web").await, second);
        // It observes a node that was cordoned before.
        world.patch_pod("web-0", json!({ "annotations": { "podium.dev/priority": "1" } })).await;
        world.next_is("web", Some("web-2")).await;
        a.cordon(false).await;
        world.next_is("web", Some("web-0")).await;
    })
    .await;
}

#[tokio::test]
async fn nodes_are_watched_only_while_an_election_asks() {
    scenario(async |world| {
        let account = world.account_with_nodes().await;
        let proxy = Proxy::to(&account).await;
        let controller = world.controller_with(&proxy.kubeconfig(), &[]);
        let watches = |of: &'static str| proxy.asked(move |asked| asked.path.contains(of)).len();
        let (nodes, leases) = ("/api/v1/nodes", "/namespaces/kube-node-lease/leases");
        let [a, _, _] = on_three_nodes(world).await;
        world.election("web").await;
        world.leader_is("web", "web-0").await;
        a.cordon(true).await;
        world.serve_another("other").await;
        assert_eq!((watches(nodes), watches(leases)), (0, 0));

        world.patch_election("web", switchover()).await.expect("valid");
        let second = world.leader_is("web", "web-1").await;
        assert!(watches(nodes) > 0);
        assert_eq!(watches(leases), 0);
        world
            .patch_election("web", json!({ "whenNodeDrains": "Ignore", "nodeHeartbeatTimeoutSeconds": 25 }))
            .await
            .expect("valid");
        controller.says(&["no Election asks for Nodes any more"]).await;
        eventually("the nodes' Leases are watched", async || match watches(leases) {
            0 => Err("they are not".into()),
            _ => Ok(()),
        })
        .await;
        world.delete_election("web").await;
        controller.says(&["no Election asks for Leases of nodes any more"]).await;
        let before = (watches(nodes), watches(leases));
        proxy.cut();
        world.serve_another("third").await;
        assert_eq!((watches(nodes), watches(leases)), before, "cut connections bring back no watch");
        assert_eq!(second.transitions, 1);
    })
    .await;
}
