//! Two controllers, one of them with stale pods.

use super::*;
use crate::controller::observe::nodes::NodeWatch;

fn leader(revision: i64) -> Named {
    pod("b", revision, |object| {
        ready(object);
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "40" });
    })
}

#[tokio::test(start_paused = true)]
async fn a_status_that_somebody_replaced_is_written_again_only_after_a_look_at_the_server() {
    let shared = shared(Script::default(), [election("web", 10, |_| ()), lease("web", 50, "b", 40), leader(45)]);
    let reconciler = Reconciler::default();
    reconciler.reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    assert_eq!(shared.server.reads.lock().unwrap().len(), 0, "the first one is nobody's answer");
    let writes = shared.server.writes.lock().unwrap().clone();
    let [Write::PatchStatus { patch, .. }, Write::CreateEvent(_)] = &writes[..] else { panic!("{writes:#?}") };

    let mut others = patch["status"].clone();
    others["conditions"][0]["reason"] = "LeaderRetained".into();
    apply(&mut shared.world(), election("web", 60, |object| object["status"] = others));
    *shared.server.to_reads.lock().unwrap() = [Ok(vec![pod("b", 70, |_| ())])].into();
    shared.world().nodes.ask(&key("web"), [NodeWatch::Drains]);
    assert!(!shared.world().nodes.take_doubt());
    reconciler.reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    assert_eq!(shared.server.reads.lock().unwrap()[0], Read::Pods);
    let (snapshot, _) = shared.world().snapshot(&key("web"), Consulted::default()).unwrap();
    assert!(!snapshot.pods[0].ready, "it was we who looked at an old pod");
    assert!(shared.world().nodes.take_doubt(), "or at old nodes");
}

#[tokio::test(start_paused = true)]
async fn a_status_that_was_not_reached_because_a_pod_changed_is_nobodys_to_overwrite() {
    let ends = |object: &mut serde_json::Value| object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let claimed = |object: &mut serde_json::Value| {
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "40" });
        ends(object);
    };
    // During the write of the Lease, a later version of the pod to fence arrives.
    let script = Script { to_writes: answers([Ok(vec![pod("b", 61, claimed)])]), ..Script::default() };
    let items =
        [election("web", 10, |_| ()), lease("web", 50, "b", 40), pod("b", 45, claimed), pod("a", 46, super::claimed)];
    let shared = shared(script, items);
    Reconciler::default().reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    let writes = shared.server.writes.lock().unwrap().clone();
    let [Write::ReplaceLease(_), Write::ReplaceLease(_), .., Write::PatchStatus { .. }, Write::CreateEvent(_)] = &writes[..]
    else {
        panic!("{writes:#?}")
    };
    assert_eq!(*shared.server.reads.lock().unwrap(), [], "no look at the server stands between the Lease and the label");
}

#[tokio::test]
async fn a_pod_that_a_list_from_the_server_lacks_leaves_the_cache() {
    let script = Script { to_reads: answers([Ok(vec![leader(45)])]), ..Script::default() };
    let shared = shared(script, [election("web", 10, |_| ()), leader(45), pod("a", 46, |_| ())]);
    shared.read("default", Read::Pods).await.unwrap();
    let (snapshot, _) = shared.world().snapshot(&key("web"), Consulted::default()).unwrap();
    assert_eq!(snapshot.pods.iter().map(|pod| pod.id.name.as_str()).collect::<Vec<_>>(), ["b"]);
    // A watch that lags does not restore it.
    apply(&mut shared.world(), pod("a", 44, |_| ()));
    assert_eq!(shared.world().version(crate::controller::key::Kind::Pods, "default", "a"), None);
}
