//! What the core decides, case by case. Each rule of the safety protocol (`docs/design.md`, section 4) has cases here that
//! fail when the rule is removed; the names say which rule.

use super::fixtures::*;
use super::plan::{LabelChange, LeaseWrite, Then};
use super::snapshot::PodState;
use super::term::Version;
use crate::api::Reason;
use crate::lease::record::Content;

const REMOVE: LabelChange = LabelChange::Remove;
const KEEP: LabelChange = LabelChange::Keep;
const SET: LabelChange = LabelChange::Set;

fn guard() -> Version {
    Version { uid: "lease".into(), resource_version: revision(100) }
}

// ---- Rule 2: a create never names a holder -------------------------------------------------------------------------------

#[test]
fn rule_2_without_a_lease_only_a_blank_one_is_created() {
    let plan = world(Content::Blank).pods([pod("a")]).with(|world| world.lease = None).plan();
    assert_eq!(plan.lease, Some(LeaseWrite::Create));
    assert_eq!((plan.fence.len(), plan.label, plan.then), (0, None, Then::DecideAgain));
}

// ---- Rule 3: a blank Lease is filled after a fresh look, and everybody is suspected -----------------------------------------

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
    assert_eq!(writes(&plan.fence), [("b", 100, KEEP), ("left", 100, KEEP)]);
    assert_eq!(writes(plan.label.as_slice()), [("a", 100, SET)]);
}

#[test]
fn rule_3_a_lease_that_was_edited_is_emptied_first() {
    let plan = world(Content::Damaged("an edit")).pods([pod("a").labelled().term(90)]).consulted().plan();
    assert_eq!(plan.lease, Some(LeaseWrite::Blank(guard(), "an edit")));
    assert_eq!((plan.fence.len(), plan.label, plan.then), (0, None, Then::DecideAgain));
}

#[test]
fn rule_3_a_lease_of_a_former_election_of_the_name_is_emptied_first() {
    let former = |world: &mut super::Snapshot| {
        world.lease.as_mut().unwrap().incarnation = Some("a former one".into());
    };
    for content in [reign("a", 90, []), Content::Blank] {
        let plan = world(content).pods([pod("a").labelled().term(90)]).with(former).consulted().plan();
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
    let unready = pod("a").with(|pod| pod.ready_since = None);
    let plan = world(Content::Blank).pods([unready]).plan();
    assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None));
}

#[test]
fn a_label_left_from_a_lost_lease_goes_even_if_nobody_may_lead() {
    let left = pod("a").labelled().term(70).with(|pod| pod.ready_since = None);
    let plan = world(Content::Blank).pods([left]).consulted().plan();
    assert_eq!(elected(&plan), ("", 100, uids(["a-uid"])));
    assert_eq!(writes(&plan.fence), [("a", 100, REMOVE)]);
}

// ---- Rule 4: the compare-and-swap and its list -----------------------------------------------------------------------------

#[test]
fn rule_4_the_term_is_the_revision_that_is_replaced() {
    let plan = world(reign("a", 90, [])).pods([pod("b")]).plan();
    let (holder, term, _) = elected(&plan);
    assert_eq!((holder, term), ("b", 100));
    let Some(LeaseWrite::Elect { guard: by, .. }) = plan.lease else { unreachable!() };
    assert_eq!(by, guard());
}

#[test]
fn rule_4_the_old_holder_is_listed_labelled_or_not_seen_or_not() {
    let terminating = |pod: &mut super::snapshot::Pod| pod.state = PodState::Terminating;
    let worlds = [
        world(reign("a", 90, [])).pods([pod("a").labelled().term(90).with(terminating), pod("b")]),
        world(reign("a", 90, [])).pods([pod("a").with(terminating), pod("b")]),
        world(reign("a", 90, [])).pods([pod("a").term(90).with(terminating), pod("b")]),
        world(reign("a", 90, [])).pods([pod("b")]),
        world(reign("a", 90, [])).pods([pod("b")]).with(|world| world.gone = uids(["a-uid"])),
    ];
    for world in worlds {
        assert_eq!(elected(&world.plan()), ("b", 100, uids(["a-uid"])), "{:?}", world.pods);
    }
}

