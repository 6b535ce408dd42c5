//! `podium cleanup`: removes Podium's labels from pods where no controller does, and restores their deletion costs.
//!
//! The terms stay, as in every cleanup: they are fences, deleted with their pods.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;
use kube::api::{Api, ListParams};

use super::without;
use crate::api::{LeaderLabel, names};
use crate::controller::answer;
use crate::controller::limits::LabelKeys;
use crate::controller::observe::cached::{CachedPod, Object, PodObject};
use crate::controller::server::{ApiServer, Read, Refusal, Write};
use crate::election::cost::DeletionCost;

/// Maximum number of attempts on a pod that changes meanwhile.
const ATTEMPTS: usize = 5;

/// A label or an annotation that was on a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The pod's name.
    pub pod: String,
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The value that replaces it: a deletion cost is restored.
    pub restored: Option<String>,
}

/// The namespaces in which pods carry a claim.
///
/// # Errors
/// Error of the API server, with the failed request.
pub async fn namespaces(client: &Client) -> Result<BTreeSet<String>, String> {
    let pods: Api<PodObject> = Api::all(client.clone());
    let pods = pods.list_metadata(&ListParams::default()).await;
    let pods = pods.map_err(|error| format!("failed to list the pods of all namespaces: {error}"))?;
    let is_claimed = |annotation: &String| annotation.starts_with(names::CLAIM_PREFIX);
    let claimed = pods.items.into_iter().map(|pod| pod.metadata).filter(|pod| {
        let annotations = pod.annotations.as_ref();
        annotations.is_some_and(|annotations| annotations.keys().any(is_claimed))
    });
    Ok(claimed.filter_map(|pod| pod.namespace).collect())
}

/// Removes the labels of all Elections, deleted or not, from the pods of the namespace, restores the deletion costs, and reports
/// each to `tell`. `dry_run`: only reports them. A controller that serves the namespace writes them again.
///
/// Of an existing Election, that is its own label; of a deleted or unreadable one, every label that `keys` allow and that
/// Podium set last.
///
/// # Errors
/// The first request that failed.
pub async fn clean_up_namespace<S: ApiServer>(
    server: &S,
    namespace: &str,
    keys: &LabelKeys,
    dry_run: bool,
    mut tell: impl FnMut(&Removed),
) -> Result<(), Refusal> {
    let elections = match server.read(namespace, Read::Elections).await {
        Ok(elections) => elections,
        // The CRD is not installed.
        Err(Refusal::NotFound { .. }) => Vec::new(),
        Err(refusal) => return Err(refusal),
    };
    let labels = elections.into_iter().filter_map(|named| match named.object {
        Object::Election(election) => Some((named.name, election.parsed.ok()?.settings.label.clone())),
        _ => None,
    });
    let labels: BTreeMap<String, LeaderLabel> = labels.collect();
    for named in server.read(namespace, Read::Pods).await? {
        let (name, mut object) = (named.name, named.object);
        for attempt in 1..=ATTEMPTS {
            let Object::Pod(pod) = &object else { break };
            let removed = leftovers(&name, pod, &labels, keys);
            let cost = pod.cost.as_deref().filter(|cost| cost.note.is_some()).map(DeletionCost::without_demands);
            if removed.is_empty() && cost.is_none() {
                break;
            }
            let keys = removed.iter().map(|removed| removed.key.clone()).collect();
            let patch = Write::pod_patch(&name, &pod.version, without(keys, cost.as_ref()));
            let answer = if dry_run { Ok(()) } else { answer::write(server, namespace, patch).await.1 };
            match answer {
                Ok(()) => {
                    removed.iter().chain(&restored(&name, pod.cost.as_deref(), cost.as_ref())).for_each(&mut tell);
                    break;
                }
                Err(Refusal::NotFound { named: true, .. }) => break,
                Err(Refusal::Outdated(_)) if attempt < ATTEMPTS => {}
                Err(Refusal::Busy { after, .. }) if attempt < ATTEMPTS => tokio::time::sleep(after).await,
                Err(refusal) => return Err(refusal),
            }
            match server.read(namespace, Read::Pod(name.clone())).await {
                Ok(again) => match again.into_iter().next() {
                    Some(again) => object = again.object,
                    None => break,
                },
                Err(Refusal::NotFound { named: true, .. }) => break,
                Err(refusal) => return Err(refusal),
            }
        }
    }
    Ok(())
}

/// Returns the labels that Elections with a claim on the pod wrote, or may have written.
fn leftovers(name: &str, pod: &CachedPod, elections: &BTreeMap<String, LeaderLabel>, keys: &LabelKeys) -> Vec<Removed> {
    let is_left = |(key, value): &(&str, &str)| {
        pod.claims.keys().any(|election| match elections.get(election) {
            Some(label) => label.key == *key && label.owns(value),
            None => keys.allow(key) && pod.ours.contains(key),
        })
    };
    let left = pod.labels.iter().filter(is_left);
    let removed =
        |key: &str, value: &str| Removed { pod: name.into(), key: key.into(), value: value.into(), restored: None };
    left.map(|(key, value)| removed(key, value)).collect()
}

/// Returns the annotations of the deletion cost that are removed or restored.
fn restored(pod: &str, before: Option<&DeletionCost>, after: Option<&DeletionCost>) -> Vec<Removed> {
    let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
    let changes = before.annotations().into_iter().zip(after.annotations()).filter(|(before, after)| before != after);
    let changes = changes.filter_map(|((key, before), (_, after))| Some((key, before?, after)));
    let removed = |(key, value, restored): (&str, &str, Option<&str>)| Removed {
        pod: pod.into(),
        key: key.into(),
        value: value.into(),
        restored: restored.map(str::to_owned),
    };
    changes.map(removed).collect()
}
