//! Rejections of the API server, with messages that name the field and the remedy.

use podium::api::Election;
use serde_json::{Value, json};

use crate::harness::{Scenario, scenario};

/// Asserts that the API server rejects an Election with this spec, with a message that contains these words.
async fn assert_refused(world: &Scenario, name: &str, spec: Value, words: &[&str]) {
    let refused = world.try_election(name, spec.clone()).await;
    assert_message(refused, &spec, words);
}

fn assert_message(answer: kube::Result<Election>, what: &Value, words: &[&str]) {
    let Err(kube::Error::Api(status)) = answer else { panic!("accepted, or no answer at all: {what}: {answer:?}") };
    for word in words {
        assert!(status.message.contains(word), "{what}: no {word:?} in {:?}", status.message);
    }
    assert_eq!(status.code, 422, "{}", status.message);
}

fn with(field: &str, value: Value) -> Value {
    let mut spec = json!({ "selector": { "matchLabels": { "app": "web" } } });
    spec[field] = value;
    spec
}

#[tokio::test]
async fn empty_selector_is_rejected() {
    scenario(async |world| {
        for selector in [json!({}), json!({ "matchLabels": {} }), json!({ "matchExpressions": [] })] {
            let words = ["spec.selector", "set matchLabels or matchExpressions"];
            assert_refused(world, "web", json!({ "selector": selector }), &words).await;
        }
        assert_refused(world, "web", json!({}), &["spec.selector", "Required value"]).await;
    })
    .await;
}

#[tokio::test]
async fn requirement_that_cannot_be_evaluated_is_rejected() {
    scenario(async |world| {
        let values = ["spec.selector.matchExpressions[0]", "values must have at least one entry for operators In and NotIn"];
        let cases: [(Value, &[&str]); 6] = [
            (json!({ "key": "app", "operator": "In" }), &values),
            (json!({ "key": "app", "operator": "NotIn", "values": [] }), &values),
            (json!({ "key": "app", "operator": "Exists", "values": ["web"] }), &values),
            (json!({ "key": "app", "operator": "Gt", "values": ["1"] }), &["operator", "supported values", "NotIn"]),
            (json!({ "key": "a b", "operator": "Exists" }), &["matchExpressions[0].key", "should match"]),
            (
                json!({ "key": "app", "operator": "In", "values": ["a b"] }),
                &["matchExpressions[0].values[0]", "should match"],
            ),
        ];
        for (requirement, words) in cases {
            assert_refused(world, "web", json!({ "selector": { "matchExpressions": [requirement] } }), words).await;
        }
    })
    .await;
}

#[tokio::test]
async fn invalid_label_is_rejected() {
    scenario(async |world| {
        let (long, prefix) = ("x".repeat(64), format!("{}/leader", "x".repeat(254)));
        let key = |key: &str| with("label", json!({ "key": key }));
        for bad in ["no spaces", "-leader", "Example.com/leader", "", "a/b/c", &long, &prefix] {
            assert_refused(world, "web", key(bad), &["spec.label.key"]).await;
        }
        for bad in ["no spaces", "", "-", &long] {
            assert_refused(world, "web", with("label", json!({ "value": bad })), &["spec.label.value"]).await;
        }
        for bad in ["no spaces", "", &long] {
            assert_refused(world, "web", with("label", json!({ "followerValue": bad })), &["spec.label.followerValue"])
                .await;
        }
        let same = with("label", json!({ "followerValue": "true" }));
        assert_refused(world, "web", same, &["spec.label", "followerValue must differ from value"]).await;
        let selector = json!({ "matchLabels": { "not a key": "web" } });
        assert_refused(world, "web", json!({ "selector": selector }), &["spec.selector.matchLabels", "must be a label key"])
            .await;
        let selector = json!({ "matchLabels": { "app": "not a value" } });
        assert_refused(world, "web", json!({ "selector": selector }), &["spec.selector.matchLabels", "should match"]).await;
    })
    .await;
}

#[tokio::test]
async fn names_and_numbers_out_of_bounds_are_rejected() {
    scenario(async |world| {
        let valid = with("minReadySeconds", json!(0));
        assert_refused(world, &"x".repeat(64), valid, &["metadata.name", "63"]).await;
        assert_refused(world, "web", with("leaseName", json!("Not_A_Name")), &["spec.leaseName", "should match"]).await;
        assert_refused(world, "web", with("leaseName", json!("x".repeat(254))), &["spec.leaseName", "253"]).await;
        assert_refused(
            world,
            "web",
            with("minReadySeconds", json!(-1)),
            &["spec.minReadySeconds", "greater than or equal to 0"],
        )
        .await;
        assert_refused(world, "web", with("minReadySeconds", json!(86401)), &["spec.minReadySeconds", "86400"]).await;
    })
    .await;
}

