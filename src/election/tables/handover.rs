//! Planned changes of the leader, the order that preferences make, and nodes that drain or are silent.

use super::*;

/// A world in which `a` leads under term 90, and `b` and `c` are eligible.
pub(super) fn led() -> Snapshot {
    world(held_by("a", 90, [])).pods([pod("a").labeled().term(90), pod("b"), pod("c")])
}

/// The condition Degraded: its reason and its message.
pub(super) fn degraded(plan: &Plan) -> Option<(String, String)> {
    let status = &plan.status.as_ref()?.status;
    status.condition(DEGRADED).map(|found| (found.reason.clone(), found.message.clone()))
}

pub(super) fn pending(message: &str) -> Option<(String, String)> {
    Some(("SwitchoverPending".into(), message.into()))
}

/// The message of the condition Ready.
fn ready(plan: &Plan) -> (String, String) {
    let status = &plan.status.as_ref().unwrap().status;
    let found = status.condition("Ready").unwrap();
    (found.status.clone(), found.message.clone())
}

pub(super) fn stays(plan: &Plan) -> bool {
    plan.lease.is_none() && plan.fence.is_empty() && plan.label.is_none()
}

/// The leader that the plan elects, and the cause.
pub(super) fn handed_over(plan: &Plan) -> (&str, Cause) {
    match &plan.lease {
        Some(LeaseWrite::Elect { record, .. }) => (elected(plan).0, record.cause),
        other => panic!("no election but {other:?}: {:?}", degraded(plan)),
    }
}

// ---- Switchover ----

#[test]
fn switchover_elects_another_pod_and_breaks_before_it_makes() {
    let plan = led().switchover("90", None).plan();
    assert_eq!(elected(&plan), ("b", 100, uids(["a-uid"])));
    assert_eq!(writes(&plan.fence), [("a", 100, REMOVE)]);
    assert_eq!(plan.label.as_ref().map(|label| label.pod.name.as_str()), Some("b"));
    let announced = plan.status.as_ref().unwrap().announce.as_ref().unwrap();
    assert_eq!((announced.cause, &*announced.reason), (Cause::Switchover, "a switchover from a was requested"));
    assert_eq!(degraded(&plan), None);
    assert_eq!(handed_over(&led().switchover("90", Some("c")).plan()), ("c", Cause::Switchover));
}

#[test]
fn switchover_acts_once_for_its_term() {
    let (rest, _) = PerfectServer::new().run(led().switchover("90", None));
    let status = &rest.election.status;
    assert_eq!((status.leader.as_deref(), status.leader_transitions), (Some("b"), 5));
    assert!(stays(&rest.plan()), "the annotation is still there, with a lower term");
    for (term, message) in [
        ("89", None),
        ("91", Some("podium.dev/switchover-term 91 is ignored: the term is 90")),
        ("soon", Some("podium.dev/switchover-term \"soon\" is ignored: it is not a term, set it to 90")),
        ("", Some("podium.dev/switchover-term \"\" is ignored: it is not a term, set it to 90")),
    ] {
        let plan = led().switchover(term, Some("b")).plan();
        assert!(stays(&plan) && degraded(&plan).is_none(), "{term}");
        let expected = message.map_or_else(String::new, |message| format!(". Annotation {message}"));
        assert_eq!(ready(&plan), ("True".into(), format!("Pod a is the leader (term 90){expected}")));
    }
}

#[test]
fn message_about_a_long_annotation_is_short() {
    let long = "x".repeat(100_000);
    for plan in [led().switchover(&long, None).plan(), led().switchover("90", Some(&long)).plan()] {
        let conditions = plan.status.unwrap().status.conditions.unwrap();
        assert!(conditions.iter().all(|condition| condition.message.len() < 300));
    }
}

#[test]
fn switchover_to_without_a_term_or_to_the_leader_is_ignored() {
    let plan = led().with(|world| world.election.switchover.to = Some("b".into())).plan();
    assert!(stays(&plan));
    assert!(ready(&plan).1.ends_with("switchover-to is ignored without podium.dev/switchover-term: set that to 90"));
    let plan = led().switchover("90", Some("a")).plan();
    assert!(stays(&plan) && degraded(&plan).is_none());
    assert!(ready(&plan).1.ends_with("podium.dev/switchover-to is ignored: a is the leader"));
}