#[test]
fn rule_4_an_old_entry_stays_until_its_pod_was_seen_unlabelled_with_the_term() {
    let drops = |world: super::Snapshot| !elected(&world.plan()).2.contains(&"x-uid".into());
    let base = || world(reign("a", 90, ["x-uid"]));
    assert!(drops(base().pods([pod("b"), pod("x").term(90)])), "fenced");
    assert!(drops(base().pods([pod("b"), pod("x").term(95)])), "fenced by a later term");
    assert!(!drops(base().pods([pod("b"), pod("x").term(89)])), "fenced by an earlier term");
    assert!(!drops(base().pods([pod("b"), pod("x")])), "never fenced");
    assert!(!drops(base().pods([pod("b"), pod("x").labelled().term(90)])), "labelled");
    assert!(!drops(base().pods([pod("b")])), "not seen: absence proves nothing");
    assert!(drops(base().pods([pod("b")]).with(|world| world.gone = uids(["x-uid"]))), "gone for ever");
}

#[test]
fn rule_4_the_new_holder_is_not_on_the_list() {
    let plan = world(reign("a", 90, ["b-uid"])).pods([pod("b").term(80)]).plan();
    assert_eq!(elected(&plan), ("b", 100, uids(["a-uid"])));
}

#[test]
fn names_do_not_identify_a_re_created_pod() {
    let again = pod("a").with(|pod| pod.id.uid = "another".into());
    let plan = world(reign("a", 90, [])).pods([again]).plan();
    assert_eq!(elected(&plan), ("a", 100, uids(["a-uid"])));
}

// ---- Rules 5 to 7: fencing -------------------------------------------------------------------------------------------------

#[test]
fn rule_5_a_former_holder_is_fenced_with_or_without_a_label() {
    let of = |former| world(reign("b", 90, ["a-uid"])).pods([former, pod("b")]).plan();
    assert_eq!(writes(&of(pod("a").labelled().term(50)).fence), [("a", 90, REMOVE)]);
    assert_eq!(writes(&of(pod("a").term(50)).fence), [("a", 90, KEEP)]);
    assert_eq!(writes(&of(pod("a")).fence), [("a", 90, KEEP)]);
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
    assert_eq!(
        plan.status.unwrap().status.condition("Stalled").unwrap().reason,
        format!("{:?}", Reason::OverlappingElections)
    );
}

#[test]
fn a_pod_that_a_rival_has_is_not_claimed_by_filling_a_lease() {
    let theirs = pod("c").with(|pod| pod.rival = Some("db".into()));
    let plan = world(Content::Blank).pods([pod("a"), theirs]).consulted().plan();
    assert_eq!(elected(&plan), ("a", 100, uids([])));
}

// ---- Rule 8: the label -----------------------------------------------------------------------------------------------------

