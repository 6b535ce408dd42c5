//! The writes that nobody waits for: the followers' labels, and the claim of the pod that would lead next. A slow admission webhook
//! holds them up, and neither a status nor a failover with them.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::time::Instant;
use tracing::debug;

use super::act::{patch, pod_target};
use super::observe::snapshot::Consulted;
use super::observe::world::Key;
use super::queue::Outcome;
use super::server::{Read, Refusal, Server};
use super::shared::Shared;
use crate::election::decide::{self, FOLLOWERS_AT_ONCE};
use crate::election::plan::{LabelChange, Plan, PodWrite};
use crate::election::snapshot::Election;

/// After how long a write that was refused is sent again.
const RETRY: Duration = Duration::from_secs(15);

/// How many pods of one Election are written to at a time.
const PATCHES_AT_ONCE: usize = 8;

/// Sends the Election's background writes, as its pods and its Lease call for them now.
pub async fn write<S: Server>(shared: &Shared<S>, key: &Key) -> Outcome {
    let Some((snapshot, _)) = shared.snapshot(key, Consulted::default()) else {
        shared.disputes.forget(key);
        return Outcome::Done;
    };
    let plan = decide::decide(&snapshot, (shared.clock)());
    // A failover comes first, and asks for this again.
    if plan.has_foreground_writes() {
        return Outcome::Done;
    }
    let Plan { claim_next, follow, .. } = plan;
    let goes_on = follow.len() >= FOLLOWERS_AT_ONCE;
    let writes = stream::iter(claim_next.into_iter().chain(follow));
    let sent = writes.map(|write| send(shared, key, &snapshot.election, write)).buffer_unordered(PATCHES_AT_ONCE);
    let answers: Vec<Result<(), Refusal>> = sent.collect().await;
    let (mut refused, mut outdated, mut unknown, mut later) = (None, false, false, None);
    for refusal in answers.into_iter().filter_map(Result::err) {
        match refusal {
            Refusal::Busy { after, .. } => later = later.max(Some(after)),
            Refusal::Denied(message) | Refusal::Altered(message) => refused = refused.max(Some(message)),
            Refusal::Outdated(_) | Refusal::NotFound { .. } => outdated = true,
            Refusal::Unknown(_) | Refusal::Ending(_) => unknown = true,
        }
    }
    let is_refused = refused.is_some();
    if shared.disputes.refused(key, refused) {
        shared.elections.add(key.clone(), Instant::now());
    }
    if let Some(after) = later {
        return Outcome::Later(Instant::now() + after);
    }
    match (unknown, outdated || goes_on, is_refused) {
        (true, _, _) => Outcome::Failed,
        (false, true, _) => Outcome::Again(Instant::now()),
        (false, false, true) => Outcome::Again(Instant::now() + RETRY),
        (false, false, false) => Outcome::Done,
    }
}

async fn send<S: Server>(shared: &Shared<S>, key: &Key, election: &Election, write: PodWrite) -> Result<(), Refusal> {
    let target = pod_target(&key.namespace, &write);
    let (uid, change) = (write.pod.uid.clone(), write.label);
    let Some(patch) = patch(election, write) else { return Ok(()) };
    let answer = shared.write_in_background(&target, patch).await;
    match &answer {
        Ok(()) if change != LabelChange::Keep => shared.disputes.followed(key, &uid, change),
        Err(refusal @ (Refusal::Outdated(_) | Refusal::NotFound { .. } | Refusal::Unknown(_))) => {
            debug!(election = %key, %refusal, ?target, "a write in the background was not acknowledged");
            if !shared.knows_better(&target) {
                shared.read(&key.namespace, Read::Pod(target.name)).await?;
            }
        }
        _ => {}
    }
    answer
}