#[test]
fn switchover_without_an_eligible_target_waits_and_says_why() {
    let unready = |pod: &mut Pod| pod.ready = false;
    let alone = led().switchover("90", None).with(|world| world.pods[1..].iter_mut().for_each(unready));
    let plan = alone.plan();
    assert!(stays(&plan));
    assert_eq!(
        degraded(&plan),
        pending("The switchover from a waits: no other candidate is eligible (b is not Ready, c is not Ready)")
    );
    assert_eq!(ready(&plan), ("True".into(), "Pod a is the leader (term 90)".into()));
    assert_eq!(handed_over(&alone.with(|world| world.pods[2].ready = true).plan()).0, "c");

    let target =
        |change: fn(&mut Pod), to: &'static str| led().switchover("90", Some(to)).with(|world| change(&mut world.pods[2]));
    assert_eq!(degraded(&target(unready, "c").plan()), pending("The switchover to c waits: that pod is not Ready"));
    assert_eq!(
        degraded(&target(unready, "d").plan()),
        pending("The switchover to d waits: no such pod matches spec.selector")
    );
    let suspended = led().switchover("90", None).settings(|settings| settings.suspend = true).plan();
    assert!(stays(&suspended));
    assert_eq!(degraded(&suspended), pending("The switchover from a waits: elections are suspended by spec.suspend"));
    let lone = led().switchover("90", None).with(|world| world.pods.truncate(1)).plan();
    assert_eq!(degraded(&lone), pending("The switchover from a waits: there is no other candidate"));
}

#[test]
fn leader_that_fails_is_replaced_in_any_case_and_ends_the_request() {
    let failed = led().switchover("90", Some("c")).with(|world| {
        world.pods[0].state = PodState::Failed;
        world.pods[2].ready = false;
    });
    assert_eq!(handed_over(&failed.plan()), ("b", Cause::Ended));
    let (rest, _) = PerfectServer::new().run(failed);
    assert!(stays(&rest.with(|world| world.pods[2].ready = true).plan()));
}

#[test]
fn switchover_replaces_a_leader_that_only_the_delay_or_the_policy_keeps() {
    let kept = |change: fn(&mut Settings)| {
        led().settings(change).with(|world| world.pods[0] = world.pods[0].clone().ready_for(false, 5))
    };
    let delayed = kept(|settings| settings.failover_delay = k8s_openapi::jiff::SignedDuration::from_secs(30));
    assert!(stays(&delayed.clone().plan()));
    assert_eq!(handed_over(&delayed.switchover("90", None).plan()), ("b", Cause::Switchover));
}

#[test]
fn switchover_from_a_leader_last_observed_before_its_term_reads_first() {
    let stale = led().switchover("90", None).with(|world| world.pods[0] = pod("a"));
    assert!(matches!(stale.plan().then, Then::Consult(_)));
    assert_eq!(handed_over(&stale.consulted().plan()).0, "b");
}

// ---- Preemption ----

pub(super) fn preempting(delay: i64) -> Snapshot {
    led().settings(|settings| settings.preempt_after = Some(k8s_openapi::jiff::SignedDuration::from_secs(delay)))
}

/// Notes that the pod has outranked the leader for these seconds.
pub(super) fn outranking(world: Snapshot, pod: &str, seconds: i64) -> Snapshot {
    world.with(|world| {
        world.outranking.insert(format!("{pod}-uid").as_str().into(), k8s_openapi::jiff::SignedDuration::from_secs(seconds));
    })
}

#[test]
fn higher_score_preempts_after_the_delay_and_only_where_it_may() {
    let better = |world: Snapshot| world.with(|world| world.pods[2].score = 1);
    assert!(stays(&better(outranking(led(), "c", 999)).plan()), "Never is the default");
    let plan = better(preempting(300)).plan();
    assert!(stays(&plan));
    assert_eq!(plan.then, requeue_after(300), "a controller that starts counts from its first decision");
    assert_eq!(plan.outranking.as_ref().map(|outranking| outranking.pods.clone()), Some(uids(["c-uid"])));
    let plan = better(outranking(preempting(300), "c", 299)).plan();
    assert_eq!((stays(&plan), plan.then), (true, requeue_after(1)));
    let plan = better(outranking(preempting(300), "c", 300)).plan();
    assert_eq!(handed_over(&plan), ("c", Cause::Preempted));
    assert_eq!(plan.status.unwrap().announce.unwrap().reason, "c has a higher score (1) than a (0)");
}

