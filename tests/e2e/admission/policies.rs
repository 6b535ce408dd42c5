//! The chart's admission policies, tested with real tokens.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::SelectorExt;
use kube::{Client, ResourceExt};
use podium::api::Election;
use serde_json::{Value, json};

use crate::harness::chart::RIGHTS;
use crate::harness::cluster::client;
use crate::harness::policies::{Answer, CONTROLLER, Policies, USERS};
use crate::harness::{Scenario, eventually, scenario};

pub(super) fn label(key: &str, value: Value) -> Value {
    json!({ "metadata": { "labels": { key: value } } })
}

pub(super) fn annotation(key: &str, value: Value) -> Value {
    json!({ "metadata": { "annotations": { key: value } } })
}

fn lease(annotations: Value, owners: Value) -> Value {
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "some", "annotations": annotations, "ownerReferences": owners } })
}

/// A client with the token of a new ServiceAccount that has only these permissions.
pub(super) async fn token(world: &Scenario, name: &str, rules: Value) -> Client {
    let account = world.account(name).await;
    world.grant_rules(name, serde_json::from_value(rules).expect("rules")).await;
    client(&account).await
}

pub(super) fn everything() -> Value {
    json!([
        { "apiGroups": [""], "resources": ["pods", "pods/status", "pods/ephemeralcontainers", "pods/resize", "pods/binding", "pods/eviction", "bindings"], "verbs": ["*"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"] },
    ])
}

/// A client with all these permissions.
pub(super) async fn someone_with_everything(world: &Scenario, name: &str) -> Client {
    let client = token(world, name, everything()).await;
    world.until_allowed(name, "delete", "pods", true).await;
    client
}

pub(super) async fn in_force(policies: &Policies<'_>, client: &Client, path: &str, body: Value) {
    policies.in_force(client, path, body, |answer| answer.code == 403 && answer.message.contains("Policy")).await;
}

pub(super) fn assert_refused(what: &str, answer: &Answer, words: &str) {
    let Answer { code, message, .. } = answer;
    assert!(*code == 403 && message.contains("ValidatingAdmissionPolicy") && message.contains(words), "{what}: {answer:?}");
}

pub(super) fn assert_taken(what: &str, answer: &Answer) {
    assert!(matches!(answer.code, 200 | 201) && answer.warnings.is_empty(), "{what}: {answer:?}");
}

pub(super) fn new_pod(mut metadata: Value) -> Value {
    metadata["name"] = json!("new");
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": { "containers": [{ "name": "app", "image": "app" }] } })
}

/// A pod without a node.
pub(super) async fn unbound(world: &Scenario) {
    let mut pod = new_pod(json!({ "labels": { "app": "web" } }));
    pod["metadata"]["name"] = json!("unbound");
    pod["spec"]["schedulerName"] = json!("nobody");
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    world.api::<Pod>().create(&PostParams::default(), &pod).await.expect("the pod is created");
}

#[tokio::test]
async fn controller_token_can_change_only_podiums_own_metadata_of_pods() {
    scenario(async |world| {
        world.pod("web-0", json!({ "labels": { "team.example/owner": "a" }, "annotations": { "note": "kept" } })).await;
        unbound(world).await;
        let client = someone_with_everything(world, "podium").await;
        let policies = world.policies(&CONTROLLER, &["Deny"], &[]).await;
        in_force(&policies, &client, "pods/web-0", label("app", json!("db"))).await;
        in_force(&policies, &client, "leases", lease(json!({}), json!([]))).await;

        let pods = "may only update the metadata of pods";
        let owner = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x" }]);
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "new" },
            "spec": { "containers": [{ "name": "app", "image": "app" }] } });
        let debugger = json!({ "spec": { "ephemeralContainers": [{ "name": "d", "image": "d" }] } });
        let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "web-0" } });
        let binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "web-0" },
            "target": { "kind": "Node", "name": "node-0" } });
        let refused = [
            ("pods/web-0", label("app", json!("db")), "only the labels leader, */leader, not app"),
            ("pods/web-0", label("app", json!(null)), "not app"),
            ("pods/web-0", label("new", json!("x")), "not new"),
            ("pods/web-0", label("leaders", json!("x")), "not leaders"),
            ("pods/web-0", label("leader/x", json!("x")), "not leader/x"),
            ("pods/web-0", annotation("note", json!("lost")), "not note"),
            ("pods/web-0", annotation("note", json!(null)), "not note"),
            ("pods/web-0", annotation("podium.dev/priority", json!("9")), "not podium.dev/priority"),
            ("pods/web-0", annotation("term.podium.development", json!("9")), "not term.podium.development"),
            ("pods/web-0", annotation("podium.dev/deletion-costs-of", json!("9")), "not podium.dev/deletion-costs-of"),
            (
                "pods/web-0",
                json!({ "metadata": { "finalizers": ["example.com/x"] } }),
                "only labels and annotations in the metadata",
            ),
            (
                "pods/web-0",
                json!({ "metadata": { "ownerReferences": owner } }),
                "only labels and annotations in the metadata",
            ),
            (
                "pods/web-0",
                json!({ "spec": { "containers": [{ "name": "app", "image": "other" }] } }),
                "may not change the spec of a pod",
            ),
            ("pods/web-0", json!({ "spec": { "activeDeadlineSeconds": 60 } }), "may not change the spec of a pod"),
            ("pods/web-0/status", json!({ "status": { "phase": "Failed" } }), pods),
            ("pods/web-0/status", label("leader", json!("true")), pods),
            ("pods/web-0/ephemeralcontainers", debugger, pods),
            // On a fake node it would be rejected before the policies.
            ("pods/unbound/resize", label("leader", json!("true")), pods),
            ("pods/web-0/eviction", eviction, pods),
            ("pods/web-0/binding", binding.clone(), pods),
            ("pods", pod, pods),
        ];
        for (path, body, words) in refused {
            let what = format!("{path} {body}");
            assert_refused(&what, &world.dry_run(&client, path, body).await, words);
        }
        for path in ["pods/web-0", "pods", "leases/some"] {
            let answer = world.send(&client, "DELETE", "application/json", path, json!({})).await;
            // A collection request deletes whichever objects exist.
            assert!(path == "leases/some" || answer.message.contains(pods), "{path}: {answer:?}");
        }
        for (path, body) in [
            ("pods/web-0", label("leader", json!("true"))),
            ("pods/web-0", label("example.com/leader", json!("true"))),
            ("pods/web-0", label("leader", json!(null))),
            ("pods/web-0", annotation("term.podium.dev/web", json!("12"))),
            ("pods/web-0", annotation("controller.kubernetes.io/pod-deletion-cost", json!("5"))),
            ("pods/web-0", annotation("podium.dev/deletion-costs", json!("web=5; original="))),
        ] {
            assert_taken(&body.to_string(), &world.dry_run(&client, path, body).await);
        }
        policies.remove().await;
    })
    .await;
}

