//! The Lease: when it is created, blanked and filled, and which former holders a compare-and-swap lists.

use super::*;

// ---- Rule 2: a create never names a holder ----

#[test]
fn rule_2_without_a_lease_only_a_blank_one_is_created() {
    let plan = world(Content::Blank).pods([pod("a")]).with(|world| world.lease = None).plan();
    assert_eq!(plan.lease, Some(LeaseWrite::Create));
    assert_eq!((plan.fence.len(), plan.label, plan.then), (0, None, Then::DecideAgain));
}

// ---- Rule 3: a blank Lease is filled after a fresh read, and lists every other pod ----

#[test]
fn rule_3_a_blank_lease_is_not_filled_from_the_caches() {
    let plan = world(Content::Blank).pods([pod("a")]).plan();
    assert_eq!(plan.lease, None);
    assert!(matches!(plan.then, Then::Consult(_)));
}

#[test]
fn rule_3_a_read_from_before_the_blank_lease_was_observed_does_not_count() {
    let plan = world(Content::Blank).pods([pod("a")]).with(|world| world.read_after = Some(revision(99))).plan();
    assert_eq!(plan.lease, None);
    assert!(matches!(plan.then, Then::Consult(_)));
}

#[test]
fn rule_3_a_blank_lease_is_filled_with_every_other_pod_on_the_list() {
    let left = pod("left").term(7).with(|pod| pod.matches = false);
    let plan = world(Content::Blank).pods([pod("a"), pod("b"), left]).consulted().plan();
    assert_eq!(elected(&plan), ("a", 100, uids(["b-uid", "left-uid"])));
    assert_eq!(writes(&plan.fence), [("b", 100, REMOVE), ("left", 100, REMOVE)]);
    assert_eq!(writes(plan.label.as_slice()), [("a", 100, SET)]);
}

#[test]
fn rule_3_former_holders_of_a_blanked_lease_are_listed_even_outside_the_selector() {
    let former = |world: &mut Snapshot| world.lease.as_mut().unwrap().former = uids(["c-uid", "lost-uid"]);
    let left = pod("c").with(|pod| pod.matches = false);
    let plan = world(Content::Blank).pods([pod("a"), left]).with(former).consulted().plan();
    assert_eq!(elected(&plan), ("a", 100, uids(["c-uid", "lost-uid"])));
    assert_eq!(writes(&plan.fence), [("c", 100, REMOVE)]);
    assert_eq!((plan.label, &plan.then), (None, &Then::Consult("a former holder is not observed")));
}

#[test]
fn rule_3_an_edited_lease_is_blanked_first() {
    let plan = world(Content::Damaged("an edit")).pods([pod("a").labeled().term(90)]).consulted().plan();
    assert_eq!(plan.lease, Some(LeaseWrite::Blank(guard(), "an edit")));
    assert_eq!((plan.fence.len(), plan.label, plan.then), (0, None, Then::DecideAgain));
}

#[test]
fn rule_3_a_lease_of_a_former_election_of_the_name_is_blanked_first() {
    let former = |world: &mut Snapshot| {
        world.lease.as_mut().unwrap().incarnation = Some("a former one".into());
    };
    for content in [held_by("a", 90, []), Content::Blank] {
        let world = world(content).pods([pod("a").labeled().term(90)]).with(former);
        let plan = world.plan();
        assert_eq!(plan.lease, None, "it may belong to a later Election of the name");
        assert!(matches!(plan.then, Then::Consult(_)));
        let plan = world.consulted().plan();
        assert!(matches!(plan.lease, Some(LeaseWrite::Blank(..))), "{plan:?}");
    }
}

#[test]
fn labeled_leader_stays_after_the_lease_was_lost() {
    let leader = pod("b").labeled().term(70);
    let plan = world(Content::Blank).pods([pod("a"), leader]).consulted().plan();
    assert_eq!(elected(&plan).0, "b");
}

#[test]
fn blank_lease_stays_blank_while_no_pod_is_eligible() {
    let unready = pod("a").with(|pod| pod.ready = false);
    let plan = world(Content::Blank).pods([unready]).plan();
    assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None));
}

