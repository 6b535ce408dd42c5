//! The shell against a server that answers as it is told: what it sends, in which order, and where it stops.

use tokio::time::Instant;

use super::act::act;
use super::fixtures::*;
use super::observe::cached::Named;
use super::observe::snapshot::Consulted;
use super::observe::world::{Changes, World};
use super::queue::Outcome;
use super::reconcile::Reconciler;
use super::server::{Read, Refusal, Write};
use super::shared::Shared;
use super::sweep::sweep;
use crate::api::names;
use crate::election::plan::Plan;
use crate::election::snapshot::Snapshot;

fn plan(shared: &Shared<Script>) -> (Snapshot, Plan) {
    let (snapshot, _) = shared.world().snapshot(&key("web"), Consulted::default()).unwrap();
    let plan = crate::election::decide(&snapshot, (shared.clock)());
    (snapshot, plan)
}

/// The leader `a` is gone, `b` may lead, `c` carries a stray label: a plan with a compare-and-swap, a fence and a label.
fn switch() -> Vec<Named> {
    vec![
        election("web", 10, |_| ()),
        lease("web", 40, "a", 30),
        pod("a", 41, |object| object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into()),
        pod("b", 42, ready),
        pod("c", 43, |object| {
            object["metadata"]["labels"]["leader"] = "true".into();
            object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "20" });
        }),
    ]
}

async fn run(shared: &Shared<Script>) -> (Vec<Write>, bool) {
    let (snapshot, lease) = shared.world().snapshot(&key("web"), Consulted::default()).unwrap();
    let (_, plan) = plan(shared);
    let done = act(shared, &snapshot.election, lease, plan, Instant::now()).await.is_ok();
    (shared.server.writes.lock().unwrap().clone(), done)
}

#[tokio::test]
async fn a_plan_is_carried_out_in_its_order_and_every_write_is_guarded() {
    let shared = shared(Script::default(), switch());
    let (writes, done) = run(&shared).await;
    assert!(done);
    let [
        Write::ReplaceLease(lease),
        Write::PatchPod { name: first, patch: fence },
        Write::PatchPod { name: second, .. },
        ..,
    ] = &writes[..]
    else {
        panic!("{writes:#?}")
    };
    assert_eq!(lease.metadata.uid.as_deref(), Some("lease-uid"), "without the UID a PUT re-creates a deleted Lease");
    assert_eq!(lease.metadata.resource_version.as_deref(), Some("40"));
    assert_eq!(lease.metadata.annotations.as_ref().unwrap()[names::TERM], "40");
    assert_eq!(lease.metadata.owner_references.as_ref().unwrap()[0].name, "web");
    assert_eq!((first.as_str(), second.as_str()), ("a", "c"));
    assert_eq!((&fence["metadata"]["uid"], &fence["metadata"]["resourceVersion"]), (&"a-uid".into(), &"41".into()));
    let Write::PatchPod { name, patch } = &writes[3] else { panic!("{writes:#?}") };
    assert_eq!((name.as_str(), &patch["metadata"]["resourceVersion"]), ("b", &"42".into()));
    assert_eq!(patch["metadata"]["labels"]["leader"], "true");
    assert_eq!(patch["metadata"]["annotations"][names::claim("web")], "40");
    let Write::PatchStatus { patch, .. } = &writes[4] else { panic!("{writes:#?}") };
    assert_eq!((&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]), (&"web-uid".into(), &"10".into()));
    assert!(matches!(&writes[5..], [Write::CreateEvent(_)]));
}

#[tokio::test]
async fn rule_5_nothing_follows_a_compare_and_swap_that_was_not_acknowledged() {
    let refusals = [Refusal::Outdated("conflict".into()), Refusal::Unknown("timeout".into()), absent(true)];
    for refusal in refusals {
        let script = Script { to_writes: answers([Err(refusal)]), ..Script::default() };
        let (writes, done) = run(&shared(script, switch())).await;
        assert!(!done && writes.len() == 1, "{writes:#?}");
    }
}

