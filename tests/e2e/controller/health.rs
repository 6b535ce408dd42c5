//! Health and readiness of a controller.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::ListParams;
use tokio::time::Instant;

use crate::harness::controller::{Controller, OWN_LEASE};
use crate::harness::door::Door;
use crate::harness::http::{HTTP, get, put};
use crate::harness::proxy::{Asked, Fate, Proxy};
use crate::harness::sidecar::Connection;
use crate::harness::{Scenario, eventually, scenario};

async fn until_ready(address: SocketAddr) {
    eventually("it is ready", async || match get(address, "/readyz").await {
        (200, _) => Ok(()),
        (_, why) => Err(why),
    })
    .await;
}

async fn until_unready(address: SocketAddr, words: &str) -> String {
    eventually(&format!("it is not ready: {words}"), async || match get(address, "/readyz").await {
        (503, why) if why.contains(words) => Ok(why),
        answer => Err(format!("{answer:?}")),
    })
    .await
}

#[tokio::test]
async fn controller_reports_the_cache_that_lacks_permission() {
    scenario(async |world| {
        let account = world.account("podium").await;
        world.grant_all_but("podium", "list", "pods").await;
        let controller = world.controller_with(&account, HTTP);
        let http = controller.http().await;
        let why = until_unready(http, "missing permission").await;
        assert!(why.contains(&format!("waiting for the first list of pods in namespace {}", world.namespace)), "{why}");
        assert_eq!(get(http, "/healthz").await, (200, "ok\n".into()), "a restart would not help");
        assert_eq!(get(http, "/").await.0, 404);
        world.grant_all("podium", "list", "pods").await;
        until_ready(http).await;
        assert_eq!(get(http, "/readyz").await, (200, "ok\n".into()));
    })
    .await;
}

/// An active and a standby replica, each behind its own [`Door`], and their HTTP addresses.
async fn pair(world: &Scenario) -> [(Controller, Door, SocketAddr); 2] {
    let mut pair = Vec::new();
    for words in ["caches in sync, electing", "caches in sync, standing by"] {
        let door = Door::opened(&world.cluster.kubeconfig).await;
        let controller = world.controller_with(&door.through(&world.cluster.kubeconfig), HTTP);
        controller.says(&[words]).await;
        let http = controller.http().await;
        until_ready(http).await;
        pair.push((controller, door, http));
    }
    pair.try_into().unwrap_or_else(|_| unreachable!("two were started"))
}

#[tokio::test]
async fn replicas_report_a_lost_api_server_keep_the_leader_and_recover() {
    scenario(async |world| {
        let mut replicas = pair(world).await;
        let leader = world.led().await;
        let lost = Instant::now();
        for (_, door, _) in &mut replicas {
            door.close().await;
        }
        for (_, _, http) in &replicas {
            until_unready(*http, "cannot reach the API server").await;
            assert_eq!(get(*http, "/healthz").await.0, 200);
        }
        println!("connections refused: both say so after {:?}", lost.elapsed());
        for (_, door, _) in &mut replicas {
            door.open().await;
        }
        // No watch delivers an event in this namespace: an accepted watch is enough.
        for (_, _, http) in &replicas {
            until_ready(*http).await;
        }
        let after = world.leader_is("web", &leader.name).await;
        assert_eq!((after.name.as_str(), after.term), (leader.name.as_str(), leader.term));
        world.delete_pod(&leader.name).await;
        world.leader_after("web", &leader).await;
    })
    .await;
}

