//! Three pods, the Service of their leader, and a client's observations of them.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use podium::api::Election;
use podium_test_support::bench::Result;
use podium_test_support::bench::arrivals::Arrivals;
use podium_test_support::bench::cluster::Cluster;
use podium_test_support::bench::events::LeaderEvents;
use serde_json::{Value, json};

use super::cause::Cause;

const DEADLINE: Duration = Duration::from_secs(60);

/// The owner of the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A Deployment, which replaces a lost pod at once, on the same processors.
    Deployment,
    /// No controller replaces the pods.
    None,
}

/// A namespace with three pods, one of which leads.
pub struct World {
    pods: Api<Pod>,
    slices: Api<EndpointSlice>,
    /// Set with an Election: its status must be stable, too.
    elections: Option<Api<Election>>,
    owner: Owner,
    seen_pods: Arrivals<Pod>,
    seen_slices: Arrivals<EndpointSlice>,
    seen_lease: Arrivals<Lease>,
    leader_events: Option<LeaderEvents>,
    made: usize,
}

/// Times from the cause until each place named the next leader.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    pub lease: Duration,
    pub label: Duration,
    pub slice: Duration,
    pub sidecar: Option<Duration>,
}

impl World {
    /// Creates the pods in an existing namespace. `sidecar` is the address of a sidecar that follows the Election.
    pub async fn new(cluster: &Cluster, namespace: &str, owner: Owner, sidecar: Option<&str>) -> Result<Self> {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
            "spec": { "selector": { "app": "web", "leader": "true" }, "ports": [{ "port": 80 }] },
        });
        cluster.apply::<Service>(namespace, service).await?;
        if owner == Owner::Deployment {
            let deployment = json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" }, "spec": {
                    "replicas": 3, "selector": { "matchLabels": { "app": "web" } },
                    "template": { "metadata": { "labels": { "app": "web" } }, "spec": pod_spec() },
                },
            });
            cluster.apply::<Deployment>(namespace, deployment).await?;
        }
        let lease = watcher::Config::default().fields("metadata.name=web");
        // All runs share one watch of each kind, because a run with a new watch would measure its start.
        Ok(Self {
            pods: cluster.api(namespace),
            slices: cluster.api(namespace),
            elections: None,
            owner,
            seen_pods: Arrivals::of(cluster.api(namespace), watcher::Config::default()),
            seen_slices: Arrivals::of(cluster.api(namespace), watcher::Config::default()),
            seen_lease: Arrivals::of(cluster.api(namespace), lease),
            leader_events: match sidecar {
                Some(address) => Some(LeaderEvents::by(address).await?),
                None => None,
            },
            made: 0,
        })
    }

    /// Applies the Election.
    pub async fn elect(&mut self, cluster: &Cluster, namespace: &str) -> Result<()> {
        let election = json!({
            "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": { "name": "web" },
            "spec": { "selector": { "matchLabels": { "app": "web" } } },
        });
        cluster.apply::<Election>(namespace, election).await?;
        self.elections = Some(cluster.api(namespace));
        Ok(())
    }

    /// Ends the leader, and measures when each place named the next one. Waits for a stable state first, and recovers the pod.
    pub async fn measure(&mut self, cause: Cause) -> Result<Reached> {
        let leader = self.wait_until_stable().await?;
        self.seen_pods.forget();
        self.seen_slices.forget();
        self.seen_lease.forget();
        if let Some(leader_events) = &mut self.leader_events {
            leader_events.forget();
        }
        let begun = cause.trigger(&self.pods, &leader).await?;
        let is_next = |name: &str| !name.is_empty() && name != leader;
        let holder = |lease: &Lease| lease.spec.as_ref()?.holder_identity.clone();
        let (lease, _) = self.seen_lease.first(|lease| is_next(&holder(lease).unwrap_or_default())).await?;
        let labeled = |pod: &Pod| pod.labels().contains_key("leader") && is_next(&pod.name_any());
        let (label, _) = self.seen_pods.first(labeled).await?;
        let only_next = |slice: &EndpointSlice| {
            let targets = targets(slice);
            !targets.is_empty() && targets.iter().all(|target| is_next(target))
        };
        let (slice, _) = self.seen_slices.first(only_next).await?;
        let sidecar = match &mut self.leader_events {
            Some(leader_events) => Some(leader_events.first(is_next).await?),
            None => None,
        };
        cause.recover(&self.pods, &leader).await?;
        // The watch may be earlier than the answer.
        let after = |at: Instant| at.saturating_duration_since(begun);
        Ok(Reached { lease: after(lease), label: after(label), slice: after(slice), sidecar: sidecar.map(after) })
    }

    /// Waits until three pods are ready, and label, EndpointSlice and Election agree on one of them. Returns its name.
    pub async fn wait_until_stable(&mut self) -> Result<String> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let pods = self.pods.list(&Default::default()).await?.items;
            self.fill(pods.len()).await?;
            if let [one] = labeled(&pods).as_slice()
                && pods.len() == 3
                && pods.iter().all(is_healthy)
                && self.is_announced(one).await?
            {
                return Ok(one.clone());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err("no leader with an EndpointSlice within the deadline".into())
    }

    async fn is_announced(&self, leader: &str) -> Result<bool> {
        let slices = self.slices.list(&Default::default()).await?.items;
        let served: Vec<String> = slices.iter().flat_map(targets).collect();
        let elected = match &self.elections {
            None => true,
            Some(elections) => {
                let status = elections.get("web").await?.status.unwrap_or_default();
                status.leader.as_deref() == Some(leader) && status.eligible_candidates == 3
            }
        };
        Ok(elected && served == [leader])
    }

    /// Creates missing pods if no controller does.
    async fn fill(&mut self, existing: usize) -> Result<()> {
        if self.owner == Owner::Deployment {
            return Ok(());
        }
        for _ in existing..3 {
            let name = format!("web-{}", self.made);
            self.made += 1;
            let pod = json!({ "metadata": { "name": name, "labels": { "app": "web" } }, "spec": pod_spec() });
            self.pods.create(&Default::default(), &serde_json::from_value(pod)?).await?;
        }
        Ok(())
    }
}

/// Returns whether a pod is ready and not terminating.
pub fn is_healthy(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
    ready && pod.metadata.deletion_timestamp.is_none()
}

fn labeled(pods: &[Pod]) -> Vec<String> {
    pods.iter().filter(|pod| pod.labels().contains_key("leader")).map(ResourceExt::name_any).collect()
}

fn targets(slice: &EndpointSlice) -> Vec<String> {
    slice.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone()).collect()
}

fn pod_spec() -> Value {
    json!({ "containers": [{ "name": "web", "image": "web" }] })
}