#[test]
fn label_from_a_lost_lease_is_removed_even_if_no_pod_is_eligible() {
    let left = pod("a").labeled().term(70).with(|pod| pod.ready = false);
    let plan = world(Content::Blank).pods([left]).consulted().plan();
    assert_eq!(elected(&plan), ("", 100, uids(["a-uid"])));
    assert_eq!(writes(&plan.fence), [("a", 100, REMOVE)]);
}

// ---- Rule 4: the compare-and-swap and its list ----

#[test]
fn rule_4_the_term_is_the_revision_that_is_replaced() {
    let plan = world(held_by("a", 90, [])).pods([pod("b")]).consulted().plan();
    let (holder, term, _) = elected(&plan);
    assert_eq!((holder, term), ("b", 100));
    let Some(LeaseWrite::Elect { guard: by, .. }) = plan.lease else { unreachable!() };
    assert_eq!(by, guard());
}

#[test]
fn rule_4_the_old_holder_is_listed_labeled_or_not_observed_or_not() {
    let terminating = |pod: &mut Pod| pod.state = PodState::Terminating;
    let worlds = [
        world(held_by("a", 90, [])).pods([pod("a").labeled().term(90).with(terminating), pod("b")]),
        world(held_by("a", 90, [])).pods([pod("a").with(terminating), pod("b")]),
        world(held_by("a", 90, [])).pods([pod("a").term(90).with(terminating), pod("b")]),
        world(held_by("a", 90, [])).pods([pod("b")]).with(|world| world.gone = uids(["a-uid"])),
    ];
    for world in worlds {
        assert_eq!(elected(&world.plan()), ("b", 100, uids(["a-uid"])), "{:?}", world.pods);
    }
}

#[test]
fn unobserved_holder_is_not_deposed_before_the_server_is_read() {
    let plan = world(held_by("a", 90, [])).pods([pod("b")]).plan();
    assert_eq!(plan.lease, None);
    assert!(matches!(plan.then, Then::Consult(_)));
    assert_eq!(elected(&world(held_by("a", 90, [])).pods([pod("b")]).consulted().plan()).0, "b");
}

#[test]
fn holder_observed_before_its_term_is_not_deposed_before_the_server_is_read() {
    let unready = || pod("a").with(|pod| pod.ready = false);
    let before = [unready(), unready().term(80), unready().with(|pod| pod.state = PodState::Pending)];
    for seen in before {
        let plan = world(held_by("a", 90, [])).pods([seen.clone(), pod("b")]).plan();
        assert_eq!(
            (plan.lease, plan.then),
            (None, Then::Consult("the holder was last observed before its term")),
            "{seen:?}"
        );
        assert_eq!(elected(&world(held_by("a", 90, [])).pods([seen, pod("b")]).consulted().plan()).0, "b");
    }
    let after = world(held_by("a", 90, [])).pods([unready().labeled().term(90), pod("b")]);
    assert_eq!(elected(&after.plan()).0, "b", "observed since, and not Ready");
}

#[test]
fn former_holder_with_an_unobserved_fence_is_not_elected_before_the_server_is_read() {
    for (holder, seen) in [("", pod("a").labeled().term(80)), ("", pod("a")), ("b", pod("a").term(80))] {
        let base = || world(held_by(holder, 90, ["a-uid"])).pods([seen.clone()]).with(|world| world.gone = uids(["b-uid"]));
        let plan = base().plan();
        let asks = Then::Consult("the next leader was last observed before it was deposed");
        assert_eq!((plan.lease, plan.then), (None, asks), "{holder} {seen:?}");
        assert_eq!(elected(&base().consulted().plan()).0, "a");
    }
    let fenced = world(held_by("", 90, ["a-uid"])).pods([pod("a").term(90)]);
    assert_eq!(elected(&fenced.plan()).0, "a", "observed since, and Ready");
}