#[tokio::test]
async fn rule_6_nobody_is_labelled_after_a_fence_that_was_not_acknowledged() {
    for refusal in [Refusal::Outdated("conflict".into()), Refusal::Unknown("timeout".into()), absent(true)] {
        let to_writes = answers([Ok(Vec::new()), Err(refusal)]);
        let script = Script { to_writes, ..Script::default() };
        let (writes, done) = run(&shared(script, switch())).await;
        assert!(!done);
        let labels = writes.iter().any(|write| matches!(write, Write::PatchPod { name, .. } if name == "b"));
        assert!(!labels, "{writes:#?}");
    }
}

#[tokio::test]
async fn rule_9_no_status_is_written_before_the_label_was_acknowledged() {
    let to_writes = answers([Ok(Vec::new()), Ok(Vec::new()), Ok(Vec::new()), Err(Refusal::Unknown("timeout".into()))]);
    let script = Script { to_writes, ..Script::default() };
    let (writes, done) = run(&shared(script, switch())).await;
    assert!(!done && !writes.iter().any(|write| matches!(write, Write::PatchStatus { .. })));
}

#[tokio::test]
async fn a_refused_write_is_followed_by_a_read_of_the_same_object() {
    let script = Script {
        to_writes: answers([Err(Refusal::Unknown("timeout".into()))]),
        to_reads: answers([Ok(vec![lease("web", 44, "b", 40)])]),
        ..Script::default()
    };
    let shared = shared(script, switch());
    let outcome = Reconciler::default().reconcile(&shared, &key("web"), Instant::now()).await;
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(*shared.server.reads.lock().unwrap(), [Read::Lease("web".into())]);
    let (_, plan) = plan(&shared);
    assert_eq!(plan.lease, None, "the write had been applied, and that is seen now");
}

#[tokio::test]
async fn a_write_that_is_refused_for_good_stalls_the_election_and_is_said_in_its_status() {
    let refusal = Refusal::Denied("pods \"b\" is forbidden".into());
    let script = Script { to_writes: answers([Err(refusal)]), ..Script::default() };
    let shared = shared(script, switch());
    let outcome = Reconciler::default().reconcile(&shared, &key("web"), Instant::now()).await;
    assert_eq!(outcome, Outcome::Failed);
    let writes = shared.server.writes.lock().unwrap().clone();
    let [Write::ReplaceLease(_), Write::PatchStatus { patch, .. }] = &writes[..] else { panic!("{writes:#?}") };
    let stalled = &patch["status"]["conditions"][1];
    assert_eq!((&stalled["status"], &stalled["reason"]), (&"True".into(), &"WriteRefused".into()));
    assert!(stalled["message"].as_str().unwrap().contains("is forbidden"), "{stalled}");
}

#[tokio::test]
async fn a_right_world_costs_no_request_at_all() {
    let shared = shared(Script::default(), switch());
    run(&shared).await;
    // What the server has now, as the watches bring it.
    let leader = pod("b", 60, |object| {
        ready(object);
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "40" });
    });
    let items = [election("web", 61, |_| ()), lease("web", 50, "b", 40), leader];
    *shared.world() = world(items);
    let (_, first) = plan(&shared);
    let status = serde_json::to_value(first.status.unwrap().status).unwrap();
    apply(&mut shared.world(), election("web", 62, |object| object["status"] = status));
    shared.server.writes.lock().unwrap().clear();
    let outcome = Reconciler::default().reconcile(&shared, &key("web"), Instant::now()).await;
    assert_eq!(outcome, Outcome::Done);
    assert!(shared.server.writes.lock().unwrap().is_empty() && shared.server.reads.lock().unwrap().is_empty());
}

// ---- Rule 11: the sweep ----------------------------------------------------------------------------------------------------

fn left_behind() -> Named {
    pod("a", 41, |object| {
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "20" });
    })
}

async fn swept(answer: Result<Vec<Named>, Refusal>, serves_elections: bool) -> Vec<Write> {
    let script = Script { to_reads: answers([answer]), serves_elections, ..Script::default() };
    let shared = shared(script, [left_behind()]);
    sweep(&shared, &key("web")).await;
    shared.server.writes.into_inner().unwrap()
}

