//! The policies on what users write to pods of an Election.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::policies::{
    annotation, assert_refused, assert_taken, in_force, label, new_pod, someone_with_everything, unbound,
};
use crate::harness::policies::{Answer, USERS};
use crate::harness::{Scenario, eventually, scenario};

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
    let (note, restores) = ("podium.dev/deletion-costs", "it restores the deletion cost of former leaders");
    vec![
        ("pods/web-0", label("leader", json!(null)), set),
        ("pods/web-0", label("leader", json!("other")), set),
        ("pods/web-1", key.clone(), set),
        ("pods/web-0", annotation("term.podium.dev/web", json!(null)), fence),
        ("pods/web-1", term.clone(), fence),
        ("pods/web-1", annotation("term.podium.dev/other", json!("1")), fence),
        ("pods/web-0", annotation(note, json!(null)), restores),
        ("pods/web-0", annotation(note, json!("web=1; original=2")), restores),
        ("pods/web-1", annotation(note, json!("web=1; original=2")), restores),
        ("pods", new_pod(json!({ "annotations": { note: "web=1; original=2" } })), restores),
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

/// Writes that users may make.
fn own_business() -> Vec<(&'static str, Value)> {
    vec![
        ("pods/web-0", annotation("podium.dev/candidate", json!("false"))),
        ("pods/web-0", annotation("podium.dev/priority", json!("10"))),
        ("pods/web-0", annotation("controller.kubernetes.io/pod-deletion-cost", json!("7"))),
        ("pods/web-0", annotation("controller.kubernetes.io/pod-deletion-cost", json!(null))),
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
    world.led_with(json!({ "leaderDeletionCost": 100 })).await;
    world.pod("stray", json!({ "labels": { "app": "stray", "leader": "x" } })).await;
    unbound(world).await;
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
