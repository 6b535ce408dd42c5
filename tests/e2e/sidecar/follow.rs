//! Sidecars that report the leader elected by an Election's controller.

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::access::CONTRIB;
use crate::harness::door::Door;
use crate::harness::proxy::{Fate, Proxy};
use crate::harness::sidecar::{Connection, Sidecar};
use crate::harness::{Leader, Scenario, eventually, scenario};
use crate::sidecar::campaign::renewals;

/// An account with these verbs on the Lease `web`, and no other permission.
pub async fn account(world: &Scenario, verbs: &[&str]) -> Kubeconfig {
    let account = world.account("pods").await;
    grant(world, verbs).await;
    account
}

async fn grant(world: &Scenario, verbs: &[&str]) {
    let rule =
        json!({ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["web"], "verbs": verbs });
    let rules = if verbs.is_empty() { vec![] } else { vec![rule] };
    world.grant_rules("pods", rules).await;
}

/// Permissions of a follower.
pub const FOLLOW: &[&str] = &["get", "list", "watch"];

/// Waits until `/status` reports this leader, and returns the response.
async fn tells(sidecar: &Sidecar, leader: &Leader) -> Value {
    eventually(&format!("the sidecar of {} tells of {leader:?}", sidecar.name), async || {
        let status = sidecar.status().await;
        let same = status["name"] == leader.name.as_str() && status["term"] == leader.term;
        if same { Ok(status) } else { Err(format!("{status}; {}", sidecar.log())) }
    })
    .await
}

/// The event of `/events` for a leader.
fn event(leader: &Leader, to: &str) -> Value {
    json!({ "name": leader.name, "term": leader.term, "isLeader": leader.name == to })
}

#[tokio::test]
async fn permission_to_read_one_lease_suffices_to_report_the_leader() {
    scenario(async |world| {
        let account = account(world, FOLLOW).await;
        let early = world.follower("web-0", &account).start().await;
        assert_eq!(early.leader().await, "", "nobody was elected yet");
        let _controller = world.controller();
        let leader = world.led().await;
        let late = world.follower("web-1", &account).start().await;
        for sidecar in [&early, &late] {
            let status = tells(sidecar, &leader).await;
            let leads = sidecar.name == leader.name;
            assert_eq!(status["isLeader"], leads);
            assert_eq!(sidecar.leader().await, leader.name);
            let expected = if leads { (200, "leader\n") } else { (503, "not leader\n") };
            assert_eq!(sidecar.get("/leader").await, (expected.0, expected.1.into()));
            let lease = world.api::<Lease>().get("web").await.expect("there is a Lease");
            assert_eq!(lease.annotations().get("podium.dev/term"), Some(&status["term"].to_string()));
            let since = lease.spec.and_then(|spec| spec.acquire_time).expect("a time").0;
            assert_eq!(status["since"], since.to_string());
            assert!(status["age"].as_f64().is_some_and(|age| age < 600.0), "{status}");
            assert_eq!(sidecar.get("/healthz").await.0, 200);
            let metrics = sidecar.get("/metrics").await.1;
            assert!(metrics.contains(&format!("\npodium_sidecar_term {}\n", leader.term)), "{metrics}");
            assert!(metrics.contains(&format!("\npodium_sidecar_is_leader {}\n", u8::from(leads))), "{metrics}");
            assert!(metrics.contains("\npodium_sidecar_leader_changes_total 1\n"), "{metrics}");
            assert!(!metrics.contains("renewals"), "who follows renews nothing: {metrics}");
        }
    })
    .await;
}

#[tokio::test]
async fn each_change_is_one_event() {
    scenario(async |world| {
        let account = account(world, FOLLOW).await;
        let _controller = world.controller();
        let first = world.led().await;
        let sidecar = world.follower("web-1", &account).start().await;
        tells(&sidecar, &first).await;
        let mut events = Connection::open(sidecar.address).await.expect("it listens");
        events.send("GET", "/events").await.expect("it is sent");
        assert_eq!(events.event().await.expect("who leads now"), event(&first, "web-1"));
        // Other changes of the Lease send no event. One would arrive before that of the next leader.
        let how = kube::api::PatchParams::default();
        let patch = kube::api::Patch::Merge(json!({ "metadata": { "annotations": { "example.com/note": "new" } } }));
        world.api::<Lease>().patch("web", &how, &patch).await.expect("the Lease is annotated");
        world.set_ready("web-0", false).await;
        let second = world.leader_after("web", &first).await;
        assert_eq!(events.event().await.expect("the change"), event(&second, "web-1"));
        world.set_ready("web-1", false).await;
        world.vacancy("web").await;
        let nobody = json!({ "name": "", "term": null, "isLeader": false });
        assert_eq!(events.event().await.expect("the vacancy"), nobody);
        world.set_ready("web-0", true).await;
        let third = world.leader_after("web", &second).await;
        assert_eq!(events.event().await.expect("the last change"), event(&third, "web-1"));
    })
    .await;
}

