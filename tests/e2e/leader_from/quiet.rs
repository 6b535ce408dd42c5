//! The followed Lease is only read, and its renewals cost nothing.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use super::lock::{HOUR, Lock};
use super::{follow, vacant};
use crate::harness::chart::RIGHTS;
use crate::harness::cluster::client;
use crate::harness::controller::OWN_LEASE;
use crate::harness::http::{HTTP, get};
use crate::harness::policies::CONTROLLER;
use crate::harness::proxy::Proxy;
use crate::harness::{eventually, scenario};

/// Renewals, one each second: longer than the Lease would last without them.
const RENEWALS: usize = 25;

/// The number of reconciles so far.
async fn reconciles(http: SocketAddr) -> u64 {
    let (_, text) = get(http, "/metrics").await;
    let counts = text.lines().filter(|line| line.starts_with("podium_reconcile_duration_seconds_count{"));
    let counts: Vec<u64> = counts.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(!counts.is_empty(), "{text}");
    counts.iter().sum()
}

#[tokio::test]
async fn renewals_cost_no_write_no_request_and_no_reconcile() {
    scenario(async |world| {
        let proxy = Proxy::to(&world.cluster.controllers).await;
        let controller = world.controller_with(&proxy.kubeconfig(), HTTP);
        let http = controller.http().await;
        world.pods(["web-0", "web-1"]).await;
        let lock = Lock::held_by(world, "web-0_5a3e", 15).await;
        follow(world, json!({ "label": { "followerValue": "false" } })).await;
        let leader = world.leader_is("web", "web-0").await;
        let writes = world.writes().await;
        writes.quiet().await;

        let renewals = lock.renewals(Duration::from_secs(1));
        renewals.more(1).await;
        writes.forget();
        drop(proxy.take());
        let before = reconciles(http).await;
        renewals.more(RENEWALS).await;
        let asked = proxy.asked(|asked| !asked.path.contains(OWN_LEASE));
        let asked: Vec<_> = asked.iter().filter(|asked| !asked.is_watch()).collect();
        assert!(asked.is_empty(), "{asked:?}");
        assert_eq!(reconciles(http).await, before);
        let counts = writes.counts();
        assert!(counts.keys().eq(["Lease lock"]) && counts["Lease lock"] >= RENEWALS, "{counts:?}");
        assert_eq!(world.leader("web").await, leader);

        // The counts can show something.
        lock.hold("web-1").await;
        world.leader_is("web", "web-1").await;
        // A reconcile is counted when it ends, after the status was written.
        eventually("the reconcile is counted", async || {
            let now = reconciles(http).await;
            if now > before { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
        assert!(!proxy.asked(|asked| asked.method == "PATCH").is_empty());
    })
    .await;
}

#[tokio::test]
async fn permissions_and_policies_of_the_chart_suffice_and_the_lease_is_never_written() {
    scenario(async |world| {
        let account = world.account_with("podium", &*RIGHTS).await;
        let policies = world.policies(&CONTROLLER, &["Deny"], &[]).await;
        let mine = client(&account).await;
        let foreign = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "some" } });
        policies.in_force(&mine, "leases", foreign, |answer| answer.code == 403).await;
        let proxy = Proxy::to(&account).await;
        let controller =
            world.controller_with(&proxy.kubeconfig(), &["--leader-elect-resource-name=podium-controller"]);
        world.pods(["web-0", "web-1"]).await;
        // Not even the consent of its owner makes the Election adopt it.
        let lock = Lock::held_by(world, "web-0", HOUR).await;
        world.forge_lease("lock", json!({ "metadata": { "annotations": { "podium.dev/allow-adoption-by": "web", "podium.dev/elector": "sidecar" } } })).await;
        let mut last = lock.hold("web-0").await;
        follow(world, json!({ "label": { "followerValue": "false" } })).await;
        world.leader_is("web", "web-0").await;
        for pod in ["web-1", "web-0"] {
            last = lock.hold(pod).await;
            world.leader_is("web", pod).await;
        }
        world.delete_pod("web-0").await;
        world.vacancy("web").await;
        assert_eq!(lock.get().await.metadata.resource_version, last.metadata.resource_version);
        last = lock.hold("").await;
        vacant(world, "Lease lock has no holder").await;
        assert!(!controller.log().contains("WARN"), "{}", controller.log());
        world.delete_election("web").await;
        world.lease_is_gone("web").await;
        let now = lock.get().await;
        assert_eq!(now.metadata.resource_version, last.metadata.resource_version);
        assert!(now.metadata.owner_references.is_none());
        let written = proxy.asked(|asked| asked.writes("leases/lock"));
        assert!(written.is_empty(), "{written:?}");
        policies.remove().await;
    })
    .await;
}
