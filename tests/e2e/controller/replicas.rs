//! Replicas of the controller: one is active, the others are on standby and take over.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::harness::access::RIGHTS;
use crate::harness::controller::{Controller, OWN_LEASE};
use crate::harness::http::get;
use crate::harness::{Scenario, eventually, scenario};

const ACTIVE: &[&str] = &["caches in sync, electing"];
const STANDBY: &[&str] = &["standing by"];

/// The controller's own Lease in the test's namespace.
async fn own_lease(world: &Scenario) -> Lease {
    eventually("Podium's own Lease is there", async || {
        let leases = world.api::<Lease>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let names: Vec<_> = leases.items.iter().map(ResourceExt::name_any).collect();
        let own = leases.items.into_iter().find(|lease| lease.name_any().starts_with(OWN_LEASE));
        own.ok_or_else(|| format!("{names:?}"))
    })
    .await
}

fn holder(lease: &Lease) -> String {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default()
}

/// Waits until the controller's own Lease has another holder, and returns it.
async fn holder_after(world: &Scenario, former: &str) -> Lease {
    eventually("another replica holds the Lease", async || {
        let lease = own_lease(world).await;
        let holder = holder(&lease);
        if holder.is_empty() || holder == former { Err(holder) } else { Ok(lease) }
    })
    .await
}

/// The time of the log line with these words.
async fn time_of(controller: &Controller, words: &[&str]) -> Timestamp {
    let line = controller.says(words).await;
    let time = line.split_whitespace().next().unwrap_or_default();
    time.parse().unwrap_or_else(|_| panic!("a line begins with its time: {line}"))
}

/// An active and a standby replica.
async fn pair(world: &Scenario) -> (Controller, Controller) {
    let active = world.controller();
    active.says(ACTIVE).await;
    let standby = world.controller();
    standby.says(STANDBY).await;
    (active, standby)
}