#[tokio::test]
async fn controller_token_cannot_write_foreign_leases() {
    scenario(async |world| {
        let client = someone_with_everything(world, "podium").await;
        let policies = world.policies(&CONTROLLER, &["Deny"], &[]).await;
        in_force(&policies, &client, "leases", lease(json!({}), json!([]))).await;
        let election = json!([{ "apiVersion": "podium.dev/v1beta1", "kind": "Election", "name": "web", "uid": "some" }]);
        let other = json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "some" }]);
        let own =
            json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "podium-controller" } });
        assert_taken("its own", &world.dry_run(&client, "leases", own).await);
        assert_taken("an Election's", &world.dry_run(&client, "leases", lease(json!({}), election.clone())).await);
        assert_refused(
            "another owner's",
            &world.dry_run(&client, "leases", lease(json!({}), other.clone())).await,
            "may write only Leases",
        );
        let claim = json!({ "metadata": { "ownerReferences": election } });
        let foreign = [json!({}), json!({ "podium.dev/elector": "other" }), json!({ "podium.dev/adopted": "x" })];
        let ours = [
            json!({ "podium.dev/election": "uid" }),
            json!({ "podium.dev/allow-adoption-by": "web" }),
            json!({ "podium.dev/elector": "sidecar" }),
        ];
        for (annotations, consents) in foreign.into_iter().map(|marks| (marks, false)).chain(ours.map(|marks| (marks, true)))
        {
            let object = serde_json::from_value(lease(annotations.clone(), json!([]))).expect("a Lease");
            world.api::<Lease>().create(&PostParams::default(), &object).await.expect("the Lease is created");
            let answer = world.dry_run(&client, "leases/some", claim.clone()).await;
            if consents {
                assert_taken(&annotations.to_string(), &answer);
            } else {
                assert_refused(&annotations.to_string(), &answer, "podium.dev/allow-adoption-by");
            }
            let answer = world.send(&client, "DELETE", "application/json", "leases/some", json!({})).await;
            assert_refused("deletion", &answer, "may only create and update Leases");
            world.api::<Lease>().delete("some", &<_>::default()).await.expect("the Lease is deleted");
        }
        policies.remove().await;
    })
    .await;
}

