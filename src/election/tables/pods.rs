//! The pods: which are fenced, which count as fenced, which are labeled.

use super::*;

// ---- Rules 5 to 7: fencing ----

#[test]
fn rule_5_a_former_holder_is_fenced_with_or_without_a_label() {
    let of = |former| world(held_by("b", 90, ["a-uid"])).pods([former, pod("b")]).plan();
    assert_eq!(writes(&of(pod("a").labeled().term(50)).fence), [("a", 90, REMOVE)]);
    assert_eq!(writes(&of(pod("a").term(50)).fence), [("a", 90, REMOVE)], "the response proves that there is no label");
    assert_eq!(writes(&of(pod("a").unclaimed()).fence), [("a", 90, REMOVE)]);
}

#[test]
fn rule_5_a_pod_with_a_higher_term_is_never_fenced() {
    let plan = world(held_by("b", 90, ["a-uid"])).pods([pod("a").term(95), pod("b").labeled().term(90)]).plan();
    assert_eq!(writes(&plan.fence), []);
}

#[test]
fn rule_5_a_labeled_pod_with_a_higher_term_is_never_fenced_either() {
    let late = pod("b").labeled().term(999);
    let world = world(Content::Blank).pods([pod("a").labeled().term(1_000), late]);
    let plan = world.with(|world| world.read_after = Some(revision(100))).plan();
    assert_eq!((elected(&plan).0, writes(&plan.fence), plan.label.as_ref()), ("a", vec![], None));
}

#[test]
fn rule_5_a_foreign_value_under_the_key_is_left_alone() {
    let foreign = pod("a").with(|pod| pod.label = Some("false".into()));
    let plan = world(held_by("b", 90, ["a-uid"])).pods([foreign, pod("b")]).plan();
    assert_eq!(writes(&plan.fence), [("a", 90, KEEP)]);
}

#[test]
fn rule_6_no_pod_is_labeled_while_a_former_holder_is_unaccounted_for() {
    let absent = world(held_by("b", 90, ["a-uid"])).pods([pod("b")]);
    let plan = absent.plan();
    assert_eq!(plan.label, None);
    assert!(matches!(plan.then, Then::Consult(_)));
    assert_eq!(writes(absent.consulted().plan().label.as_slice()), [("b", 90, SET)]);
}

#[test]
fn rule_6_a_recreated_pod_does_not_account_for_a_former_holder() {
    let again = pod("a").with(|pod| pod.id.uid = "another".into());
    let plan = world(held_by("b", 90, ["a-uid"])).pods([again, pod("b")]).plan();
    assert_eq!(plan.label, None);
    assert!(matches!(plan.then, Then::Consult(_)));
}

#[test]
fn rule_6_a_pod_labeled_with_a_higher_term_means_that_the_lease_is_stale() {
    let plan = world(held_by("b", 90, ["a-uid"])).pods([pod("a").labeled().term(120), pod("b")]).plan();
    assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None));
    assert!(matches!(plan.then, Then::Consult(_)));
}

#[test]
fn rule_7_every_other_labeled_pod_is_fenced() {
    let strange = pod("c").labeled();
    let plan = world(held_by("b", 90, [])).pods([pod("b").labeled().term(90), strange]).plan();
    assert_eq!(writes(&plan.fence), [("c", 90, REMOVE)]);
    let equal = pod("c").labeled().term(90);
    let plan = world(held_by("b", 90, [])).pods([pod("b").labeled().term(90), equal]).plan();
    assert_eq!(writes(&plan.fence), [("c", 90, REMOVE)]);
}

#[test]
fn rule_7_a_pod_that_left_the_selector_loses_the_label_and_gets_the_term() {
    let left = pod("c").labeled().term(60).with(|pod| pod.matches = false);
    let plan = world(held_by("b", 90, [])).pods([pod("b").labeled().term(90), left]).plan();
    assert_eq!(writes(&plan.fence), [("c", 90, REMOVE)]);
}

#[test]
fn label_of_a_rival_is_left_alone() {
    let theirs = pod("c").labeled().with(|pod| pod.rival = Some("db".into()));
    let plan = world(held_by("b", 90, [])).pods([pod("b").labeled().term(90), theirs]).plan();
    assert_eq!(writes(&plan.fence), []);
    assert!(plan.status.unwrap().status.is(DEGRADED, Reason::OverlappingElections));
}