#[tokio::test]
async fn rule_11_the_label_of_a_deleted_election_goes_and_the_term_stays() {
    let writes = swept(Err(absent(true)), true).await;
    let [Write::PatchPod { name, patch }] = &writes[..] else { panic!("{writes:#?}") };
    assert_eq!(name, "a");
    let metadata = serde_json::json!({ "uid": "a-uid", "resourceVersion": "41", "labels": { "leader": null } });
    assert_eq!(patch["metadata"], metadata);
}

#[tokio::test]
async fn rule_11_nothing_is_swept_without_the_servers_word_about_this_very_election() {
    assert!(swept(Ok(vec![election("web", 50, |_| ())]), true).await.is_empty(), "it exists");
    assert!(swept(Err(absent(false)), true).await.is_empty(), "something else was not found");
    assert!(swept(Err(absent(true)), false).await.is_empty(), "the resource is not served");
    assert!(swept(Err(Refusal::Unknown("timeout".into())), true).await.is_empty(), "no answer");
}

#[tokio::test]
async fn a_label_that_another_election_has_on_the_pod_is_not_swept() {
    let script = Script { to_reads: answers([Err(absent(true))]), serves_elections: true, ..Script::default() };
    let shared = shared(script, [left_behind(), election("other", 12, |_| ())]);
    sweep(&shared, &key("web")).await;
    assert!(shared.server.writes.lock().unwrap().is_empty());
}

/// A pod that `web` led under the key `leader`, with a label of its user's under another allowed key.
fn led_and_labelled() -> Named {
    pod("a", 41, |object| {
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["labels"]["team.example/leader"] = "alice".into();
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "20" });
    })
}

