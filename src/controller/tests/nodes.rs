//! Nodes from the watches to the plan, in virtual time: which ones drain, and heartbeats that stop, pause or return.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::core::PartialObjectMeta;
use tokio::time::advance;

use super::*;
use crate::controller::key::Key;
use crate::controller::observe::nodes::{NodeObject, NodeWatch};
use crate::election::decide;
use crate::election::plan::LeaseWrite;

/// Interval of heartbeats in milliseconds: the longest one of a kubelet.
const BEAT: u64 = 10_400;

/// Caches in which `a` leads, and `b` and `c` are eligible, each on a node of its own: `node-a` and so on.
fn led(spec: fn(&mut Value)) -> World {
    let on_node = |name: &str, revision| {
        pod(name, revision, |object| {
            ready(object);
            object["spec"] = json!({ "nodeName": format!("node-{name}") });
            object["metadata"]["annotations"] = json!({ names::claim("web"): "20" });
            if name == "a" {
                object["metadata"]["labels"]["leader"] = "true".into();
            }
        })
    };
    let web = election("web", 10, |object| spec(&mut object["spec"]));
    let mut world = world([web, on_node("a", 11), on_node("b", 12), on_node("c", 13), lease("web", 50, "a", 20)]);
    world.nodes.ask(&key("web"), NodeWatch::ALL);
    world
}

/// The pod that the next decision elects, if the leader changes.
fn elects(world: &World) -> Option<String> {
    let (snapshot, _) = world.snapshot(&key("web"), Consulted::default()).unwrap();
    let plan = decide(&snapshot, Timestamp::from_second(1_800_000_000).unwrap());
    match plan.lease {
        Some(LeaseWrite::Elect { record, .. }) => Some(record.holder.map_or_else(String::new, |holder| holder.name)),
        _ => None,
    }
}

fn of(names: &[&str]) -> BTreeSet<Key> {
    names.iter().map(|name| key(name)).collect()
}

// ---- Draining nodes ----

#[test]
fn nodes_are_in_doubt_only_for_an_election_that_asks_and_until_they_are_listed() {
    let mut world = led(|_| ());
    world.nodes.doubt(&key("db"));
    assert!(!world.nodes.take_doubt());
    world.nodes.doubt(&key("web"));
    assert!(world.nodes.take_doubt());
    assert!(!world.nodes.take_doubt());
    world.nodes.ask(&key("web"), [NodeWatch::Heartbeats]);
    world.nodes.doubt(&key("web"));
    assert!(!world.nodes.take_doubt(), "heartbeats are no reason for a list of nodes");
}

fn node(name: &str, spec: &Value) -> NodeObject {
    serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap()
}

/// Applies the event as the controller does. Returns the affected Elections.
fn observe(world: &mut World, event: Event<NodeObject>) -> BTreeSet<Key> {
    let changed = world.nodes.node(event);
    world.on_nodes(NodeWatch::Drains, |node| changed.contains(node))
}

fn leaves_draining_nodes() -> World {
    led(|spec| spec["whenNodeDrains"] = "Switchover".into())
}

#[tokio::test(start_paused = true)]
async fn node_drains_while_it_is_cordoned_or_has_a_hard_taint_of_a_drain() {
    let taint = |key: &str, effect: &str| json!({ "taints": [{ "key": "other", "effect": "NoExecute" }, { "key": key, "effect": effect }] });
    let mut drains = vec![json!({ "unschedulable": true })];
    let mut not = vec![json!({}), json!({ "unschedulable": false }), taint("node.kubernetes.io/not-ready", "NoExecute")];
    for key in names::DRAIN_TAINTS {
        drains.extend([taint(key, "NoSchedule"), taint(key, "NoExecute")]);
        not.push(taint(key, "PreferNoSchedule"));
    }
    for spec in drains {
        let mut world = leaves_draining_nodes();
        assert_eq!(observe(&mut world, Event::Apply(node("node-a", &spec))), of(&["web"]), "{spec}");
        assert_eq!(elects(&world).as_deref(), Some("b"), "{spec}");
        assert_eq!(observe(&mut world, Event::Apply(node("node-a", &spec))), of(&[]), "no change");
        assert_eq!(observe(&mut world, Event::Apply(node("node-a", &json!({})))), of(&["web"]), "{spec}");
        assert_eq!(elects(&world), None, "{spec}");
    }
    for spec in not {
        let mut world = leaves_draining_nodes();
        assert_eq!(observe(&mut world, Event::Apply(node("node-a", &spec))), of(&[]), "{spec}");
        assert_eq!(elects(&world), None, "{spec}");
    }
    let mut world = led(|_| ());
    observe(&mut world, Event::Apply(node("node-a", &json!({ "unschedulable": true }))));
    assert_eq!(elects(&world), None, "Ignore is the default");
}

