//! Order of a plan's writes, and the failures that end it.

use super::*;

fn plan(shared: &Shared<Script>) -> (Snapshot, Plan) {
    let (snapshot, _) = shared.world().snapshot(&key("web"), Consulted::default()).unwrap();
    let plan = crate::election::decide(&snapshot, (shared.clock)());
    (snapshot, plan)
}

/// The leader `a` is terminating, `b` is eligible, `c` carries a stray label: a plan with a compare-and-swap, a fence and a
/// label.
pub fn switch() -> Vec<Named> {
    vec![
        election("web", 10, |_| ()),
        lease("web", 40, "a", 30),
        pod("a", 41, |object| object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into()),
        pod("b", 42, claimed),
        pod("c", 43, |object| {
            object["metadata"]["labels"]["leader"] = "true".into();
            object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "20" });
        }),
    ]
}

pub async fn run(shared: &Shared<Script>) -> (Vec<Write>, bool) {
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
async fn rule_6_nobody_is_labeled_after_a_fence_that_was_not_acknowledged() {
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
    let outcome = Reconciler::default().reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    assert_eq!(outcome, Outcome::Backoff);
    assert_eq!(*shared.server.reads.lock().unwrap(), [Read::Lease("web".into())]);
    let (_, plan) = plan(&shared);
    assert_eq!(plan.lease, None, "the write had been applied, and that is seen now");
}

#[tokio::test]
async fn a_write_that_is_refused_for_good_stalls_the_election_and_is_said_in_its_status() {
    let refusal = Refusal::Denied("pods \"b\" is forbidden".into());
    let script = Script { to_writes: answers([Err(refusal)]), ..Script::default() };
    let shared = shared(script, switch());
    let outcome = Reconciler::default().reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    assert_eq!(outcome, Outcome::Backoff);
    let writes = shared.server.writes.lock().unwrap().clone();
    let [Write::ReplaceLease(_), Write::PatchStatus { patch, .. }] = &writes[..] else { panic!("{writes:#?}") };
    let stalled = &patch["status"]["conditions"][1];
    assert_eq!((&stalled["status"], &stalled["reason"]), (&"True".into(), &"RequestDenied".into()));
    assert!(stalled["message"].as_str().unwrap().contains("is forbidden"), "{stalled}");

    // The same refusal in other words, as a second controller may get it: the status has it already.
    let status = patch["status"].clone();
    apply(&mut shared.world(), election("web", 60, |object| object["status"] = status));
    *shared.server.to_writes.lock().unwrap() = [Err(Refusal::Denied("user y cannot patch".into()))].into();
    Reconciler::default().reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    let writes = shared.server.writes.lock().unwrap();
    assert!(matches!(writes[2..], [Write::ReplaceLease(_)]), "{writes:#?}");
}

#[tokio::test]
async fn a_right_world_costs_no_request_at_all() {
    let shared = shared(Script::default(), switch());
    run(&shared).await;
    // The watches deliver the server's state.
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
    let outcome = Reconciler::default().reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    assert_eq!(outcome, Outcome::Done);
    assert!(shared.server.writes.lock().unwrap().is_empty() && shared.server.reads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn of_two_writes_to_the_same_version_of_a_pod_only_the_first_is_sent() {
    let newer = pod("a", 50, |object| {
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "40" });
    });
    let script = Script { to_writes: answers([Ok(vec![newer])]), ..Script::default() };
    let shared = shared(script, [pod("a", 41, ready)]);
    let decided_on = shared.world().version(Kind::Pods, "default", "a");
    let target = Target { kind: Kind::Pods, namespace: "default".into(), name: "a".into(), decided_on };
    let write = || Write::PatchPod { name: "a".into(), patch: serde_json::json!({}) };
    let (first, second) = futures::join!(shared.write(&target, write()), shared.write(&target, write()));
    assert!(first.is_ok() && matches!(second, Err(Refusal::Outdated(_))), "{first:?}, {second:?}");
    assert_eq!(shared.server.writes.lock().unwrap().len(), 1);
}
