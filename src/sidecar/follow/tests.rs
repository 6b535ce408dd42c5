//! Follow mode against a scripted API server, in virtual time.

use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::scripted::{Script, event, server};
use crate::sidecar::follower::PodIdentity;

#[tokio::test]
async fn adopted_leader_keeps_leading_until_the_lease_is_observed() {
    let silent = tower::service_fn(|_: http::Request<Body>| std::future::pending::<Result<http::Response<Body>, String>>());
    let lead = LeadershipState {
        holder: Some(("web-0".into(), Moment::NEVER)),
        leads_until: Some(Moment::NEVER),
        ..LeadershipState::default()
    };
    let (state, receiver) = watch::channel(lead.clone());
    let follower = Follower::new(PodIdentity { name: "web-0".into(), uid: None }, None);
    let client = Client::new(silent, "default");
    let mut follow = Follow::new(client, ("default", "web"), follower, Clock::machine(), state);
    follow.report(Some("not yet".into()));
    assert_eq!(*receiver.borrow(), LeadershipState { problem: Some("not yet".into()), ..lead });
    follow.on_read(None, Moment::START);
    assert_eq!(receiver.borrow().holder, None);
}

fn lease(revision: &str, holder: &str) -> Value {
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "web", "namespace": "default", "uid": "u", "resourceVersion": revision },
        "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15 } })
}

fn list(holder: &str) -> Script {
    let metadata = json!({ "resourceVersion": "7" });
    Script::whole(&json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList", "metadata": metadata,
        "items": [lease("7", holder)] }))
}

/// Follows until this leader is published. Returns how long that took, and the problems that were reported.
async fn until_named(client: Client, max_age: Option<Duration>, name: &str) -> (Duration, Vec<String>) {
    let began = Instant::now();
    let (state, mut receiver) = watch::channel(LeadershipState::default());
    let follower = Follower::new(PodIdentity { name: "web-9".into(), uid: None }, max_age);
    let clock = Clock::new(move || Moment::after(Duration::from_secs(1) + began.elapsed()), Timestamp::now);
    let follow = Follow::new(client, ("default", "web"), follower, clock, state);
    let mut problems = Vec::new();
    let named = async {
        loop {
            let state = receiver.borrow_and_update().clone();
            problems.extend(state.problem);
            if state.holder.is_some_and(|(holder, _)| holder == name) {
                return;
            }
            receiver.changed().await.expect("it follows");
        }
    };
    tokio::select! {
        () = named => {}
        never = follow.run() => match never {},
    }
    (began.elapsed(), problems)
}

#[tokio::test(start_paused = true)]
async fn silent_watch_is_replaced_within_75_s_and_reported() {
    let (client, _) = server([list("web-0"), Script::silent([(1, event("ADDED", &lease("8", "web-0")))]), list("web-1")]);
    let (took, problems) = until_named(client, None, "web-1").await;
    assert!(took < Duration::from_secs(75), "{took:?}");
    assert!(
        matches!(&problems[..], [what, ..] if what.contains("the watch of the Lease default/web is silent")),
        "{problems:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn silent_watch_is_replaced_while_reads_succeed() {
    // One read in 10 s shows no change.
    let reads = std::iter::repeat_n(Script::whole(&lease("7", "web-0")), 7);
    let scripts = [list("web-0"), Script::silent([])].into_iter().chain(reads).chain([list("web-1")]);
    let (client, asked) = server(scripts);
    let (took, _) = until_named(client, Some(Duration::from_secs(30)), "web-1").await;
    assert!(took < Duration::from_secs(75), "{took:?}");
    let is_list = |path: &str| path.contains("fieldSelector") && !path.contains("watch=true");
    assert_eq!(asked.lock().unwrap().iter().filter(|(_, path)| is_list(path)).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn watch_after_one_without_bookmarks_has_a_short_timeout() {
    let metadata = json!({ "resourceVersion": "9" });
    let bookmark =
        event("BOOKMARK", &json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata }));
    let (client, asked) = server([
        list("web-0"),
        Script::silent([]),
        list("web-0"),
        Script::quiet(60),
        list("web-0"),
        Script { chunks: vec![(50, bookmark), (10, String::new())], ends: true },
        list("web-0"),
        Script::silent([(0, event("MODIFIED", &lease("9", "web-1")))]),
    ]);
    until_named(client, None, "web-1").await;
    let asked = asked.lock().unwrap();
    let seconds = asked.iter().filter_map(|(_, path)| path.split("timeoutSeconds=").nth(1)?.split('&').next());
    assert_eq!(seconds.collect::<Vec<_>>(), ["290", "60", "60", "290"]);
}
