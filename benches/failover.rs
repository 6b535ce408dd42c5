//! Failover by graceful deletion, next to what the API server needs for it in the same run.
//!
//! `PODIUM_KUBECONFIG=$(cluster/up bench) cargo bench --bench failover`
//!
//! Measured from the deletion's acknowledgment, as a client sees it: to the new leader's label, and to the EndpointSlice with
//! its address only. The floor is the latency of a watch plus three sequential writes (a Lease, and two pods), because that
//! is what the protocol cannot do without: compare-and-swap, fence, label. The writes are measured twice: while nothing else
//! happens, and right after another pod was deleted, because that is when the protocol has to write: the control plane is
//! busy replacing the pod then, and every write takes longer.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent};
use kube::runtime::{WatchStreamExt, wait::await_condition, wait::conditions, watcher};
use kube::{Api, Client, ResourceExt};
use podium::api::{Election, custom_resource_definition};
use serde_json::json;
use tokio::sync::mpsc;

const NAMESPACE: &str = "bench-failover";
const RUNS: usize = 20;
const DEADLINE: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let path = std::env::var("PODIUM_KUBECONFIG").map_err(
        |_| "set PODIUM_KUBECONFIG to the kubeconfig of a cluster for benchmarks, for example $(cluster/up bench)",
    )?;
    let kubeconfig = kube::config::Kubeconfig::read_from(&path)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    config.default_retry = false;
    let client = Client::try_from(config)?;
    prepare(&client).await?;
    let controller = Controller::start(&path)?;
    let result = measure(&client).await;
    drop(controller);
    Api::<Namespace>::all(client).delete(NAMESPACE, &DeleteParams::default()).await?;
    result
}

async fn measure(client: &Client) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let elections: Api<Election> = Api::namespaced(client.clone(), NAMESPACE);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    // Two watches for all runs: a new one would measure how long it takes to begin.
    let mut seen_pods = Arrivals::of(pods.clone());
    let mut seen_slices = Arrivals::of(slices.clone());
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
        let label = seen_pods.first(|pod| pod.labels().get("leader").is_some() && pod.name_any() != leader).await?;
        let slice = seen_slices.first(|slice| {
            let targets = targets(slice);
            !targets.is_empty() && targets.iter().all(|target| *target != leader)
        });
        let slice = slice.await?;
        // The first run opens connections.
        if run > 0 {
            watch.push(latency);
            calm.push(three_calm);
            busy.push(three_busy);
            to_label.push(label.saturating_duration_since(begun));
            to_slice.push(slice.saturating_duration_since(begun));
        }
    }
    report("deletion to label", &mut to_label);
    report("deletion to EndpointSlice", &mut to_slice);
    report("latency of a watch", &mut watch);
    report("three writes, calm", &mut calm);
    report("three writes after a deletion", &mut busy);
    for (what, writes) in [("calm", calm), ("after a deletion", busy)] {
        let floor = watch[RUNS / 2] + writes[RUNS / 2];
        let ratio = to_label[RUNS / 2].as_secs_f64() / floor.as_secs_f64();
        println!("median to the label / (watch latency + three writes {what}): {ratio:.2}");
    }
    idle(client).await
}

/// What a watch delivers, and when.
struct Arrivals<K>(mpsc::UnboundedReceiver<(Instant, K)>);

impl<K> Arrivals<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    fn of(api: Api<K>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut objects = watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
            while let Some(object) = objects.next().await {
                let Ok(object) = object else { continue };
                if sender.send((Instant::now(), object)).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    fn forget(&mut self) {
        while self.0.try_recv().is_ok() {}
    }

    /// When the first object arrived that fulfils the condition.
    async fn first(&mut self, fulfils: impl Fn(&K) -> bool) -> Result<Instant> {
        let found = async {
            while let Some((arrived, object)) = self.0.recv().await {
                if fulfils(&object) {
                    return Ok(arrived);
                }
            }
            Err("the watch ended".into())
        };
        tokio::time::timeout(DEADLINE, found).await?
    }
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{what:30} median {:7.1} ms   worst {:7.1} ms   of {}",
        ms(times[times.len() / 2]),
        ms(times[times.len() - 1]),
        times.len()
    );
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
async fn idle(client: &Client) -> Result<()> {
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
    println!("writes in an idle minute      to Elections {elections}, to Leases {leases}, to pods {pods}");
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
    let arrived = seen.first(|pod| pod.annotations().get("bench.example/mark") == Some(&mark)).await?;
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

async fn prepare(client: &Client) -> Result<()> {
    let apply = PatchParams::apply("bench").force();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.patch("elections.podium.dev", &apply, &Patch::Apply(custom_resource_definition())).await?;
    let established = await_condition(definitions, "elections.podium.dev", conditions::is_crd_established());
    tokio::time::timeout(DEADLINE, established).await??;
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    Api::<Namespace>::all(client.clone()).patch(NAMESPACE, &apply, &Patch::Apply(namespace)).await?;
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
    Api::<Deployment>::namespaced(client.clone(), NAMESPACE).patch("web", &apply, &Patch::Apply(deployment)).await?;
    Api::<Service>::namespaced(client.clone(), NAMESPACE).patch("web", &apply, &Patch::Apply(service)).await?;
    Api::<Election>::namespaced(client.clone(), NAMESPACE).patch("web", &apply, &Patch::Apply(election)).await?;
    Ok(())
}

/// The controller's process; killed on drop.
struct Controller(Child);

impl Controller {
    fn start(kubeconfig: &str) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podium"));
        command.args(["controller", "--namespaces", NAMESPACE, "--log", "warn"]).env("KUBECONFIG", kubeconfig);
        Ok(Self(command.stdout(Stdio::null()).spawn()?))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