#[test]
fn rule_8_the_label_and_the_term_are_one_write_to_the_version_that_was_seen() {
    let plan = world(reign("b", 90, [])).pods([pod("b").with(|pod| pod.resource_version = revision(83))]).plan();
    let label = plan.label.unwrap();
    assert_eq!((label.resource_version, label.term, label.label), (revision(83), term(90), SET));
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

// ---- Rule 9: the status ----------------------------------------------------------------------------------------------------

#[test]
fn rule_9_the_status_never_goes_back_to_a_lower_term() {
    let newer = |world: &mut super::Snapshot| world.election.status.term = Some(100);
    let world = world(reign("b", 90, [])).pods([pod("b").labelled().term(90)]).with(newer);
    let plan = world.plan();
    assert_eq!(plan.status, None);
    assert!(matches!(plan.then, Then::Consult(_)));
    let forged = world.consulted().plan().status.expect("a forged status is mended");
    assert_eq!(forged.status.term, Some(90));
}

#[test]
fn rule_9_a_change_of_leader_is_announced_with_the_status_that_tells_it_first() {
    let plan = world(reign("a", 90, [])).pods([pod("b")]).with(|world| world.gone = uids(["a-uid"])).plan();
    let status = plan.status.unwrap();
    assert_eq!(status.status.leader.as_deref(), Some("b"));
    assert_eq!(status.status.leader_uid.as_deref(), Some("b-uid"));
    assert_eq!((status.status.term, status.status.transitions), (Some(100), Some(5)));
    let announced = status.announce.unwrap();
    assert_eq!((announced.to.as_deref(), announced.term), (Some("b"), term(100)));
    assert_eq!(announced.reason, "a is gone");
}

#[test]
fn the_status_waits_for_nothing_but_mere_counts() {
    let leader = pod("b").labelled().term(90);
    let (rest, _) = PerfectServer::new().settle(world(reign("b", 90, [])).pods([leader, pod("c")]));
    let fewer = rest.clone().with(|world| world.pods[1].ready_since = None).plan().status.unwrap();
    assert!(fewer.can_wait && fewer.announce.is_none());
    let stalled = rest.with(|world| world.pods[1].label = Some("foreign".into())).plan().status.unwrap();
    assert!(!stalled.can_wait);
}

// ---- Rule 10: nobody eligible ----------------------------------------------------------------------------------------------

#[test]
fn rule_10_without_an_eligible_pod_the_holder_is_deposed_under_a_new_term() {
    let unready = pod("a").labelled().term(90).with(|pod| pod.ready_since = None);
    let plan = world(reign("a", 90, [])).pods([unready]).plan();
    assert_eq!(elected(&plan), ("", 100, uids(["a-uid"])));
    assert_eq!((writes(&plan.fence), plan.label), (vec![("a", 100, REMOVE)], None));
    let status = plan.status.unwrap().status;
    assert_eq!((status.leader.as_deref(), status.term, status.transitions), (None, Some(100), Some(4)));
    let ready = status.condition("Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "NoEligiblePod"));
    assert_eq!(ready.message, "none of the matching pods may lead: a is not Ready");
}

#[test]
fn a_vacancy_is_not_renewed() {
    let plan = world(reign("", 90, [])).pods([pod("a").term(90).with(|pod| pod.ready_since = None)]).plan();
    assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None));
}

#[test]
fn an_election_without_pods_is_ready() {
    let status = world(reign("", 90, [])).plan().status.unwrap().status;
    let ready = status.condition("Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "NoPods"));
    assert_eq!(status.eligible.as_deref(), Some("0/0"));
}

// ---- What is refused -------------------------------------------------------------------------------------------------------

fn stalled(world: &super::Snapshot) -> (String, String) {
    let plan = world.plan();
    assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None), "a stalled Election writes nothing else");
    let status = plan.status.unwrap().status;
    let condition = status.condition("Stalled").unwrap();
    assert_eq!(condition.status, "True");
    (condition.reason.clone(), condition.message.clone())
}

