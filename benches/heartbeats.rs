//! The cost of `nodeHeartbeatTimeoutSeconds`: the controller while 1,000 nodes renew their Leases every 10 s.
//!
//! `make bench ONLY=heartbeats` takes three minutes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use podium::api::Election;
use podium_test_support::bench::Result;
use podium_test_support::bench::cluster::Cluster;
use podium_test_support::bench::figures::{Better, Figures, Unit};
use podium_test_support::bench::process::Process;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Number of nodes that renew.
const NODES: usize = 1_000;

/// The kubelet's period.
const PERIOD: Duration = Duration::from_secs(10);

/// Duration of a measurement.
const MINUTE: Duration = Duration::from_secs(60);

/// Time before a measurement, in which watches start.
const START: Duration = Duration::from_secs(10);

/// Bound on the wait for a leader.
const DEADLINE: Duration = Duration::from_secs(60);

/// Label of the Leases, to remove them.
const LABEL: &str = "bench.example/heartbeats";

const NAMESPACE: &str = "bench-heartbeats";

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::from_env().await?;
    cluster.define().await?;
    cluster.namespace(NAMESPACE).await?;
    let leases = cluster.api::<Lease>("kube-node-lease");
    let of_bench = ListParams::default().labels(LABEL);
    leases.delete_collection(&DeleteParams::default(), &of_bench).await?;
    stream::iter(0..NODES).map(|node| create(&leases, node)).buffer_unordered(16).try_collect::<Vec<_>>().await?;
    let renewed = Arc::new(AtomicUsize::default());
    let renewals = tokio::spawn(renew(leases.clone(), renewed.clone()));

    let elections = cluster.api::<Election>(NAMESPACE);
    create_pods(&cluster).await?;
    let spec = json!({ "selector": { "matchLabels": { "app": "web" } } });
    let election = json!({
        "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": { "name": "web" }, "spec": spec,
    });
    cluster.apply::<Election>(NAMESPACE, election).await?;
    let controller = Process::controller(&cluster.kubeconfig, &["--leader-elect=false", "--http", "127.0.0.1:0"])?;
    let begun = Instant::now();
    while elections.get("web").await?.status.is_none_or(|status| status.leader.is_none()) {
        if begun.elapsed() > DEADLINE {
            return Err("no leader within the deadline".into());
        }
        sleep(Duration::from_millis(100)).await;
    }

    let mut figures = Figures::new("heartbeats");
    measure(&controller, "no Election asks", &renewed, &mut figures).await?;
    let asks = Patch::Merge(json!({ "spec": { "nodeHeartbeatTimeoutSeconds": 25 } }));
    elections.patch("web", &PatchParams::default(), &asks).await?;
    measure(&controller, "one Election asks", &renewed, &mut figures).await?;
    renewals.abort();
    leases.delete_collection(&DeleteParams::default(), &of_bench).await?;
    cluster.remove(NAMESPACE).await?;
    Ok(figures.finish()?)
}

/// Measures a minute.
async fn measure(controller: &Process, name: &str, renewed: &AtomicUsize, figures: &mut Figures) -> Result<()> {
    sleep(START).await;
    let before = (controller.processor_time()?, renewed.load(Ordering::Relaxed));
    sleep(MINUTE).await;
    let after = (controller.processor_time()?, renewed.load(Ordering::Relaxed));
    let renewals = (after.1 - before.1) as f64;
    figures.add(format!("{name}: renewals of {NODES} nodes"), renewals, Unit::PerMinute, Better::Neither, None);
    let used = (after.0 - before.0).as_secs_f64() * 1e3;
    figures.add(format!("{name}: processor time in a minute"), used, Unit::Milliseconds, Better::Lower, None);
    let memory = controller.memory()?.resident;
    figures.add(format!("{name}: memory"), memory, Unit::MiB, Better::Lower, None);
    Ok(())
}

/// Renews all Leases in each period, evenly spread as kubelets do.
async fn renew(leases: Api<Lease>, renewed: Arc<AtomicUsize>) {
    let mut ticks = interval(PERIOD / u32::try_from(NODES).unwrap_or(u32::MAX));
    // A machine that is late sends the missed renewals at once, so that their number is right.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    for node in (0..NODES).cycle() {
        ticks.tick().await;
        while requests.try_join_next().is_some() {}
        let (leases, renewed) = (leases.clone(), renewed.clone());
        requests.spawn(async move {
            let patch = Patch::Merge(json!({ "spec": { "renewTime": now() } }));
            if leases.patch(&name(node), &PatchParams::default(), &patch).await.is_ok() {
                renewed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// Creates a Lease as a kubelet does, but without the owner, which the garbage collector would miss.
async fn create(leases: &Api<Lease>, node: usize) -> Result<()> {
    let spec = json!({ "holderIdentity": name(node), "leaseDurationSeconds": 40, "renewTime": now() });
    let lease = json!({ "metadata": { "name": name(node), "labels": { LABEL: "" } }, "spec": spec });
    leases.create(&PostParams::default(), &serde_json::from_value(lease)?).await?;
    Ok(())
}

/// Creates three pods on kwok's nodes, whose Leases kwok renews.
async fn create_pods(cluster: &Cluster) -> Result<()> {
    let nodes = Api::<Node>::all(cluster.client.clone()).list(&ListParams::default().labels("type=kwok")).await?.items;
    for (number, node) in nodes.iter().cycle().take(3).enumerate() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": format!("web-{number}"), "labels": { "app": "web" } },
            "spec": { "nodeName": node.name_any(), "containers": [{ "name": "app", "image": "app" }] },
        });
        cluster.apply::<Pod>(NAMESPACE, pod).await?;
    }
    Ok(())
}

fn name(node: usize) -> String {
    format!("bench-node-{node:04}")
}

/// The time with microseconds, as in a Lease.
fn now() -> Value {
    json!(Timestamp::from_microsecond(Timestamp::now().as_microsecond()).map(|now| format!("{now:.6}")).unwrap_or_default())
}
