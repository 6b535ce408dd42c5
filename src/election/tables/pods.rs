//! The pods: who is fenced, who counts as fenced, who is labelled.

use super::*;

// ---- Rules 5 to 7: fencing ----

#[test]
fn rule_5_a_former_holder_is_fenced_with_or_without_a_label() {
    let of = |former| world(reign("b", 90, ["a-uid"])).pods([former, pod("b")]).plan();
    assert_eq!(writes(&of(pod("a").labelled().term(50)).fence), [("a", 90, REMOVE)]);
    assert_eq!(writes(&of(pod("a").term(50)).fence), [("a", 90, REMOVE)], "the answer shows that there is no label");
    assert_eq!(writes(&of(pod("a").unclaimed()).fence), [("a", 90, REMOVE)]);
}

#[test]
fn rule_5_a_pod_with_a_higher_term_is_never_fenced() {
    let plan = world(reign("b", 90, ["a-uid"])).pods([pod("a").term(95), pod("b").labelled().term(90)]).plan();
    assert_eq!(writes(&plan.fence), []);
}

#[test]
fn rule_5_a_labelled_pod_with_a_higher_term_is_never_fenced_either() {
    let late = pod("b").labelled().term(999);
    let world = world(Content::Blank).pods([pod("a").labelled().term(1_000), late]);
    let plan = world.with(|world| world.read_after = Some(revision(100))).plan();
    assert_eq!((elected(&plan).0, writes(&plan.fence), plan.label.as_ref()), ("a", vec![], None));
}

#[test]
fn rule_5_a_foreign_value_under_the_key_is_left_alone() {
    let foreign = pod("a").with(|pod| pod.label = Some("false".into()));
    let plan = world(reign("b", 90, ["a-uid"])).pods([foreign, pod("b")]).plan();
    assert_eq!(writes(&plan.fence), [("a", 90, KEEP)]);
}

#[test]
fn rule_6_nobody_is_labelled_while_a_former_holder_is_unaccounted_for() {
    let absent = world(reign("b", 90, ["a-uid"])).pods([pod("b")]);
    let plan = absent.plan();
    assert_eq!(plan.label, None);
    assert!(matches!(plan.then, Then::Consult(_)));
    assert_eq!(writes(absent.consulted().plan().label.as_slice()), [("b", 90, SET)]);
}

#[test]
fn rule_6_another_pod_of_the_same_name_does_not_account_for_a_former_holder() {
    let again = pod("a").with(|pod| pod.id.uid = "another".into());
    let plan = world(reign("b", 90, ["a-uid"])).pods([again, pod("b")]).plan();
    assert_eq!(plan.label, None);
    assert!(matches!(plan.then, Then::Consult(_)));
}

#[test]
fn rule_6_a_pod_labelled_with_a_higher_term_means_that_the_lease_is_old() {
    let plan = world(reign("b", 90, ["a-uid"])).pods([pod("a").labelled().term(120), pod("b")]).plan();
    assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None));
    assert!(matches!(plan.then, Then::Consult(_)));
}

#[test]
fn rule_7_whoever_else_carries_the_label_is_fenced() {
    let strange = pod("c").labelled();
    let plan = world(reign("b", 90, [])).pods([pod("b").labelled().term(90), strange]).plan();
    assert_eq!(writes(&plan.fence), [("c", 90, REMOVE)]);
    let equal = pod("c").labelled().term(90);
    let plan = world(reign("b", 90, [])).pods([pod("b").labelled().term(90), equal]).plan();
    assert_eq!(writes(&plan.fence), [("c", 90, REMOVE)]);
}

#[test]
fn rule_7_a_pod_that_left_the_selector_loses_the_label_and_gets_the_term() {
    let left = pod("c").labelled().term(60).with(|pod| pod.matches = false);
    let plan = world(reign("b", 90, [])).pods([pod("b").labelled().term(90), left]).plan();
    assert_eq!(writes(&plan.fence), [("c", 90, REMOVE)]);
}

#[test]
fn the_label_of_a_rival_is_not_ours_to_judge() {
    let theirs = pod("c").labelled().with(|pod| pod.rival = Some("db".into()));
    let plan = world(reign("b", 90, [])).pods([pod("b").labelled().term(90), theirs]).plan();
    assert_eq!(writes(&plan.fence), []);
    assert!(plan.status.unwrap().status.is(DEGRADED, Reason::OverlappingElections));
}

