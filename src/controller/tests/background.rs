//! Background writes: followers and the claim in advance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::controller::background;
use crate::controller::monitor::Monitor;
use crate::controller::server::ApiServer;

const HANGS: Duration = Duration::from_secs(10);

fn with_followers(object: &mut Value) {
    object["spec"]["label"] = json!({ "followerValue": "false" });
}

fn leader(name: &str) -> Named {
    pod(name, 41, |object| {
        ready(object);
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = json!({ names::claim("web"): "30" });
    })
}

fn led() -> Vec<Named> {
    vec![election("web", 10, with_followers), lease("web", 40, "a", 30), leader("a"), pod("b", 42, ready)]
}

fn pods_written(shared: &Shared<Script>) -> Vec<String> {
    let writes = shared.server.writes.lock().unwrap();
    let names = writes.iter().filter_map(|write| match write {
        Write::PatchPod { name, .. } => Some(name.clone()),
        _ => None,
    });
    names.collect()
}

async fn pass<S: ApiServer>(shared: &Shared<S>) -> Outcome {
    Reconciler::default().reconcile(shared, &key("web"), Instant::now(), Slot::unlimited()).await
}

#[tokio::test(start_paused = true)]
async fn a_pass_writes_the_status_and_leaves_followers_to_the_background() {
    let shared = shared(Script::default(), led());
    pass(&shared).await;
    assert!(pods_written(&shared).is_empty());
    assert!(matches!(shared.server.writes.lock().unwrap()[..], [Write::PatchStatus { .. }, ..]));
    assert_eq!(shared.background.depth(), 1);
    assert_eq!(background::write(&shared, &key("web")).await, Outcome::Done);
    assert_eq!(pods_written(&shared), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn the_next_leader_is_claimed_ahead_without_a_term() {
    let shared = shared(Script::default(), led().into_iter().skip(1).chain([election("web", 11, |_| ())]));
    background::write(&shared, &key("web")).await;
    let writes = shared.server.writes.lock().unwrap();
    let [Write::PatchPod { name, patch }] = &writes[..] else { panic!("{writes:#?}") };
    assert_eq!((name.as_str(), &patch["metadata"]["annotations"]), ("b", &json!({ names::claim("web"): "0" })));
    assert_eq!(patch["metadata"].get("labels"), None);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_may_not_be_written_to_is_said_once_and_the_leader_stays_ready() {
    let script = Script { to_writes: answers([Err(Refusal::Denied("no".into()))]), ..Script::default() };
    let shared = shared(script, led());
    let outcome = background::write(&shared, &key("web")).await;
    assert_eq!(outcome, Outcome::Requeue(Instant::now() + Duration::from_secs(15)));
    pass(&shared).await;
    let writes = shared.server.writes.lock().unwrap().clone();
    let [_, Write::PatchStatus { patch, .. }, ..] = &writes[..] else { panic!("{writes:#?}") };
    let conditions = &patch["status"]["conditions"];
    assert_eq!((&conditions[0]["status"], &conditions[0]["reason"]), (&"True".into(), &"LeaderElected".into()));
    assert_eq!((&conditions[1]["status"], &conditions[1]["reason"]), (&"True".into(), &"FollowersNotLabeled".into()));

    // The same again, with a status that reports it: only the follower is written, and nothing is read.
    let said = election("web", 50, |object| {
        with_followers(object);
        object["status"] = patch["status"].clone();
        object["status"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
    });
    apply(&mut shared.world(), said);
    shared.server.to_writes.lock().unwrap().push_back(Err(Refusal::Denied("no, again".into())));
    shared.server.writes.lock().unwrap().clear();
    background::write(&shared, &key("web")).await;
    assert_eq!(pass(&shared).await, Outcome::Done);
    assert!(matches!(shared.server.writes.lock().unwrap()[..], [Write::PatchPod { .. }]));
    assert!(shared.server.reads.lock().unwrap().is_empty(), "an own refusal is no foreign overwrite");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_over_is_not_taken_for_a_foreign_overwrite() {
    let refused = || Err(Refusal::Denied("no".into()));
    let shared = shared(Script::default(), [election("web", 10, |_| ()), lease("web", 40, "a", 30), leader("a")]);
    let reconciler = Reconciler::default();
    let settle = async || {
        let outcome = reconciler.reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
        let writes = std::mem::take(&mut *shared.server.writes.lock().unwrap());
        let status = writes.iter().rev().find_map(|write| match write {
            Write::PatchStatus { patch, .. } => Some(patch["status"].clone()),
            _ => None,
        });
        (outcome, status)
    };
    let seen = |revision: i64, status: &Option<Value>| {
        let status = status.clone().expect("a status was written");
        apply(&mut shared.world(), election("web", revision, |object| object["status"] = status));
    };
    let (_, first) = settle().await;
    seen(50, &first);
    // Another client removes the label, and one repair is denied.
    apply(
        &mut shared.world(),
        pod("a", 51, |object| {
            ready(object);
            object["metadata"]["annotations"] = json!({ names::claim("web"): "30" });
        }),
    );
    *shared.server.to_writes.lock().unwrap() = [refused()].into();
    let (outcome, stalled) = settle().await;
    assert_eq!(outcome, Outcome::Backoff);
    seen(52, &stalled);
    let (_, last) = settle().await;
    assert_eq!(last.unwrap()["conditions"].as_array().unwrap().len(), 1, "Ready alone");
    assert!(shared.server.reads.lock().unwrap().is_empty(), "{:?}", shared.server.reads.lock().unwrap());
}

/// A server behind an admission webhook that hangs at its first pod.
#[derive(Default)]
struct Hanging {
    script: Script,
    hung: AtomicBool,
}

impl ApiServer for Hanging {
    async fn write(&self, namespace: &str, write: Write) -> Result<Option<Named>, Refusal> {
        if matches!(write, Write::PatchPod { .. }) && !self.hung.swap(true, Ordering::SeqCst) {
            tokio::time::sleep(HANGS).await;
            return Err(Refusal::Unknown("timeout".into()));
        }
        self.script.write(namespace, write).await
    }

    async fn read(&self, namespace: &str, read: Read) -> Result<Vec<Named>, Refusal> {
        self.script.read(namespace, read).await
    }

    async fn serves_elections(&self) -> Result<bool, Refusal> {
        Ok(true)
    }
}

#[tokio::test(start_paused = true)]
async fn a_failover_to_a_pod_does_not_wait_for_the_followers_label_on_it() {
    let options = options();
    let shared = Shared::new(Hanging::default(), options.clone(), Monitor::new(&options, false));
    *shared.world() = world(led());
    apply(&mut shared.world(), pod("b", 43, claimed));
    let shared = Arc::new(shared);
    let following = tokio::spawn({
        let shared = shared.clone();
        async move { background::write(&shared, &key("web")).await }
    });
    while !shared.server.hung.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    apply(
        &mut shared.world(),
        pod("a", 60, |object| {
            object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            object["metadata"]["labels"]["leader"] = "true".into();
            object["metadata"]["annotations"] = json!({ names::claim("web"): "30" });
        }),
    );
    pass(&shared).await;
    let writes = shared.server.script.writes.lock().unwrap().clone();
    let labels = |write: &Write| matches!(write, Write::PatchPod { name, patch } if name == "b" && patch["metadata"]["labels"]["leader"] == "true");
    assert!(writes.iter().any(labels), "{writes:#?}");
    assert!(began.elapsed() < HANGS / 10, "{:?}", began.elapsed());
    following.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn changed_deletion_cost_is_written_in_the_background_and_a_denial_is_reported() {
    let demanding = election("web", 10, |object| object["spec"]["leaderDeletionCost"] = 7.into());
    let script = Script { to_writes: answers([Err(Refusal::Denied("no".into()))]), ..Script::default() };
    let shared = shared(script, [demanding, lease("web", 40, "a", 30), leader("a")]);
    let outcome = background::write(&shared, &key("web")).await;
    assert_eq!(outcome, Outcome::Requeue(Instant::now() + Duration::from_secs(15)));
    pass(&shared).await;
    let writes = shared.server.writes.lock().unwrap().clone();
    let [Write::PatchPod { patch: cost, .. }, Write::PatchStatus { patch, .. }, ..] = &writes[..] else {
        panic!("{writes:#?}")
    };
    let annotations = json!({
        names::claim("web"): "30", names::POD_DELETION_COST: "7", names::DELETION_COSTS: "web=7; original=",
    });
    assert_eq!((&cost["metadata"]["annotations"], cost["metadata"].get("labels")), (&annotations, None));
    let conditions = &patch["status"]["conditions"];
    assert_eq!((&conditions[0]["status"], &conditions[0]["reason"]), (&"True".into(), &"LeaderElected".into()));
    assert_eq!((&conditions[1]["type"], &conditions[1]["reason"]), (&"Degraded".into(), &"RequestDenied".into()));
}