#[test]
fn preemption_counts_anew_after_an_interruption() {
    let better = |world: Snapshot| world.with(|world| world.pods[2].score = 1);
    let flapped = better(outranking(preempting(300), "c", 300))
        .with(|world| world.pods[2] = world.pods[2].clone().ready_for(true, 20));
    let plan = flapped.plan();
    assert_eq!((stays(&plan), plan.then), (true, requeue_after(280)), "it was not Ready 20 s ago, between two decisions");
    let other = better(outranking(preempting(300), "b", 300)).plan();
    assert_eq!((stays(&other), other.then), (true, requeue_after(300)), "the delay belongs to one pod");
    let unready = better(outranking(preempting(300), "c", 100)).with(|world| world.pods[2].ready = false).plan();
    assert_eq!(unready.outranking.map(|outranking| outranking.pods), Some(uids([])));
}

#[test]
fn better_pod_that_flaps_does_not_hold_off_a_steady_one() {
    let world = outranking(outranking(preempting(300), "b", 300), "c", 10);
    let plan = world.with(|world| (world.pods[1].score, world.pods[2].score) = (1, 2)).plan();
    assert_eq!(handed_over(&plan).0, "b");
}

#[test]
fn tie_break_and_revision_preempt_nobody() {
    let world = outranking(preempting(1), "c", 999).with(|world| {
        world.pods[0] = world.pods[0].clone().made_from("web", "old", 100);
        world.pods[2] = pod("c").made_from("web", "new", 200).with(|pod| pod.transitioned = Some(at(1)));
    });
    assert!(stays(&world.plan()));
}

// ---- Spread ----

#[test]
fn spread_leaders_over_the_pods_and_moves_only_those_of_a_pod_that_goes() {
    let pods: [Pod; 5] = ["p0", "p1", "p2", "p3", "p4"].map(pod);
    let leader = |election: usize, without: Option<&str>| {
        let pods = pods.iter().filter(|pod| Some(&*pod.id.name) != without).cloned();
        let world = world(held_by("", 90, [])).settings(|settings| settings.spread = true).with(|world| {
            world.pods = pods.collect();
            world.election.uid = format!("8c1b6f5e-0000-4000-8000-{election:012}").as_str().into();
            world.lease.as_mut().unwrap().incarnation = Some(world.election.uid.clone());
        });
        elected(&world.plan()).0.to_owned()
    };
    let all: Vec<String> = (0..100).map(|election| leader(election, None)).collect();
    for pod in &pods {
        let leads = all.iter().filter(|leader| **leader == pod.id.name).count();
        assert!((5..=35).contains(&leads), "{} leads {leads}", pod.id.name);
    }
    for (election, before) in all.iter().enumerate() {
        let after = leader(election, Some("p2"));
        assert_eq!(after == *before, before != "p2", "{before} to {after}");
    }
}

// ---- Draining nodes ----

pub(super) fn draining(names: &[&str]) -> Snapshot {
    led().settings(|settings| settings.leave_draining_nodes = true).with(|world| {
        world.pods.iter_mut().for_each(|pod| pod.is_draining = names.contains(&&*pod.id.name));
    })
}

#[test]
fn leader_on_a_draining_node_hands_over_to_a_pod_elsewhere() {
    assert!(stays(&draining(&["b", "c"]).plan()));
    let plan = draining(&["a", "b"]).plan();
    assert_eq!(handed_over(&plan), ("c", Cause::NodeDraining));
    assert_eq!(plan.status.unwrap().announce.unwrap().reason, "the node of a drains");
    let everywhere = draining(&["a", "b", "c"]).plan();
    assert!(stays(&everywhere));
    let expected = "The node of leader a drains, and the switchover waits: no other candidate is eligible (the node of b drains, the node of c drains)";
    assert_eq!(degraded(&everywhere), pending(expected));
}

