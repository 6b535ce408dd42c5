//! Failover by graceful deletion, next to what the API server needs for it in the same run.
//!
//! `make bench ONLY=failover`
//!
//! Measured from the deletion's acknowledgment, as a client sees it: to the new leader's label, and to the EndpointSlice with
//! its address only. The floor is the latency of a watch plus three sequential writes (a Lease, and two pods), because that
//! is what the protocol cannot do without: compare-and-swap, fence, label. The writes are measured twice: while nothing else
//! happens, and right after another pod was deleted, because that is when the protocol has to write: the control plane is
//! busy replacing the pod then, and every write takes longer.

mod harness;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use harness::Result;
use harness::arrivals::Arrivals;
use harness::cluster::Cluster;
use harness::figures::{Aim, Better, Figures, Spread, Unit, ratio};
use harness::process::Process;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent};
use kube::{Api, Client, ResourceExt};
use podium::api::Election;
use serde_json::json;

const NAMESPACE: &str = "bench-failover";
const RUNS: usize = 20;
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::from_env().await?;
    prepare(&cluster).await?;
    let controller = Process::controller(&cluster.kubeconfig, &["--namespaces", NAMESPACE])?;
    let mut figures = Figures::new("failover");
    measure(&cluster.client, &mut figures).await?;
    drop(controller);
    cluster.remove(NAMESPACE).await?;
    Ok(figures.finish()?)
}

async fn measure(client: &Client, figures: &mut Figures) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let elections: Api<Election> = Api::namespaced(client.clone(), NAMESPACE);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    // Two watches for all runs: a new one would measure how long it takes to begin.
    let mut seen_pods = Arrivals::of(pods.clone(), Default::default());
    let mut seen_slices = Arrivals::of(slices.clone(), Default::default());
    let (mut to_label, mut to_slice, mut watch, mut calm, mut busy) = (vec![], vec![], vec![], vec![], vec![]);
    for run in 0..=RUNS {
        let leader = settled(&pods, &elections, &slices).await?;
        let latency = watch_latency(&pods, &leader, &mut seen_pods).await?;
        let three_calm = three_writes(client, &leader).await?;
        let names = pods.list(&Default::default()).await?.items.into_iter().map(|pod| pod.name_any());
        let follower = names.into_iter().find(|name| *name != leader).ok_or("no follower")?;
        pods.delete(&follower, &DeleteParams::default()).await?;
        let three_busy = three_writes(client, &leader).await?;
        let leader = settled(&pods, &elections, &slices).await?;
        seen_pods.forget();
        seen_slices.forget();
        pods.delete(&leader, &DeleteParams::default()).await?;
        let begun = Instant::now();
        let (label, _) = seen_pods.first(|pod| pod.labels().get("leader").is_some() && pod.name_any() != leader).await?;
        let slice = seen_slices.first(|slice| {
            let targets = targets(slice);
            !targets.is_empty() && targets.iter().all(|target| *target != leader)
        });
        let (slice, _) = slice.await?;
        // The first run opens connections.
        if run > 0 {
            watch.push(latency);
            calm.push(three_calm);
            busy.push(three_busy);
            to_label.push(label.saturating_duration_since(begun));
            to_slice.push(slice.saturating_duration_since(begun));
        }
    }
    let mut told = |what: &str, times: &[Duration]| -> Result<Spread> {
        let spread = Spread::of(times).ok_or("no runs")?;
        figures.add_times(what, spread);
        Ok(spread)
    };
    let label = told("deletion to label", &to_label)?;
    told("deletion to EndpointSlice", &to_slice)?;
    let watch = told("latency of a watch", &watch)?;
    let calm = told("three writes, calm", &calm)?;
    let busy = told("three writes after a deletion", &busy)?;
    for (what, writes, aim) in [("calm", calm, None), ("after a deletion", busy, Some(Aim::AtMost(1.25)))] {
        let what = format!("median to the label / (watch latency + three writes {what})");
        let times = ratio(label.median, watch.median + writes.median);
        figures.add(what, times, Unit::Ratio, Better::Lower, aim);
    }
    idle(client, figures).await
}

/// Whether an event is a write for an Election: the controller's own Lease, which is renewed all the time, is not.
fn is_write<K: kube::Resource>(event: &WatchEvent<K>) -> bool {
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
            !object.meta().name.as_deref().unwrap_or_default().starts_with("podium-controller-")
        }
        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => false,
    }
}

