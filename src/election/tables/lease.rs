//! The Lease: when it is created, emptied and filled, and what a compare-and-swap lists.

use super::*;

// ---- Rule 2: a create never names a holder ----

#[test]
fn rule_2_without_a_lease_only_a_blank_one_is_created() {
    let plan = world(Content::Blank).pods([pod("a")]).with(|world| world.lease = None).plan();
    assert_eq!(plan.lease, Some(LeaseWrite::Create));
    assert_eq!((plan.fence.len(), plan.label, plan.then), (0, None, Then::DecideAgain));
}

// ---- Rule 3: a blank Lease is filled after a fresh look, and everybody is suspected ----

#[test]
fn rule_3_a_blank_lease_is_not_filled_from_the_caches() {
    let plan = world(Content::Blank).pods([pod("a")]).plan();
    assert_eq!(plan.lease, None);
    assert!(matches!(plan.then, Then::Consult(_)));
}

#[test]
fn rule_3_a_look_at_the_server_from_before_the_blank_lease_was_seen_does_not_count() {
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
fn rule_3_whom_a_blank_lease_named_before_it_was_emptied_is_listed_also_if_the_selector_does_not_match_it() {
    let former = |world: &mut Snapshot| world.lease.as_mut().unwrap().former = uids(["c-uid", "lost-uid"]);
    let left = pod("c").with(|pod| pod.matches = false);
    let plan = world(Content::Blank).pods([pod("a"), left]).with(former).consulted().plan();
    assert_eq!(elected(&plan), ("a", 100, uids(["c-uid", "lost-uid"])));
    assert_eq!(writes(&plan.fence), [("c", 100, REMOVE)]);
    assert_eq!((plan.label, &plan.then), (None, &Then::Consult("a former holder is not seen")));
}

#[test]
fn rule_3_a_lease_that_was_edited_is_emptied_first() {
    let plan = world(Content::Damaged("an edit")).pods([pod("a").labelled().term(90)]).consulted().plan();
    assert_eq!(plan.lease, Some(LeaseWrite::Blank(guard(), "an edit")));
    assert_eq!((plan.fence.len(), plan.label, plan.then), (0, None, Then::DecideAgain));
}

#[test]
fn rule_3_a_lease_of_a_former_election_of_the_name_is_emptied_first() {
    let former = |world: &mut Snapshot| {
        world.lease.as_mut().unwrap().incarnation = Some("a former one".into());
    };
    for content in [reign("a", 90, []), Content::Blank] {
        let world = world(content).pods([pod("a").labelled().term(90)]).with(former);
        let plan = world.plan();
        assert_eq!(plan.lease, None, "it may be of a later Election of the name");
        assert!(matches!(plan.then, Then::Consult(_)));
        let plan = world.consulted().plan();
        assert!(matches!(plan.lease, Some(LeaseWrite::Blank(..))), "{plan:?}");
    }
}

#[test]
fn a_leader_that_is_still_labelled_stays_when_the_lease_was_lost() {
    let leader = pod("b").labelled().term(70);
    let plan = world(Content::Blank).pods([pod("a"), leader]).consulted().plan();
    assert_eq!(elected(&plan).0, "b");
}

#[test]
fn nothing_is_written_for_a_blank_lease_while_nobody_may_lead() {
    let unready = pod("a").with(|pod| pod.ready = false);
    let plan = world(Content::Blank).pods([unready]).plan();
    assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None));
}

#[test]
fn a_label_left_from_a_lost_lease_goes_even_if_nobody_may_lead() {
    let left = pod("a").labelled().term(70).with(|pod| pod.ready = false);
    let plan = world(Content::Blank).pods([left]).consulted().plan();
    assert_eq!(elected(&plan), ("", 100, uids(["a-uid"])));
    assert_eq!(writes(&plan.fence), [("a", 100, REMOVE)]);
}

// ---- Rule 4: the compare-and-swap and its list ----

#[test]
fn rule_4_the_term_is_the_revision_that_is_replaced() {
    let plan = world(reign("a", 90, [])).pods([pod("b")]).consulted().plan();
    let (holder, term, _) = elected(&plan);
    assert_eq!((holder, term), ("b", 100));
    let Some(LeaseWrite::Elect { guard: by, .. }) = plan.lease else { unreachable!() };
    assert_eq!(by, guard());
}

#[test]
fn rule_4_the_old_holder_is_listed_labelled_or_not_seen_or_not() {
    let terminating = |pod: &mut Pod| pod.state = PodState::Terminating;
    let worlds = [
        world(reign("a", 90, [])).pods([pod("a").labelled().term(90).with(terminating), pod("b")]),
        world(reign("a", 90, [])).pods([pod("a").with(terminating), pod("b")]),
        world(reign("a", 90, [])).pods([pod("a").term(90).with(terminating), pod("b")]),
        world(reign("a", 90, [])).pods([pod("b")]).with(|world| world.gone = uids(["a-uid"])),
    ];
    for world in worlds {
        assert_eq!(elected(&world.plan()), ("b", 100, uids(["a-uid"])), "{:?}", world.pods);
    }
}

#[test]
fn a_holder_that_is_not_seen_is_not_deposed_before_the_server_was_asked() {
    let plan = world(reign("a", 90, [])).pods([pod("b")]).plan();
    assert_eq!(plan.lease, None);
    assert!(matches!(plan.then, Then::Consult(_)));
    assert_eq!(elected(&world(reign("a", 90, [])).pods([pod("b")]).consulted().plan()).0, "b");
}

