//! Isolation of namespaces in one controller: missing permissions or slow writes in one do not affect another.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::access::RIGHTS;
use crate::harness::http::{HTTP, get};
use crate::harness::proxy::{Asked, Fate, Proxy};
use crate::harness::{Scenario, eventually, scenario};

/// Waits until /readyz responds with this, and returns the body.
async fn readyz(address: std::net::SocketAddr, code: u16, words: &str) -> String {
    eventually(&format!("/readyz says {code}: {words}"), async || match get(address, "/readyz").await {
        (answered, body) if answered == code && body.contains(words) => Ok(body),
        answer => Err(format!("{answer:?}")),
    })
    .await
}

async fn unserved(address: std::net::SocketAddr) -> String {
    let (_, metrics) = get(address, "/metrics").await;
    metrics.lines().find(|line| line.starts_with("podium_namespaces_unserved")).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn inaccessible_namespace_does_not_affect_others() {
    scenario(async |world| {
        scenario(async |other| {
            let account = world.account("podium").await;
            world.grant("podium", &*RIGHTS).await;
            let absent = format!("{}-absent", world.namespace);
            let also = format!(" {} , {absent}", other.namespace);
            let controller = world.controller_with(&account, &["--namespaces", &also, "--http", "127.0.0.1:0"]);
            let leader = world.led().await;
            for namespace in [&other.namespace, &absent] {
                controller.says(&["missing permission", "get, list and watch on pods", namespace]).await;
            }
            let http = controller.http().await;
            let said = readyz(http, 200, "ok").await;
            for namespace in [&other.namespace, &absent] {
                assert!(said.contains(&format!("namespace {namespace} not served for ")), "{said}");
            }
            assert_eq!(unserved(http).await, "podium_namespaces_unserved 2");
            world.set_ready(&leader.name, false).await;
            world.leader_after("web", &leader).await;

            other.admit(world, "podium").await;
            other.led().await;
            assert_eq!(unserved(http).await, "podium_namespaces_unserved 1");
            let said = readyz(http, 200, "ok").await;
            assert!(!said.contains(&format!("namespace {} ", other.namespace)), "{said}");
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_is_served_alone_has_to_be_served() {
    scenario(async |world| {
        let account = world.account("podium").await;
        world.grant_all_but("podium", "list", "leases").await;
        let controller = world.controller_with(&account, HTTP);
        let http = controller.http().await;
        readyz(http, 503, "missing permission").await;
        assert_eq!(unserved(http).await, "podium_namespaces_unserved 1");
        world.grant_all("podium", "list", "leases").await;
        assert_eq!(readyz(http, 200, "ok").await, "ok\n");
    })
    .await;
}

/// Creates this many Elections, each with one pod.
async fn many_elections(world: &Scenario, count: usize) {
    let each = (0..count).map(async |number| {
        let (app, pod) = (format!("app-{number}"), format!("pod-{number}"));
        world.pod(&pod, json!({ "labels": { "app": app } })).await;
        world.election_with(&app, json!({ "selector": { "matchLabels": { "app": app } } })).await;
    });
    futures::future::join_all(each).await;
}

/// The leader of this namespace fails repeatedly and is replaced, while writes in others hang.
async fn fails_over_meanwhile(world: &Scenario, times: usize) {
    let mut slowest = Duration::ZERO;
    for _ in 0..times {
        let leader = world.leader("web").await;
        let lost = Instant::now();
        world.set_ready(&leader.name, false).await;
        world.leader_after("web", &leader).await;
        slowest = slowest.max(lost.elapsed());
        world.set_ready(&leader.name, true).await;
    }
    println!("the slowest of {times} failovers while other namespaces hang: {slowest:?}");
    // Each hanging write takes 10 s.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

/// Runs `test` next to Elections in two namespaces where every write to a pod hangs, as behind an unresponsive webhook.
async fn beside_two_that_hang(test: impl AsyncFnOnce(&Scenario, &Proxy)) {
    scenario(async |world| {
        scenario(async |one| {
            scenario(async |two| {
                let proxy = Proxy::to(&world.cluster.controllers).await;
                let hanging = [one.namespace.clone(), two.namespace.clone()];
                let also = hanging.join(",");
                let controller = world.controller_with(&proxy.kubeconfig(), &["--namespaces", &also]);
                controller.elects().await;
                world.led().await;
                let places = hanging.map(|namespace| format!("/namespaces/{namespace}/pods/"));
                proxy.rule(move |asked: &Asked| {
                    let hangs = asked.method == "PATCH" && places.iter().any(|place| asked.path.contains(place.as_str()));
                    if hangs { Fate::Hang } else { Fate::Forward }
                });
                for neighbour in [one, two] {
                    many_elections(neighbour, 40).await;
                }
                eventually("many writes hang", async || {
                    let hanging = proxy.asked(|asked| asked.fate == Fate::Hang).len();
                    if hanging >= 20 { Ok(()) } else { Err(hanging.to_string()) }
                })
                .await;
                test(world, &proxy).await;
                // They recover without help.
                proxy.heal();
                for neighbour in [one, two] {
                    all_led(neighbour, 40).await;
                }
            })
            .await;
        })
        .await;
    })
    .await;
}

async fn all_led(world: &Scenario, count: usize) {
    eventually("all of them have a leader", async || {
        let pods = world.api::<Pod>().list(&ListParams::default().labels("leader=true")).await.map_err(|e| e.to_string())?;
        let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        if names.len() == count { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
}

#[tokio::test]
async fn hanging_writes_do_not_delay_other_namespaces() {
    beside_two_that_hang(async |world, _| fails_over_meanwhile(world, 12).await).await;
}