/// Counts whatever is written to the namespace's Elections, Leases and pods in an idle minute.
async fn idle(client: &Client, figures: &mut Figures) -> Result<()> {
    settled(
        &Api::namespaced(client.clone(), NAMESPACE),
        &Api::namespaced(client.clone(), NAMESPACE),
        &Api::namespaced(client.clone(), NAMESPACE),
    )
    .await?;
    async fn changes<K>(api: Api<K>) -> Result<usize>
    where
        K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let version = api.list(&Default::default()).await?.metadata.resource_version.unwrap_or_default();
        let changes = api.watch(&kube::api::WatchParams::default().timeout(60), &version).await?;
        Ok(changes.filter(|event| futures::future::ready(event.as_ref().is_ok_and(is_write))).count().await)
    }
    let (elections, leases, pods) = tokio::try_join!(
        changes::<Election>(Api::namespaced(client.clone(), NAMESPACE)),
        changes::<Lease>(Api::namespaced(client.clone(), NAMESPACE)),
        changes::<Pod>(Api::namespaced(client.clone(), NAMESPACE)),
    )?;
    let writes = (elections + leases + pods) as f64;
    figures.add("writes in an idle minute", writes, Unit::Count, Better::Lower, Some(Aim::AtMost(0.0)));
    Ok(())
}

/// Waits until three pods are there, one is labelled, the status and the EndpointSlice name it. Returns its name.
async fn settled(pods: &Api<Pod>, elections: &Api<Election>, slices: &Api<EndpointSlice>) -> Result<String> {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        let status = elections.get("web").await?.status.unwrap_or_default();
        let all = pods.list(&Default::default()).await?.items;
        let quiet = all.len() == 3 && all.iter().all(|pod| pod.metadata.deletion_timestamp.is_none());
        let slices = slices.list(&Default::default()).await?.items;
        let served: Vec<String> = slices.iter().flat_map(targets).collect();
        match status.leader {
            Some(leader) if quiet && status.eligible.as_deref() == Some("3/3") && served == [leader.clone()] => {
                return Ok(leader);
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    Err("no leader with an EndpointSlice within the deadline".into())
}

fn targets(slice: &EndpointSlice) -> Vec<String> {
    slice.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone()).collect()
}

/// From the acknowledgment of a write to its arrival on a watch; zero where the watch was first.
async fn watch_latency(pods: &Api<Pod>, pod: &str, seen: &mut Arrivals<Pod>) -> Result<Duration> {
    let mark = format!("{:?}", Instant::now());
    let patch = json!({ "metadata": { "annotations": { "bench.example/mark": mark } } });
    pods.patch(pod, &PatchParams::default(), &Patch::Merge(patch)).await?;
    let written = Instant::now();
    let (arrived, _) = seen.first(|pod| pod.annotations().get("bench.example/mark") == Some(&mark)).await?;
    Ok(arrived.saturating_duration_since(written))
}

/// What the protocol writes, by a plain client: a Lease, a pod, a pod.
async fn three_writes(client: &Client, pod: &str) -> Result<Duration> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let mut lease = match leases.get_opt("floor").await? {
        Some(lease) => lease,
        None => {
            leases
                .create(&PostParams::default(), &serde_json::from_value(json!({ "metadata": { "name": "floor" } }))?)
                .await?
        }
    };
    let mark = format!("{:?}", Instant::now());
    lease.metadata.annotations = Some(BTreeMap::from([("bench.example/mark".to_owned(), mark.clone())]));
    let patch = |number: u8| {
        Patch::Merge(json!({ "metadata": { "annotations": { "bench.example/mark": format!("{mark}{number}") } } }))
    };
    let begun = Instant::now();
    leases.replace("floor", &PostParams::default(), &lease).await?;
    pods.patch(pod, &PatchParams::default(), &patch(1)).await?;
    pods.patch(pod, &PatchParams::default(), &patch(2)).await?;
    Ok(begun.elapsed())
}

async fn prepare(cluster: &Cluster) -> Result<()> {
    cluster.define().await?;
    cluster.namespace(NAMESPACE).await?;
    let labels = json!({ "app": "web" });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "replicas": 3, "selector": { "matchLabels": labels }, "template": {
            "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "web", "image": "web" }] },
        }},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web", "leader": "true" }, "ports": [{ "port": 80 }] },
    });
    let election = json!({
        "apiVersion": "podium.dev/v1", "kind": "Election", "metadata": { "name": "web" },
        "spec": { "selector": { "matchLabels": labels } },
    });
    cluster.apply::<Deployment>(NAMESPACE, deployment).await?;
    cluster.apply::<Service>(NAMESPACE, service).await?;
    cluster.apply::<Election>(NAMESPACE, election).await?;
    Ok(())
}