#[tokio::test(start_paused = true)]
async fn list_and_deletion_of_nodes_end_drains() {
    let cordoned = json!({ "unschedulable": true });
    let mut world = leaves_draining_nodes();
    assert_eq!(observe(&mut world, Event::Apply(node("elsewhere", &cordoned))), of(&[]), "no pod is there");
    for name in ["node-b", "node-c"] {
        observe(&mut world, Event::Apply(node(name, &cordoned)));
    }
    // A list counts once it is complete.
    observe(&mut world, Event::Init);
    observe(&mut world, Event::InitApply(node("node-a", &cordoned)));
    observe(&mut world, Event::InitApply(node("node-b", &cordoned)));
    assert_eq!(elects(&world), None);
    assert_eq!(observe(&mut world, Event::InitDone), of(&["web"]));
    assert_eq!(elects(&world).as_deref(), Some("c"), "its node is not in the list, or drains no more");
    assert_eq!(observe(&mut world, Event::Delete(node("node-a", &cordoned))), of(&["web"]));
    assert_eq!(elects(&world), None);
}

// ---- Heartbeats ----

fn with_timeout(seconds: i64) -> World {
    let mut world = led(|spec| spec["nodeHeartbeatTimeoutSeconds"] = 25.into());
    let spec = |object: &mut Value| object["spec"]["nodeHeartbeatTimeoutSeconds"] = seconds.into();
    apply(&mut world, election("web", 14, spec));
    world
}

fn node_lease(name: &str, version: u64) -> PartialObjectMeta<Lease> {
    let metadata = json!({ "name": format!("node-{name}"), "resourceVersion": version.to_string() });
    serde_json::from_value(json!({ "metadata": metadata })).unwrap()
}

fn beat(world: &mut World, name: &str, version: u64) {
    world.nodes.heartbeat(Event::Apply(node_lease(name, version)), Instant::now());
}

fn list(world: &mut World, leases: &[(&str, u64)]) {
    let now = Instant::now();
    world.nodes.heartbeat(Event::Init, now);
    for (name, version) in leases {
        world.nodes.heartbeat(Event::InitApply(node_lease(name, *version)), now);
    }
    world.nodes.heartbeat(Event::InitDone, now);
}

