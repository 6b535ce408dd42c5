//! Controllers that stop, restart, or run several at a time.

use std::collections::BTreeMap;
use std::fmt::Debug;

use futures::future::join;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::wait::await_condition;
use kube::{Resource, ResourceExt};
use podium::api::Election;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::harness::{Leader, Scenario, scenario};

/// The resourceVersions of all objects of the Election `web`.
async fn versions(world: &Scenario) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    collect::<Pod>(world, &mut versions).await;
    collect::<Lease>(world, &mut versions).await;
    collect::<Election>(world, &mut versions).await;
    collect::<Event>(world, &mut versions).await;
    versions
}

async fn collect<K>(world: &Scenario, versions: &mut BTreeMap<String, String>)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    for object in world.api::<K>().list_metadata(&ListParams::default()).await.expect("objects can be listed") {
        let name = object.name_any();
        // The first dot begins the number of an Event.
        if name.split('.').next().is_some_and(|name| name == "web" || name.starts_with("web-")) {
            versions.insert(format!("{} {name}", K::kind(&())), object.resource_version().unwrap_or_default());
        }
    }
}

/// Proof without a timeout: a controller that served a new Election has also reconciled the existing one.
async fn serve_another(world: &Scenario, name: &str) {
    world.pod(&format!("{name}-0"), json!({ "labels": { "app": name } })).await;
    world.election_with(name, json!({ "selector": { "matchLabels": { "app": name } } })).await;
    world.leader(name).await;
}

#[tokio::test]
async fn controller_start_on_a_correct_state_writes_nothing() {
    scenario(async |world| {
        let mut controller = world.controller();
        world.pods(["web-0", "web-1", "web-2"]).await;
        world.election("web").await;
        world.leader("web").await;
        // Leaves a former holder.
        world.set_ready("web-0", false).await;
        world.leader_is("web", "web-1").await;
        serve_another(world, "first").await;
        controller.kill();
        let before = versions(world).await;

        let mut controller = world.controller();
        serve_another(world, "second").await;
        assert_eq!(versions(world).await, before, "after SIGKILL and a restart");

        assert!(controller.terminate().await.success(), "SIGTERM is a request, not a failure");
        let _controller = world.controller();
        serve_another(world, "third").await;
        assert_eq!(versions(world).await, before, "after SIGTERM and a restart");
    })
    .await;
}

/// A leader that is force-deleted while no controller runs.
async fn leader_lost_unseen(world: &Scenario) -> Leader {
    let mut controller = world.controller();
    let leader = world.led().await;
    controller.kill();
    world.force_delete_pod(&leader.name).await;
    leader
}

#[tokio::test]
async fn leader_lost_without_a_controller_is_replaced_at_its_start() {
    scenario(async |world| {
        let first = leader_lost_unseen(world).await;
        let _controller = world.controller();
        assert!(world.leader_is("web", "web-1").await.term > first.term);
    })
    .await;
}

#[tokio::test]
async fn changes_without_a_controller_are_repaired_at_its_start() {
    scenario(async |world| {
        let first = leader_lost_unseen(world).await;
        // Another pod with the leader's name and label.
        world.forged_pod("web-0", json!({ "labels": { "leader": "true" } })).await;
        world.api::<Lease>().delete("web", &DeleteParams::default()).await.expect("the Lease is deleted");
        let _controller = world.controller();
        world.leader_after("web", &first).await;
    })
    .await;
}

#[tokio::test]
async fn a_leader_survives_an_outage_of_the_controller() {
    scenario(async |world| {
        let mut controller = world.controller();
        let leader = world.led().await;
        for _ in 0..3 {
            controller.kill();
            assert_eq!(world.leader("web").await, leader);
            controller = world.controller();
            controller.elects().await;
            assert_eq!(world.leader("web").await, leader);
        }
    })
    .await;
}

#[tokio::test]
async fn two_controllers_at_once_do_no_harm() {
    scenario(async |world| {
        let (_one, _other) = (world.controller(), world.controller());
        world.pods(["web-0", "web-1", "web-2"]).await;
        world.election("web").await;
        let mut leader = world.leader("web").await;
        for _ in 0..4 {
            world.set_ready(&leader.name, false).await;
            let next = world.leader_after("web", &leader).await;
            assert_ne!(next.name, leader.name);
            world.set_ready(&leader.name, true).await;
            leader = next;
        }
        world.api::<Lease>().delete("web", &DeleteParams::default()).await.expect("the Lease is deleted");
        let leader = world.leader_after("web", &leader).await;
        world.delete_pod(&leader.name).await;
        world.leader_after("web", &leader).await;
    })
    .await;
}

#[tokio::test]
async fn interrupted_failover_is_finished_by_the_next_controller() {
    scenario(async |world| {
        world.pods(["web-0", "web-1", "web-2"]).await;
        world.election("web").await;
        let mut controller = world.controller();
        let mut leader = world.leader("web").await;
        for number in 0..9 {
            let (pod, term) = (leader.name.clone(), leader.term);
            let elected = move |lease: Option<&Lease>| lease.is_some_and(|lease| annotated_term(lease) > term);
            let fenced = |pod: Option<&Pod>| pod.is_some_and(|pod| !pod.labels().contains_key("leader"));
            let unready = world.set_ready(&pod, false);
            // Right after it observed the change, began the new term, or fenced the former leader.
            match number % 3 {
                0 => drop(unready.await),
                1 => drop(join(await_condition(world.api(), "web", elected), unready).await),
                _ => drop(join(await_condition(world.api(), &pod, fenced), unready).await),
            }
            controller.kill();
            controller = world.controller();
            let next = world.leader_after("web", &leader).await;
            world.set_ready(&leader.name, true).await;
            leader = next;
        }
    })
    .await;
}

fn annotated_term(lease: &Lease) -> i64 {
    lease.annotations().get("podium.dev/term").and_then(|term| term.parse().ok()).unwrap_or_default()
}