#[test]
fn rule_3_no_pod_is_elected_beside_a_rivals_pod_that_cannot_be_listed() {
    let theirs = pod("c").unclaimed().with(|pod| pod.rival = Some("db".into()));
    let (reason, message) = stalled(&world(Content::Blank).pods([pod("a"), theirs.clone()]).consulted());
    assert_eq!(reason, "OverlappingElections");
    assert!(message.contains("Election db owns pod c") && message.contains("spec.selector"), "{message}");
    let claimed = theirs.term(70);
    let plan = world(Content::Blank).pods([pod("a"), claimed]).consulted().plan();
    assert_eq!(elected(&plan), ("a", 100, uids(["c-uid"])));
}

#[test]
fn rule_5_a_former_holder_loses_the_label_even_if_a_rival_owns_it() {
    let former = pod("a").labeled().term(30).with(|pod| pod.rival = Some("db".into()));
    let plan = world(held_by("a", 90, [])).pods([former.clone(), pod("b")]).consulted().plan();
    assert_eq!(writes(&plan.fence), [("a", 100, REMOVE)]);
    let fenced = former.term(90);
    let plan = world(held_by("b", 90, ["a-uid"])).pods([fenced, pod("b").labeled().term(90)]).plan();
    assert_eq!(writes(&plan.fence), [], "after one fence the label is the rival's");
}

#[test]
fn rule_6_a_former_holder_with_a_forged_term_does_not_count_as_fenced() {
    let forged = || world(held_by("b", 90, ["a-uid"])).pods([pod("a").term(999), pod("b")]);
    assert_eq!(forged().plan().label, None);
    assert!(matches!(forged().plan().then, Then::Consult(_)));
    assert_eq!(writes(&forged().consulted().plan().fence), [("a", 90, REMOVE)]);
}

// ---- Rule 8: the label ----

#[test]
fn rule_8_the_label_and_the_term_are_one_write_to_the_observed_version() {
    let plan = world(held_by("b", 90, [])).pods([pod("b").with(|pod| pod.resource_version = revision(83))]).plan();
    let label = plan.label.unwrap();
    assert_eq!((label.resource_version, label.term, label.label), (revision(83), Some(term(90)), SET));
}

#[test]
fn rule_8_a_holder_with_a_higher_term_is_never_labeled() {
    // Observed after the read from the server, so the term is not known to be forged yet.
    let late = pod("a").term(999);
    let plan = world(Content::Blank).pods([late]).with(|world| world.read_after = Some(revision(100))).plan();
    assert_eq!((elected(&plan).0, plan.label.as_ref()), ("a", None));
}

#[test]
fn rule_8_a_lost_label_or_term_is_restored_under_the_same_term() {
    for leader in [pod("b").term(90), pod("b").labeled(), pod("b").labeled().term(50)] {
        let plan = world(held_by("b", 90, [])).pods([leader]).plan();
        assert_eq!((plan.lease, writes(plan.label.as_slice())), (None, vec![("b", 90, SET)]));
    }
}

#[test]
fn rule_8_a_holder_with_a_higher_term_is_elected_again_after_the_lease_is_verified() {
    let stale_or_not = world(held_by("b", 90, [])).pods([pod("b").term(95)]);
    assert!(matches!(stale_or_not.plan().then, Then::Consult(_)));
    assert_eq!(stale_or_not.plan().label, None);
    let plan = stale_or_not.consulted().plan();
    assert_eq!(elected(&plan), ("b", 100, uids([])));
    assert_eq!(writes(plan.label.as_slice()), [("b", 100, SET)]);
}

#[test]
fn forged_term_counts_as_none_after_the_lease_was_read_from_the_server() {
    let forged = || world(held_by("b", 90, ["a-uid"])).pods([pod("a").labeled().term(999), pod("b").labeled().term(999)]);
    assert!(matches!(forged().plan().then, Then::Consult(_)));
    let plan = forged().consulted().plan();
    assert_eq!(plan.lease, None);
    assert_eq!(writes(&plan.fence), [("a", 90, REMOVE)]);
    assert_eq!(writes(plan.label.as_slice()), [("b", 90, SET)]);
}

#[test]
fn candidate_with_a_forged_term_is_elected_only_after_the_server_was_read() {
    let forged = || world(held_by("", 90, [])).pods([pod("b").term(999)]);
    assert!(matches!(forged().plan().then, Then::Consult(_)));
    let plan = forged().consulted().plan();
    assert_eq!((elected(&plan).0, writes(plan.label.as_slice())), ("b", vec![("b", 100, SET)]));
}