#[test]
fn a_holder_that_was_last_seen_before_its_term_is_not_deposed_before_the_server_was_asked() {
    let unready = || pod("a").with(|pod| pod.ready = false);
    let before = [unready(), unready().term(80), unready().with(|pod| pod.state = PodState::Pending)];
    for seen in before {
        let plan = world(reign("a", 90, [])).pods([seen.clone(), pod("b")]).plan();
        assert_eq!((plan.lease, plan.then), (None, Then::Consult("the holder was last seen before its term")), "{seen:?}");
        assert_eq!(elected(&world(reign("a", 90, [])).pods([seen, pod("b")]).consulted().plan()).0, "b");
    }
    let after = world(reign("a", 90, [])).pods([unready().labelled().term(90), pod("b")]);
    assert_eq!(elected(&after.plan()).0, "b", "seen since, and not well");
}

#[test]
fn a_pod_that_was_last_seen_before_it_was_deposed_is_not_elected_before_the_server_was_asked() {
    for (holder, seen) in [("", pod("a").labelled().term(80)), ("", pod("a")), ("b", pod("a").term(80))] {
        let base = || world(reign(holder, 90, ["a-uid"])).pods([seen.clone()]).with(|world| world.gone = uids(["b-uid"]));
        let plan = base().plan();
        let asks = Then::Consult("the next leader was last seen before it was deposed");
        assert_eq!((plan.lease, plan.then), (None, asks), "{holder} {seen:?}");
        assert_eq!(elected(&base().consulted().plan()).0, "a");
    }
    let fenced = world(reign("", 90, ["a-uid"])).pods([pod("a").term(90)]);
    assert_eq!(elected(&fenced.plan()).0, "a", "seen since, and well");
}

#[test]
fn rule_4_an_old_entry_stays_until_its_pod_was_seen_unlabelled_with_the_term() {
    let drops = |world: Snapshot| !elected(&world.plan()).2.contains(&"x-uid".into());
    let base = || world(reign("a", 90, ["x-uid"])).with(|world| world.gone = uids(["a-uid"]));
    assert!(drops(base().pods([pod("b"), pod("x").term(90)])), "fenced");
    assert!(drops(base().pods([pod("b"), pod("x").term(95)])), "fenced by a later term");
    assert!(!drops(base().pods([pod("b"), pod("x").term(89)])), "fenced by an earlier term");
    assert!(!drops(base().pods([pod("b"), pod("x")])), "never fenced");
    assert!(!drops(base().pods([pod("b"), pod("x").labelled().term(90)])), "labelled");
    assert!(!drops(base().pods([pod("b")])), "not seen: absence proves nothing");
    assert!(drops(base().pods([pod("b")]).with(|world| world.gone = uids(["a-uid", "x-uid"]))), "gone for ever");
}

#[test]
fn rule_4_no_compare_and_swap_names_a_pod_that_is_not_claimed() {
    let claims = [("a", 0, KEEP)];
    let blank = world(Content::Blank).pods([pod("a").unclaimed(), pod("b").unclaimed()]).consulted().plan();
    let vacant = world(reign("", 90, [])).pods([pod("a").unclaimed()]).plan();
    let lost = world(reign("b", 90, [])).pods([pod("a").unclaimed()]).consulted().plan();
    for plan in [blank, vacant, lost] {
        assert_eq!((writes(plan.claim.as_slice()), &plan.then), (claims.to_vec(), &Then::DecideAgain));
        assert_eq!((plan.lease, plan.fence.len(), plan.label, plan.status), (None, 0, None, None));
    }
    let claimed = world(Content::Blank).pods([pod("a"), pod("b").unclaimed()]).consulted().plan();
    assert_eq!(elected(&claimed), ("a", 100, uids(["b-uid"])));
    let Some(LeaseWrite::Elect { record, .. }) = claimed.lease else { unreachable!() };
    assert_eq!(record.reason, "initial election", "a claim without a term is not left from a lost Lease");
}

#[test]
fn the_pod_that_would_lead_next_is_claimed_ahead_of_time() {
    let led = |others: [Pod; 2]| {
        let mut world = world(reign("b", 90, []));
        world.pods = [pod("b").labelled().term(90)].into_iter().chain(others).collect();
        world
    };
    let next = |world: Snapshot| writes(world.plan().claim_next.as_slice()).first().map(|write| write.0.to_owned());
    let new = |name: &str| pod(name).unclaimed();
    let unready = |name: &str| new(name).with(|pod| pod.ready = false);
    assert_eq!(next(led([new("c"), new("a")])).as_deref(), Some("a"), "in the order of succession");
    assert_eq!(next(led([pod("a"), new("c")])), None, "one is enough");
    assert_eq!(next(led([unready("a"), new("c")])).as_deref(), Some("c"), "who could lead comes first");
    assert_eq!(next(led([unready("c"), unready("a")])).as_deref(), Some("a"), "or who could lead soon");
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
    let plan = world(reign("a", 90, ["b-uid"])).pods([pod("b").term(80)]).consulted().plan();
    assert_eq!(elected(&plan), ("b", 100, uids(["a-uid"])));
}

#[test]
fn names_do_not_identify_a_re_created_pod() {
    let again = pod("a").with(|pod| pod.id.uid = "another".into());
    let plan = world(reign("a", 90, [])).pods([again]).consulted().plan();
    assert_eq!(elected(&plan), ("a", 100, uids(["a-uid"])));
}
