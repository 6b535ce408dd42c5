//! `podium cleanup`: removes Podium's labels from pods where no controller does.
//!
//! The terms stay, as in every cleanup: they are fences, deleted with their pods.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::api::{LeaderLabel, names};
use crate::controller::answer;
use crate::controller::limits::LabelKeys;
use crate::controller::observe::cached::{CachedPod, Object, PodObject};
use crate::controller::server::{ApiServer, Read, Refusal, Write};

/// Maximum number of attempts on a pod that changes meanwhile.
const ATTEMPTS: usize = 5;

/// A label that was on a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The pod's name.
    pub pod: String,
    /// The label's key.
    pub key: String,
    /// Its value.
    pub value: String,
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

/// Removes the labels of all Elections, deleted or not, from the pods of the namespace, and reports each to `tell`.
/// `dry_run`: only reports them. A controller that serves the namespace restores them.
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
            if removed.is_empty() {
                break;
            }
            let answer =
                if dry_run { Ok(()) } else { answer::write(server, namespace, patch(&name, pod, &removed)).await.1 };
            match answer {
                Ok(()) => {
                    removed.iter().for_each(&mut tell);
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
    left.map(|(key, value)| Removed { pod: name.into(), key: key.to_owned(), value: value.to_owned() }).collect()
}

fn patch(name: &str, pod: &CachedPod, removed: &[Removed]) -> Write {
    let labels: serde_json::Map<_, _> = removed.iter().map(|removed| (removed.key.clone(), json!(null))).collect();
    Write::pod_patch(name, &pod.version, json!({ "labels": labels }))
}
