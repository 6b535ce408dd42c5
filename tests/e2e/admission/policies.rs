//! The chart's admission policies, tested with real tokens.

use k8s_openapi::api::apps::v1::ReplicaSet;
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

fn label(key: &str, value: Value) -> Value {
    json!({ "metadata": { "labels": { key: value } } })
}

fn annotation(key: &str, value: Value) -> Value {
    json!({ "metadata": { "annotations": { key: value } } })
}

fn lease(annotations: Value, owners: Value) -> Value {
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "some", "annotations": annotations, "ownerReferences": owners } })
}

/// A client with the token of a new ServiceAccount that has only these permissions.
async fn token(world: &Scenario, name: &str, rules: Value) -> Client {
    let account = world.account(name).await;
    world.grant_rules(name, serde_json::from_value(rules).expect("rules")).await;
    client(&account).await
}

fn everything() -> Value {
    json!([
        { "apiGroups": [""], "resources": ["pods", "pods/status", "pods/ephemeralcontainers", "pods/resize", "pods/binding", "pods/eviction", "bindings"], "verbs": ["*"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"] },
    ])
}

/// A client with all these permissions.
async fn someone_with_everything(world: &Scenario, name: &str) -> Client {
    let client = token(world, name, everything()).await;
    world.until_allowed(name, "delete", "pods", true).await;
    client
}

async fn in_force(policies: &Policies<'_>, client: &Client, path: &str, body: Value) {
    policies.in_force(client, path, body, |answer| answer.code == 403 && answer.message.contains("Policy")).await;
}

fn assert_refused(what: &str, answer: &Answer, words: &str) {
    let Answer { code, message, .. } = answer;
    assert!(*code == 403 && message.contains("ValidatingAdmissionPolicy") && message.contains(words), "{what}: {answer:?}");
}

fn assert_taken(what: &str, answer: &Answer) {
    assert!(matches!(answer.code, 200 | 201) && answer.warnings.is_empty(), "{what}: {answer:?}");
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

/// Writes that others must not make on a pod of an Election, and the start of the rejection.
fn meddling() -> Vec<(&'static str, Value, &'static str)> {
    let (fence, set) = ("they fence former leaders", "is written by the Podium controller only, for the Election web");
    let binding = |metadata: Value| {
        let mut binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "unbound" },
            "target": { "kind": "Node", "name": "node-0" } });
        for (key, value) in metadata["metadata"].as_object().expect("metadata") {
            binding["metadata"][key] = value.clone();
        }
        binding
    };
    let (key, term) = (label("leader", json!("true")), annotation("term.podium.dev/web", json!("1")));
    vec![
        ("pods/web-0", label("leader", json!(null)), set),
        ("pods/web-0", label("leader", json!("other")), set),
        ("pods/web-1", key.clone(), set),
        ("pods/web-0", annotation("term.podium.dev/web", json!(null)), fence),
        ("pods/web-1", term.clone(), fence),
        ("pods/web-1", annotation("term.podium.dev/other", json!("1")), fence),
        ("pods/web-1/status", key.clone(), set),
        ("pods/web-1/status", term.clone(), fence),
        // Also together with the labels that make it a candidate.
        ("pods/web-0", json!({ "metadata": { "labels": { "app": "other", "leader": null } } }), set),
        (
            "pods/stray",
            json!({ "metadata": { "labels": { "app": "web" } } }),
            "already has that Election's label leader: remove this label first",
        ),
        ("pods/unbound/binding", binding(key.clone()), set),
        ("pods/unbound/binding", binding(term.clone()), fence),
        ("bindings", binding(term.clone()), fence),
        ("pods", new_pod(json!({ "labels": { "app": "web", "leader": "true" } })), set),
        ("pods", new_pod(json!({ "labels": { "app": "web" }, "annotations": { "term.podium.dev/web": "1" } })), fence),
    ]
}

fn new_pod(mut metadata: Value) -> Value {
    metadata["name"] = json!("new");
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": { "containers": [{ "name": "app", "image": "app" }] } })
}

/// Writes that users may make.
fn own_business() -> Vec<(&'static str, Value)> {
    vec![
        ("pods/web-0", annotation("podium.dev/candidate", json!("false"))),
        ("pods/web-0", annotation("podium.dev/priority", json!("10"))),
        ("pods/web-0", label("version", json!("2"))),
        ("pods/web-0/status", json!({ "status": { "message": "well" } })),
        // The pod leaves the selector with its label: the controller removes it.
        ("pods/web-0", label("app", json!("quarantine"))),
        ("pods/stray", label("leader", json!(null))),
        ("pods/stray", label("leader", json!("other"))),
        ("pods", new_pod(json!({ "labels": { "app": "web" } }))),
        ("pods", new_pod(json!({ "labels": { "app": "db", "leader": "true" } }))),
    ]
}

/// Two pods of an Election with a leader, one that is no candidate, and one without a node.
async fn begun(world: &Scenario) {
    let _controller = world.controller();
    world.led().await;
    world.pod("stray", json!({ "labels": { "app": "stray", "leader": "x" } })).await;
    unbound(world).await;
}

/// A pod without a node.
async fn unbound(world: &Scenario) {
    let mut pod = new_pod(json!({ "labels": { "app": "web" } }));
    pod["metadata"]["name"] = json!("unbound");
    pod["spec"]["schedulerName"] = json!("nobody");
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    world.api::<Pod>().create(&PostParams::default(), &pod).await.expect("the pod is created");
}

