//! The same writes by a plain client: the API server's limit.

use std::time::{Duration, Instant};

use futures::future::try_join;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use podium::api::Election;
use podium_test_support::bench::Result;
use serde_json::json;

use crate::world::{Layout, concurrently};

/// Sends the writes of a first term for every Election of the layout: the Lease twice, both followers' fences in parallel, the
/// label, the status, an Event. Returns the total time.
pub async fn elect_all(client: &Client, layout: Layout) -> Result<Duration> {
    let begun = Instant::now();
    concurrently(layout.names().collect(), |(namespace, name)| elect(client, namespace, name)).await?;
    Ok(begun.elapsed())
}

async fn elect(client: &Client, namespace: String, name: String) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let (create, change) = (PostParams::default(), PatchParams::default());
    let uid = "00000000-0000-0000-0000-000000000000";
    let lease: Lease =
        serde_json::from_value(json!({ "metadata": { "name": name, "annotations": { "bench.example/election": uid } } }))?;
    let mut lease = leases.create(&create, &lease).await?;
    lease.metadata.annotations.get_or_insert_default().extend([
        ("bench.example/holder".to_owned(), format!("{name}-0/{uid}")),
        ("bench.example/unfenced".to_owned(), format!("{uid},{uid}")),
        ("bench.example/reason".to_owned(), "initial election".to_owned()),
    ]);
    lease.metadata.managed_fields = None;
    leases.replace(&name, &create, &lease).await?;
    let claim = Patch::Merge(json!({ "metadata": { "annotations": { "bench.example/claim": "1" } } }));
    let label = json!({ "metadata": { "annotations": { "bench.example/claim": "1" }, "labels": { "bench.example/leads": "true" } } });
    let (first, second, third) = (format!("{name}-0"), format!("{name}-1"), format!("{name}-2"));
    try_join(pods.patch(&second, &change, &claim), pods.patch(&third, &change, &claim)).await?;
    pods.patch(&first, &change, &Patch::Merge(label)).await?;
    let now = "2026-01-01T00:00:00Z";
    let condition = |kind: &str| json!({ "type": kind, "status": "True", "reason": "Bench", "message": "a leads", "lastTransitionTime": now });
    let status = json!({ "status": {
        "observedGeneration": 1, "leader": first, "leaderUID": uid, "term": 1, "leaderTransitions": 0, "acquireTime": now, "candidates": 3,
        "eligibleCandidates": 3, "leaseName": name, "conditions": [condition("Ready")],
    }});
    let elections: Api<Election> = Api::namespaced(client.clone(), &namespace);
    elections.patch_status(&name, &change, &Patch::Merge(status)).await?;
    let event: Event = serde_json::from_value(json!({
        "metadata": { "name": format!("{name}.bench") }, "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal",
        "reason": "LeaderElected", "action": "Elect", "note": "a leads", "reportingController": "bench", "reportingInstance": "bench",
        "regarding": { "apiVersion": "podium.dev/v1beta1", "kind": "Election", "name": name, "namespace": namespace },
    }))?;
    Api::<Event>::namespaced(client.clone(), &namespace).create(&create, &event).await?;
    Ok(())
}