#[test]
fn a_lease_of_somebody_else_is_left_alone() {
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
fn a_label_that_is_in_use_before_the_first_term_stops_the_election() {
    for value in ["true", "false"] {
        let used = pod("a").with(|pod| pod.label = Some(value.into()));
        let (reason, message) = stalled(&world(Content::Blank).pods([used, pod("b")]).consulted());
        assert_eq!(reason, "LabelConflict");
        assert!(message.contains("on a ") && message.contains("spec.label.key"), "{message}");
    }
}

#[test]
fn a_spec_that_cannot_be_used_says_so_and_keeps_the_leader() {
    let problem = super::snapshot::Problem { reason: Reason::InvalidSelector, message: "spec.selector is empty".into() };
    let world = world(reign("a", 90, [])).pods([pod("a").labelled().term(90)]).with(|world| {
        world.election.settings = Err(problem);
        world.election.status.leader = Some("a".into());
    });
    assert_eq!(stalled(&world), ("InvalidSelector".into(), "spec.selector is empty".into()));
    assert_eq!(world.plan().status.unwrap().status.leader.as_deref(), Some("a"));
}

#[test]
fn more_pods_than_the_list_can_name_are_refused() {
    let many = world(Content::Blank).with(|world| {
        world.pods = (0..=super::decide::MOST_PODS).map(|number| pod(&format!("p{number}"))).collect();
    });
    assert_eq!(stalled(&many).0, "TooManyPods");
}

// ---- Candidates and their order ----------------------------------------------------------------------------------------------

#[test]
fn who_may_not_lead_is_replaced_at_once_with_the_reason() {
    type Change = fn(&mut super::snapshot::Pod);
    let cases: [(Change, &str); 8] = [
        (|pod| pod.state = PodState::Terminating, "a is terminating"),
        (|pod| pod.state = PodState::Failed, "a failed"),
        (|pod| pod.state = PodState::Succeeded, "a has ended"),
        (|pod| pod.state = PodState::Pending, "a is not running"),
        (|pod| pod.ready_since = None, "a is not Ready"),
        (|pod| pod.opted_out = true, "a opted out"),
        (|pod| pod.matches = false, "a does not match the selector"),
        (|pod| pod.rival = Some("db".into()), "a is claimed by Election db"),
    ];
    for (change, why) in cases {
        let leader = pod("a").labelled().term(90).with(change);
        let plan = world(reign("a", 90, [])).pods([leader, pod("b")]).plan();
        assert_eq!(elected(&plan).0, "b", "{why}");
        let Some(LeaseWrite::Elect { record, .. }) = plan.lease else { unreachable!() };
        assert_eq!(record.reason, why);
    }
}

fn winner<const N: usize>(pods: [super::snapshot::Pod; N]) -> String {
    elected(&world(reign("", 90, [])).pods(pods).plan()).0.to_owned()
}

#[test]
fn the_order_is_priority_then_newest_revision_then_longest_ready_then_name() {
    let old = |name: &str| pod(name).with(|pod| (pod.revision, pod.created) = (Some("old".into()), at(100)));
    let new = |name: &str| pod(name).with(|pod| (pod.revision, pod.created) = (Some("new".into()), at(200)));
    assert_eq!(winner([pod("b"), pod("a")]), "a");
    assert_eq!(winner([pod("a"), pod("b").with(|pod| pod.ready_since = Some(at(599)))]), "b");
    assert_eq!(winner([old("a").with(|pod| pod.ready_since = Some(at(1))), new("b")]), "b");
    assert_eq!(winner([new("a"), old("b").with(|pod| pod.priority = 1)]), "b");
    assert_eq!(winner([pod("a").with(|pod| pod.priority = -1), pod("b")]), "b");
}

#[test]
fn a_healthy_leader_is_never_preempted() {
    let better = pod("b").with(|pod| (pod.priority, pod.ready_since) = (100, Some(at(1))));
    let plan = world(reign("a", 90, [])).pods([pod("a").labelled().term(90), better]).plan();
    assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None));
}

#[test]
fn a_pod_must_have_been_ready_for_long_enough_to_become_leader_but_not_to_stay() {
    let patient = |world: &mut super::Snapshot| {
        world.election.settings.as_mut().unwrap().min_ready = k8s_openapi::jiff::SignedDuration::from_secs(30);
    };
    let ready_at = |name: &str, second| pod(name).with(|pod| pod.ready_since = Some(at(second)));
    let young = world(reign("", 90, [])).pods([ready_at("a", 971)]).with(patient).plan();
    assert_eq!((young.lease, young.then), (None, Then::LookAgain(at(1_001))));
    let old = world(reign("", 90, [])).pods([ready_at("a", 970)]).with(patient).plan();
    assert_eq!(elected(&old).0, "a");
    let ahead = world(reign("", 90, [])).pods([ready_at("a", 5_000)]).with(patient).plan();
    assert_eq!(ahead.then, Then::LookAgain(at(1_030)), "a time in the future counts as now");
    let blip = world(reign("a", 90, [])).pods([ready_at("a", 999).labelled().term(90)]).with(patient).plan();
    assert_eq!(blip.lease, None, "a leader that is well is kept");
}

#[test]
fn a_world_that_is_right_is_left_alone() {
    let (rest, _) = PerfectServer::new().settle(world(Content::Blank).pods([pod("a"), pod("b"), pod("c")]));
    assert_eq!(rest.plan(), super::Plan::default());
    let restarted = rest.with(|world| (world.gone, world.read_after) = (uids([]), None));
    assert_eq!(restarted.plan(), super::Plan::default(), "nothing that matters is only in memory");
}

// ---- Fields that keep a leader -----------------------------------------------------------------------------------------------