#[tokio::test]
async fn only_podium_writes_its_metadata_of_pods_where_the_chart_denies_others() {
    scenario(async |world| {
        begun(world).await;
        let client = someone_with_everything(world, "somebody").await;
        let policies = world.policies(&USERS, &["Deny"], &[]).await;
        in_force(&policies, &client, "pods/web-1", annotation("term.podium.dev/web", json!("1"))).await;
        in_force(&policies, &client, "pods/web-1", label("leader", json!("true"))).await;
        for (path, body, words) in meddling() {
            let answer = world.dry_run(&client, path, body.clone()).await;
            assert_refused(&format!("{path} {body}"), &answer, words);
        }
        for (path, body) in own_business() {
            assert_taken(&format!("{path} {body}"), &world.dry_run(&client, path, body.clone()).await);
        }
        // These subresources cannot change a pod's metadata, so the policies ignore it.
        for subresource in ["ephemeralcontainers", "resize"] {
            let path = format!("/api/v1/namespaces/{}/pods/unbound/{subresource}", world.namespace);
            let meddling =
                json!({ "metadata": { "labels": { "leader": "x" }, "annotations": { "term.podium.dev/x": "1" } } });
            let request = http::Request::patch(path).header("Content-Type", "application/merge-patch+json");
            let pod: Pod = client
                .request(request.body(meddling.to_string().into_bytes()).expect("a request"))
                .await
                .expect("an answer");
            assert!(!pod.labels().contains_key("leader") && !pod.annotations().contains_key("term.podium.dev/x"), "{pod:?}");
        }
        // Administrators are exempt, to make manual repairs.
        assert_taken("break glass", &world.dry_run(&world.cluster.client, "pods/web-1", label("leader", json!("x"))).await);
        policies.remove().await;
    })
    .await;
}

#[tokio::test]
async fn workload_template_with_the_label_creates_no_pods_and_reports_why() {
    scenario(async |world| {
        begun(world).await;
        // Kubernetes' own controllers and the fake kubelets are administrators here. In this test, nobody is exempt.
        let policies = world.policies(&USERS, &["Deny"], &[("system:masters", "example:nobody")]).await;
        let admin = &world.cluster.client;
        in_force(&policies, admin, "pods/web-1", annotation("term.podium.dev/web", json!("1"))).await;
        in_force(&policies, admin, "pods/web-1", label("leader", json!("true"))).await;
        world.workload::<ReplicaSet>("marked", marked_template()).await;
        eventually("the ReplicaSet says why it has no pods", async || {
            let set = world.api::<ReplicaSet>().get("marked").await.map_err(|e| e.to_string())?;
            let conditions = set.status.and_then(|status| status.conditions).unwrap_or_default();
            let said = conditions.iter().filter_map(|condition| condition.message.as_deref());
            said.into_iter()
                .any(|message| message.contains("Remove it from pods and pod templates"))
                .then_some(())
                .ok_or_else(|| format!("{conditions:?}"))
        })
        .await;
        // Pods are scheduled, started, made Ready, adopted, terminated and collected under the policies.
        let set = json!({ "replicas": 2, "selector": { "matchLabels": { "set": "plain" } },
            "template": { "metadata": { "labels": { "set": "plain" } } } });
        world.workload::<ReplicaSet>("plain", set).await;
        let ready = async |wanted: i32| {
            eventually(&format!("{wanted} pods are Ready"), async || {
                let set = world.api::<ReplicaSet>().get("plain").await.map_err(|error| error.to_string())?;
                let status = set.status.unwrap_or_default();
                let same = status.ready_replicas.unwrap_or(0) == wanted && status.replicas == wanted;
                if same { Ok(()) } else { Err(format!("{status:?}")) }
            })
            .await;
        };
        ready(2).await;
        let patch = Patch::Merge(json!({ "spec": { "replicas": 1 } }));
        world.api::<ReplicaSet>().patch("plain", &PatchParams::default(), &patch).await.expect("the set is patched");
        ready(1).await;
        policies.remove().await;
    })
    .await;
}

fn marked_template() -> Value {
    // With the same labels, it would adopt the existing pods.
    json!({ "replicas": 1, "selector": { "matchLabels": { "set": "marked" } },
        "template": { "metadata": { "labels": { "leader": "true", "set": "marked" } } } })
}

#[tokio::test]
async fn foreign_writes_of_podiums_metadata_are_warned_of_and_audited() {
    scenario(async |world| {
        begun(world).await;
        let client = someone_with_everything(world, "somebody").await;
        let policies = world.policies(&USERS, &["Warn", "Audit"], &[]).await;
        let warned = |answer: &Answer| answer.code == 200 && !answer.warnings.is_empty();
        policies.in_force(&client, "pods/web-1", annotation("term.podium.dev/web", json!("1")), warned).await;
        policies.in_force(&client, "pods/web-1", label("leader", json!("true")), warned).await;
        for (path, body, words) in meddling() {
            let answer = world.dry_run(&client, path, body.clone()).await;
            let warning = answer.warnings.concat();
            assert!(matches!(answer.code, 200 | 201) && warning.contains(words), "{path} {body}: {answer:?}");
        }
        for (path, body) in own_business() {
            assert_taken(&format!("{path} {body}"), &world.dry_run(&client, path, body.clone()).await);
        }
        let metrics = http::Request::get("/metrics").body(Vec::new()).expect("a request");
        let metrics = world.cluster.client.request_text(metrics).await.expect("the API server's metrics");
        for policy in USERS {
            let name = format!("policy=\"{policy}-{}\"", world.namespace);
            let counted = |action: &str| {
                let action = format!("enforcement_action=\"{action}\"");
                metrics.lines().any(|line| {
                    line.contains("validating_admission_policy_check_total")
                        && line.contains(&name)
                        && line.contains(&action)
                })
            };
            assert!(counted("audit") && counted("warn") && !counted("deny"), "{policy} was counted as audited");
        }
        policies.remove().await;
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
