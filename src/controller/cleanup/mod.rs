//! Cleanup of labels and deletion costs that deleted Elections left on pods. Rule 11 of the safety protocol.
//!
//! The cleanup removes the label and keeps the term, which is the fence. It requires that the API server itself reports this
//! very Election as not found while it serves Elections at all; absence from a cache proves nothing. A label that another
//! client sets later belongs to that client.

pub mod command;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tracing::{debug, info, warn};

use crate::controller::key::{Key, Kind};
use crate::controller::observe::leftovers::Leftover;
use crate::controller::queue::Outcome;
use crate::controller::server::{ApiServer, Read, Refusal, Write};
use crate::controller::shared::{Shared, Target};
use crate::election::cost::DeletionCost;

/// Name of this work in the problem log.
const WORK: &str = "cleanup";

/// Removes the labels of the Election of this name, if it is deleted.
pub async fn clean_up<S: ApiServer>(shared: &Shared<S>, key: &Key) -> Outcome {
    match try_clean_up(shared, key).await {
        Ok(()) => {
            shared.problems.clear(key, WORK);
            Outcome::Done
        }
        // A pod changed or was deleted, or the namespace is terminating: no person must act.
        Err(refusal @ (Refusal::Outdated(_) | Refusal::Ending(_) | Refusal::NotFound { named: true, .. })) => {
            debug!(election = %key, %refusal, "retrying the cleanup");
            Outcome::Backoff
        }
        Err(refusal) => {
            if shared.problems.is_new(key, WORK, &refusal.to_string()) {
                warn!(election = %key, "failed to clean up the labels of a deleted Election, retrying: {refusal}");
            }
            refusal.outcome()
        }
    }
}

async fn try_clean_up<S: ApiServer>(shared: &Shared<S>, key: &Key) -> Result<(), Refusal> {
    let keys = &shared.limits.label_keys;
    if shared.world().leftovers(key, keys).is_empty() {
        shared.world().cleaned_up(key, keys);
        return Ok(());
    }
    if !is_deleted(shared, key).await? {
        return Ok(());
    }
    let leftovers = shared.world().leftovers(key, keys);
    let unknown: BTreeSet<String> = leftovers.into_iter().flat_map(|leftover| leftover.unknown).collect();
    for name in unknown {
        shared.read(&key.namespace, Read::Election(name)).await?;
    }
    let leftovers = shared.world().leftovers(key, keys);
    let mut refused = None;
    for Leftover { pod: name, version, labels, cost, .. } in leftovers {
        let patch = Write::pod_patch(&name, &version, without(labels, cost.as_ref()));
        let (kind, namespace, decided_on) = (Kind::Pods, key.namespace.clone(), Some(version));
        let target = Target { kind, namespace, name: name.clone(), decided_on };
        match shared.write(&target, patch).await {
            Ok(()) => info!(election = %key, pod = name, "removed the label or the deletion cost of a deleted Election"),
            // The pod changed or was deleted: read it again.
            Err(refusal @ (Refusal::Outdated(_) | Refusal::NotFound { named: true, .. })) => {
                shared.read(&key.namespace, Read::Pod(name)).await?;
                refused.get_or_insert(refusal);
            }
            // A denied write keeps the label of this pod only.
            Err(refusal @ (Refusal::Denied(_) | Refusal::Altered(_))) => {
                refused.get_or_insert(refusal);
            }
            Err(refusal) => return Err(refusal),
        }
    }
    if let Some(refusal) = refused {
        return Err(refusal);
    }
    shared.world().cleaned_up(key, keys);
    Ok(())
}

/// Returns the metadata of a cleanup: without these labels, and with this deletion cost.
fn without(labels: Vec<String>, cost: Option<&DeletionCost>) -> Value {
    let mut metadata = json!({});
    for label in labels {
        metadata["labels"][label] = json!(null);
    }
    for (name, value) in cost.into_iter().flat_map(DeletionCost::annotations) {
        metadata["annotations"][name] = json!(value);
    }
    metadata
}

/// Returns whether the server itself reports that this Election does not exist, while it serves the resource. It reads the
/// Election before the resource, to detect that the resource is removed in between.
async fn is_deleted<S: ApiServer>(shared: &Shared<S>, key: &Key) -> Result<bool, Refusal> {
    let retired = shared.world().retired(key);
    let found = shared.read(&key.namespace, Read::Election(key.name.clone())).await?;
    if !found.is_empty() {
        // Another Election of the same name also proves that the former one is deleted. Its own label is not left over.
        return Ok(retired.is_none_or(|uid| !found.contains(&uid)));
    }
    let served = shared.server.serves_elections().await?;
    if !served {
        debug!(election = %key, "the Election resource is not served: its absence means nothing");
        return Err(Refusal::Unknown("the Election resource is not served at present".into()));
    }
    Ok(true)
}