#[tokio::test]
async fn of_an_election_that_was_seen_only_its_own_label_is_swept() {
    let script = Script { to_reads: answers([Err(absent(true))]), serves_elections: true, ..Script::default() };
    let shared = shared(script, [election("web", 10, |_| ()), led_and_labelled()]);
    let changes = delete(&mut shared.world(), election("web", 50, |_| ()));
    assert_eq!(changes.orphaned.into_iter().collect::<Vec<_>>(), [key("web")]);
    assert_eq!(sweep(&shared, &key("web")).await, Outcome::Done);
    let writes = shared.server.writes.lock().unwrap().clone();
    let [Write::PatchPod { patch, .. }] = &writes[..] else { panic!("{writes:#?}") };
    assert_eq!(patch["metadata"]["labels"], serde_json::json!({ "leader": null }));
    assert!(shared.world().retired(&key("web")).is_none(), "nothing is remembered for ever");
    let by_hand = pod("a", 60, |object| {
        object["metadata"]["labels"]["team.example/leader"] = "bob".into();
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "20" });
    });
    let changes = apply(&mut shared.world(), by_hand);
    assert!(changes.orphaned.is_empty(), "once: what is labelled afterwards is its user's");
    assert_eq!(sweep(&shared, &key("web")).await, Outcome::Done);
    assert_eq!(shared.server.writes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_election_made_again_with_another_label_does_not_leave_the_former_one_behind() {
    for label in [("new.example/leader", "true"), ("leader", "yes")] {
        made_again_with(label).await;
    }
}

async fn made_again_with((label, value): (&str, &str)) {
    let again = || {
        election("web", 60, |object| {
            object["metadata"]["uid"] = "another".into();
            object["spec"]["label"] = serde_json::json!({ "key": label, "value": value });
        })
    };
    let script = Script { to_reads: answers([Ok(vec![again()])]), serves_elections: true, ..Script::default() };
    let shared = shared(script, [election("web", 10, |_| ()), led_and_labelled()]);
    delete(&mut shared.world(), election("web", 50, |_| ()));
    let changes = apply(&mut shared.world(), again());
    assert!(changes.orphaned.contains(&key("web")) && changes.affected.contains(&key("web")));
    sweep(&shared, &key("web")).await;
    let writes = shared.server.writes.lock().unwrap().clone();
    let [Write::PatchPod { patch, .. }] = &writes[..] else { panic!("{writes:#?}") };
    assert_eq!(patch["metadata"]["labels"], serde_json::json!({ "leader": null }));
}

#[tokio::test]
async fn a_label_that_was_under_way_when_its_election_was_swept_goes_too() {
    let script = Script { to_reads: answers([Err(absent(true))]), serves_elections: true, ..Script::default() };
    let fenced = pod("b", 40, |object| object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "20" }));
    let shared = shared(script, [election("web", 10, |_| ()), fenced, pod("a", 41, |_| ())]);
    delete(&mut shared.world(), election("web", 50, |_| ()));
    sweep(&shared, &key("web")).await;
    assert!(shared.server.writes.lock().unwrap().is_empty(), "nobody is labelled yet");
    let late = pod("a", 51, |object| {
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "20" });
    });
    assert!(apply(&mut shared.world(), late).orphaned.contains(&key("web")));
    sweep(&shared, &key("web")).await;
    assert_eq!(shared.server.writes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_change_of_the_spec_retires_nothing() {
    let shared = shared(Script::default(), [election("web", 10, |_| ()), led_and_labelled()]);
    let changed = election("web", 20, |object| {
        object["metadata"]["generation"] = 2.into();
        object["spec"]["minReadySeconds"] = 5.into();
    });
    assert!(apply(&mut shared.world(), changed).orphaned.is_empty());
    assert!(shared.world().retired(&key("web")).is_none());
}

// ---- The caches ------------------------------------------------------------------------------------------------------------

fn names_of(changes: Changes) -> Vec<String> {
    changes.affected.into_iter().map(|key| key.name).collect()
}

#[test]
fn a_pod_concerns_the_elections_that_match_it_now_or_did_before_and_no_others() {
    let other = election("db", 11, |object| object["spec"]["selector"]["matchLabels"] = serde_json::json!({ "app": "db" }));
    let mut world = world([election("web", 10, |_| ()), other]);
    assert_eq!(names_of(apply(&mut world, pod("a", 20, |_| ()))), ["web"]);
    assert_eq!(names_of(apply(&mut world, pod("a", 21, |_| ()))), [""; 0], "a mere new version");
    let moved = |object: &mut serde_json::Value| object["metadata"]["labels"]["app"] = "db".into();
    assert_eq!(names_of(apply(&mut world, pod("a", 22, moved))), ["db", "web"]);
    assert_eq!(names_of(delete(&mut world, pod("a", 23, moved))), ["db"]);
}

#[test]
fn an_old_version_never_replaces_a_newer_one() {
    let mut world = world([election("web", 10, |_| ())]);
    apply(&mut world, pod("a", 30, ready));
    assert_eq!(names_of(apply(&mut world, pod("a", 29, |_| ()))), [""; 0]);
    let (snapshot, _) = world.snapshot(&key("web"), Consulted::default()).unwrap();
    assert!(snapshot.pods[0].ready_since.is_some());
}

#[test]
fn a_watch_that_lags_does_not_bring_back_the_predecessor_of_a_re_created_pod() {
    let named = |uid: &'static str| move |object: &mut serde_json::Value| object["metadata"]["uid"] = uid.into();
    let mut world = world([election("web", 10, |_| ()), lease("web", 20, "a", 15), pod("a", 30, named("old"))]);
    // Our own read sees the new one before the watch does.
    let ticket = world.ticket(super::observe::stream::Kind::Pods, "default");
    world.answered(ticket, pod("a", 70, named("a-uid")));
    apply(&mut world, pod("a", 50, named("old")));
    delete(&mut world, pod("a", 60, named("old")));
    let (snapshot, _) = world.snapshot(&key("web"), Consulted::default()).unwrap();
    assert_eq!(snapshot.pods.iter().map(|pod| pod.id.uid.as_ref()).collect::<Vec<_>>(), ["a-uid"]);
    assert!(snapshot.gone.is_empty(), "the leader is not gone");
}

#[test]
fn a_watch_that_lags_does_not_bring_back_what_an_answer_showed_to_be_gone() {
    use super::observe::stream::Kind;
    let mut world = world([election("web", 10, |_| ())]);
    let ticket = world.ticket(Kind::Pods, "default");
    world.answered(ticket, pod("a", 70, |_| ()));
    world.answered_gone(Kind::Pods, "default", "a", &"a-uid".into());
    apply(&mut world, pod("a", 50, |_| ()));
    assert_eq!(world.version(Kind::Pods, "default", "a"), None, "50 is the past of 70");
    apply(&mut world, pod("a", 90, |object| object["metadata"]["uid"] = "another".into()));
    assert!(world.version(Kind::Pods, "default", "a").is_some(), "90 is not");
}

#[test]
fn the_election_that_matches_a_pod_has_the_better_right_than_one_that_only_claims_it() {
    let moved = pod("a", 20, |object| {
        object["metadata"]["labels"] = serde_json::json!({ "app": "db", "leader": "true" });
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "15" });
    });
    let db = election("db", 11, |object| object["spec"]["selector"]["matchLabels"] = serde_json::json!({ "app": "db" }));
    let world = world([election("web", 10, |_| ()), db, moved]);
    let rival = |name: &str| world.snapshot(&key(name), Consulted::default()).unwrap().0.pods[0].rival.clone();
    assert_eq!((rival("web"), rival("db")), (Some("db".into()), None));
}