#[test]
fn rule_3_nobody_is_elected_beside_a_pod_that_a_rival_has_and_that_cannot_be_listed() {
    let theirs = pod("c").unclaimed().with(|pod| pod.rival = Some("db".into()));
    let (reason, message) = stalled(&world(Content::Blank).pods([pod("a"), theirs.clone()]).consulted());
    assert_eq!(reason, "OverlappingElections");
    assert!(message.contains("Election db owns pod c") && message.contains("spec.selector"), "{message}");
    let claimed = theirs.term(70);
    let plan = world(Content::Blank).pods([pod("a"), claimed]).consulted().plan();
    assert_eq!(elected(&plan), ("a", 100, uids(["c-uid"])));
}

#[test]
fn rule_5_a_former_holder_loses_the_label_also_where_a_rival_has_it_by_now() {
    let former = pod("a").labelled().term(30).with(|pod| pod.rival = Some("db".into()));
    let plan = world(reign("a", 90, [])).pods([former.clone(), pod("b")]).consulted().plan();
    assert_eq!(writes(&plan.fence), [("a", 100, REMOVE)]);
    let fenced = former.term(90);
    let plan = world(reign("b", 90, ["a-uid"])).pods([fenced, pod("b").labelled().term(90)]).plan();
    assert_eq!(writes(&plan.fence), [], "once: what it carries from then on is the rival's");
}

#[test]
fn rule_6_a_former_holder_with_a_term_beyond_everything_is_not_taken_for_fenced() {
    let forged = || world(reign("b", 90, ["a-uid"])).pods([pod("a").term(999), pod("b")]);
    assert_eq!(forged().plan().label, None);
    assert!(matches!(forged().plan().then, Then::Consult(_)));
    assert_eq!(writes(&forged().consulted().plan().fence), [("a", 90, REMOVE)]);
}

// ---- Rule 8: the label ----

#[test]
fn rule_8_the_label_and_the_term_are_one_write_to_the_version_that_was_seen() {
    let plan = world(reign("b", 90, [])).pods([pod("b").with(|pod| pod.resource_version = revision(83))]).plan();
    let label = plan.label.unwrap();
    assert_eq!((label.resource_version, label.term, label.label), (revision(83), Some(term(90)), SET));
}

#[test]
fn rule_8_a_holder_with_a_higher_term_is_never_labelled() {
    // Seen after the look at the server, so that nobody can say yet whether the term is forged.
    let late = pod("a").term(999);
    let plan = world(Content::Blank).pods([late]).with(|world| world.read_after = Some(revision(100))).plan();
    assert_eq!((elected(&plan).0, plan.label.as_ref()), ("a", None));
}

#[test]
fn rule_8_a_lost_label_or_a_lost_term_comes_back_under_the_same_term() {
    for leader in [pod("b").term(90), pod("b").labelled(), pod("b").labelled().term(50)] {
        let plan = world(reign("b", 90, [])).pods([leader]).plan();
        assert_eq!((plan.lease, writes(plan.label.as_slice())), (None, vec![("b", 90, SET)]));
    }
}

#[test]
fn rule_8_a_holder_with_a_higher_term_is_elected_anew_once_the_lease_is_known_to_be_current() {
    let stale_or_not = world(reign("b", 90, [])).pods([pod("b").term(95)]);
    assert!(matches!(stale_or_not.plan().then, Then::Consult(_)));
    assert_eq!(stale_or_not.plan().label, None);
    let plan = stale_or_not.consulted().plan();
    assert_eq!(elected(&plan), ("b", 100, uids([])));
    assert_eq!(writes(plan.label.as_slice()), [("b", 100, SET)]);
}

#[test]
fn a_forged_term_counts_as_none_once_the_lease_was_read_from_the_server() {
    let forged = || world(reign("b", 90, ["a-uid"])).pods([pod("a").labelled().term(999), pod("b").labelled().term(999)]);
    assert!(matches!(forged().plan().then, Then::Consult(_)));
    let plan = forged().consulted().plan();
    assert_eq!(plan.lease, None);
    assert_eq!(writes(&plan.fence), [("a", 90, REMOVE)]);
    assert_eq!(writes(plan.label.as_slice()), [("b", 90, SET)]);
}

#[test]
fn a_candidate_with_a_forged_term_is_elected_only_after_the_server_was_asked() {
    let forged = || world(reign("", 90, [])).pods([pod("b").term(999)]);
    assert!(matches!(forged().plan().then, Then::Consult(_)));
    let plan = forged().consulted().plan();
    assert_eq!((elected(&plan).0, writes(plan.label.as_slice())), ("b", vec![("b", 100, SET)]));
}
