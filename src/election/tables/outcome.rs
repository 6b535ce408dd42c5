//! Status, Events, vacancies, and Elections that stall.

use super::*;

// ---- Rule 9: the status ----

#[test]
fn rule_9_the_status_never_goes_back_to_a_lower_term() {
    let newer = |world: &mut Snapshot| world.election.status.term = Some(100);
    let world = world(held_by("b", 90, [])).pods([pod("b").labeled().term(90)]).with(newer);
    let plan = world.plan();
    assert_eq!(plan.status, None);
    assert!(matches!(plan.then, Then::Consult(_)));
    let forged = world.clone().with(|world| world.election.status.term = Some(999)).consulted().plan();
    assert_eq!(forged.status.expect("a forged status is repaired").status.term, Some(90));
    let restored = world.consulted().plan();
    assert_eq!(elected(&restored), ("b", 100, uids([])), "a term that may have existed is followed by a higher one");
}

#[test]
fn rule_9_a_change_of_leader_is_announced_with_the_first_status_that_reports_it() {
    let plan = world(held_by("a", 90, [])).pods([pod("b")]).consulted().plan();
    let status = plan.status.unwrap();
    assert_eq!(status.status.leader.as_deref(), Some("b"));
    assert_eq!(status.status.leader_uid.as_deref(), Some("b-uid"));
    assert_eq!((status.status.term, status.status.leader_transitions), (Some(100), 5));
    let announced = status.announce.unwrap();
    assert_eq!((announced.to.as_deref(), announced.term), (Some("b"), term(100)));
    assert_eq!((announced.cause, announced.reason.as_str()), (Cause::Gone, "previous leader a is gone"));
}

#[test]
fn only_a_status_write_that_changes_counts_may_wait() {
    let leader = pod("b").labeled().term(90);
    let (rest, _) = PerfectServer::new().run(world(held_by("b", 90, [])).pods([leader, pod("c")]));
    let fewer = rest.clone().with(|world| world.pods[1].ready = false).plan().status.unwrap();
    assert!(fewer.can_wait && fewer.announce.is_none());
    let stalled = rest.with(|world| world.pods[1].label = Some("foreign".into())).plan().status.unwrap();
    assert!(!stalled.can_wait);
}

// ---- Rule 10: no eligible pod ----

#[test]
fn rule_10_without_an_eligible_pod_the_holder_is_deposed_under_a_new_term() {
    let unready = pod("a").labeled().term(90).with(|pod| pod.ready = false);
    let plan = world(held_by("a", 90, [])).pods([unready]).plan();
    assert_eq!(elected(&plan), ("", 100, uids(["a-uid"])));
    assert_eq!((writes(&plan.fence), plan.label), (vec![("a", 100, REMOVE)], None));
    let status = plan.status.unwrap().status;
    assert_eq!((status.leader.as_deref(), status.term, status.leader_transitions), (None, Some(100), 4));
    let ready = status.condition("Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "NoEligibleCandidate"));
    assert_eq!(ready.message, "No candidate is eligible: a is not Ready");
}

#[test]
fn vacancy_begins_no_further_term() {
    let plan = world(held_by("", 90, [])).pods([pod("a").term(90).with(|pod| pod.ready = false)]).plan();
    assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None));
}

