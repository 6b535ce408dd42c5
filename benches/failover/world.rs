//! Three pods, the Service of their leader, and what a client sees of them.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use podium::api::Election;
use serde_json::{Value, json};

use super::cause::Cause;
use super::harness::Result;
use super::harness::arrivals::Arrivals;
use super::harness::cluster::Cluster;
use super::harness::events::Told;

const DEADLINE: Duration = Duration::from_secs(60);

/// Whose the pods are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A Deployment's: whatever happens to a pod, Kubernetes replaces it at once, on the same processors.
    Deployment,
    /// Nobody's: nothing else happens.
    Nobody,
}

/// A namespace with three pods of which one leads.
pub struct World {
    pods: Api<Pod>,
    slices: Api<EndpointSlice>,
    /// Where an Election serves: its status is waited for, too.
    elections: Option<Api<Election>>,
    owner: Owner,
    seen_pods: Arrivals<Pod>,
    seen_slices: Arrivals<EndpointSlice>,
    seen_lease: Arrivals<Lease>,
    told: Option<Told>,
    made: usize,
}

/// How long after the cause each of these knew the next leader.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    pub lease: Duration,
    pub label: Duration,
    pub slice: Duration,
    pub sidecar: Option<Duration>,
}

impl World {
    /// Makes one, in a namespace that is there. `sidecar`: where one answers that follows it.
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
        // One watch of each for all runs: a new one would measure how long it takes to begin.
        Ok(Self {
            pods: cluster.api(namespace),
            slices: cluster.api(namespace),
            elections: None,
            owner,
            seen_pods: Arrivals::of(cluster.api(namespace), watcher::Config::default()),
            seen_slices: Arrivals::of(cluster.api(namespace), watcher::Config::default()),
            seen_lease: Arrivals::of(cluster.api(namespace), lease),
            told: match sidecar {
                Some(address) => Some(Told::by(address).await?),
                None => None,
            },
            made: 0,
        })
    }

    /// Applies the Election of the pods.
    pub async fn elect(&mut self, cluster: &Cluster, namespace: &str) -> Result<()> {
        let election = json!({
            "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": { "name": "web" },
            "spec": { "selector": { "matchLabels": { "app": "web" } } },
        });
        cluster.apply::<Election>(namespace, election).await?;
        self.elections = Some(cluster.api(namespace));
        Ok(())
    }

    /// Ends the leader, and measures when each of those who are told knew the next one. Waits before for rest, and mends after.
    pub async fn measure(&mut self, cause: Cause) -> Result<Reached> {
        let leader = self.settled().await?;
        self.seen_pods.forget();
        self.seen_slices.forget();
        self.seen_lease.forget();
        if let Some(told) = &mut self.told {
            told.forget();
        }
        let begun = cause.befall(&self.pods, &leader).await?;
        let is_next = |name: &str| !name.is_empty() && name != leader;
        let holder = |lease: &Lease| lease.spec.as_ref()?.holder_identity.clone();
        let (lease, _) = self.seen_lease.first(|lease| is_next(&holder(lease).unwrap_or_default())).await?;
        let labelled = |pod: &Pod| pod.labels().contains_key("leader") && is_next(&pod.name_any());
        let (label, _) = self.seen_pods.first(labelled).await?;
        let only_next = |slice: &EndpointSlice| {
            let targets = targets(slice);
            !targets.is_empty() && targets.iter().all(|target| is_next(target))
        };
        let (slice, _) = self.seen_slices.first(only_next).await?;
        let sidecar = match &mut self.told {
            Some(told) => Some(told.first(is_next).await?),
            None => None,
        };
        cause.mend(&self.pods, &leader).await?;
        // The watch may be faster than the answer.
        let after = |at: Instant| at.saturating_duration_since(begun);
        Ok(Reached { lease: after(lease), label: after(label), slice: after(slice), sidecar: sidecar.map(after) })
    }

    /// Waits until three pods are ready, one is labelled, the EndpointSlice has it, and so has the Election. Returns its name.
    pub async fn settled(&mut self) -> Result<String> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let pods = self.pods.list(&Default::default()).await?.items;
            self.fill(pods.len()).await?;
            if let [one] = labelled(&pods).as_slice()
                && pods.len() == 3
                && pods.iter().all(is_well)
                && self.is_told(one).await?
            {
                return Ok(one.clone());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err("no leader with an EndpointSlice within the deadline".into())
    }

    async fn is_told(&self, leader: &str) -> Result<bool> {
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

    /// Makes the pods that nobody else makes.
    async fn fill(&mut self, there: usize) -> Result<()> {
        if self.owner == Owner::Deployment {
            return Ok(());
        }
        for _ in there..3 {
            let name = format!("web-{}", self.made);
            self.made += 1;
            let pod = json!({ "metadata": { "name": name, "labels": { "app": "web" } }, "spec": pod_spec() });
            self.pods.create(&Default::default(), &serde_json::from_value(pod)?).await?;
        }
        Ok(())
    }
}

/// Whether a pod may lead, as Kubernetes' own conditions say it.
pub fn is_well(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
    ready && pod.metadata.deletion_timestamp.is_none()
}

fn labelled(pods: &[Pod]) -> Vec<String> {
    pods.iter().filter(|pod| pod.labels().contains_key("leader")).map(ResourceExt::name_any).collect()
}

fn targets(slice: &EndpointSlice) -> Vec<String> {
    slice.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone()).collect()
}

fn pod_spec() -> Value {
    json!({ "containers": [{ "name": "web", "image": "web" }] })
}