#[test]
fn switchover_to_a_draining_node_waits_unless_the_leader_drains_too() {
    let asked = |names| draining(names).switchover("90", Some("b"));
    assert!(stays(&asked(&["b"]).plan()));
    assert_eq!(degraded(&asked(&["b"]).plan()), pending("The switchover to b waits: the node of that pod drains"));
    assert_eq!(handed_over(&asked(&["a", "b", "c"]).plan()).0, "b");
    let any = draining(&["b", "c"]).switchover("90", None).plan();
    let expected = "no other candidate is eligible (the node of b drains, the node of c drains)";
    assert_eq!(degraded(&any), pending(&format!("The switchover from a waits: {expected}")));
}

#[test]
fn candidates_on_draining_nodes_come_last() {
    let vacant = draining(&["b"]).with(|world| {
        world.lease.as_mut().unwrap().content = held_by("", 90, []);
        world.pods.remove(0);
    });
    assert_eq!(elected(&vacant.clone().with(|world| world.pods[0].score = 1).plan()).0, "c");
    assert_eq!(elected(&vacant.with(|world| world.pods.truncate(1)).plan()).0, "b");
    let better = outranking(draining(&["b"]), "b", 999)
        .settings(|settings| settings.preempt_after = Some(k8s_openapi::jiff::SignedDuration::ZERO))
        .with(|world| world.pods[1].score = 1);
    assert!(stays(&better.plan()), "a pod that had to leave again preempts nobody");
}

// ---- Silent nodes ----

/// Each pod is on a node of its own: the seconds of its silence, and since when it renews.
pub(super) fn nodes(all: [(i64, Option<i64>); 3]) -> Snapshot {
    led().settings(|settings| settings.node_timeout = Some(k8s_openapi::jiff::SignedDuration::from_secs(25))).with(|world| {
        for (pod, (silent, renewing)) in world.pods.iter_mut().zip(all) {
            *pod = pod.clone().on(&format!("node-{}", pod.id.name), silent, renewing);
        }
    })
}

#[test]
fn leader_on_a_silent_node_is_replaced_while_another_node_renews() {
    let plan = nodes([(25, None), (3, Some(25)), (30, None)]).plan();
    assert_eq!(handed_over(&plan), ("b", Cause::NodeUnreachable));
    assert_eq!(plan.status.unwrap().announce.unwrap().reason, "previous leader a is on a node without heartbeats");
    for (all, then, why) in [
        ([(24, None), (3, Some(600)), (3, Some(600))], requeue_after(1), "not long enough"),
        ([(60, None), (61, None), (62, None)], Then::AwaitChange, "all are silent: an outage of the API server"),
        ([(60, None), (1, Some(1)), (61, None)], requeue_after(24), "the first one renews after the outage"),
        ([(9, Some(600)), (60, None), (60, None)], Then::AwaitChange, "the leader's node renews"),
    ] {
        let plan = nodes(all).plan();
        assert_eq!((stays(&plan), plan.then), (true, then), "{why}");
    }
}

#[test]
fn only_an_eligible_candidate_on_another_node_is_evidence() {
    let unready = nodes([(90, None), (3, Some(600)), (90, None)]).with(|world| world.pods[1].ready = false);
    assert!(stays(&unready.plan()));
    let together = nodes([(90, None), (90, None), (90, None)]).with(|world| {
        world.pods[1] = pod("b").on("node-a", 3, Some(600));
    });
    assert!(stays(&together.plan()));
    let unknown = nodes([(90, None), (3, Some(600)), (90, None)]).with(|world| world.pods[0].node = None);
    assert!(stays(&unknown.plan()), "a node that is not observed is not silent");
}

#[test]
fn one_missed_heartbeat_is_no_silence() {
    let shortest = nodes([(23, None), (3, Some(600)), (3, Some(600))])
        .settings(|settings| settings.node_timeout = Some(k8s_openapi::jiff::SignedDuration::from_secs(20)));
    assert_eq!(shortest.plan().then, requeue_after(1));
    assert_eq!(
        handed_over(&shortest.with(|world| world.pods[0] = world.pods[0].clone().on("node-a", 24, None)).plan()).0,
        "b"
    );
}

#[test]
fn nodes_that_may_not_be_observed_degrade_the_election() {
    let plan = led().with(|world| world.unobserved = Some("no permission".into())).plan();
    assert!(stays(&plan));
    assert_eq!(degraded(&plan), Some(("RequestDenied".into(), "no permission".into())));
    assert_eq!(ready(&plan).0, "True");
}