#[test]
fn an_election_without_pods_is_not_ready() {
    let status = world(held_by("", 90, [])).plan().status.unwrap().status;
    let ready = status.condition("Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "NoMatchingPods"));
    assert_eq!((status.eligible_candidates, status.candidates), (0, 0));
}

#[test]
fn next_leader_is_the_pod_that_is_elected_when_the_leader_is_gone() {
    let pods = || [pod("a").labeled().term(90), pod("b").with(|pod| pod.score = 1), pod("c").with(|pod| pod.score = 2)];
    let next = |world: &Snapshot| world.plan().status.unwrap().status.next_leader;
    let led = world(held_by("a", 90, [])).pods(pods());
    assert_eq!(next(&led).as_deref(), Some("c"));
    let gone = led.clone().with(|world| drop(world.pods.remove(0))).consulted().plan();
    assert_eq!(elected(&gone).0, "c");
    let suspended = led.clone().with(|world| world.election.settings.as_mut().unwrap().suspend = true);
    assert_eq!(next(&suspended), None, "a suspended Election elects no other");
    let alone = led.with(|world| world.pods.truncate(1));
    assert_eq!(next(&alone), None);
    assert_eq!(next(&world(held_by("", 90, [])).pods([pod("a").term(90).with(|pod| pod.ready = false)])), None);
}

// ---- Degraded and Stalled ----

#[test]
fn conflict_stalls_before_the_first_term_and_on_all_pods_and_degrades_otherwise() {
    let foreign = |name: &str| pod(name).term(80).with(|pod| pod.label = Some("foreign".into()));
    let theirs = |name: &str| pod(name).term(80).with(|pod| pod.rival = Some("db".into()));
    let conditions = |world: Snapshot| {
        let status = world.plan().status.unwrap().status;
        let is = |kind| status.is(kind, Reason::LabelConflict) || status.is(kind, Reason::OverlappingElections);
        (is(DEGRADED), is(STALLED))
    };
    let leader = || pod("a").labeled().term(90);
    assert_eq!(conditions(world(held_by("a", 90, [])).pods([leader(), foreign("b")])), (true, false));
    assert_eq!(conditions(world(held_by("a", 90, [])).pods([leader(), theirs("b")])), (true, false));
    assert_eq!(conditions(world(held_by("", 90, [])).pods([foreign("a"), theirs("b")])), (false, true), "all pods");
    let first = |pods: [Pod; 2]| world(Content::Blank).pods(pods).consulted();
    assert_eq!(conditions(first([foreign("a").unclaimed(), pod("b").unclaimed()])), (false, true), "the first term");
    assert_eq!(conditions(first([theirs("a").unclaimed(), pod("b").with(|pod| pod.ready = false)])), (false, true));
}

#[test]
fn a_condition_that_does_not_hold_is_absent() {
    let status = world(held_by("a", 90, [])).pods([pod("a").labeled().term(90)]).plan().status.unwrap().status;
    let kinds: Vec<_> = status.conditions.iter().flatten().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(kinds, ["Ready"]);
}

#[test]
fn first_leader_after_a_status_without_a_term_counts_no_transition() {
    let counted = |world: &mut Snapshot| {
        world.lease.as_mut().unwrap().transitions = None;
        world.election.status.leader_transitions = 0;
    };
    let plan = world(Content::Blank).pods([pod("a")]).with(counted).consulted().plan();
    assert_eq!(plan.status.unwrap().status.leader_transitions, 0);
}

// ---- Elections that stall ----

#[test]
fn foreign_lease_is_left_alone() {
    let base = || world(Content::Damaged("it has a holder but no term")).pods([pod("a")]);
    let foreign = base().with(|world| {
        let lease = world.lease.as_mut().unwrap();
        (lease.owner, lease.incarnation, lease.holder_identity) = (None, None, Some("somebody".into()));
    });
    let (reason, message) = stalled(&foreign);
    assert_eq!(reason, "LeaseConflict");
    assert!(message.contains("somebody") && message.contains("spec.leaseName"), "{message}");
    let other = base().with(|world| world.lease.as_mut().unwrap().owner = Some("db".into()));
    assert!(stalled(&other).1.contains("Election db"));
}

#[test]
fn label_in_use_before_the_first_term_stalls_the_election() {
    for value in ["true", "false"] {
        let used = pod("a").unclaimed().with(|pod| pod.label = Some(value.into()));
        let (reason, message) = stalled(&world(Content::Blank).pods([used, pod("b")]).consulted());
        assert_eq!(reason, "LabelConflict");
        assert!(message.contains("on a ") && message.contains("spec.label.key"), "{message}");
    }
}

#[test]
fn followers_value_in_a_pod_template_does_not_count_as_a_label_in_use() {
    let follower = |name: &str| pod(name).unclaimed().with(|pod| pod.label = Some("false".into()));
    let world = world(Content::Blank).pods([follower("a"), follower("b")]).with(|world| {
        world.election.settings.as_mut().unwrap().label.follower_value = Some("false".into());
    });
    let (rest, _) = PerfectServer::new().run(world);
    let labels: Vec<_> = rest.pods.iter().map(|pod| pod.label.as_deref()).collect();
    assert_eq!(labels, [Some("true"), Some("false")]);
}

// ---- Ready: only after confirmation ----

fn readiness(plan: Plan) -> (String, String) {
    let status = plan.status.unwrap().status;
    let ready = status.condition("Ready").unwrap();
    (ready.status.clone(), ready.reason.clone())
}

#[test]
fn a_holder_that_cannot_be_labeled_is_elected_and_not_ready() {
    // Observed after the read from the server, so the term is not known to be forged yet.
    let late = pod("a").term(999);
    let plan = world(Content::Blank).pods([late]).with(|world| world.read_after = Some(revision(100))).plan();
    assert_eq!((elected(&plan).0, readiness(plan.clone())), ("a", ("False".into(), "LeaderNotActive".into())));
    let suspended = |world: &mut Snapshot| world.election.settings.as_mut().unwrap().suspend = true;
    let left = pod("a").term(90).with(|pod| pod.matches = false);
    let plan = world(held_by("a", 90, [])).pods([left]).with(suspended).plan();
    assert_eq!((plan.label.as_ref(), readiness(plan.clone())), (None, ("False".into(), "LeaderNotActive".into())));
}

#[test]
fn stalled_election_is_ready_only_while_its_leader_is_observed_labeled_under_its_term() {
    let of = |leader: Pod, content: Content| {
        let world = world(content).pods([leader]).with(|world| {
            world.election.settings.as_mut().unwrap().lease_name = "web".into();
            world.lease.as_mut().unwrap().owner = Some("db".into());
            (world.election.status.leader, world.election.status.leader_uid) = (Some("a".into()), Some("a-uid".into()));
            world.election.status.term = Some(90);
        });
        readiness(world.plan()).0
    };
    assert_eq!(of(pod("a").labeled().term(90), Content::Blank), "True");
    assert_eq!(of(pod("a").term(90), Content::Blank), "False");
    assert_eq!(of(pod("a").labeled().term(80), Content::Blank), "False");
    assert_eq!(of(pod("a").labeled().term(90).with(|pod| pod.state = PodState::Terminating), Content::Blank), "False");
    assert_eq!(of(pod("a").labeled().term(90), held_by("b", 95, ["a-uid"])), "False", "the Lease names another leader");
}

// ---- A contested label ----

#[test]
fn a_contested_label_is_restored_at_most_once_in_ten_seconds_and_the_status_says_so() {
    let contested = |seconds: i64| {
        let repaired_ago = k8s_openapi::jiff::SignedDuration::from_secs(seconds);
        move |world: &mut Snapshot| world.contest = Some(Contest { repaired_ago })
    };
    let stripped = || world(held_by("b", 90, [])).pods([pod("b").term(90), pod("c").labeled().term(90)]);
    let plan = stripped().plan();
    assert!(plan.fence[0].is_repair && plan.label.is_some_and(|label| label.is_repair));
    let plan = stripped().with(contested(4)).plan();
    assert_eq!((plan.fence.len(), plan.label.as_ref()), (0, None));
    assert_eq!(plan.then, requeue_after(6));
    let status = plan.status.as_ref().unwrap().status.clone();
    assert_eq!(status.condition(DEGRADED).unwrap().reason, "LabelContested");
    assert_eq!(readiness(plan), ("False".into(), "LeaderNotActive".into()));
    let plan = stripped().with(contested(10)).plan();
    assert_eq!((plan.fence.len(), plan.label.is_some(), plan.then), (1, true, requeue_after(50)));
    // Fencing a former leader and labeling a new one do not wait.
    let plan = world(held_by("b", 90, ["c-uid"])).pods([pod("b").term(80), pod("c").labeled().term(80)]);
    let plan = plan.with(contested(0)).plan();
    assert_eq!((plan.fence.len(), plan.label.is_some()), (1, true));
}

#[test]
fn unusable_spec_is_reported_and_keeps_the_leader() {
    let problem = Problem { reason: Reason::InvalidSelector, message: "spec.selector is empty".into() };
    let world = world(held_by("a", 90, [])).pods([pod("a").labeled().term(90)]).with(|world| {
        world.election.settings = Err(problem);
        world.election.status.leader = Some("a".into());
    });
    assert_eq!(stalled(&world), ("InvalidSelector".into(), "spec.selector is empty".into()));
    assert_eq!(world.plan().status.unwrap().status.leader.as_deref(), Some("a"));
}

#[test]
fn too_many_matching_pods_stall_the_election() {
    let many = world(Content::Blank).with(|world| {
        world.pods = (0..=crate::election::decide::MOST_PODS).map(|number| pod(&format!("p{number}"))).collect();
    });
    assert_eq!(stalled(&many).0, "TooManyPods");
}
