//! Nodes whose heartbeats stop.
//!
//! A second Election in each test, whose leader's node is lost, shows that the mechanism works and that enough time has passed.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::harness::nodes::{BEAT, Heartbeats};
use crate::harness::{Leader, Scenario, eventually, scenario};

/// The shortest silence that counts, and a time in which even a busy machine notices it. Kubernetes needs 50 s.
const SILENCE: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(24), SignedDuration::from_secs(45));

/// Creates pods labeled `app: <name>` on nodes of their own, whose heartbeats have different phases, and an Election of them.
/// The first pod leads.
async fn led<const N: usize>(world: &Scenario, name: &str, timeout: i64) -> (Leader, [Heartbeats; N]) {
    let mut all = Vec::new();
    for number in 0..N {
        let node = world.node(&format!("{name}-{number}")).await;
        world.pod_on(&node, &format!("{name}-{number}"), json!({ "labels": { "app": name } })).await;
        let phase = BEAT * u32::try_from(number + 1).expect("few") / u32::try_from(N + 1).expect("few");
        all.push(world.heartbeats(&node, phase).await);
    }
    world.election_with(name, fields(name, timeout)).await;
    let leader = world.leader_is(name, &format!("{name}-0")).await;
    (leader, all.try_into().unwrap_or_else(|_| unreachable!("as many as there are nodes")))
}

fn fields(name: &str, timeout: i64) -> Value {
    json!({
        "selector": { "matchLabels": { "app": name } }, "label": { "key": format!("{name}.example.com/leader") },
        "nodeHeartbeatTimeoutSeconds": timeout,
    })
}

/// Waits until the leader has changed. Returns the time since the last heartbeat of its node.
async fn lost(world: &Scenario, name: &str, before: &Leader, last: Timestamp) -> SignedDuration {
    world.leader_after(name, before).await;
    assert_eq!(world.cause(name).await, "node_unreachable");
    let silence = world.began(name).await.duration_since(last);
    println!("{name}: a leader after {silence} of silence");
    silence
}

#[tokio::test]
async fn leader_on_a_silent_node_is_replaced_after_the_timeout() {
    scenario(async |world| {
        let _controller = world.controller_with(&world.account_with_nodes().await, &[]);
        // Below the shortest silence, and above it.
        let (short, short_nodes) = led::<2>(world, "short", 20).await;
        let (long, long_nodes) = led::<3>(world, "web", 25).await;
        let last = (short_nodes[0].stop(), long_nodes[0].stop());
        let silence = (lost(world, "short", &short, last.0).await, lost(world, "web", &long, last.1).await);
        assert!(silence.0 >= SILENCE.0 && silence.0 <= SILENCE.1, "{}", silence.0);
        assert!(silence.1 >= SignedDuration::from_secs(25) && silence.1 <= SILENCE.1, "{}", silence.1);
        let message = reason(world, "web").await;
        assert_eq!(message, "previous leader web-0 is on a node without heartbeats");
        // The pod counts again when its node does.
        world.eligible("web", 2, 3).await;
        long_nodes[0].resume().await;
        world.eligible("web", 3, 3).await;
        assert_eq!(world.leader("web").await.transitions, 1);
    })
    .await;
}

/// The cause of the present term in words.
async fn reason(world: &Scenario, lease: &str) -> String {
    let lease = world.api::<Lease>().get_metadata(lease).await.expect("the Lease is there");
    lease.annotations()["podium.dev/reason"].clone()
}

#[tokio::test]
async fn nodes_that_are_all_silent_move_no_leader_nor_does_their_return() {
    scenario(async |world| {
        let _controller = world.controller_with(&world.account_with_nodes().await, &[]);
        let (control, control_nodes) = led::<2>(world, "control", 24).await;
        let (leader, [a, b, c]) = led::<3>(world, "web", 24).await;
        let last = control_nodes[0].stop();
        for node in [&a, &b, &c] {
            node.stop();
        }
        lost(world, "control", &control, last).await;
        world.eligible("web", 3, 3).await;
        assert_eq!(world.leader("web").await, leader, "an outage of the API server looks the same");
        // One after the other, the leader's node as the last one.
        c.resume().await;
        c.beat(1).await;
        b.resume().await;
        b.beat(1).await;
        assert_eq!(world.leader("web").await, leader);
        a.resume().await;
        a.beat(1).await;
        world.serve_another("other").await;
        assert_eq!(world.leader("web").await, leader);
        world.eligible("web", 3, 3).await;
    })
    .await;
}

#[tokio::test]
async fn paused_controller_replaces_no_leader_when_it_resumes() {
    scenario(async |world| {
        let controller = world.controller_with(&world.account_with_nodes().await, &[]);
        let (leader, [a, b, c]) = led::<3>(world, "web", 20).await;
        controller.signal("STOP");
        // More than the timeout.
        a.beat(4).await;
        controller.signal("CONT");
        world.serve_another("other").await;
        for node in [&a, &b, &c] {
            node.beat(1).await;
        }
        world.serve_another("third").await;
        assert_eq!(world.leader("web").await, leader);
        let last = a.stop();
        let silence = lost(world, "web", &leader, last).await;
        assert!(silence >= SILENCE.0, "{silence}");
    })
    .await;
}

#[tokio::test]
async fn times_in_the_leases_of_nodes_do_not_count() {
    scenario(async |world| {
        let _controller = world.controller_with(&world.account_with_nodes().await, &[]);
        let (control, control_nodes) = led::<2>(world, "control", 24).await;
        let (leader, [a, b, c]) = led::<3>(world, "web", 24).await;
        let years = 10 * 366 * 24 * 60 * 60;
        a.shift(-years);
        b.shift(years);
        // The clock of the lost node was ahead.
        control_nodes[0].shift(years);
        control_nodes[0].beat(1).await;
        let last = control_nodes[0].stop();
        let silence = lost(world, "control", &control, last).await;
        assert!(silence >= SILENCE.0, "{silence}");
        assert_eq!(world.leader("web").await, leader, "its node sends heartbeats from the past");
        // Clocks that jump.
        a.shift(years);
        b.shift(-years);
        c.shift(-years);
        for node in [&a, &b, &c] {
            node.beat(1).await;
        }
        world.serve_another("other").await;
        assert_eq!(world.leader("web").await, leader);
        world.eligible("web", 3, 3).await;
    })
    .await;
}

#[tokio::test]
async fn node_that_misses_every_second_heartbeat_moves_no_leader() {
    scenario(async |world| {
        let _controller = world.controller_with(&world.account_with_nodes().await, &[]);
        let (control, control_nodes) = led::<2>(world, "control", 24).await;
        let (leader, [a, _b, _c]) = led::<3>(world, "web", 24).await;
        let lost_at = control_nodes[0].stop();
        for _ in 0..2 {
            a.beat(1).await;
            let last = a.stop();
            eventually("the heartbeat is late", async || {
                let silence = Timestamp::now().duration_since(last);
                if silence > SignedDuration::from_secs(18) { Ok(()) } else { Err(silence.to_string()) }
            })
            .await;
            a.resume().await;
        }
        let silence = lost(world, "control", &control, lost_at).await;
        assert!(silence >= SILENCE.0, "{silence}");
        assert_eq!(world.leader("web").await, leader);
    })
    .await;
}