#[tokio::test]
async fn recreated_pod_of_the_leaders_name_is_not_reported_as_leader() {
    scenario(async |world| {
        let account = account(world, FOLLOW).await;
        let _controller = world.controller();
        let leader = world.led().await;
        let mine = world.follower("web-0", &account).variable("POD_UID", &leader.uid).start().await;
        let other = world.follower("web-0", &account).variable("POD_UID", "of-another-life").start().await;
        assert_eq!(tells(&mine, &leader).await["isLeader"], true);
        eventually("the other one has seen the Lease", async || {
            let status = other.status().await;
            if status["age"].is_number() { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        assert_eq!((other.leader().await.as_str(), other.leads().await), ("", false));
        world.set_ready("web-0", false).await;
        let next = world.leader_after("web", &leader).await;
        tells(&other, &next).await;
        tells(&mine, &next).await;
    })
    .await;
}

#[tokio::test]
async fn a_follower_asks_for_nothing_while_nothing_changes() {
    scenario(async |world| {
        let account = account(world, FOLLOW).await;
        let proxy = Proxy::to(&account).await;
        let _controller = world.controller();
        let leader = world.led().await;
        let sidecar = world.follower("web-1", &proxy.kubeconfig()).start().await;
        tells(&sidecar, &leader).await;
        eventually("it watches", async || {
            let asked = proxy.asked(|_| true);
            if asked.iter().any(|asked| asked.is_watch()) { Ok(()) } else { Err(format!("{asked:?}")) }
        })
        .await;
        proxy.take();
        // Ten seconds pass: another sidecar renews its lock every 2.5 s.
        let theirs = world.account_with("others", &CONTRIB).await;
        let other = world.contrib("pod-a", &theirs).start().await;
        other.names("pod-a").await;
        renewals(world, 4).await;
        assert_eq!(proxy.take().len(), 0, "requests of the follower");
        // It still sees changes.
        world.set_ready("web-0", false).await;
        let next = world.leader_after("web", &leader).await;
        tells(&sidecar, &next).await;
        assert_eq!(proxy.take().len(), 0, "requests of the follower");
    })
    .await;
}

#[tokio::test]
async fn last_answer_ages_during_an_api_server_outage() {
    scenario(async |world| {
        let account = account(world, FOLLOW).await;
        let mut door = Door::opened(&account).await;
        let _controller = world.controller();
        let leader = world.led().await;
        let through = door.through(&account);
        let stands = world.follower("web-0", &through).start().await;
        let expires = world.follower("web-0", &through).arguments(&["--max-age=4s"]).start().await;
        for sidecar in [&stands, &expires] {
            tells(sidecar, &leader).await;
        }
        door.close().await;
        expires.names("").await;
        assert!(!expires.leads().await);
        eventually("the age grows", async || {
            let status = stands.status().await;
            let age = status["age"].as_f64().unwrap_or_default();
            assert_eq!((&status["name"], &status["isLeader"]), (&json!(leader.name), &json!(true)), "{status}");
            if age >= 6.0 { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        assert!(stands.leads().await);
        stands.says(&["WARN", "cannot read the Lease"]).await;
        // It reports missed changes afterwards.
        world.set_ready("web-0", false).await;
        let next = world.leader_after("web", &leader).await;
        assert_eq!(stands.leader().await, leader.name);
        door.open().await;
        for sidecar in [&stands, &expires] {
            tells(sidecar, &next).await;
            sidecar.says(&["following the Lease", "again"]).await;
        }
    })
    .await;
}

#[tokio::test]
async fn event_buffered_during_a_pause_does_not_count_as_fresh() {
    scenario(async |world| {
        let account = account(world, FOLLOW).await;
        let _controller = world.controller();
        let leader = world.led().await;
        let door = Door::opened(&account).await;
        let through = door.through(&account);
        let stands = world.follower(&leader.name, &through).start().await;
        let expires = world.follower(&leader.name, &through).arguments(&["--max-age=8s"]).start().await;
        for sidecar in [&stands, &expires] {
            tells(sidecar, &leader).await;
            sidecar.signal("STOP");
        }
        let paused = Instant::now();
        // Another version of the Lease arrives; then nothing more.
        let edit = Patch::Merge(json!({ "metadata": { "labels": { "edited": "true" } } }));
        world.api::<Lease>().patch("web", &PatchParams::default(), &edit).await.expect("the Lease is edited");
        // Another sidecar renews its lock every 2.5 s.
        let theirs = world.account_with("others", &CONTRIB).await;
        let other = world.contrib("pod-a", &theirs).start().await;
        other.names("pod-a").await;
        renewals(world, 4).await;
        let pause = paused.elapsed().as_secs_f64();
        door.swallow();
        for sidecar in [&stands, &expires] {
            sidecar.signal("CONT");
        }
        let status = stands.status().await;
        assert!(status["age"].as_f64().is_some_and(|age| age >= pause), "{status}, paused for {pause} s");
        assert!(pause > 8.0 && !expires.leads().await && expires.leader().await.is_empty());
        let status = stands.status().await;
        assert!(status["age"].as_f64().is_some_and(|age| age >= pause), "{status}, paused for {pause} s");
        assert!(stands.leads().await, "without a bound it stands");
    })
    .await;
}

#[tokio::test]
async fn uid_decides_leadership_regardless_of_the_hostname() {
    scenario(async |world| {
        let account = account(world, FOLLOW).await;
        let _controller = world.controller();
        let leader = world.led().await;
        let host = format!("{}.web.default.svc.cluster.local", leader.name);
        let mine = world.follower(&host, &account).variable("POD_UID", &leader.uid).start().await;
        mine.names(&leader.name).await;
        assert!(mine.leads().await);
        let untold = world.follower(&host, &account).start().await;
        untold.says(&["WARN", &format!("{host} seems to be the host name of the leader"), "set POD_NAME and POD_UID"]).await;
        assert!(!untold.leads().await);
        // Permission to read pods applies to every pod.
        let reader =
            world.account_with("reader", &[("", "pods", &["get"][..]), ("coordination.k8s.io", "leases", FOLLOW)]).await;
        let nameless = world.follower("node-1", &reader).start().await;
        nameless.says(&["WARN", &format!("no pod in namespace {} has the name node-1", world.namespace)]).await;
        assert_eq!(nameless.leader().await, leader.name);
        for sidecar in [&untold, &nameless] {
            assert_eq!(sidecar.said("WARN"), 1, "{}", sidecar.log());
            assert!(sidecar.status().await["waitingFor"].is_string());
        }
        assert_eq!((mine.said("WARN"), mine.status().await["waitingFor"].clone()), (0, Value::Null), "{}", mine.log());
    })
    .await;
}

#[tokio::test]
async fn missing_lease_is_reported_with_the_time_waited() {
    scenario(async |world| {
        let account = account(world, FOLLOW).await;
        let sidecar = world.follower("web-0", &account).start().await;
        sidecar.says(&["waiting: the Lease", "web does not exist: create the Election"]).await;
        eventually("the time is told", async || {
            let status = sidecar.status().await;
            let waited = status["waitingSeconds"].as_f64().unwrap_or_default();
            let names = status["waitingFor"].as_str().is_some_and(|what| what.contains("does not exist"));
            if names && waited > 1.0 { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        let _controller = world.controller();
        let leader = world.led().await;
        tells(&sidecar, &leader).await;
        assert_eq!(sidecar.status().await["waitingFor"], Value::Null);
        assert_eq!(sidecar.said("does not exist"), 1, "{}", sidecar.log());
    })
    .await;
}

#[tokio::test]
async fn missing_watch_permission_is_logged_once_and_replaced_by_polling() {
    scenario(async |world| {
        let account = account(world, &[]).await;
        let proxy = Proxy::to(&account).await;
        let _controller = world.controller();
        let leader = world.led().await;
        let sidecar = world.follower("web-1", &proxy.kubeconfig()).start().await;
        let remedy = format!("grant get, list and watch on leases in namespace {}", world.namespace);
        let lease = format!("the Lease {}/web", world.namespace);
        sidecar.says(&["WARN", &format!("missing permission to get, list and watch {lease}"), &remedy]).await;
        eventually("it tries on", async || {
            let tries = proxy.asked(|_| true).len();
            if tries >= 5 { Ok(()) } else { Err(format!("{tries} requests")) }
        })
        .await;
        assert_eq!(sidecar.said("WARN"), 1, "{}", sidecar.log());
        grant(world, &["get"]).await;
        tells(&sidecar, &leader).await;
        sidecar.says(&["WARN", &format!("missing permission to list and watch {lease}"), &remedy]).await;
        world.set_ready("web-0", false).await;
        let next = world.leader_after("web", &leader).await;
        tells(&sidecar, &next).await;
        assert_eq!(sidecar.said("WARN"), 2, "{}", sidecar.log());
        grant(world, FOLLOW).await;
        sidecar.says(&["following the Lease", "again"]).await;
    })
    .await;
}

#[tokio::test]
async fn watches_that_end_immediately_are_retried_with_a_pause() {
    scenario(async |world| {
        let account = account(world, FOLLOW).await;
        let proxy = Proxy::to(&account).await;
        proxy.rule(|asked| if asked.is_watch() { Fate::Expire } else { Fate::Forward });
        let _controller = world.controller();
        let leader = world.led().await;
        let sidecar = world.follower("web-1", &proxy.kubeconfig()).start().await;
        tells(&sidecar, &leader).await;
        // Five seconds pass for another sidecar.
        let theirs = world.account_with("others", &CONTRIB).await;
        let other = world.contrib("pod-a", &theirs).start().await;
        other.names("pod-a").await;
        renewals(world, 2).await;
        let asked = proxy.take().len();
        // 0.5 s, 1 s, 2 s and 4 s apart, two requests each.
        assert!(asked <= 20, "{asked} requests");
        proxy.heal();
        world.set_ready("web-0", false).await;
        let next = world.leader_after("web", &leader).await;
        tells(&sidecar, &next).await;
    })
    .await;
}
