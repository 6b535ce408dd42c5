//! Responses with success, though the server dropped or restored a part of the write.

use super::act::{run, switch};
use super::*;
use serde_json::{Value, json};

/// The pod `a` after a policy restored a removed label.
fn restored() -> Named {
    pod("a", 60, |object| {
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = json!({ names::claim("web"): "40" });
    })
}

/// The pod `b` after a policy dropped an unknown label.
fn dropped() -> Named {
    pod("b", 61, |object| {
        ready(object);
        object["metadata"]["annotations"] = json!({ names::claim("web"): "40" });
    })
}

#[tokio::test]
async fn rule_6_nobody_is_labeled_after_a_fence_that_left_the_label() {
    let script = Script { to_writes: answers([Ok(Vec::new()), Ok(vec![restored()])]), ..Script::default() };
    let (writes, done) = run(&shared(script, switch())).await;
    assert!(!done);
    let labels = writes.iter().any(|write| matches!(write, Write::PatchPod { name, .. } if name == "b"));
    assert!(!labels, "{writes:#?}");
}

#[tokio::test]
async fn rule_5_a_fence_without_its_term_fences_nobody() {
    let without_claim = pod("a", 60, |_| ());
    let script = Script { to_writes: answers([Ok(Vec::new()), Ok(vec![without_claim])]), ..Script::default() };
    let (writes, done) = run(&shared(script, switch())).await;
    assert!(
        !done && !writes.iter().any(|write| matches!(write, Write::PatchPod { name, .. } if name == "b")),
        "{writes:#?}"
    );
}

#[tokio::test]
async fn rule_5_nothing_follows_a_compare_and_swap_that_was_changed_on_its_way() {
    for shown in [lease("web", 50, "a", 40), lease("web", 50, "b", 39), lease_after("web", 50, "b", 40, Some("x"))] {
        let script = Script { to_writes: answers([Ok(vec![shown])]), ..Script::default() };
        let (writes, done) = run(&shared(script, switch())).await;
        assert!(!done && writes.len() == 1, "{writes:#?}");
    }
}

#[tokio::test]
async fn a_dropped_label_is_said_in_the_status_and_nobody_is_ready() {
    let to_writes = answers([Ok(Vec::new()), Ok(Vec::new()), Ok(Vec::new()), Ok(vec![dropped()])]);
    let shared = shared(Script { to_writes, ..Script::default() }, switch());
    let outcome = Reconciler::default().reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    assert_eq!(outcome, Outcome::StrictBackoff, "it is tried again, later and later, though each attempt changes pods");
    let writes = shared.server.writes.lock().unwrap();
    let Some(Write::PatchStatus { patch, .. }) = writes.last() else { panic!("{writes:#?}") };
    let conditions = &patch["status"]["conditions"];
    assert_eq!((&conditions[0]["type"], &conditions[0]["status"]), (&"Ready".into(), &"False".into()));
    assert_eq!((&conditions[1]["status"], &conditions[1]["reason"]), (&"True".into(), &"RequestDenied".into()));
    let message = conditions[1]["message"].as_str().unwrap();
    assert!(message.contains("label leader is absent instead of true") && message.contains("pods b"), "{message}");
}

#[tokio::test]
async fn a_status_that_was_changed_on_its_way_is_no_success() {
    let shown = election("web", 70, |object| object["status"] = json!({ "observedGeneration": 1, "leader": "a" }));
    let to_writes = answers([Ok(Vec::new()), Ok(Vec::new()), Ok(Vec::new()), Ok(Vec::new()), Ok(vec![shown])]);
    let (writes, done) = run(&shared(Script { to_writes, ..Script::default() }, switch())).await;
    assert!(!done && matches!(writes.last(), Some(Write::PatchStatus { .. })), "no Event of it: {writes:#?}");
}

#[tokio::test]
async fn answers_that_show_what_was_asked_are_successes() {
    let fenced = pod("a", 60, |object| object["metadata"]["annotations"] = json!({ names::claim("web"): "40" }));
    let labeled = pod("b", 62, |object: &mut Value| {
        ready(object);
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = json!({ names::claim("web"): "40" });
    });
    let elected = shared(Script::default(), switch());
    let (writes, _) = run(&elected).await;
    let Write::ReplaceLease(mut asked) = writes[0].clone() else { panic!("{writes:#?}") };
    asked.metadata.resource_version = Some("50".into());
    let asked = cached::lease(kube::core::DeserializeGuard(Ok(asked))).unwrap();
    let to_writes = answers([Ok(vec![asked]), Ok(vec![fenced]), Ok(Vec::new()), Ok(vec![labeled])]);
    let (_, done) = run(&shared(Script { to_writes, ..Script::default() }, switch())).await;
    assert!(done);
}

#[tokio::test]
async fn a_sweep_that_left_the_label_is_not_done() {
    let left = || {
        pod("a", 60, |object| {
            object["metadata"]["labels"]["leader"] = "true".into();
            object["metadata"]["annotations"] = json!({ names::claim("web"): "20" });
            set_by(object, names::MANAGER, &["leader"]);
        })
    };
    let script = Script {
        to_writes: answers([Ok(vec![left()])]),
        to_reads: answers([Err(absent(true))]),
        serves_elections: true,
        ..Script::default()
    };
    let shared = shared(script, [left()]);
    assert_eq!(clean_up(&shared, &key("web")).await, Outcome::StrictBackoff);
    assert!(shared.world().orphaned().contains(&key("web")), "it is removed again");
}

#[tokio::test]
async fn dropped_deletion_cost_is_no_success() {
    let demanding = || {
        switch().into_iter().skip(1).chain([election("web", 10, |object| object["spec"]["leaderDeletionCost"] = 7.into())])
    };
    let labeled = |cost: &'static str, note: &'static str| {
        pod("b", 62, |object: &mut Value| {
            ready(object);
            object["metadata"]["labels"]["leader"] = "true".into();
            object["metadata"]["annotations"] =
                json!({ names::claim("web"): "40", names::POD_DELETION_COST: cost, names::DELETION_COSTS: note });
        })
    };
    for (cost, note, success) in [("7", "web=7; original=", true), ("5", "web=7; original=", false), ("7", "", false)] {
        let to_writes = answers([Ok(Vec::new()), Ok(Vec::new()), Ok(Vec::new()), Ok(vec![labeled(cost, note)])]);
        let (_, done) = run(&shared(Script { to_writes, ..Script::default() }, demanding())).await;
        assert_eq!(done, success, "{cost} {note}");
    }
}
