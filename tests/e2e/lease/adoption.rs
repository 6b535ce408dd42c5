//! Leases of other electors: ignored, waited for, taken over, given back.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use podium::api::Election;
use serde_json::{Value, json};

use crate::harness::{Scenario, eventually, scenario};

/// client-go's message about a Lease of another holder.
const HELD: &str = "and has not yet expired";

/// Creates the Lease `web` as held by this identity for 2 s.
async fn held_by(world: &Scenario, holder: &str, annotations: Value) -> Lease {
    let lease = json!({
        "metadata": { "name": "web", "annotations": annotations },
        "spec": { "holderIdentity": holder, "leaseDurationSeconds": 2, "leaseTransitions": 3, "renewTime": now() },
    });
    let lease = serde_json::from_value(lease).expect("a Lease");
    world.api::<Lease>().create(&PostParams::default(), &lease).await.expect("the Lease is created")
}

fn now() -> String {
    let now = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).expect("a time");
    format!("{now:.6}")
}

async fn patch_lease(world: &Scenario, patch: Value) -> Lease {
    let patched = world.api::<Lease>().patch("web", &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.expect("the Lease is patched")
}

#[tokio::test]
async fn client_go_cannot_acquire_while_podium_leads() {
    scenario(async |world| {
        let _controller = world.controller();
        let leader = world.led().await;
        let elector = world.elector("web", "client-go");
        elector.says(HELD, 2).await;
        assert_eq!(world.leader("web").await, leader);
    })
    .await;
}

#[tokio::test]
async fn client_go_holder_is_kept_until_it_releases_and_can_reacquire() {
    scenario(async |world| {
        let elector = world.elector("web", "client-go");
        elector.leads().await;
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        world.election("web").await;
        let message = world.condition("web", "Stalled", "True", "LeaseConflict").await;
        assert!(message.contains("podium.dev/allow-adoption-by=web"), "{message}");
        patch_lease(world, json!({ "metadata": { "annotations": { "podium.dev/allow-adoption-by": "web" } } })).await;
        eventually("the Election says that the elector must be stopped", async || {
            let message = world.condition("web", "Stalled", "True", "LeaseConflict").await;
            if message.contains("stop that elector") { Ok(()) } else { Err(message) }
        })
        .await;
        let lease = world.api::<Lease>().get("web").await.expect("the Lease is there");
        assert_eq!(lease.spec.and_then(|spec| spec.holder_identity).as_deref(), Some("client-go"));

        elector.terminate().await;
        world.leader_is("web", "web-0").await;
        world.recovered("web").await;

        let elector = world.elector("web", "client-go-again");
        elector.says(HELD, 1).await;
        world.api::<Election>().delete("web", &<_>::default()).await.expect("the Election is deleted");
        elector.leads().await;
        world.unlabeled("web-0").await;
    })
    .await;
}

#[tokio::test]
async fn silent_holder_is_replaced_after_its_lease_duration() {
    scenario(async |world| {
        held_by(world, "somebody", json!({ "podium.dev/allow-adoption-by": "web", "example.com/note": "kept" })).await;
        let controller = world.controller();
        controller.elects().await;
        world.pods(["web-0"]).await;
        let seen = Timestamp::now();
        let renewed = patch_lease(world, json!({ "spec": { "renewTime": now() } })).await;
        world.election("web").await;
        let leader = world.leader("web").await;
        // By the test's clock, started before the renewal: the Lease was taken only after it expired.
        assert!(Timestamp::now().duration_since(seen).as_secs() >= 2);
        let observed: i64 = renewed.resource_version().expect("a version").parse().expect("a number");
        assert!(leader.term > observed, "emptied first: {leader:?}");
        assert_eq!(leader.transitions, 4);
        let lease = world.api::<Lease>().get("web").await.expect("the Lease is there");
        assert_eq!(lease.annotations().get("podium.dev/allow-adoption-by"), None, "the consent is used up");
        assert_eq!(lease.annotations().get("example.com/note").map(String::as_str), Some("kept"));
    })
    .await;
}

#[tokio::test]
async fn lease_of_a_campaign_is_adopted_without_changing_the_leader() {
    scenario(async |world| {
        let theirs = held_by(world, "web-1", json!({ "podium.dev/elector": "sidecar" })).await;
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        let renewed = patch_lease(world, json!({ "spec": { "renewTime": now() } })).await;
        world.election("web").await;
        let leader = world.leader("web").await;
        assert_eq!((leader.name.as_str(), leader.transitions), ("web-1", 3), "the same leader");
        assert_eq!(Some(leader.term.to_string()), renewed.resource_version(), "in one write");
        let lease = world.api::<Lease>().get("web").await.expect("the Lease is there");
        assert_eq!((lease.uid(), lease.annotations().get("podium.dev/elector")), (theirs.uid(), None));
    })
    .await;
}

#[tokio::test]
async fn elector_that_acquires_during_a_vacancy_is_kept_while_it_renews() {
    scenario(async |world| {
        let _controller = world.controller();
        world.election("web").await;
        world.pods(["web-0"]).await;
        world.leader("web").await;
        world.set_ready("web-0", false).await;
        world.vacancy("web").await;
        let begin = Timestamp::now();
        patch_lease(
            world,
            json!({ "spec": { "holderIdentity": "somebody", "leaseDurationSeconds": 3, "renewTime": now() } }),
        )
        .await;
        let message = world.condition("web", "Stalled", "True", "LeaseConflict").await;
        assert!(message.contains("taken by somebody"), "{message}");
        world.set_ready("web-0", true).await;
        world.leader_is("web", "web-0").await;
        // By the test's clock, started before the Lease was taken.
        assert!(Timestamp::now().duration_since(begin).as_secs() >= 3);
    })
    .await;
}
