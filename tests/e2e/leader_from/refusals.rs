//! What an Election that follows a Lease must not have, and Leases that it must not follow.

use podium::api::Election;
use serde_json::{Value, json};

use super::lock::{HOUR, Lock};
use super::{follow, vacant};
use crate::harness::{Scenario, scenario};

fn spec(fields: Value) -> Value {
    let mut spec = json!({
        "selector": { "matchLabels": { "app": "web" } }, "leaderFrom": { "lease": { "name": "lock" } },
    });
    for (key, value) in fields.as_object().expect("fields") {
        spec[key] = value.clone();
    }
    spec
}

fn from(lease: Value) -> Value {
    spec(json!({ "leaderFrom": { "lease": lease } }))
}

fn assert_refused(answer: kube::Result<Election>, words: &[&str]) {
    let Err(kube::Error::Api(status)) = answer else { panic!("accepted, or no answer at all: {answer:?}") };
    for word in words {
        assert!(status.message.contains(word), "no {word:?} in {:?}", status.message);
    }
    assert_eq!(status.code, 422, "{}", status.message);
}

#[tokio::test]
async fn contradictory_spec_is_rejected() {
    scenario(async |world| {
        let own = ["spec.leaderFrom.lease.name", "must be the Lease of another elector", "set spec.leaseName"];
        let preference = json!([{ "weight": 1, "selector": { "matchLabels": { "zone": "a" } } }]);
        let cases: [(&str, Value, &[&str]); 9] = [
            ("lock", spec(json!({})), &own),
            ("web", spec(json!({ "leaseName": "lock" })), &own),
            ("web", spec(json!({ "preferences": preference })), &["spec.preferences", "must be empty with spec.leaderFrom"]),
            (
                "web",
                spec(json!({ "preemption": { "policy": "PreferHigher" } })),
                &["spec.preemption.policy", "must be Never with spec.leaderFrom"],
            ),
            ("web", from(json!({})), &["spec.leaderFrom.lease.name", "Required value"]),
            ("web", from(json!({ "name": "" })), &["spec.leaderFrom.lease.name"]),
            ("web", from(json!({ "name": "other/lock" })), &["spec.leaderFrom.lease.name", "should match"]),
            (
                "web",
                from(json!({ "name": "lock", "holder": "Hostname" })),
                &["spec.leaderFrom.lease.holder", "PodName", "NodeName"],
            ),
            ("web", spec(json!({ "leaderFrom": {} })), &["spec.leaderFrom.lease", "Required value"]),
        ];
        for (name, spec, words) in cases {
            assert_refused(world.try_election(name, spec).await, words);
        }
        let allowed = spec(json!({ "leaseName": "web", "preferences": [], "preemption": { "policy": "Never" } }));
        world.try_election("lock", allowed).await.expect("the Election's own Lease is another one");
    })
    .await;
}

#[tokio::test]
async fn leader_from_cannot_be_changed_added_or_removed() {
    scenario(async |world| {
        world.try_election("web", spec(json!({}))).await.expect("valid");
        world.try_election("db", json!({ "selector": { "matchLabels": { "app": "db" } } })).await.expect("valid");
        let immutable = ["spec.leaderFrom", "is immutable, also whether it is set"];
        for (name, from) in [
            ("web", json!({ "lease": { "name": "other" } })),
            ("web", json!({ "lease": { "holder": "NodeName" } })),
            ("web", json!(null)),
            ("db", json!({ "lease": { "name": "lock" } })),
        ] {
            assert_refused(world.patch_election(name, json!({ "leaderFrom": from })).await, &immutable);
        }
        // What was added must not become a contradiction.
        let preference = json!([{ "weight": 1, "selector": { "matchLabels": { "zone": "a" } } }]);
        let refused = world.patch_election("web", json!({ "preferences": preference })).await;
        assert_refused(refused, &["spec.preferences", "must be empty with spec.leaderFrom"]);
        let refused = world.patch_election("web", json!({ "preemption": { "policy": "PreferHigher" } })).await;
        assert_refused(refused, &["spec.preemption.policy", "must be Never with spec.leaderFrom"]);
        world.patch_election("web", json!({ "minReadySeconds": 5 })).await.expect("other fields may change");
    })
    .await;
}

#[tokio::test]
async fn lease_of_another_election_is_not_followed() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        // Its Lease names a pod that matches.
        world.election_with("lock", json!({ "label": { "key": "other.example/leader" } })).await;
        world.leader_is("lock", "web-0").await;
        follow(world, json!({})).await;
        let message = world.condition("web", "Stalled", "True", "LeaseConflict").await;
        let remedy = "create the Election with a spec.leaderFrom.lease.name on which others elect";
        assert_eq!(message, format!("Lease lock belongs to Election lock: {remedy}"));

        world.delete_election("lock").await;
        world.lease_is_gone("lock").await;
        vacant(world, "Lease lock does not exist").await;
        world.recovered("web").await;
        let lock = Lock::held_by(world, "web-0", HOUR).await;
        let created = lock.get().await;
        world.leader_is("web", "web-0").await;
        lock.assert_unchanged_since(&created).await;
    })
    .await;
}

#[tokio::test]
async fn lease_that_becomes_an_elections_keeps_the_leader_and_is_reported() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        let _lock = Lock::held_by(world, "web-0", HOUR).await;
        follow(world, json!({})).await;
        let leader = world.leader_is("web", "web-0").await;
        world.forge_lease("lock", json!({ "metadata": { "annotations": { "podium.dev/election": "some-uid" } } })).await;
        world.condition("web", "Stalled", "True", "LeaseConflict").await;
        assert_eq!(world.leader("web").await, leader);
        world.forge_lease("lock", json!({ "metadata": { "annotations": { "podium.dev/election": null } } })).await;
        world.recovered("web").await;
        assert_eq!(world.leader("web").await, leader);
    })
    .await;
}

#[tokio::test]
async fn lease_of_the_controllers_is_not_followed() {
    scenario(async |world| {
        let own = ["--leader-elect-resource-name=podium-controller"];
        let _controller = world.controller_with(&world.cluster.controllers, &own);
        world.pods(["web-0"]).await;
        follow(world, json!({ "leaderFrom": { "lease": { "name": "podium-controller" } } })).await;
        let message = world.condition("web", "Stalled", "True", "LeaseConflict").await;
        let expected = "spec.leaderFrom.lease.name must not be the Lease of the controller's own replicas: name a Lease on which others elect";
        assert_eq!(message, expected);
    })
    .await;
}

#[tokio::test]
async fn lease_of_another_namespace_has_no_effect() {
    scenario(async |world| {
        scenario(async |other: &Scenario| {
            let _controller = world.controller_with(&world.cluster.controllers, &["--namespaces", &other.namespace]);
            world.pods(["web-0", "web-1"]).await;
            other.pods(["web-0", "web-1"]).await;
            let elsewhere = Lock::held_by(other, "web-1", HOUR).await;
            follow(world, json!({})).await;
            follow(other, json!({})).await;
            other.leader_is("web", "web-1").await;
            vacant(world, "Lease lock does not exist").await;
            let _lock = Lock::held_by(world, "web-0", HOUR).await;
            let leader = world.leader_is("web", "web-0").await;
            elsewhere.hold("web-0").await;
            other.leader_is("web", "web-0").await;
            elsewhere.hold("").await;
            vacant(other, "Lease lock has no holder").await;
            world.serve_another("another").await;
            assert_eq!(world.leader("web").await, leader);
        })
        .await;
    })
    .await;
}