async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn silence_counts_from_the_last_new_version_of_the_lease() {
    let mut world = with_timeout(25);
    list(&mut world, &[("a", 1), ("b", 2)]);
    for round in 0..3 {
        pass(10).await;
        beat(&mut world, "b", 10 + round);
        // Neither an event without a new version nor a list of the same one is a heartbeat.
        beat(&mut world, "a", 1);
        list(&mut world, &[("a", 1), ("b", 10 + round)]);
        assert_eq!(elects(&world).is_some(), round == 2, "after {} s", 10 * (round + 1));
    }
    assert_eq!(elects(&world).as_deref(), Some("b"), "no Lease of node-c is observed, which is no evidence");
    assert_eq!(world.nodes.silent(Instant::now()), ["node-a"].into());
    beat(&mut world, "a", 20);
    assert_eq!(elects(&world), None);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_return_one_by_one_after_a_common_silence_move_nobody() {
    let mut world = with_timeout(25);
    list(&mut world, &[("a", 1), ("b", 2), ("c", 3)]);
    pass(10).await;
    for (name, version) in [("a", 11), ("b", 12), ("c", 13)] {
        beat(&mut world, name, version);
    }
    for _ in 0..60 {
        pass(1).await;
        assert_eq!(elects(&world), None, "all are silent");
    }
    assert!(world.nodes.silent(Instant::now()).is_empty());
    beat(&mut world, "c", 23);
    for second in 0..10 {
        pass(1).await;
        assert_eq!(elects(&world), None, "{second} s after the first one");
    }
    beat(&mut world, "c", 33);
    beat(&mut world, "b", 32);
    pass(9).await;
    beat(&mut world, "a", 31);
    for round in 4..8 {
        pass(10).await;
        for (number, name) in (1..).zip(["c", "b", "a"]) {
            beat(&mut world, name, 10 * round + number);
            assert_eq!(elects(&world), None);
        }
    }
    // The leader's node does not return: the others must have renewed for the timeout.
    let mut world = with_timeout(25);
    list(&mut world, &[("a", 1), ("b", 2)]);
    pass(90).await;
    for round in 0..3 {
        beat(&mut world, "b", 10 + round);
        assert_eq!(elects(&world), None, "{} s after the return", 10 * round);
        pass(10).await;
    }
    beat(&mut world, "b", 20);
    assert_eq!(elects(&world).as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn list_after_an_interrupted_watch_proves_no_renewals_within_the_interruption() {
    let mut world = with_timeout(25);
    list(&mut world, &[("a", 1), ("b", 2), ("c", 3)]);
    pass(10).await;
    for (name, version) in [("a", 11), ("b", 12), ("c", 13)] {
        beat(&mut world, name, version);
    }
    pass(40).await;
    // The Lease of node-c was deleted.
    list(&mut world, &[("b", 22), ("a", 11)]);
    assert_eq!(elects(&world), None);
    assert_eq!(world.nodes.silent(Instant::now()), ["node-a"].into());
    for round in 3..5 {
        pass(10).await;
        beat(&mut world, "b", 10 * round);
        assert_eq!(elects(&world), None, "{round}");
    }
    pass(5).await;
    assert_eq!(elects(&world).as_deref(), Some("b"), "25 s after the list");
    world.nodes.heartbeat(Event::Delete(node_lease("a", 11)), Instant::now());
    assert_eq!(elects(&world), None, "a node without a Lease is not observed");
}

#[tokio::test(start_paused = true)]
async fn demand_ends_with_the_last_election_that_asks() {
    let mut world = with_timeout(25);
    let asking = |world: &World, watch| world.nodes.asking(watch).cloned().collect::<BTreeSet<_>>();
    world.nodes.ask(&key("web"), [NodeWatch::Heartbeats]);
    world.nodes.ask(&key("db"), NodeWatch::ALL);
    assert_eq!(asking(&world, NodeWatch::Heartbeats), of(&["db", "web"]));
    assert_eq!(asking(&world, NodeWatch::Drains), of(&["db"]));
    world.nodes.forget(&key("db"));
    assert_eq!(asking(&world, NodeWatch::Drains), of(&[]));
    world.nodes.ask(&key("web"), []);
    assert_eq!(asking(&world, NodeWatch::Heartbeats), of(&[]));
    list(&mut world, &[("a", 1), ("b", 2)]);
    assert!(world.nodes.set_problem(NodeWatch::Heartbeats, Some("denied".into())));
    assert!(!world.nodes.set_problem(NodeWatch::Heartbeats, Some("denied".into())));
    world.nodes.clear(NodeWatch::Heartbeats);
    assert_eq!(world.nodes.problem(NodeWatch::Heartbeats), None);
    pass(90).await;
    beat(&mut world, "b", 3);
    assert!(world.nodes.silent(Instant::now()).is_empty(), "what was observed before is forgotten");
}

/// What interrupts the heartbeats of all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The watch delivers nothing, or the controller is paused. Then everything arrives in order.
    Stall,
    /// Renewals fail at once. A node tries again as the kubelet does: after 0.2 s, then after twice as long, at most after 7 s.
    Refused,
    /// Renewals succeed when it ends, that of the leader's node as the last one.
    Hang,
}

/// Runs the heartbeats of three nodes through a fault. At its begin, each node's last heartbeat was `ages` ago. Returns when the
/// leader changed, in milliseconds.
async fn false_alarm(timeout: i64, fault: Fault, lasts: u64, ages: [u64; 3]) -> Option<u64> {
    let names = ["a", "b", "c"];
    let mut world = with_timeout(timeout);
    let begins = 4 * BEAT;
    let ends = begins + lasts;
    let mut due = ages.map(|age| begins - age - 3 * BEAT);
    let mut pauses = [200; 3];
    let mut held = Vec::new();
    let mut version = 100;
    list(&mut world, &[("a", 1), ("b", 2), ("c", 3)]);
    let mut now = 0;
    while now < ends + 4 * BEAT {
        let next = due.iter().copied().min().unwrap().min((now / 1_000 + 1) * 1_000);
        let next = if now < ends { next.min(ends) } else { next };
        advance(Duration::from_millis(next - now)).await;
        now = next;
        let interrupted = (begins..ends).contains(&now);
        if now == ends {
            for (name, version) in std::mem::take(&mut held) {
                beat(&mut world, name, version);
                if elects(&world).is_some() {
                    return Some(now);
                }
            }
        }
        for (number, name) in names.into_iter().enumerate().filter(|(number, _)| due[*number] <= now).collect::<Vec<_>>() {
            due[number] = now + BEAT;
            version += 1;
            match fault {
                Fault::Stall if interrupted => held.push((name, version)),
                Fault::Refused if interrupted => {
                    due[number] = now + pauses[number];
                    pauses[number] = (2 * pauses[number]).min(7_000);
                }
                Fault::Hang if interrupted => due[number] = ends + 200 * (3 - u64::try_from(number).unwrap()),
                _ => beat(&mut world, name, version),
            }
            if elects(&world).is_some() {
                return Some(now);
            }
        }
        if elects(&world).is_some() {
            return Some(now);
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn fault_that_affects_all_nodes_moves_no_leader_however_long_it_lasts() {
    for fault in [Fault::Stall, Fault::Refused, Fault::Hang] {
        for timeout in [20, 23, 25] {
            for lasts in [500, 10_300, 11_500, 13_500, 16_000, 61_000] {
                // The worst case is that the last heartbeat of the leader's node is the oldest one.
                for others in [[100, 5_000], [1_500, 10_200]] {
                    let alarm = false_alarm(timeout, fault, lasts, [10_300, others[0], others[1]]).await;
                    assert_eq!(alarm, None, "{fault:?} for {lasts} ms, timeout {timeout} s, {others:?}");
                }
            }
        }
    }
}
