//! An overloaded API server that requests a pause.

use std::time::Duration;

use super::*;

fn busy() -> Result<Vec<Named>, Refusal> {
    Err(Refusal::Busy { message: "slowly".into(), after: Duration::from_secs(7) })
}

fn asked_again(outcome: Outcome) -> Duration {
    let Outcome::RetryAfter(at) = outcome else { panic!("{outcome:?}") };
    at - Instant::now()
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_asked_for_nothing_until_then_and_read_from_before_anything_is_decided() {
    let claimed = |object: &mut serde_json::Value| {
        ready(object);
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "40" });
    };
    let items = || [election("web", 10, |_| ()), lease("web", 50, "b", 40), pod("b", 45, claimed)];
    let shared = shared(Script { to_writes: answers([busy()]), ..Script::default() }, items());
    let reconciler = Reconciler::default();
    let outcome = reconciler.reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    assert_eq!(asked_again(outcome), Duration::from_secs(7));
    assert_eq!(shared.server.writes.lock().unwrap().len(), 1);
    assert_eq!(*shared.server.reads.lock().unwrap(), [], "no read follows at once");
    // Still busy: the controller decides nothing on possibly stale objects.
    *shared.server.to_reads.lock().unwrap() = [busy(), Ok(vec![pod("b", 45, claimed)])].into();
    let outcome = reconciler.reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    assert_eq!(asked_again(outcome), Duration::from_secs(7));
    assert_eq!(shared.server.writes.lock().unwrap().len(), 1);
    reconciler.reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    assert_eq!(*shared.server.reads.lock().unwrap(), [Read::Pod("b".into()), Read::Pod("b".into())]);
    assert!(shared.server.writes.lock().unwrap().len() > 1);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_waits_as_well() {
    let script = Script { to_reads: answers([busy()]), ..Script::default() };
    let left = pod("a", 41, |object| {
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "20" });
        set_by(object, names::MANAGER, &["leader"]);
    });
    let shared = shared(script, [left]);
    assert_eq!(asked_again(clean_up(&shared, &key("web")).await), Duration::from_secs(7));
}