#[test]
fn an_election_that_shares_a_lease_looks_again_when_the_other_goes() {
    let lease_named = |object: &mut serde_json::Value| object["spec"]["leaseName"] = "shared".into();
    let mut world = world([election("one", 10, lease_named), election("two", 11, lease_named)]);
    assert_eq!(names_of(delete(&mut world, election("one", 20, lease_named))), ["two"]);
}

#[test]
fn an_election_with_a_new_selector_sees_its_new_pods() {
    let mut world = world([pod("a", 20, |_| ()), pod("b", 21, |object| object["metadata"]["labels"]["app"] = "db".into())]);
    apply(&mut world, election("web", 30, |_| ()));
    let seen = |world: &World| {
        let (snapshot, _) = world.snapshot(&key("web"), Consulted::default()).unwrap();
        snapshot.pods.into_iter().filter(|pod| pod.matches).map(|pod| pod.id.name).collect::<Vec<_>>()
    };
    assert_eq!(seen(&world), ["a"]);
    let changed = election("web", 31, |object| {
        object["metadata"]["generation"] = 2.into();
        object["spec"]["selector"]["matchLabels"] = serde_json::json!({ "app": "db" });
    });
    apply(&mut world, changed);
    assert_eq!(seen(&world), ["b"]);
}

#[test]
fn a_deleted_former_holder_is_known_to_be_gone_and_an_unseen_one_is_not() {
    let mut world = world([election("web", 10, |_| ()), lease("web", 40, "a", 30), pod("a", 41, |_| ())]);
    let gone = |world: &World| world.snapshot(&key("web"), Consulted::default()).unwrap().0.gone.contains(&"a-uid".into());
    assert!(!gone(&world));
    delete(&mut world, pod("a", 50, |_| ()));
    assert!(gone(&world));
}

#[test]
fn an_election_that_cannot_be_read_does_not_hinder_the_others() {
    let bad = election("bad", 11, |object| object["spec"] = serde_json::json!({ "selector": 7 }));
    let empty = election("empty", 12, |object| object["spec"]["selector"] = serde_json::json!({}));
    let world = world([bad, empty, election("web", 13, |_| ()), pod("a", 20, ready)]);
    let settings = |name: &str| world.snapshot(&key(name), Consulted::default()).unwrap().0.election.settings;
    assert!(settings("bad").unwrap_err().message.contains("cannot be read"));
    assert!(settings("empty").unwrap_err().message.contains("spec.selector is empty"));
    assert!(settings("web").is_ok());
}

#[test]
fn of_two_elections_with_one_label_key_the_one_that_claims_the_pod_has_it_then_the_older() {
    let at =
        |time: &'static str| move |object: &mut serde_json::Value| object["metadata"]["creationTimestamp"] = time.into();
    let old = election("old", 10, at("2026-01-01T00:00:00Z"));
    let young = election("young", 11, at("2026-02-01T00:00:00Z"));
    let claimed = pod("b", 21, |object| {
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("young"): "15" });
    });
    let world = world([old, young, pod("a", 20, |_| ()), claimed]);
    let rivals = |name: &str| {
        let (snapshot, _) = world.snapshot(&key(name), Consulted::default()).unwrap();
        snapshot.pods.into_iter().map(|pod| pod.rival).collect::<Vec<_>>()
    };
    assert_eq!(rivals("old"), [None, Some("young".into())]);
    assert_eq!(rivals("young"), [Some("old".into()), None]);
}
