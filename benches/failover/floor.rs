//! The floor: a plain client that watches for the leader's end and sends three writes, each after the answer to the one before: the
//! Lease, the former leader and the next leader. Any program needs as much. It guarantees nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use podium_test_support::bench::Result;
use podium_test_support::bench::arrivals::Arrivals;
use podium_test_support::bench::cluster::Cluster;
use serde_json::{Value, json};

use super::world::is_healthy;

/// The plain client. Stops on drop.
pub struct Floor(tokio::task::JoinHandle<()>);

impl Floor {
    /// Starts a client in this namespace, with its own connections.
    pub async fn start(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let kubeconfig = kube::config::Kubeconfig::read_from(&cluster.kubeconfig)?;
        let client = Cluster::client(&kubeconfig).await?;
        let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
        let lease = json!({ "metadata": { "name": "web" }, "spec": {} });
        let lease = leases.create(&PostParams::default(), &serde_json::from_value(lease)?).await?;
        let mut plain =
            Plain { pods: Api::namespaced(client, namespace), leases, lease, known: BTreeMap::new(), leader: None };
        Ok(Self(tokio::spawn(async move {
            if let Err(error) = plain.serve().await {
                eprintln!("the plain client failed: {error}");
            }
        })))
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Plain {
    pods: Api<Pod>,
    leases: Api<Lease>,
    lease: Lease,
    known: BTreeMap<String, Pod>,
    leader: Option<String>,
}

impl Plain {
    async fn serve(&mut self) -> Result<()> {
        let mut events = watcher(self.pods.clone(), watcher::Config::default()).default_backoff().boxed();
        while let Some(event) = events.next().await {
            match event? {
                watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => {
                    self.known.insert(pod.name_any(), pod);
                }
                watcher::Event::Delete(pod) => {
                    self.known.remove(&pod.name_any());
                }
                watcher::Event::Init | watcher::Event::InitDone => {}
            }
            let healthy = |name: &String| self.known.get(name).is_some_and(is_healthy);
            if !self.leader.as_ref().is_some_and(healthy)
                && let Some(next) = self.known.keys().find(|name| healthy(name)).cloned()
            {
                self.replace(next).await?;
            }
        }
        Ok(())
    }

    /// Sends the three writes. A pod that is gone needs no fence.
    async fn replace(&mut self, next: String) -> Result<()> {
        self.lease.spec.get_or_insert_default().holder_identity = Some(next.clone());
        self.lease = self.leases.replace("web", &PostParams::default(), &self.lease).await?;
        if let Some(former) = self.leader.replace(next.clone())
            && self.known.contains_key(&former)
        {
            self.label(&former, json!(null)).await?;
        }
        self.label(&next, json!("true")).await
    }

    /// Writes to a pod. Ignores a missing pod: the watch reports its deletion later.
    async fn label(&self, pod: &str, value: Value) -> Result<()> {
        let patch = json!({ "metadata": { "labels": { "leader": value } } });
        match self.pods.patch(pod, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            written => Ok(written.map(|_| ())?),
        }
    }
}

/// Latency of a watch, and of three writes, on an idle cluster.
pub struct IdleCluster {
    pods: Api<Pod>,
    leases: Api<Lease>,
    seen: Arrivals<Pod>,
    lease: Lease,
}

impl IdleCluster {
    /// Creates the measurement for this namespace.
    pub async fn new(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let leases: Api<Lease> = cluster.api(namespace);
        let lease = serde_json::from_value(json!({ "metadata": { "name": "calm" }, "spec": {} }))?;
        let lease = leases.create(&PostParams::default(), &lease).await?;
        let seen = Arrivals::of(cluster.api(namespace), watcher::Config::default());
        Ok(Self { pods: cluster.api(namespace), leases, seen, lease })
    }

    /// Returns the time from the acknowledgment of a write to its arrival on a watch (0 if the watch was first), and the time of three
    /// writes.
    pub async fn measure(&mut self, pod: &str) -> Result<(Duration, Duration)> {
        self.seen.forget();
        let mark = format!("{:?}", Instant::now());
        self.mark(pod, &mark).await?;
        let written = Instant::now();
        let (arrived, _) = self.seen.first(|pod| pod.annotations().get("bench.example/mark") == Some(&mark)).await?;
        let begun = Instant::now();
        self.lease.spec.get_or_insert_default().holder_identity = Some(mark.clone());
        self.lease = self.leases.replace("calm", &PostParams::default(), &self.lease).await?;
        self.mark(pod, &format!("{mark} 1")).await?;
        self.mark(pod, &format!("{mark} 2")).await?;
        Ok((arrived.saturating_duration_since(written), begun.elapsed()))
    }

    async fn mark(&self, pod: &str, mark: &str) -> Result<()> {
        let patch = json!({ "metadata": { "annotations": { "bench.example/mark": mark } } });
        self.pods.patch(pod, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }
}