#[tokio::test]
async fn invalid_preference_is_rejected() {
    scenario(async |world| {
        let preference = |weight: Value, selector: Value| {
            with("preferences", json!([{ "weight": 1, "selector": { "matchLabels": { "zone": "a" } } }, { "weight": weight, "selector": selector }]))
        };
        let zone = json!({ "matchLabels": { "zone": "a" } });
        let weight = "spec.preferences[1].weight";
        let selector = "spec.preferences[1].selector";
        let empty = [selector, "set matchLabels or matchExpressions"];
        let cases: [(Value, Value, &[&str]); 10] = [
            (json!(1001), zone.clone(), &[weight, "less than or equal to 1000"]),
            (json!(-1001), zone.clone(), &[weight, "greater than or equal to -1000"]),
            (json!(1.5), zone.clone(), &[weight, "must be of type integer"]),
            (json!("10"), zone.clone(), &[weight, "must be of type integer"]),
            (json!(1), json!({}), &empty),
            (json!(1), json!({ "matchLabels": {} }), &empty),
            (json!(1), json!({ "matchExpressions": [] }), &empty),
            (json!(1), json!({ "matchLabels": { "a b": "c" } }), &[selector, "must be a label key"]),
            (json!(1), json!({ "matchExpressions": [{ "key": "zone", "operator": "In" }] }), &[selector, "values must have at least one entry"]),
            (json!(1), json!({ "matchExpressions": [{ "key": "zone", "operator": "Gt" }] }), &[selector, "supported values"]),
        ];
        for (weight, selector, words) in cases {
            assert_refused(world, "web", preference(weight, selector), words).await;
        }
        assert_refused(world, "web", with("preferences", json!([{ "weight": 1 }])), &["spec.preferences[0].selector", "Required"]).await;
        assert_refused(world, "web", with("preferences", json!([{ "selector": zone }])), &["spec.preferences[0].weight", "Required"]).await;
        let many = vec![json!({ "weight": 1, "selector": zone }); 17];
        assert_refused(world, "web", with("preferences", json!(many)), &["spec.preferences", "at most 16 items"]).await;
        world.try_election("web", with("preferences", json!(many[..16]))).await.expect("sixteen are accepted");
    })
    .await;
}

#[tokio::test]
async fn unknown_policies_and_seconds_out_of_range_are_rejected() {
    scenario(async |world| {
        let preemption = |field: &str, value: Value| with("preemption", json!({ field: value }));
        let delay = "spec.preemption.delaySeconds";
        let timeout = "spec.nodeHeartbeatTimeoutSeconds";
        let cases: [(Value, &[&str]); 11] = [
            (
                preemption("policy", json!("Always")),
                &["spec.preemption.policy", "supported values", "Never", "PreferHigher"],
            ),
            (preemption("policy", json!("never")), &["spec.preemption.policy", "supported values"]),
            (preemption("delaySeconds", json!(-1)), &[delay, "greater than or equal to 0"]),
            (preemption("delaySeconds", json!(86401)), &[delay, "less than or equal to 86400"]),
            (preemption("delaySeconds", json!("5m")), &[delay, "must be of type integer"]),
            (with("preemption", json!("PreferHigher")), &["spec.preemption", "must be of type object"]),
            (with("tieBreak", json!("Random")), &["spec.tieBreak", "supported values", "LongestReady", "Spread"]),
            (with("whenNodeDrains", json!("Evict")), &["spec.whenNodeDrains", "supported values", "Ignore", "Switchover"]),
            (with("nodeHeartbeatTimeoutSeconds", json!(19)), &[timeout, "greater than or equal to 20"]),
            (with("nodeHeartbeatTimeoutSeconds", json!(301)), &[timeout, "less than or equal to 300"]),
            (with("nodeHeartbeatTimeoutSeconds", json!(0)), &[timeout, "greater than or equal to 20"]),
        ];
        for (spec, words) in cases {
            assert_refused(world, "web", spec, words).await;
        }
        let valid = json!({ "policy": "PreferHigher" });
        let election = world.try_election("web", with("preemption", valid)).await.expect("valid");
        assert_eq!(election.spec.preemption.delay_seconds, 300);
        for (name, seconds) in [("least", 20), ("most", 300)] {
            world.try_election(name, with("nodeHeartbeatTimeoutSeconds", json!(seconds))).await.expect("in range");
        }
    })
    .await;
}

#[tokio::test]
async fn label_and_lease_name_cannot_be_changed() {
    scenario(async |world| {
        world.election_with("plain", json!({})).await;
        world.election_with("named", json!({ "leaseName": "lease" })).await;
        let label = ["spec.label", "immutable", "delete the Election, wait until its label is gone"];
        let lease = ["spec.leaseName", "immutable", "delete the Election and create one with the new name"];
        let cases: [(&str, Value, &[&str]); 6] = [
            ("plain", json!({ "label": { "key": "other.example/leader" } }), &label),
            ("plain", json!({ "label": { "value": "yes" } }), &label),
            ("named", json!({ "label": { "value": "yes" } }), &label),
            ("plain", json!({ "leaseName": "other" }), &lease),
            ("named", json!({ "leaseName": "other" }), &lease),
            ("named", json!({ "leaseName": null }), &lease),
        ];
        for (name, change, words) in cases {
            let answer = world.patch_election(name, change.clone()).await;
            assert_message(answer, &change, words);
        }
    })
    .await;
}

#[tokio::test]
async fn equivalent_update_is_accepted() {
    scenario(async |world| {
        world.election("web").await;
        let changes =
            [json!({ "leaseName": "web" }), json!({ "minReadySeconds": 5 }), json!({ "label": { "key": "leader" } })];
        for change in changes {
            world.patch_election("web", change).await.expect("nothing immutable changes");
        }
    })
    .await;
}
