//! Background writes: the followers' labels, and the claim of the pod that would lead next. No reconcile waits for them, so a slow
//! admission webhook delays neither a status nor a failover.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::time::Instant;
use tracing::debug;

use super::act::{patch, pod_target};
use super::key::Key;
use super::observe::snapshot::Consulted;
use super::queue::Outcome;
use super::server::{ApiServer, Read, Refusal};
use super::shared::Shared;
use crate::election::decide::{self, FOLLOWERS_AT_ONCE};
use crate::election::plan::{LabelChange, Plan, PodWrite};
use crate::election::snapshot::{Election, Refused};

/// Delay before a denied write is retried.
const RETRY: Duration = Duration::from_secs(15);

/// Concurrent background writes to pods of one Election.
const PATCHES_AT_ONCE: usize = 8;

/// Takes a snapshot, decides, and sends the background writes of the Election.
pub async fn write<S: ApiServer>(shared: &Shared<S>, key: &Key) -> Outcome {
    let Some((snapshot, _)) = shared.snapshot(key, Consulted::default()) else {
        shared.disputes.forget(key);
        return Outcome::Done;
    };
    let plan = decide::decide(&snapshot, (shared.clock)());
    // A failover comes first, and queues this again.
    if plan.has_foreground_writes() {
        return Outcome::Done;
    }
    let Plan { claim_next, follow, cost, .. } = plan;
    let has_more = follow.len() >= FOLLOWERS_AT_ONCE;
    let writes = stream::iter(claim_next.into_iter().chain(follow).chain(cost));
    let sent = writes.map(|write| send(shared, key, &snapshot.election, write)).buffer_unordered(PATCHES_AT_ONCE);
    let responses: Vec<Result<(), (Refusal, bool)>> = sent.collect().await;
    let (mut denied, mut denied_cost, mut outdated, mut unknown, mut retry_after) = (None, None, false, false, None);
    for (refusal, is_cost) in responses.into_iter().filter_map(Result::err) {
        match refusal {
            Refusal::Busy { after, .. } => retry_after = retry_after.max(Some(after)),
            Refusal::Denied(message) | Refusal::Altered(message) if is_cost => denied_cost = denied_cost.max(Some(message)),
            Refusal::Denied(message) | Refusal::Altered(message) => denied = denied.max(Some(message)),
            Refusal::Outdated(_) | Refusal::NotFound { .. } => outdated = true,
            Refusal::Unknown(_) | Refusal::Ending(_) => unknown = true,
        }
    }
    let denied = denied.map(Refused::Follower).or(denied_cost.map(Refused::Cost));
    let is_denied = denied.is_some();
    if shared.disputes.denied(key, denied) {
        shared.elections.add(key.clone(), Instant::now());
    }
    if let Some(after) = retry_after {
        return Outcome::RetryAfter(Instant::now() + after);
    }
    match (unknown, outdated || has_more, is_denied) {
        (true, _, _) => Outcome::Backoff,
        (false, true, _) => Outcome::Requeue(Instant::now()),
        (false, false, true) => Outcome::Requeue(Instant::now() + RETRY),
        (false, false, false) => Outcome::Done,
    }
}

/// Sends a background write. The error says whether the write was of a deletion cost alone.
async fn send<S: ApiServer>(
    shared: &Shared<S>,
    key: &Key,
    election: &Election,
    write: PodWrite,
) -> Result<(), (Refusal, bool)> {
    let is_cost = write.label == LabelChange::Keep && write.cost.is_some();
    try_send(shared, key, election, write).await.map_err(|refusal| (refusal, is_cost))
}

async fn try_send<S: ApiServer>(shared: &Shared<S>, key: &Key, election: &Election, write: PodWrite) -> Result<(), Refusal> {
    let target = pod_target(&key.namespace, &write);
    let (uid, change) = (write.pod.uid.clone(), write.label);
    let Some(patch) = patch(election, write) else { return Ok(()) };
    let response = shared.write_in_background(&target, patch).await;
    match &response {
        Ok(()) if change != LabelChange::Keep => shared.disputes.followed(key, &uid, change),
        Err(refusal @ (Refusal::Outdated(_) | Refusal::NotFound { .. } | Refusal::Unknown(_))) => {
            debug!(election = %key, %refusal, ?target, "a background write was not acknowledged");
            if !shared.is_stale(&target) {
                shared.read(&key.namespace, Read::Pod(target.name)).await?;
            }
        }
        _ => {}
    }
    response
}
