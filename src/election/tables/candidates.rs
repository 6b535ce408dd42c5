//! The eligibility of pods, their order, and the fields that keep a leader.

use super::*;

// ---- Candidates and their order ----

#[test]
fn ineligible_leader_is_replaced_at_once_with_the_cause() {
    type Change = fn(&mut Pod);
    let cases: [(Change, Cause, &str); 9] = [
        (|pod| pod.state = PodState::Terminating, Cause::Terminating, "is terminating"),
        (|pod| pod.state = PodState::Failed, Cause::Ended, "failed"),
        (|pod| pod.state = PodState::Succeeded, Cause::Ended, "has completed"),
        (|pod| pod.state = PodState::Pending, Cause::NotRunning, "is not running"),
        (|pod| pod.ready = false, Cause::NotReady, "is not Ready"),
        (|pod| pod.opted_out = true, Cause::OptedOut, "has podium.dev/candidate: \"false\""),
        (|pod| pod.matches = false, Cause::NotSelected, "does not match spec.selector"),
        (|pod| pod.rival = Some("db".into()), Cause::Overlap, "belongs to Election db"),
        (|pod| pod.label = Some("x".into()), Cause::LabelConflict, "carries the label with the foreign value \"x\""),
    ];
    for (change, cause, why) in cases {
        let leader = pod("a").labeled().term(90).with(change);
        let plan = world(held_by("a", 90, [])).pods([leader, pod("b")]).plan();
        assert_eq!(elected(&plan).0, "b", "{why}");
        let Some(LeaseWrite::Elect { record, .. }) = plan.lease else { unreachable!() };
        assert_eq!((record.cause, record.reason), (cause, format!("previous leader a {why}")));
    }
}

#[test]
fn ineligible_pod_is_not_elected_although_it_ranks_first() {
    // All of them are Ready and have the highest score.
    let changes: [fn(&mut Pod); 5] = [
        |pod| pod.state = PodState::Terminating,
        |pod| pod.state = PodState::Failed,
        |pod| pod.state = PodState::Succeeded,
        |pod| pod.state = PodState::Pending,
        |pod| pod.opted_out = true,
    ];
    let first = || pod("a").with(|pod| pod.score = 9);
    assert_eq!(winner([first(), pod("b")]), "a");
    for change in changes {
        assert_eq!(winner([first().with(change), pod("b")]), "b");
        let alone = world(held_by("", 90, [])).pods([first().with(change)]).plan();
        assert_eq!((alone.lease, alone.label), (None, None));
    }
}

fn winner<const N: usize>(pods: [Pod; N]) -> String {
    elected(&world(held_by("", 90, [])).pods(pods).plan()).0.to_owned()
}

#[test]
fn the_order_is_score_then_newest_revision_then_longest_ready_then_name() {
    let old = |name: &str| pod(name).made_from("web", "old", 100);
    let new = |name: &str| pod(name).made_from("web", "new", 200);
    assert_eq!(winner([pod("b"), pod("a")]), "a");
    assert_eq!(winner([pod("a"), pod("b").with(|pod| pod.transitioned = Some(at(599)))]), "b");
    assert_eq!(winner([old("a").with(|pod| pod.transitioned = Some(at(1))), new("b")]), "b");
    assert_eq!(winner([new("a"), old("b").with(|pod| pod.score = 1)]), "b");
    assert_eq!(winner([pod("a").with(|pod| pod.score = -1), pod("b")]), "b");
}

#[test]
fn revisions_of_different_workloads_are_not_compared() {
    let instance = |name: &str, since| {
        let created = since - 1;
        pod(name).made_from(name, name, created).with(|pod| pod.transitioned = Some(at(since)))
    };
    assert_eq!(winner([instance("db-a", 300), instance("db-b", 200), instance("db-c", 500)]), "db-b");
    let bare = pod("bare").with(|pod| pod.transitioned = Some(at(150)));
    assert_eq!(winner([instance("db-a", 300), bare]), "bare", "a pod without a revision is not outdated");
    let outdated = pod("old").made_from("db-a", "former", 10).with(|pod| pod.transitioned = Some(at(20)));
    assert_eq!(winner([instance("db-a", 300), instance("db-b", 400), outdated]), "db-a");
}

#[test]
fn a_healthy_leader_is_never_preempted() {
    let better = pod("b").with(|pod| (pod.score, pod.transitioned) = (100, Some(at(1))));
    let plan = world(held_by("a", 90, [])).pods([pod("a").labeled().term(90), better]).plan();
    assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None));
}

#[test]
fn min_ready_seconds_apply_to_a_new_leader_only() {
    let patient = |world: &mut Snapshot| {
        world.election.settings.as_mut().unwrap().min_ready = k8s_openapi::jiff::SignedDuration::from_secs(30);
    };
    let ready_for = |seconds| pod("a").ready_for(true, seconds);
    let young = world(held_by("", 90, [])).pods([ready_for(29)]).with(patient).plan();
    assert_eq!((young.lease, young.then), (None, requeue_after(1)));
    let old = world(held_by("", 90, [])).pods([ready_for(30)]).with(patient).plan();
    assert_eq!(elected(&old).0, "a");
    let blip = world(held_by("a", 90, [])).pods([ready_for(1).labeled().term(90)]).with(patient).plan();
    assert_eq!(blip.lease, None, "a healthy leader stays");
}

#[test]
fn correct_state_needs_no_write() {
    let (rest, _) = PerfectServer::new().run(world(Content::Blank).pods([pod("a"), pod("b"), pod("c")]));
    assert_eq!(rest.plan(), Plan::default());
    let restarted = rest.with(|world| (world.gone, world.read_after) = (uids([]), None));
    assert_eq!(restarted.plan(), Plan::default(), "no decision depends on memory alone");
}

