//! Input at its limits, beyond them, and malformed input.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use podium::api::Election;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::cluster::{Cluster, OwnCluster};
use crate::harness::scenario::scenario_on;
use crate::harness::waiting::eventually_within;
use crate::harness::workloads::pod_spec;
use crate::harness::{Scenario, eventually, scenario};

/// A DNS name of exactly this length, with parts of at most 63 characters.
fn dns_name(first: &str, length: usize) -> String {
    let mut name = first.to_owned();
    while name.len() < length {
        let part = (length - name.len() - 1).min(60);
        name.push('.');
        name.push_str(&"x".repeat(part));
    }
    name
}

#[tokio::test]
async fn names_and_labels_at_their_limits_are_served() {
    scenario(async |world| {
        let _controller = world.controller();
        let names = [dns_name("web-0", 253), dns_name("web-1", 253)];
        for name in &names {
            assert_eq!(name.len(), 253);
            world.pod(name, json!({})).await;
        }
        let election = format!("{}z", "e".repeat(62));
        let (key, value) = (format!("{}/leader", dns_name("example", 253)), "v".repeat(63));
        let lease = dns_name("lease", 253);
        world.election_with(&election, json!({ "label": { "key": key, "value": value }, "leaseName": lease })).await;
        let first = world.leader_is(&election, &names[0]).await;
        world.set_ready(&names[0], false).await;
        let second = world.leader_is(&election, &names[1]).await;
        assert!(second.term > first.term);
        world.delete_election(&election).await;
        world.nobody_labeled(&key).await;
    })
    .await;
}

#[tokio::test]
async fn garbage_under_our_annotations_decides_nothing() {
    scenario(async |world| {
        let _controller = world.controller();
        let garbage = json!({
            "podium.dev/priority": "99999999999999999999", "podium.dev/candidate": "\u{0}maybe",
            "podium.dev/holder": "web-1/x", "podium.dev/term": "7", "term.podium.dev/web": "\u{202e}-1", "podium.dev/unknown": "",
        });
        world.forged_pod("web-0", json!({ "annotations": garbage })).await;
        world.forged_pod("web-1", json!({ "annotations": garbage })).await;
        world.election("web").await;
        let patch = Patch::Merge(json!({ "metadata": { "annotations": garbage, "labels": { "leader": "true" } } }));
        world.api::<Election>().patch("web", &PatchParams::default(), &patch).await.expect("the Election is annotated");
        let first = world.leader_is("web", "web-0").await;
        world.forge_lease("web", json!({ "metadata": { "annotations": { "term.podium.dev/web": "1", "podium.dev/x": "y" } } })).await;
        world.serve_another("another").await;
        assert_eq!(world.leader("web").await, first);
        world.set_ready("web-0", false).await;
        world.leader_is("web", "web-1").await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_without_status_is_a_candidate_that_is_not_running() {
    scenario(async |world| {
        let _controller = world.controller();
        // The scheduling gate keeps all other writers from its status.
        let pod = json!({ "metadata": { "name": "web-0", "labels": { "app": "web" } },
            "spec": { "schedulingGates": [{ "name": "e2e.example/never" }], "containers": [{ "name": "app", "image": "app" }] } });
        let pod = serde_json::from_value(pod).expect("a pod");
        world.api::<Pod>().create(&PostParams::default(), &pod).await.expect("the pod is created");
        let nothing = Patch::Merge(json!({ "status": { "phase": null, "conditions": null, "qosClass": null } }));
        world.api::<Pod>().patch_status("web-0", &PatchParams::default(), &nothing).await.expect("the status is emptied");
        world.election("web").await;
        let message = world.condition("web", "Ready", "False", "NoEligibleCandidate").await;
        assert!(message.contains("web-0 is not running"), "{message}");
        world.pods(["web-1"]).await;
        world.leader_is("web", "web-1").await;
        world.eligible("web", 1, 2).await;
    })
    .await;
}

/// An annotation with a value of this many bytes.
fn ballast(bytes: usize) -> Value {
    json!({ "annotations": { "example.com/ballast": "x".repeat(bytes) } })
}

/// Leaves no room at all: annotations of an object, keys included, are limited to 262144 bytes.
const FULL: usize = 262_144 - "example.com/ballast".len();

#[tokio::test]
async fn large_objects_are_served_and_full_ones_are_named() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pod("web-0", ballast(200_000)).await;
        world.pods(["web-1"]).await;
        world.election("web").await;
        let large = Patch::Merge(json!({ "metadata": ballast(250_000) }));
        world.api::<Election>().patch("web", &PatchParams::default(), &large).await.expect("the Election is annotated");
        world.leader_is("web", "web-0").await;

        // A Lease without room for another annotation prevents an election. The status has the server's message.
        let term = world.leader("web").await;
        let annotated = world.api::<Lease>().get("web").await.expect("the Lease is there");
        let used: usize = annotated.annotations().iter().map(|(key, value)| key.len() + value.len()).sum();
        world.forge_lease("web", json!({ "metadata": ballast(FULL - used) })).await;
        world.set_ready("web-0", false).await;
        let message = world.condition("web", "Stalled", "True", "RequestDenied").await;
        assert!(message.contains("annotations") && message.contains("262144"), "{message}");
        world.forge_lease("web", json!({ "metadata": ballast(10) })).await;
        world.leader_after("web", &term).await;
        world.recovered("web").await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_without_room_for_the_term_is_named_until_there_is_room() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pod("web-0", ballast(FULL)).await;
        world.election("web").await;
        let message = world.condition("web", "Stalled", "True", "RequestDenied").await;
        assert!(message.contains("web-0") && message.contains("262144"), "{message}");
        world.patch_pod("web-0", ballast(10)).await;
        world.leader("web").await;
        world.recovered("web").await;
    })
    .await;
}

