//! Revisions that go back: what proves it, and that all writes stop.

use super::*;

fn labeled(revision: i64) -> Named {
    pod("a", revision, |object| object["metadata"]["labels"]["leader"] = "true".into())
}

/// A controller with the pod at revision 60, before revisions go back.
fn before(script: Script) -> Shared<Script> {
    shared(script, [election("web", 10, |_| ()), lease("web", 50, "a", 40), labeled(60)])
}

fn target() -> Target {
    let decided_on = labeled(60).object.version();
    Target { kind: Kind::Pods, namespace: "default".into(), name: "a".into(), decided_on: Some(decided_on) }
}

async fn write(shared: &Shared<Script>) -> Result<(), Refusal> {
    shared.write(&target(), Write::PatchPod { name: "a".into(), patch: serde_json::json!({}) }).await
}

/// Reads, and returns whether that halted the controller.
async fn halts_after(read: Read, answer: Result<Vec<Named>, Refusal>) -> bool {
    let shared = before(Script { to_reads: answers([answer]), ..Script::default() });
    let _ = shared.read("default", read).await;
    shared.is_halted()
}

#[tokio::test]
async fn an_object_that_a_read_shows_at_an_earlier_revision_halts_the_controller() {
    let other = |object: &mut serde_json::Value| object["metadata"]["uid"] = "another".into();
    for (answer, expected) in [(59, true), (60, false), (61, false)] {
        assert_eq!(halts_after(Read::Pod("a".into()), Ok(vec![labeled(answer)])).await, expected, "{answer}");
        assert_eq!(halts_after(Read::Pods, Ok(vec![labeled(answer)])).await, expected, "{answer}");
    }
    assert!(halts_after(Read::Lease("web".into()), Ok(vec![lease("web", 49, "a", 40)])).await);
    assert!(halts_after(Read::Election("web".into()), Ok(vec![election("web", 9, |_| ())])).await);
    assert!(!halts_after(Read::Pods, Ok(vec![pod("b", 20, |_| ())])).await, "one that was not known");
    assert!(!halts_after(Read::Pod("a".into()), Ok(vec![pod("a", 20, other)])).await, "that is not the same one");
    assert!(!halts_after(Read::Pod("a".into()), Err(absent(true))).await);
}

#[tokio::test]
async fn a_write_that_gets_a_revision_below_those_of_its_kind_halts_the_controller() {
    for (answer, expected) in [(59, true), (60, false), (61, false)] {
        let shared = before(Script { to_writes: answers([Ok(vec![labeled(answer)])]), ..Script::default() });
        write(&shared).await.unwrap();
        assert_eq!(shared.is_halted(), expected, "{answer}");
    }
    // The write changed nothing, while other pods changed.
    let shared = before(Script { to_writes: answers([Ok(vec![labeled(60)])]), ..Script::default() });
    apply(&mut shared.world(), pod("b", 70, |_| ()));
    write(&shared).await.unwrap();
    assert!(!shared.is_halted());
    // Leases may be in another etcd.
    let shared = before(Script { to_writes: answers([Ok(vec![labeled(61)])]), ..Script::default() });
    apply(&mut shared.world(), lease("web", 90, "a", 50));
    write(&shared).await.unwrap();
    assert!(!shared.is_halted());
}

#[tokio::test]
async fn a_list_of_the_watch_shows_that_revisions_went_back_and_late_events_show_nothing() {
    let shared = before(Script::default());
    apply(&mut shared.world(), labeled(55));
    apply(&mut shared.world(), pod("b", 30, |_| ()));
    assert_eq!(shared.world().went_back(), None, "a watch may lag");
    for (revision, expected) in [(60, false), (59, true)] {
        let mut world = shared.world();
        for event in [Event::Init, Event::InitApply(labeled(revision)), Event::InitDone] {
            world.watched(Kind::Pods, None, event);
        }
        assert_eq!(world.went_back().is_some(), expected, "{revision}");
    }
    assert!(shared.world().went_back().unwrap().contains("pods, from 60 to 59"));
}

#[tokio::test]
async fn a_controller_that_halted_writes_nothing_and_says_why() {
    let shared = before(Script { to_reads: answers([Ok(vec![labeled(59)])]), ..Script::default() });
    shared.read("default", Read::Pod("a".into())).await.unwrap();
    assert!(matches!(write(&shared).await, Err(Refusal::Ending(_))));
    Reconciler::default().reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    assert_eq!(*shared.server.writes.lock().unwrap(), [], "neither labels nor status, Lease and Event");
    shared.halted().await;
    let report = shared.monitor.health.report(&std::collections::BTreeSet::new(), &[], None);
    assert!(report.obstacles.iter().any(|why| why.contains("until it is restarted")), "{report:?}");
}
