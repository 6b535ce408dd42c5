//! The follower's value: on every eligible pod that does not lead, and on no other.

use super::*;

/// An Election whose leader `b` is labeled, and whose followers carry `false`.
fn led<const N: usize>(others: [Pod; N]) -> Snapshot {
    let mut world = world(held_by("b", 90, []));
    world.pods = [pod("b").labeled().term(90)].into_iter().chain(others).collect();
    with_followers(world)
}

fn with_followers(world: Snapshot) -> Snapshot {
    world.with(|world| world.election.settings.as_mut().unwrap().label.follower_value = Some("false".into()))
}

fn follower(name: &str) -> Pod {
    pod(name).term(90).with(|pod| pod.label = Some("false".into()))
}

#[test]
fn eligible_pods_get_the_followers_value_with_the_term_once() {
    let plan = led([pod("a"), follower("c"), follower("d").with(|pod| pod.claimed = false)]).plan();
    assert_eq!(writes(&plan.follow), [("a", 90, FOLLOW)]);
    assert_eq!((plan.fence.len(), plan.label), (0, None));
}

#[test]
fn ineligible_pods_lose_the_followers_value_unless_they_terminate() {
    let of = |change: fn(&mut Pod)| writes(&led([follower("a").with(change)]).plan().follow).len();
    assert_eq!(of(|_| {}), 0);
    assert_eq!(of(|pod| pod.ready = false), 1);
    assert_eq!(of(|pod| pod.opted_out = true), 1);
    assert_eq!(of(|pod| pod.matches = false), 1);
    assert_eq!(of(|pod| pod.state = PodState::Failed), 1);
    assert_eq!(of(|pod| pod.state = PodState::Terminating), 0);
    let plan = led([follower("a").with(|pod| pod.ready = false)]).plan();
    assert_eq!(writes(&plan.follow), [("a", 90, REMOVE)]);
}

#[test]
fn labeled_follower_keeps_its_label_during_min_ready_seconds() {
    let min_ready = |world: &mut Snapshot| {
        world.election.settings.as_mut().unwrap().min_ready = k8s_openapi::jiff::SignedDuration::from_secs(60);
    };
    let young = |pod: Pod| led([pod.ready_for(true, 0)]).with(min_ready).plan().follow;
    assert_eq!(writes(&young(follower("a"))), [], "the clock of another controller may differ");
    assert_eq!(writes(&young(pod("a"))), []);
}

#[test]
fn one_plan_writes_to_a_limited_number_of_followers() {
    let mut world = led([]);
    world.pods.extend((0..100).map(|number| pod(&format!("web-{number}"))));
    let plan = world.plan();
    assert_eq!(plan.follow.len(), crate::election::decide::FOLLOWERS_AT_ONCE);
}

#[test]
fn eligible_former_holder_is_fenced_to_the_followers_value() {
    let of = |former| with_followers(world(held_by("b", 90, ["a-uid"])).pods([former, pod("b")])).plan();
    assert_eq!(writes(&of(pod("a").labeled().term(50)).fence), [("a", 90, FOLLOW)]);
    assert_eq!(writes(&of(pod("a").term(50)).fence), [("a", 90, FOLLOW)]);
    assert_eq!(writes(&of(follower("a").term(50)).fence), [("a", 90, FOLLOW)]);
    assert_eq!(writes(&of(pod("a").labeled().term(50).with(|pod| pod.ready = false)).fence), [("a", 90, REMOVE)]);
    assert!(of(pod("a")).follow.is_empty(), "one write per pod");
}

#[test]
fn a_follower_becomes_the_leader_and_a_vacancy_has_followers_too() {
    let plan = with_followers(world(held_by("b", 90, [])).pods([follower("b").term(50)])).plan();
    assert_eq!(writes(plan.label.as_slice()), [("b", 90, SET)]);
    let suspended = with_followers(world(held_by("", 90, [])).pods([pod("a")]));
    let plan = suspended.with(|world| world.election.settings.as_mut().unwrap().suspend = true).plan();
    assert_eq!(writes(&plan.follow), [("a", 90, FOLLOW)]);
}

#[test]
fn the_followers_value_is_not_foreign_and_another_value_is() {
    let plan = with_followers(world(held_by("", 90, [])).pods([follower("a")])).plan();
    assert_eq!(elected(&plan).0, "a");
    let foreign = || follower("a").with(|pod| pod.label = Some("maybe".into()));
    let plan = led([foreign()]).plan();
    assert!(plan.follow.is_empty(), "{:?}", plan.follow);
    assert_eq!(plan.status.unwrap().status.condition(DEGRADED).unwrap().reason, "LabelConflict");
}

#[test]
fn a_follower_with_a_higher_term_or_a_rival_is_left_alone() {
    let newer = led([pod("a").term(95)]).plan();
    assert!(newer.follow.is_empty(), "its term belongs to a Lease that is not observed yet");
    let theirs = pod("a").with(|pod| pod.rival = Some("db".into()));
    let labeled = follower("c").with(|pod| pod.rival = Some("db".into()));
    assert!(led([theirs, labeled]).plan().follow.is_empty());
}