fn unready_at(name: &str, second: i64) -> super::snapshot::Pod {
    pod(name).with(|pod| (pod.ready_since, pod.unready_since) = (None, Some(at(second))))
}

fn with_settings(change: fn(&mut super::snapshot::Settings)) -> impl FnOnce(&mut super::Snapshot) {
    move |world| change(world.election.settings.as_mut().unwrap())
}

fn ready_reason(plan: &super::Plan) -> (String, String) {
    let status = &plan.status.as_ref().unwrap().status;
    let ready = status.condition("Ready").unwrap();
    (ready.status.clone(), ready.reason.clone())
}

#[test]
fn hold_keeps_a_leader_that_is_merely_not_ready_while_there_is_no_other() {
    let hold = || with_settings(|settings| settings.hold = true);
    let leader = || unready_at("a", 990).labelled().term(90);
    let plan = world(reign("a", 90, [])).pods([leader()]).with(hold()).plan();
    assert_eq!((plan.lease.clone(), plan.fence.len()), (None, 0));
    assert_eq!(ready_reason(&plan), ("True".into(), "LeaderHeld".into()));
    let plan = world(reign("a", 90, [])).pods([leader(), pod("b")]).with(hold()).plan();
    assert_eq!(elected(&plan).0, "b", "there is another");
    for state in [PodState::Terminating, PodState::Failed, PodState::Succeeded] {
        let gone = leader().with(|pod| pod.state = state);
        let plan = world(reign("a", 90, [])).pods([gone]).with(hold()).plan();
        assert_eq!((elected(&plan).0, writes(&plan.fence)), ("", vec![("a", 100, REMOVE)]), "{state:?}");
    }
    let absent = world(reign("a", 90, [])).with(hold()).plan();
    assert_eq!(elected(&absent).0, "", "gone");
}

#[test]
fn a_failover_delay_gives_time_to_a_leader_that_turned_unready_and_to_no_other() {
    let delay = || with_settings(|settings| settings.failover_delay = k8s_openapi::jiff::SignedDuration::from_secs(30));
    let of = |leader| world(reign("a", 90, [])).pods([leader, pod("b")]).with(delay()).plan();
    let early = of(unready_at("a", 971).labelled().term(90));
    assert_eq!((early.lease.clone(), early.then.clone()), (None, Then::LookAgain(at(1_001))));
    assert_eq!(ready_reason(&early), ("True".into(), "LeaderHeld".into()));
    assert_eq!(elected(&of(unready_at("a", 970).labelled().term(90))).0, "b", "the time is over");
    for state in [PodState::Terminating, PodState::Failed] {
        let gone = unready_at("a", 999).labelled().term(90).with(|pod| pod.state = state);
        assert_eq!(elected(&of(gone)).0, "b", "{state:?} is never delayed");
    }
    let ahead = of(unready_at("a", 5_000).labelled().term(90));
    assert_eq!(ahead.then, Then::LookAgain(at(1_030)), "a time in the future counts as now");
}

#[test]
fn a_suspended_election_begins_no_term_and_repairs_labels() {
    let suspend = || with_settings(|settings| settings.suspend = true);
    let terminating = pod("a").term(90).with(|pod| pod.state = PodState::Terminating);
    let stray = pod("c").labelled();
    let plan =
        world(reign("a", 90, ["d-uid"])).pods([terminating, pod("b"), stray, pod("d").term(80)]).with(suspend()).plan();
    assert_eq!(plan.lease, None);
    assert_eq!(writes(&plan.fence), [("c", 90, REMOVE), ("d", 90, KEEP)], "what began is finished");
    assert_eq!(writes(plan.label.as_slice()), [("a", 90, SET)]);
    let gone = world(reign("a", 90, [])).pods([pod("b")]).with(suspend()).plan();
    assert_eq!((gone.lease.clone(), ready_reason(&gone)), (None, ("False".into(), "Suspended".into())));
    for content in [Content::Blank, Content::Damaged("an edit")] {
        let plan = world(content).pods([pod("b")]).with(suspend()).consulted().plan();
        assert_eq!((plan.lease.clone(), ready_reason(&plan)), (None, ("False".into(), "Suspended".into())));
    }
}
