//! Deletion of leaders, one by one and many at once, and the time until each Election has its next leader.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use podium::api::Election;
use podium_test_support::bench::Result;
use serde_json::json;
use tokio::sync::mpsc;

use crate::world::{Layout, concurrently};

/// Bound on the wait of the last Election.
const DEADLINE: Duration = Duration::from_secs(300);

/// Namespace and name of an Election.
type Id = (String, String);

/// Pods that get the label, with the times.
pub struct Leaders(mpsc::UnboundedReceiver<(Instant, Id, String)>);

impl Leaders {
    /// Watches the labels of a namespace's pods. Existing leaders arrive first.
    pub fn of(client: &Client, namespace: &str) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), namespace);
        tokio::spawn(async move {
            let config = watcher::Config::default().labels("leader=true");
            let mut labeled = watcher(pods, config).default_backoff().applied_objects().boxed();
            while let Some(pod) = labeled.next().await {
                let Ok(pod) = pod else { continue };
                let id = (pod.namespace().unwrap_or_default(), pod.labels().get("app").cloned().unwrap_or_default());
                if sender.send((Instant::now(), id, pod.name_any())).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// Deletes these leaders concurrently and waits until each Election has another leader. Returns the wait of each Election from
    /// the acknowledgment of the deletion.
    pub async fn replace(&mut self, client: &Client, leaders: &HashMap<Id, String>) -> Result<Vec<Duration>> {
        while self.0.try_recv().is_ok() {}
        let (acknowledged, mut deletions) = mpsc::unbounded_channel();
        let deleting = concurrently(leaders.clone().into_iter().collect(), |((namespace, election), leader)| {
            let acknowledged = acknowledged.clone();
            async move {
                let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
                pods.delete(&leader, &DeleteParams::default().grace_period(0)).await?;
                acknowledged.send(((namespace, election), Instant::now()))?;
                Ok(())
            }
        });
        let waiting = async {
            let mut labeled: HashMap<Id, Instant> = HashMap::new();
            while labeled.len() < leaders.len() {
                let (at, id, pod) = self.0.recv().await.ok_or("the watch of the labels ended")?;
                if leaders.get(&id).is_some_and(|former| *former != pod) {
                    labeled.entry(id).or_insert(at);
                }
            }
            Result::Ok(labeled)
        };
        let both = async { futures::future::try_join(deleting, waiting).await };
        let ((), labeled) = tokio::time::timeout(DEADLINE, both).await??;
        drop(acknowledged);
        let mut waited = Vec::new();
        while let Some((id, deleted)) = deletions.recv().await {
            let labeled = labeled.get(&id).ok_or("an Election without a new leader")?;
            waited.push(labeled.saturating_duration_since(deleted));
        }
        Ok(waited)
    }
}

/// Measures the three writes that a failover needs, by a plain client: a Lease, a pod, a pod, one after the other.
pub async fn three_writes(client: &Client, layout: Layout) -> Result<Duration> {
    let namespace = layout.namespace(0);
    let (leases, pods): (Api<Lease>, Api<Pod>) =
        (Api::namespaced(client.clone(), &namespace), Api::namespaced(client.clone(), &namespace));
    let lease: Lease = serde_json::from_value(json!({ "metadata": { "name": "bench-floor" } }))?;
    if leases.get_opt("bench-floor").await?.is_none() {
        leases.create(&PostParams::default(), &lease).await?;
    }
    let begun = Instant::now();
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "bench.example/mark": format!("{begun:?}") } } }));
    leases.patch("bench-floor", &PatchParams::default(), &patch).await?;
    pods.patch("e0-1", &PatchParams::default(), &patch).await?;
    pods.patch("e0-2", &PatchParams::default(), &patch).await?;
    Ok(begun.elapsed())
}

/// Returns the leaders of a layout's Elections, from their statuses.
pub async fn leaders(client: &Client, layout: Layout) -> Result<HashMap<Id, String>> {
    let mut leaders = HashMap::new();
    for number in 0..layout.namespaces {
        let namespace = layout.namespace(number);
        for election in Api::<Election>::namespaced(client.clone(), &namespace).list(&Default::default()).await?.items {
            let name = election.name_any();
            let leader = election.status.and_then(|status| status.leader).ok_or("an Election without a leader")?;
            leaders.insert((namespace.clone(), name), leader);
        }
    }
    Ok(leaders)
}