#[tokio::test]
async fn replicas_report_dropped_packets_within_the_lease_duration() {
    scenario(async |world| {
        let replicas = pair(world).await;
        for (_, door, _) in &replicas {
            door.swallow();
        }
        let lost = Instant::now();
        for (_, _, http) in &replicas {
            let why = until_unready(*http, "API server unavailable").await;
            // 8 s, plus 2 s.
            assert!(lost.elapsed() < Duration::from_secs(20), "{why}");
        }
        println!("packets vanish: both say so after {:?}", lost.elapsed());
        for (mut controller, _, http) in replicas {
            let told = Instant::now();
            assert!(controller.terminate().await.success());
            println!("SIGTERM while nothing is answered: {:?}", told.elapsed());
            assert!(told.elapsed() < Duration::from_secs(5), "{}", controller.log());
            assert!(Connection::open(http).await.is_err(), "nothing listens any more");
        }
    })
    .await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_hanging_response() {
    scenario(async |world| {
        let proxy = Proxy::to(&world.cluster.kubeconfig).await;
        let mut controller = world.controller_with(&proxy.kubeconfig(), HTTP);
        controller.elects().await;
        let http = controller.http().await;
        let leader = world.led().await;
        let hangs = |asked: &Asked| if asked.writes("pods/web-1") { Fate::Hang } else { Fate::Forward };
        proxy.rule(hangs);
        world.set_ready(&leader.name, false).await;
        eventually("the new leader's label is on its way", async || {
            let asked = proxy.asked(|asked| asked.fate == Fate::Hang);
            if asked.is_empty() { Err("not yet".into()) } else { Ok(()) }
        })
        .await;
        let told = Instant::now();
        controller.signal("TERM");
        until_unready(http, "shutting down").await;
        assert!(controller.end().await.success());
        let took = told.elapsed();
        println!("SIGTERM while one write is not answered: {took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        controller.says(&["giving up requests without a response after 3 s"]).await;
        // Other replicas need not wait for the Lease to expire. The controller tries to release it, and logs a failure if a
        // busy API server does not respond within 1.5 s. The next active replica finishes its work.
        let given_up = told + Duration::from_secs(3);
        let own = |asked: &Asked| asked.method == "PUT" && asked.path.contains("/leases/podium-controller");
        let released = proxy.asked(|asked| own(asked) && asked.at >= given_up);
        assert!(!released.is_empty(), "nothing was written to its own Lease: {:?}", proxy.asked(own));
        let log = controller.log();
        let over = ["released the Lease", "failed to release the Lease in time"];
        assert!(over.iter().any(|words| log.contains(words)), "{log}");
        let _next = world.controller();
        world.leader_is("web", "web-1").await;
    })
    .await;
}

#[tokio::test]
async fn shutdown_finishes_the_write_in_flight_and_releases_the_lease() {
    scenario(async |world| {
        let proxy = Proxy::to(&world.cluster.kubeconfig).await;
        let mut controller = world.controller_with(&proxy.kubeconfig(), HTTP);
        controller.elects().await;
        let http = controller.http().await;
        let leader = world.led().await;
        proxy.rule(|asked| if asked.writes("pods/web-1") { Fate::Hold } else { Fate::Forward });
        world.set_ready(&leader.name, false).await;
        eventually("the new leader's label is on its way", async || {
            let held = proxy.asked(|asked| asked.fate == Fate::Hold);
            if held.is_empty() { Err("not yet".into()) } else { Ok(()) }
        })
        .await;
        let held = proxy.take();
        let told = Instant::now();
        controller.signal("TERM");
        until_unready(http, "shutting down").await;
        // The replica holds its own Lease as long as it writes.
        let own = world.api::<Lease>().list(&ListParams::default()).await.expect("Leases can be listed").items;
        let own = own.into_iter().find(|lease| lease.name_any().starts_with(OWN_LEASE)).expect("its own Lease");
        let holder = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        assert_ne!(holder(&own), "");
        proxy.let_go();
        assert!(controller.end().await.success());
        println!("SIGTERM while one write is held: {:?}", told.elapsed());
        assert!(told.elapsed() < Duration::from_secs(5), "{}", controller.log());

        // No other controller could have written label and status.
        world.leader_is("web", "web-1").await;
        assert!(!controller.log().contains("giving up requests"), "{}", controller.log());
        controller.says(&["released the Lease"]).await;
        assert_eq!(holder(&world.api::<Lease>().get(&own.name_any()).await.expect("it is there")), "");
        let after = proxy.take();
        let status = after.iter().position(|asked| asked.writes("elections/web/status")).expect("the status is written");
        let release = after.iter().rposition(|asked| asked.writes(&format!("leases/{}", own.name_any())));
        assert!(release.is_some_and(|release| status < release), "the Lease was released first: {held:?} {after:?}");
    })
    .await;
}

#[tokio::test]
async fn dead_connections_are_dropped_when_the_api_server_returns() {
    scenario(async |world| {
        let mut replicas = pair(world).await;
        let leader = world.led().await;
        for (_, door, _) in &replicas {
            door.swallow();
        }
        for (_, _, http) in &replicas {
            until_unready(*http, "API server unavailable").await;
        }
        // Open connections never recover; only new ones work.
        for (_, door, _) in &mut replicas {
            door.open().await;
        }
        let opened = Instant::now();
        for (_, _, http) in &replicas {
            until_ready(*http).await;
        }
        println!("heard again: ready after {:?}", opened.elapsed());
        world.set_ready(&leader.name, false).await;
        world.leader_after("web", &leader).await;
        println!("and the next leader is elected after {:?}", opened.elapsed());
    })
    .await;
}

#[tokio::test]
async fn log_level_can_be_changed_at_run_time() {
    scenario(async |world| {
        let controller = world.controller_with(&world.cluster.kubeconfig, HTTP);
        controller.elects().await;
        let http = controller.http().await;
        let first = world.led().await;
        controller.says(&["leader changed", &format!("term={}", first.term)]).await;
        assert_eq!(put(http, "/log", "error").await, (200, "ok\n".into()));
        world.set_ready(&first.name, false).await;
        let second = world.leader_after("web", &first).await;

        for (wrong, code) in [("podium=loud", 400), ("", 400), (&"x".repeat(5_000), 413)] {
            assert_eq!(put(http, "/log", wrong).await.0, code, "{wrong}");
        }
        assert_eq!(put(http, "/readyz", "info").await.0, 405);
        assert_eq!(put(http, "/log", " info,podium=debug\n").await.0, 200);
        world.set_ready(&first.name, true).await;
        world.set_ready(&second.name, false).await;
        let third = world.leader_after("web", &second).await;
        let line = controller.says(&["leader changed", &format!("term={}", third.term)]).await;
        assert!(line.contains(&format!("reconcile{{namespace=\"{}\" election=\"web\" term=", world.namespace)), "{line}");
        assert!(!controller.log().contains(&format!("term={} cause", second.term)), "{}", controller.log());
    })
    .await;
}

#[tokio::test]
async fn port_in_use_is_a_startup_error() {
    scenario(async |world| {
        let first = world.controller_with(&world.cluster.kubeconfig, HTTP);
        let taken = first.http().await.to_string();
        let mut second = world.controller_with(&world.cluster.kubeconfig, &["--http", &taken]);
        assert_eq!(second.end().await.code(), Some(1));
        second.says(&["cannot listen on --http", &taken, "in use"]).await;
    })
    .await;
}