/// Creates the pods from one number to another, and waits until they are Ready. The scheduler would not put so many on three
/// nodes, so it is bypassed.
async fn many_pods(world: &Scenario, from: usize, to: usize) {
    let nodes: Api<Node> = Api::all(world.cluster.client.clone());
    let nodes: Vec<String> =
        nodes.list(&ListParams::default()).await.expect("nodes can be listed").iter().map(ResourceExt::name_any).collect();
    for begin in (from..to).step_by(BATCH) {
        let batch = begin..to.min(begin + BATCH);
        let mark = format!("batch={begin}");
        let creations = batch.clone().map(|number| {
            let mut spec = pod_spec();
            spec["nodeName"] = nodes[number % nodes.len()].clone().into();
            let labels = json!({ "app": "web", "batch": begin.to_string() });
            let pod = json!({ "metadata": { "name": format!("web-{number:04}"), "labels": labels }, "spec": spec });
            let (pods, pod) = (world.api::<Pod>(), serde_json::from_value(pod).expect("a pod"));
            async move { pods.create(&PostParams::default(), &pod).await.expect("the pod is created") }
        });
        futures::stream::iter(creations).buffer_unordered(16).collect::<Vec<_>>().await;
        eventually(&format!("the pods {batch:?} are Ready"), async || {
            let pods = world.api::<Pod>().list(&ListParams::default().labels(&mark)).await.map_err(|e| e.to_string())?;
            let conditions = pods.iter().filter_map(|pod| pod.status.as_ref()?.conditions.as_ref());
            let ready = conditions.flatten().filter(|condition| condition.type_ == "Ready" && condition.status == "True");
            let ready = ready.count();
            if ready == batch.len() { Ok(()) } else { Err(format!("{ready}")) }
        })
        .await;
    }
}

const BATCH: usize = 250;

/// Maximum time to elect among thousands of pods: a write to each of them.
const PATIENCE: Duration = Duration::from_secs(600);

/// Elects among this many pods, replaces the leader, and prints the time it took and the size of the Lease.
async fn elect_among(cluster: Cluster, count: usize) {
    scenario_on(cluster, async |world| {
        let _controller = world.controller();
        many_pods(world, 0, count).await;
        let began = Instant::now();
        world.election("web").await;
        // Possible former holders, here all pods, are fenced first.
        eventually_within(PATIENCE, "there is a leader", async || {
            world.status("web").await.and_then(|status| status.leader.ok_or_else(|| "nobody".into()))
        })
        .await;
        let took = began.elapsed();
        let first = world.leader("web").await;
        let lease = world.api::<Lease>().get("web").await.expect("the Lease is there");
        let size = serde_json::to_string(&lease).expect("JSON").len();
        println!("{count} pods: elected after {:.1} s, with a Lease of {size} bytes", took.as_secs_f64());
        assert!(size < 1_000_000, "etcd takes 1.5 MB");
        let all = i32::try_from(count).expect("a count of pods");
        world.eligible("web", all, all).await;

        let began = Instant::now();
        world.set_ready(&first.name, false).await;
        let second = world.leader_after("web", &first).await;
        let lease = world.api::<Lease>().get("web").await.expect("the Lease is there");
        let size = serde_json::to_string(&lease).expect("JSON").len();
        println!("{count} pods: failed over after {:.1} s, with a Lease of {size} bytes", began.elapsed().as_secs_f64());
        assert!(size < 10_000, "who is fenced is not listed any more");
        if count < podium::election::decide::MOST_PODS {
            return;
        }
        many_pods(world, count, count + 1).await;
        let message = world.condition("web", "Stalled", "True", "TooManyPods").await;
        assert!(message.contains("matches 5001") && message.contains("narrow it"), "{message}");
        assert_eq!(world.leader_when("web", "the leader stays", |_| true).await, second);
        world.force_delete_pod(&format!("web-{count}")).await;
        world.recovered("web").await;
        assert_eq!(world.leader("web").await, second);
    })
    .await;
}

#[tokio::test]
async fn four_hundred_pods_elect_and_fail_over() {
    elect_among(Cluster::shared().await, 400).await;
}

#[tokio::test]
#[ignore = "takes minutes: `make scale`"]
async fn five_thousand_pods_elect_and_fail_over_and_one_more_is_too_many() {
    let own = OwnCluster::start().await;
    own.cluster.install(podium::api::custom_resource_definition()).await;
    elect_among(own.cluster.clone(), podium::election::decide::MOST_PODS).await;
}

#[tokio::test]
async fn lease_with_an_unrepresentable_time_does_not_block() {
    scenario(async |world| {
        let far = json!({ "renewTime": "9999-12-31T23:59:59.000000Z", "holderIdentity": "somebody" });
        let resource = ApiResource::erase::<Lease>(&());
        let leases: Api<DynamicObject> = Api::namespaced_with(world.cluster.client.clone(), &world.namespace, &resource);
        let theirs = json!({ "metadata": { "name": "theirs" }, "spec": far });
        let theirs: DynamicObject = serde_json::from_value(theirs).expect("an object");
        leases.create(&PostParams::default(), &theirs).await.expect("the API server takes it");
        let _controller = world.controller();
        let leader = world.led().await;
        let edit = Patch::Merge(json!({ "spec": far }));
        leases.patch("web", &PatchParams::default(), &edit).await.expect("the API server takes it");
        world.leader_after("web", &leader).await;
        world.election_with("theirs", json!({ "label": { "key": "theirs.example/leader" } })).await;
        let message = world.condition("theirs", "Stalled", "True", "LeaseConflict").await;
        assert!(message.contains("podium.dev/allow-adoption-by"), "{message}");
    })
    .await;
}