#[tokio::test]
async fn chart_permissions_allow_only_patches_of_pods() {
    scenario(async |world| {
        world.pod("web-0", json!({})).await;
        let account = world.account_with("podium", &*RIGHTS).await;
        let client = client(&account).await;
        for (method, path) in [
            ("DELETE", "pods/web-0"),
            ("DELETE", "pods"),
            ("PUT", "pods/web-0"),
            ("POST", "pods"),
            ("PATCH", "pods/web-0/status"),
            ("PATCH", "pods/web-0/ephemeralcontainers"),
            ("PATCH", "pods/web-0/resize"),
            ("POST", "pods/web-0/binding"),
            ("POST", "pods/web-0/eviction"),
            ("DELETE", "leases"),
        ] {
            let answer = world.send(&client, method, "application/merge-patch+json", path, json!({})).await;
            assert!(answer.code == 403 && answer.message.contains("cannot"), "{method} {path}: {answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn policy_evaluates_selectors_like_podium() {
    scenario(async |world| {
        let client = someone_with_everything(world, "somebody").await;
        let policies = world.policies(&USERS, &["Deny"], &[]).await;
        let expression = |key: &str, operator: &str, values: Value| json!({ "key": key, "operator": operator, "values": values });
        let selectors = [
            json!({ "matchLabels": { "a": "1" } }),
            json!({ "matchLabels": { "a": "1", "b": "2" } }),
            json!({ "matchExpressions": [expression("a", "In", json!(["1", "2"]))] }),
            json!({ "matchExpressions": [expression("a", "NotIn", json!(["1", "2"]))] }),
            json!({ "matchExpressions": [{ "key": "a", "operator": "Exists" }] }),
            json!({ "matchExpressions": [{ "key": "a", "operator": "DoesNotExist" }] }),
            json!({ "matchLabels": { "b": "2" }, "matchExpressions": [expression("a", "NotIn", json!(["3"])), { "key": "c", "operator": "DoesNotExist" }] }),
        ];
        let pods = [json!({}), json!({ "a": "1" }), json!({ "a": "3" }), json!({ "a": "", "b": "2" }), json!({ "b": "2" }),
            json!({ "a": "1", "b": "2" }), json!({ "a": "1", "b": "2", "c": "" })];
        for (number, selector) in selectors.iter().enumerate() {
            let (name, key) = (format!("e{number}"), format!("e{number}.example/leader"));
            let spec = json!({ "selector": selector, "label": { "key": key } });
            let election = world.try_election(&name, spec).await.expect("the Election is accepted");
            let parsed = serde_json::from_value::<LabelSelector>(selector.clone()).expect("a selector");
            let selector: kube::core::Selector = parsed.try_into().expect("a selector");
            // Before the first term, the controller leaves pods alone.
            let mut marked = json!({ "a": "1", "b": "2" });
            marked[&key] = json!("true");
            let before = world.dry_run(&client, "pods", new_pod(json!({ "labels": marked }))).await;
            assert_taken("an Election that has not begun", &before);
            let patch = Patch::Merge(json!({ "status": { "term": 1 } }));
            world.api::<Election>().patch_status(&election.name_any(), &PatchParams::default(), &patch).await.expect("a status");
            let (mut expected, mut bodies) = (Vec::new(), Vec::new());
            for pod in &pods {
                let mut labels = pod.clone();
                labels[&key] = json!("true");
                let typed: std::collections::BTreeMap<String, String> = serde_json::from_value(labels.clone()).expect("labels");
                expected.push(selector.matches(&typed));
                bodies.push(new_pod(json!({ "labels": labels })));
            }
            eventually(&format!("the policy decides as {name} does"), async || {
                let mut refused = Vec::new();
                for body in &bodies {
                    let answer = world.dry_run(&client, "pods", body.clone()).await;
                    refused.push(answer.code == 403 && answer.message.contains(&format!("the Election {name}")));
                }
                if refused == expected { Ok(()) } else { Err(format!("{refused:?}, not {expected:?}")) }
            })
            .await;
        }
        policies.remove().await;
    })
    .await;
}

#[tokio::test]
async fn controller_with_chart_permissions_works_under_all_policies() {
    scenario(async |world| {
        let account = world.account_with("podium", &*RIGHTS).await;
        let somebody = someone_with_everything(world, "somebody").await;
        let policies = world.policies(&[CONTROLLER, USERS].concat(), &["Deny"], &[]).await;
        let mine = client(&account).await;
        world.pod("probe", json!({ "labels": { "app": "probe" } })).await;
        in_force(&policies, &mine, "pods/probe", label("app", json!("x"))).await;
        in_force(&policies, &mine, "leases", lease(json!({}), json!([]))).await;
        in_force(&policies, &somebody, "pods/probe", annotation("term.podium.dev/x", json!("1"))).await;
        let _controller = world.controller_with(&account, &["--leader-elect-resource-name=podium-controller"]);
        let leader = world.led_with(json!({ "label": { "key": "leader", "followerValue": "false" } })).await;
        world.set_ready(&leader.name, false).await;
        let next = world.leader_after("web", &leader).await;
        world.delete_pod(&next.name).await;
        world.set_ready(&leader.name, true).await;
        world.leader_after("web", &next).await;
        let consents = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "db", "annotations": { "podium.dev/allow-adoption-by": "db" } } });
        let consents = serde_json::from_value(consents).expect("a Lease");
        world.api::<Lease>().create(&PostParams::default(), &consents).await.expect("the Lease is created");
        world.pod("db-0", json!({ "labels": { "app": "db" } })).await;
        world.election_with("db", json!({ "selector": { "matchLabels": { "app": "db" } } })).await;
        world.leader_is("db", "db-0").await;
        policies.remove().await;
    })
    .await;
}

#[tokio::test]
async fn election_editors_cannot_make_the_controller_touch_foreign_objects() {
    scenario(async |world| {
        let account = world.account_with("podium", &*RIGHTS).await;
        let rules = json!([{ "apiGroups": ["podium.dev"], "resources": ["elections"], "verbs": ["*"] }]);
        let person = token(world, "person", rules).await;
        world.until_allowed_with("person", "create", ("podium.dev", "elections", None), true).await;
        let policies = world.policies(&CONTROLLER, &["Deny"], &[]).await;
        let mine = client(&account).await;
        world.pod("web-0", json!({})).await;
        in_force(&policies, &mine, "pods/web-0", label("app", json!("x"))).await;
        in_force(&policies, &mine, "leases", lease(json!({}), json!([]))).await;
        let foreign = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "foreign" } });
        let foreign: Lease = serde_json::from_value(foreign).expect("a Lease");
        let foreign = world.api::<Lease>().create(&PostParams::default(), &foreign).await.expect("the Lease is created");
        let controller = world.controller_with(&account, &["--leader-elect-resource-name=podium-controller"]);
        controller.elects().await;

        let elections: kube::Api<Election> = kube::Api::namespaced(person.clone(), &world.namespace);
        let create = async |name: &str, fields: Value| {
            let mut spec = json!({ "selector": { "matchLabels": { "app": "web" } } });
            for (key, value) in fields.as_object().expect("fields") {
                spec[key] = value.clone();
            }
            let election = Election::new(name, serde_json::from_value(spec).expect("a spec"));
            elections.create(&PostParams::default(), &election).await.expect("the Election is accepted");
        };
        create("foreign", json!({ "label": { "key": "a.example/leader" } })).await;
        create("named", json!({ "leaseName": "foreign", "label": { "key": "b.example/leader" } })).await;
        create("own", json!({ "leaseName": "podium-controller", "label": { "key": "c.example/leader" } })).await;
        create("key", json!({ "label": { "key": "app" } })).await;
        create("other", json!({ "label": { "key": "team.example/owner" } })).await;
        for (election, reason) in [
            ("foreign", "LeaseConflict"),
            ("named", "LeaseConflict"),
            ("own", "LeaseConflict"),
            ("key", "LabelKeyNotAllowed"),
            ("other", "LabelKeyNotAllowed"),
        ] {
            world.condition(election, "Stalled", "True", reason).await;
        }
        let pod = world.api::<Pod>().get("web-0").await.expect("the pod is there");
        assert_eq!(pod.labels().iter().collect::<Vec<_>>(), [(&"app".to_owned(), &"web".to_owned())]);
        assert!(!pod.annotations().keys().any(|key| key.contains("podium.dev")), "{:?}", pod.annotations());
        let now = world.api::<Lease>().get("foreign").await.expect("the Lease is there");
        assert_eq!(now.resource_version(), foreign.resource_version());
        let elsewhere: kube::Api<Election> = kube::Api::namespaced(person, "default");
        let election = Election::new(
            "web",
            serde_json::from_value(json!({ "selector": { "matchLabels": { "app": "web" } } })).expect("a spec"),
        );
        let answer = elsewhere.create(&PostParams::default(), &election).await;
        assert!(matches!(answer, Err(kube::Error::Api(status)) if status.code == 403), "only where it has the right");
        policies.remove().await;
    })
    .await;
}

#[tokio::test]
async fn policy_denial_is_reported_in_the_policys_words() {
    scenario(async |world| {
        let account = world.account_with("podium", &*RIGHTS).await;
        let mine = client(&account).await;
        world.pods(["web-0", "web-1"]).await;
        // Something seems to write a label with every update: in this test, Podium's own label is the unexpected one.
        let other = [("key.endsWith('/leader')", "false"), ("key == 'leader'", "key == 'other'")];
        let policies = world.policies(&CONTROLLER[..1], &["Deny"], &other).await;
        in_force(&policies, &mine, "pods/web-0", label("leader", json!("x"))).await;
        let _controller = world.controller_with(&account, &[]);
        world.election("web").await;
        let message = world.condition("web", "Stalled", "True", "RequestDenied").await;
        assert!(
            message.contains("The Podium controller may change only the labels") && message.contains("not leader"),
            "{message}"
        );
        assert!(message.contains("If a mutating webhook changed it"), "it names the likely cause: {message}");
        policies.remove().await;
        world.leader("web").await;
        world.recovered("web").await;
    })
    .await;
}
