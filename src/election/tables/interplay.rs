//! Two controls at once: which one decides.

use k8s_openapi::jiff::SignedDuration;

use super::handover::{degraded, draining, handed_over, led, nodes, outranking, pending, preempting, stays};
use super::*;

/// The leader `a` is not Ready for 5 s.
fn unready(world: Snapshot) -> Snapshot {
    world.with(|world| world.pods[0] = world.pods[0].clone().ready_for(false, 5))
}

fn delayed(world: Snapshot) -> Snapshot {
    world.settings(|settings| settings.failover_delay = SignedDuration::from_secs(30))
}

// ---- A requested switchover, and another control ----

#[test]
fn switchover_without_a_target_takes_the_first_in_the_order() {
    let preferred = led().switchover("90", None).with(|world| world.pods[2].score = 1);
    assert_eq!(handed_over(&preferred.plan()).0, "c");
    let named = led().switchover("90", Some("b")).with(|world| world.pods[2].score = 1);
    assert_eq!(handed_over(&named.plan()).0, "b");
}

#[test]
fn switchover_precedes_a_drain_and_a_preemption() {
    let all = outranking(draining(&["a"]), "b", 300).settings(|settings| {
        settings.preempt_after = Some(SignedDuration::from_secs(300));
    });
    let all = all.with(|world| world.pods[1].score = 1);
    assert_eq!(handed_over(&all.clone().switchover("90", Some("c")).plan()), ("c", Cause::Switchover));
    assert_eq!(handed_over(&all.clone().plan()), ("b", Cause::NodeDraining));
    assert_eq!(
        handed_over(&all.settings(|settings| settings.leave_draining_nodes = false).with(clear_drains).plan()).1,
        Cause::Preempted
    );
}

/// No node drains, or the Election does not ask.
fn clear_drains(world: &mut Snapshot) {
    world.pods.iter_mut().for_each(|pod| pod.is_draining = false);
}

#[test]
fn switchover_that_waits_holds_off_neither_a_drain_nor_a_preemption() {
    let waits = |world: Snapshot| world.switchover("90", Some("c")).with(|world| world.pods[2].ready = false);
    assert_eq!(handed_over(&waits(draining(&["a"])).plan()), ("b", Cause::NodeDraining));
    let preempted = waits(outranking(preempting(300), "b", 300)).with(|world| world.pods[1].score = 1);
    assert_eq!(handed_over(&preempted.plan()), ("b", Cause::Preempted));
}

#[test]
fn switchover_to_a_pod_on_a_silent_node_waits() {
    let plan = nodes([(3, Some(600)), (3, Some(600)), (25, None)]).switchover("90", Some("c")).plan();
    assert!(stays(&plan));
    assert_eq!(degraded(&plan), pending("The switchover to c waits: that pod is on a node without heartbeats"));
}

// ---- Draining nodes, and another control ----

#[test]
fn drain_replaces_a_leader_that_only_the_delay_keeps() {
    assert!(stays(&delayed(unready(led())).plan()));
    assert_eq!(handed_over(&delayed(unready(draining(&["a"]))).plan()), ("b", Cause::NodeDraining));
}

#[test]
fn drain_moves_a_leader_to_a_lower_score() {
    let preferred = draining(&["a"]).with(|world| world.pods[0].score = 100);
    assert_eq!(handed_over(&preferred.plan()), ("b", Cause::NodeDraining));
}

#[test]
fn silence_counts_before_a_drain() {
    let lost = nodes([(25, None), (3, Some(600)), (3, Some(600))]).with(|world| {
        world.election.settings.as_mut().unwrap().leave_draining_nodes = true;
        (world.pods[0].is_draining, world.pods[1].is_draining) = (true, true);
    });
    assert_eq!(handed_over(&lost.clone().plan()), ("c", Cause::NodeUnreachable), "a node that does not drain comes first");
    let draining = lost.with(|world| world.pods.truncate(2));
    assert_eq!(handed_over(&draining.plan()), ("b", Cause::NodeUnreachable), "better than an unreachable one");
}

// ---- Silent nodes, and another control ----

#[test]
fn leader_on_a_silent_node_is_replaced_in_spite_of_the_delay_and_retain() {
    let lost = delayed(nodes([(25, None), (3, Some(600)), (30, None)])).settings(|settings| settings.retain = true);
    let lost = lost.with(|world| world.pods[0] = world.pods[0].clone().ready_for(true, 5));
    assert_eq!(handed_over(&lost.clone().plan()), ("b", Cause::NodeUnreachable));
    assert!(stays(&lost.with(|world| world.pods[1].ready = false).plan()), "no eligible candidate is elsewhere");
}

#[test]
fn pod_on_a_silent_node_preempts_nobody() {
    let silent = outranking(nodes([(3, Some(600)), (3, Some(600)), (25, None)]), "c", 999)
        .settings(|settings| settings.preempt_after = Some(SignedDuration::ZERO))
        .with(|world| world.pods[2].score = 1);
    assert!(stays(&silent.plan()));
}

// ---- Preemption and the tie-break, and another control ----

#[test]
fn former_leader_with_the_higher_score_returns_after_the_delay() {
    let (switched, _) =
        PerfectServer::new().run(preempting(300).switchover("90", None).with(|world| world.pods[0].score = 1));
    assert_eq!(switched.election.status.leader.as_deref(), Some("b"));
    let plan = switched.plan();
    assert_eq!((stays(&plan), plan.then), (true, requeue_after(300)));
    assert_eq!(handed_over(&outranking(switched, "a", 300).plan()), ("a", Cause::Preempted));
}

#[test]
fn suspended_election_plans_no_change() {
    let suspended = |world: Snapshot| world.settings(|settings| settings.suspend = true).plan();
    let plan = suspended(draining(&["a"]));
    assert!(stays(&plan));
    assert_eq!(
        degraded(&plan),
        pending("The node of leader a drains, and the switchover waits: elections are suspended by spec.suspend")
    );
    let plan = suspended(outranking(preempting(300), "c", 300).with(|world| world.pods[2].score = 1));
    assert_eq!((stays(&plan), plan.then), (true, Then::AwaitChange));
    let plan = suspended(nodes([(25, None), (3, Some(600)), (3, Some(600))]));
    assert!(stays(&plan));
}

#[test]
fn spread_decides_only_among_pods_of_one_score_and_revision() {
    let vacant = |world: &mut Snapshot| {
        world.lease.as_mut().unwrap().content = held_by("", 90, []);
        world.pods.remove(0);
    };
    let spread = led().settings(|settings| settings.spread = true).with(vacant);
    let first = elected(&spread.plan()).0.to_owned();
    let change = |change: fn(&mut Pod)| {
        let worse = |world: &mut Snapshot| world.pods.iter_mut().filter(|pod| pod.id.name == first).for_each(change);
        elected(&spread.clone().with(worse).plan()).0.to_owned()
    };
    assert_ne!(change(|pod| pod.score = -1), first);
    assert_ne!(change(|pod| pod.is_draining = true), first);
    let outdated = spread.clone().with(|world| {
        for pod in &mut world.pods {
            let (hash, created) = if pod.id.name == first { ("old", 100) } else { ("new", 200) };
            *pod = pod.clone().made_from("web", hash, created);
        }
    });
    assert_ne!(elected(&outdated.plan()).0, first);
}