#[tokio::test]
async fn one_of_three_replicas_is_active_and_standbys_write_nothing() {
    scenario(async |world| {
        let mut active = world.controller();
        active.says(ACTIVE).await;
        // Any other write of these replicas would be rejected and logged. They may write only their own Lease.
        let reading: &[&str] = &["get", "list", "watch"];
        let rights =
            RIGHTS.map(|(group, resource, verbs)| (group, resource, if resource == "leases" { verbs } else { reading }));
        let account = world.account_with("standby", &rights).await;
        let standbys = [world.controller_with(&account, &[]), world.controller_with(&account, &[])];
        let leader = world.led().await;
        world.set_ready(&leader.name, false).await;
        let next = world.leader_after("web", &leader).await;
        for standby in &standbys {
            standby.says(STANDBY).await;
            assert!(!standby.log().contains("electing"), "only one is active");
            assert!(!standby.log().contains("WARN"), "{}", standby.log());
        }
        // One of them takes over, without a list request: its log shows which write is rejected.
        active.kill();
        world.set_ready(&next.name, false).await;
        eventually("one of the others takes over and tries to elect", async || {
            let logs: Vec<_> = standbys.iter().map(Controller::log).collect();
            let tries = logs.iter().any(|log| log.contains("electing") && log.contains("cannot patch"));
            tries.then_some(()).ok_or_else(|| logs.join("\n"))
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn terminated_replica_hands_over_immediately() {
    scenario(async |world| {
        let (mut active, standby) = pair(world).await;
        let leader = world.led().await;
        let before = holder(&own_lease(world).await);
        assert!(active.terminate().await.success());
        let lease = holder_after(world, &before).await;
        let (released, took) = (time_of(&active, &["released the Lease"]).await, time_of(&standby, ACTIVE).await);
        println!("from the release to the other's electing: {:?}", took.duration_since(released));
        assert_eq!(lease.spec.and_then(|spec| spec.lease_transitions), Some(1));
        let handed_over = took.duration_since(released).unsigned_abs();
        assert!(handed_over < Duration::from_secs(6), "not by expiry, which takes 8 s: {handed_over:?}");
        world.delete_pod(&leader.name).await;
        world.leader_after("web", &leader).await;
    })
    .await;
}

#[tokio::test]
async fn killed_replica_is_replaced_and_missed_failovers_happen() {
    scenario(async |world| {
        let (mut active, standby) = pair(world).await;
        let leader = world.led().await;
        active.kill();
        let killed = Timestamp::now();
        world.force_delete_pod(&leader.name).await;
        assert_ne!(world.leader_after("web", &leader).await.name, leader.name);
        println!("from the kill to the other's electing: {:?}", time_of(&standby, ACTIVE).await.duration_since(killed));
    })
    .await;
}

#[tokio::test]
async fn successor_of_a_killed_replica_on_the_same_host_does_not_wait() {
    scenario(async |world| {
        // Longer than the test.
        let slow = ["--leader-elect-lease-duration", "600s"];
        let mut former = world.controller_with(&world.cluster.controllers, &slow);
        former.says(ACTIVE).await;
        former.kill();
        let next = world.controller_with(&world.cluster.controllers, &slow);
        next.says(ACTIVE).await;
        let leader = world.led().await;
        // A standby waits for a live replica.
        let third = world.controller_with(&world.cluster.controllers, &slow);
        third.says(STANDBY).await;
        assert_eq!(world.leader("web").await, leader);
        assert!(!third.log().contains("electing"));
    })
    .await;
}

#[tokio::test]
async fn replicas_that_are_all_active_do_no_harm() {
    scenario(async |world| {
        let always = |arguments| world.controller_with(&world.cluster.controllers, arguments);
        let controllers = [always(&["--leader-elect=false"]), always(&["--leader-elect=false"]), always(&[])];
        for controller in &controllers {
            controller.says(ACTIVE).await;
        }
        churn(world).await;
    })
    .await;
}

/// Changes the leader while all replicas run. The scenario checks the history at its end.
async fn churn(world: &Scenario) {
    world.pods(["web-0", "web-1", "web-2"]).await;
    world.election("web").await;
    let mut leader = world.leader("web").await;
    for _ in 0..4 {
        world.set_ready(&leader.name, false).await;
        let next = world.leader_after("web", &leader).await;
        world.set_ready(&leader.name, true).await;
        leader = next;
    }
    world.api::<Lease>().delete("web", &DeleteParams::default()).await.expect("the Lease is deleted");
    world.leader_after("web", &leader).await;
}

#[tokio::test]
async fn edited_replica_lease_moves_the_work_safely() {
    scenario(async |world| {
        let controllers = [world.controller(), world.controller()];
        let lease = own_lease(world).await.name_any();
        let edit = async |holder: &str| {
            let patch = json!({ "spec": { "holderIdentity": holder, "leaseDurationSeconds": 1 } });
            let patch = Patch::Merge(patch);
            world.api::<Lease>().patch(&lease, &PatchParams::default(), &patch).await.expect("the Lease is edited");
        };
        // The active replica notices and stops, and then one becomes active again.
        edit("somebody-else").await;
        eventually("the active one notices", async || {
            let lost = controllers.iter().any(|controller| controller.log().contains("no longer active"));
            lost.then_some(()).ok_or_else(|| "not yet".into())
        })
        .await;
        holder_after(world, "somebody-else").await;
        edit("").await;
        churn(world).await;
    })
    .await;
}

#[tokio::test]
async fn paused_replica_does_no_harm_after_it_was_replaced() {
    scenario(async |world| {
        let (former, standby) = pair(world).await;
        let leader = world.led().await;
        former.signal("STOP");
        // Its Lease expires.
        standby.says(ACTIVE).await;
        world.force_delete_pod(&leader.name).await;
        let next = world.leader_after("web", &leader).await;
        former.signal("CONT");
        former.says(&["no longer active"]).await;
        former.says(STANDBY).await;
        world.pods(["web-2"]).await;
        world.delete_pod(&next.name).await;
        world.leader_after("web", &next).await;
    })
    .await;
}

#[tokio::test]
async fn replica_without_lease_permission_reports_it_and_is_active() {
    scenario(async |world| {
        scenario(async |other| {
            let account = world.account("podium").await;
            world.grant("podium", &*RIGHTS).await;
            let lease = ["--leader-elect-resource-namespace", &other.namespace, "--http", "127.0.0.1:0"];
            let controller = world.controller_with(&account, &lease);
            let said = controller.says(&["WARN", "missing permission to get the Lease"]).await;
            let remedy = format!("grant get, create and update on leases in namespace {}", other.namespace);
            assert!(said.contains(&remedy) && said.contains("retrying"), "{said}");
            let leader = world.led().await;
            let (code, ready) = get(controller.http().await, "/readyz").await;
            assert!(code == 200 && ready.contains("active without the Lease of the replicas"), "{code} {ready}");
            other.admit(world, "podium").await;
            controller.says(&["campaigning for the Lease", "again"]).await;
            world.set_ready(&leader.name, false).await;
            world.leader_after("web", &leader).await;
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn replica_lease_used_by_an_election_is_a_startup_error() {
    scenario(async |world| {
        let (mut active, _) = pair(world).await;
        let lease = own_lease(world).await.name_any();
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { "podium.dev/election": "some-uid" } } }));
        world.api::<Lease>().patch(&lease, &PatchParams::default(), &patch).await.expect("the Lease is claimed");
        assert!(!active.end().await.success());
        active.says(&["belongs to the Election", "--leader-elect-resource-name"]).await;
    })
    .await;
}