#[test]
fn rule_4_an_old_entry_stays_until_its_pod_was_observed_unlabeled_with_the_term() {
    let drops = |world: Snapshot| !elected(&world.plan()).2.contains(&"x-uid".into());
    let base = || world(held_by("a", 90, ["x-uid"])).with(|world| world.gone = uids(["a-uid"]));
    assert!(drops(base().pods([pod("b"), pod("x").term(90)])), "fenced");
    assert!(drops(base().pods([pod("b"), pod("x").term(95)])), "fenced by a later term");
    assert!(!drops(base().pods([pod("b"), pod("x").term(89)])), "fenced by an earlier term");
    assert!(!drops(base().pods([pod("b"), pod("x")])), "never fenced");
    assert!(!drops(base().pods([pod("b"), pod("x").labeled().term(90)])), "labeled");
    assert!(!drops(base().pods([pod("b")])), "not observed: absence proves nothing");
    assert!(drops(base().pods([pod("b")]).with(|world| world.gone = uids(["a-uid", "x-uid"]))), "gone for ever");
}

#[test]
fn rule_4_no_compare_and_swap_names_a_pod_that_is_not_claimed() {
    let claims = [("a", 0, KEEP)];
    let blank = world(Content::Blank).pods([pod("a").unclaimed(), pod("b").unclaimed()]).consulted().plan();
    let vacant = world(held_by("", 90, [])).pods([pod("a").unclaimed()]).plan();
    let lost = world(held_by("b", 90, [])).pods([pod("a").unclaimed()]).consulted().plan();
    for plan in [blank, vacant, lost] {
        assert_eq!((writes(plan.claim.as_slice()), &plan.then), (claims.to_vec(), &Then::DecideAgain));
        assert_eq!((plan.lease, plan.fence.len(), plan.label, plan.status), (None, 0, None, None));
    }
    let claimed = world(Content::Blank).pods([pod("a"), pod("b").unclaimed()]).consulted().plan();
    assert_eq!(elected(&claimed), ("a", 100, uids(["b-uid"])));
    let Some(LeaseWrite::Elect { record, .. }) = claimed.lease else { unreachable!() };
    assert_eq!(record.reason, "initial election", "a claim without a term does not come from a lost Lease");
}

#[test]
fn next_leader_is_claimed_ahead_of_time() {
    let led = |others: [Pod; 2]| {
        let mut world = world(held_by("b", 90, []));
        world.pods = [pod("b").labeled().term(90)].into_iter().chain(others).collect();
        world
    };
    let next = |world: Snapshot| writes(world.plan().claim_next.as_slice()).first().map(|write| write.0.to_owned());
    let new = |name: &str| pod(name).unclaimed();
    let unready = |name: &str| new(name).with(|pod| pod.ready = false);
    assert_eq!(next(led([new("c"), new("a")])).as_deref(), Some("a"), "in the order of candidates");
    assert_eq!(next(led([pod("a"), new("c")])), None, "one claimed candidate is enough");
    assert_eq!(next(led([unready("a"), new("c")])).as_deref(), Some("c"), "an eligible pod comes first");
    assert_eq!(next(led([unready("c"), unready("a")])).as_deref(), Some("a"), "then a pod that may become eligible");
    let useless = |change: fn(&mut Pod)| led([unready("a").with(change), unready("c").with(change)]);
    assert_eq!(next(useless(|pod| pod.state = PodState::Terminating)), None);
    assert_eq!(next(useless(|pod| pod.opted_out = true)), None);
    assert_eq!(next(useless(|pod| pod.rival = Some("db".into()))), None);
    assert_eq!(next(useless(|pod| pod.label = Some("foreign".into()))), None);
    let suspended = |world: &mut Snapshot| world.election.settings.as_mut().unwrap().suspend = true;
    assert_eq!(next(led([new("a"), new("c")]).with(suspended)), None);
}

#[test]
fn rule_4_the_new_holder_is_not_on_the_list() {
    let plan = world(held_by("a", 90, ["b-uid"])).pods([pod("b").term(80)]).consulted().plan();
    assert_eq!(elected(&plan), ("b", 100, uids(["a-uid"])));
}

#[test]
fn recreated_pod_is_not_the_holder() {
    let again = pod("a").with(|pod| pod.id.uid = "another".into());
    let plan = world(held_by("a", 90, [])).pods([again]).consulted().plan();
    assert_eq!(elected(&plan), ("a", 100, uids(["a-uid"])));
}