// ---- Fields that keep a leader ----

fn with_settings(change: fn(&mut Settings)) -> impl FnOnce(&mut Snapshot) {
    move |world| change(world.election.settings.as_mut().unwrap())
}

fn ready_reason(plan: &Plan) -> (String, String) {
    let status = &plan.status.as_ref().unwrap().status;
    let ready = status.condition("Ready").unwrap();
    (ready.status.clone(), ready.reason.clone())
}

#[test]
fn retain_keeps_a_not_ready_leader_while_no_other_is_eligible() {
    let hold = || with_settings(|settings| settings.retain = true);
    let leader = || pod("a").ready_for(false, 10).labeled().term(90);
    let plan = world(held_by("a", 90, [])).pods([leader()]).with(hold()).plan();
    assert_eq!((plan.lease.clone(), plan.fence.len()), (None, 0));
    assert_eq!(ready_reason(&plan), ("True".into(), "LeaderRetained".into()));
    let plan = world(held_by("a", 90, [])).pods([leader(), pod("b")]).with(hold()).plan();
    assert_eq!(elected(&plan).0, "b", "another pod is eligible");
    for state in [PodState::Terminating, PodState::Failed, PodState::Succeeded] {
        let gone = leader().with(|pod| pod.state = state);
        let plan = world(held_by("a", 90, [])).pods([gone]).with(hold()).plan();
        assert_eq!((elected(&plan).0, writes(&plan.fence)), ("", vec![("a", 100, REMOVE)]), "{state:?}");
    }
    let absent = world(held_by("a", 90, [])).with(hold()).consulted().plan();
    assert_eq!(elected(&absent).0, "", "gone");
}

#[test]
fn retain_and_failover_delay_apply_after_the_lease_was_lost() {
    let leader = || pod("a").ready_for(false, 10).labeled().term(90);
    let hold = with_settings(|settings| settings.retain = true);
    let plan = world(Content::Blank).pods([leader()]).with(hold).consulted().plan();
    assert_eq!((elected(&plan).0, plan.fence.len()), ("a", 0));
    let delay = with_settings(|settings| settings.failover_delay = k8s_openapi::jiff::SignedDuration::from_secs(30));
    let plan = world(Content::Blank).pods([leader(), pod("b")]).with(delay).consulted().plan();
    assert_eq!(elected(&plan).0, "a");
}

#[test]
fn failover_delay_applies_to_a_not_ready_leader_only() {
    let delay = || with_settings(|settings| settings.failover_delay = k8s_openapi::jiff::SignedDuration::from_secs(30));
    let of = |leader| world(held_by("a", 90, [])).pods([leader, pod("b")]).with(delay()).plan();
    let early = of(pod("a").ready_for(false, 29).labeled().term(90));
    assert_eq!((early.lease.clone(), early.then.clone()), (None, requeue_after(1)));
    assert_eq!(ready_reason(&early), ("True".into(), "LeaderRetained".into()));
    assert_eq!(elected(&of(pod("a").ready_for(false, 30).labeled().term(90))).0, "b", "the delay is over");
    for state in [PodState::Terminating, PodState::Failed] {
        let gone = pod("a").ready_for(false, 1).labeled().term(90).with(|pod| pod.state = state);
        assert_eq!(elected(&of(gone)).0, "b", "{state:?} is never delayed");
    }
}

#[test]
fn a_suspended_election_begins_no_term_and_repairs_labels() {
    let suspend = || with_settings(|settings| settings.suspend = true);
    let terminating = pod("a").term(90).with(|pod| pod.state = PodState::Terminating);
    let stray = pod("c").labeled();
    let plan =
        world(held_by("a", 90, ["d-uid"])).pods([terminating, pod("b"), stray, pod("d").term(80)]).with(suspend()).plan();
    assert_eq!(plan.lease, None);
    assert_eq!(writes(&plan.fence), [("c", 90, REMOVE), ("d", 90, REMOVE)], "a change that began is completed");
    assert_eq!(writes(plan.label.as_slice()), [("a", 90, SET)]);
    let gone = world(held_by("a", 90, [])).pods([pod("b")]).with(suspend()).plan();
    assert_eq!((gone.lease.clone(), ready_reason(&gone)), (None, ("False".into(), "Suspended".into())));
    let higher = pod("c").labeled().term(95);
    let plan = world(held_by("b", 90, [])).pods([pod("b"), higher]).with(suspend()).consulted().plan();
    assert_eq!((writes(&plan.fence), plan.label), (vec![], None), "no pod is labeled beside a higher term");
    let left = pod("b").term(90).with(|pod| pod.matches = false);
    assert_eq!(
        world(held_by("b", 90, [])).pods([left]).with(suspend()).plan().label,
        None,
        "nor a pod that left the selector"
    );
    for strange in [pod("b").with(|pod| pod.rival = Some("db".into())), pod("b").with(|pod| pod.label = Some("x".into()))] {
        let plan = world(held_by("b", 90, [])).pods([strange]).with(suspend()).plan();
        assert_eq!(plan.label, None, "a pod of another Election or with a foreign value is not labeled");
    }
    for content in [Content::Blank, Content::Damaged("an edit")] {
        let plan = world(content).pods([pod("b")]).with(suspend()).consulted().plan();
        assert_eq!((plan.lease.clone(), ready_reason(&plan)), (None, ("False".into(), "Suspended".into())));
    }
}
