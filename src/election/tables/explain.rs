//! The order of succession, and what the controller does next.

use super::*;
use crate::election::candidate::Ineligible;
use crate::election::explain::{Candidate, foresee, succession};
use crate::election::order::Precedence;

fn explained(world: &Snapshot) -> Vec<Candidate<'_>> {
    succession(world, world.election.settings.as_ref().unwrap())
}

fn places<'a>(candidates: &'a [Candidate<'_>]) -> Vec<(&'a str, Option<usize>, bool)> {
    candidates.iter().map(|candidate| (&*candidate.pod.id.name, candidate.place, candidate.obstacle.is_none())).collect()
}

#[test]
fn succession_is_the_leader_then_the_eligible_then_the_others() {
    let world = world(held_by("b", 90, [])).pods([
        pod("e").ready_for(false, 9),
        pod("d").score(5),
        pod("c"),
        pod("b").labeled().term(90),
        pod("a").with(|pod| pod.opted_out = true),
        pod("x").term(80).with(|pod| pod.matches = false),
    ]);
    let candidates = explained(&world);
    let expected = [("b", None, true), ("d", Some(1), true), ("c", Some(2), true), ("a", None, false), ("e", None, false)];
    assert_eq!(places(&candidates), expected);
    assert!(candidates[0].leads && !candidates[1].leads);
    assert_eq!(candidates[4].obstacle, Some(Ineligible::NotReady));
}

#[test]
fn first_place_is_the_next_leader_of_the_status() {
    let old = |name: &str| pod(name).made_from("web", "old", 100);
    let new = |name: &str| pod(name).made_from("web", "new", 200);
    let base = || world(held_by("a", 90, []));
    let worlds = [
        base().pods([new("a").labeled().term(90), old("b"), new("c")]),
        base().pods([new("a").labeled().term(90), old("b"), old("c").with(|pod| pod.transitioned = Some(at(1)))]),
        base().pods([pod("a").labeled().term(90), pod("b"), pod("c"), pod("d")]).settings(|settings| settings.spread = true),
        base().pods([pod("a").labeled().term(90), pod("b").with(|pod| pod.is_draining = true), pod("c").score(-3)]),
    ];
    for world in worlds {
        let next = world.plan().status.unwrap().status.next_leader;
        let candidates = explained(&world);
        let first = candidates.iter().find(|candidate| candidate.place == Some(1)).map(|first| first.pod.id.name.clone());
        assert!(first.is_some());
        assert_eq!(first, next);
    }
}

#[test]
fn each_place_names_the_rule_that_decided_it() {
    let old = |name: &str| pod(name).made_from("web", "old", 100);
    let new = |name: &str| pod(name).made_from("web", "new", 200);
    let long = |pod: Pod| pod.with(|pod| pod.transitioned = Some(at(1)));
    let draining = |pod: Pod| pod.with(|pod| pod.is_draining = true);
    let cases = [
        (pod("z"), draining(pod("a").score(9)), Precedence::Node),
        (pod("z").score(1), pod("a"), Precedence::Score),
        (new("z"), long(old("a")), Precedence::Revision),
        (long(pod("z")), pod("a"), Precedence::LongestReady),
        (pod("a"), pod("z"), Precedence::Name),
    ];
    for (first, second, rule) in cases {
        let world = world(held_by("", 90, [])).pods([second.clone(), first.clone()]);
        let candidates = explained(&world);
        assert_eq!(candidates[0].pod.id, first.id, "{rule:?}");
        assert!(candidates[0].behind.is_none());
        let (before, by) = candidates[1].behind.unwrap();
        assert_eq!((&before.id, by), (&first.id, rule));
    }
    let spread = world(held_by("", 90, [])).pods([pod("a"), pod("b")]).settings(|settings| settings.spread = true);
    assert_eq!(explained(&spread)[1].behind.unwrap().1, Precedence::Spread);
}

#[test]
fn candidates_of_a_followed_lease_have_no_places() {
    let world = world(held_by("a", 90, [])).pods([pod("a").labeled().term(90), pod("b")]).following(lock("a", 99));
    let candidates = explained(&world);
    assert_eq!(places(&candidates), [("a", None, true), ("b", None, false)]);
    assert_eq!(candidates[1].obstacle, Some(Ineligible::NotNamed));
}

#[test]
fn foreseen_plan_skips_the_preparations() {
    let without_lease = world(Content::Blank).with(|world| world.lease = None).pods([pod("a").unclaimed()]);
    assert_eq!(elected(&foresee(without_lease, now())).0, "a");
    let damaged = world(Content::Damaged("it was edited")).pods([pod("a")]);
    assert_eq!(elected(&foresee(damaged, now())).0, "a");
    let gone = world(held_by("a", 90, [])).pods([pod("b").unclaimed()]);
    assert_eq!(elected(&foresee(gone, now())).0, "b");
    let steady = world(held_by("a", 90, [])).pods([pod("a").labeled().term(90)]);
    assert_eq!(foresee(steady.clone(), now()), steady.plan(), "nothing to skip");
}
