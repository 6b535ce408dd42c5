//! The cost of following: the controller while 1,000 Leases are renewed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use podium::api::Election;
use podium_test_support::bench::Result;
use podium_test_support::bench::cluster::Cluster;
use podium_test_support::bench::figures::{Aim, Better, Figures, Unit};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::controller::Controller;

/// Number of Leases, each with a pod and an Election of its own.
const LEASES: usize = 1_000;

/// Concurrent requests while objects are created.
const CONCURRENCY: usize = 16;

/// client-go's default retry period, and a short one.
const PERIODS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(1)];

/// Duration of a measurement.
const MINUTE: Duration = Duration::from_secs(60);

/// Time before a measurement, in which the controller comes to rest.
const START: Duration = Duration::from_secs(10);

const NAMESPACE: &str = "bench-followed";

/// Measures the controller beside Leases that no Election follows, and with Elections that follow them.
pub async fn measure(cluster: &Cluster, figures: &mut Figures) -> Result<()> {
    for follows in [false, true] {
        cluster.namespace(NAMESPACE).await?;
        create(cluster, follows).await?;
        let renewals = Renewals::start(cluster.api(NAMESPACE), PERIODS[0]);
        let controller = Controller::start(cluster, &[NAMESPACE]).await?;
        controller.wait_until_stable(LEASES).await?;
        let name = if follows { "followed" } else { "not followed" };
        measure_minute(&controller, &renewals, &format!("{LEASES} Leases, {name}, every 2 s"), figures).await?;
        drop(renewals);
        let renewals = Renewals::start(cluster.api(NAMESPACE), PERIODS[1]);
        measure_minute(&controller, &renewals, &format!("{LEASES} Leases, {name}, every second"), figures).await?;
    }
    cluster.remove(NAMESPACE).await
}

async fn measure_minute(controller: &Controller, renewals: &Renewals, name: &str, figures: &mut Figures) -> Result<()> {
    sleep(START).await;
    let before = (controller.process.processor_time()?, controller.requests()?, renewals.so_far());
    sleep(MINUTE).await;
    let after = (controller.process.processor_time()?, controller.requests()?, renewals.so_far());
    let renewed = (after.2 - before.2) as f64;
    figures.add(format!("{name}: renewals"), renewed, Unit::PerMinute, Better::Neither, None);
    let used = (after.0 - before.0).as_secs_f64() * 1e3;
    figures.add(format!("{name}: processor time in a minute"), used, Unit::Milliseconds, Better::Lower, None);
    let memory = controller.process.memory()?.resident;
    figures.add(format!("{name}: memory"), memory, Unit::MiB, Better::Lower, None);
    let none = Some(Aim::AtMost(0.0));
    let reads = after.1.reads - before.1.reads;
    figures.add(format!("{name}: reads of the controller"), reads, Unit::PerMinute, Better::Lower, none);
    let writes = after.1.writes - before.1.writes;
    figures.add(format!("{name}: writes of the controller"), writes, Unit::PerMinute, Better::Lower, none);
    Ok(())
}

/// Creates Leases as electors write them, the pods that hold them, and Elections.
async fn create(cluster: &Cluster, follows: bool) -> Result<()> {
    let nodes = Api::<Node>::all(cluster.client.clone()).list(&ListParams::default().labels("type=kwok")).await?.items;
    let nodes: Vec<String> = nodes.iter().map(ResourceExt::name_any).collect();
    let (leases, pods) = (cluster.api::<Lease>(NAMESPACE), cluster.api::<Pod>(NAMESPACE));
    let elections = cluster.api::<Election>(NAMESPACE);
    let each = |number: usize| {
        let (leases, pods, elections) = (leases.clone(), pods.clone(), elections.clone());
        let (name, node) = (name(number), nodes[number % nodes.len()].clone());
        async move {
            let lease = json!({
                "metadata": { "name": lock(number) },
                "spec": { "holderIdentity": format!("{name}_1"), "leaseDurationSeconds": 15, "renewTime": now() },
            });
            leases.create(&PostParams::default(), &serde_json::from_value(lease)?).await?;
            let pod = json!({
                "metadata": { "name": name, "labels": { "app": name } },
                "spec": { "nodeName": node, "containers": [{ "name": "app", "image": "app" }] },
            });
            pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
            let mut election = json!({
                "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": { "name": name },
                "spec": { "selector": { "matchLabels": { "app": name } } },
            });
            if follows {
                election["spec"]["leaderFrom"] = json!({ "lease": { "name": lock(number) } });
            }
            elections.create(&PostParams::default(), &serde_json::from_value(election)?).await?;
            Ok(())
        }
    };
    stream::iter(0..LEASES).map(each).buffer_unordered(CONCURRENCY).try_collect().await
}

/// A task that renews all Leases in each period, evenly spread as electors do. Stopped on drop.
struct Renewals {
    renewed: Arc<AtomicUsize>,
    _renewing: JoinSet<()>,
}

impl Renewals {
    fn start(leases: Api<Lease>, period: Duration) -> Self {
        let renewed = Arc::new(AtomicUsize::default());
        let mut renewing = JoinSet::new();
        renewing.spawn(renew(leases, period, renewed.clone()));
        Self { renewed, _renewing: renewing }
    }

    fn so_far(&self) -> usize {
        self.renewed.load(Ordering::Relaxed)
    }
}

async fn renew(leases: Api<Lease>, period: Duration, renewed: Arc<AtomicUsize>) {
    let mut ticks = interval(period / u32::try_from(LEASES).unwrap_or(u32::MAX));
    // A machine that is late sends the missed renewals at once, so that their number is right.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    for number in (0..LEASES).cycle() {
        ticks.tick().await;
        while requests.try_join_next().is_some() {}
        let (leases, renewed) = (leases.clone(), renewed.clone());
        requests.spawn(async move {
            let patch = Patch::Merge(json!({ "spec": { "renewTime": now() } }));
            if leases.patch(&lock(number), &PatchParams::default(), &patch).await.is_ok() {
                renewed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// The name of a pod and its Election.
fn name(number: usize) -> String {
    format!("app-{number:04}")
}

fn lock(number: usize) -> String {
    format!("lock-{number:04}")
}

/// The time with microseconds, as in a Lease.
fn now() -> Value {
    json!(Timestamp::from_microsecond(Timestamp::now().as_microsecond()).map(|now| format!("{now:.6}")).unwrap_or_default())
}
