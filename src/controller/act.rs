//! Act: the writes of a plan, in the plan's order. The only code that writes on behalf of an Election.

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::announce;
use super::observe::cached::CachedLease;
use super::observe::stream::Kind;
use super::server::{Read, Refusal, Server, Write};
use super::shared::Shared;
use crate::api::{ElectionStatus, LeaderLabel, names};
use crate::election::plan::{Guard, LabelChange, LeaseWrite, Plan, PodWrite, StatusWrite, Then};
use crate::election::snapshot::Election;
use crate::lease::object::{self, Owner};

/// How many pods of one Election are fenced at a time.
const FENCES_AT_ONCE: usize = 16;

/// A write that ended the plan, and the object to read again before the next decision.
#[derive(Debug)]
pub struct Ended {
    /// The answer.
    pub refusal: Refusal,
    /// What was to be written.
    pub object: Read,
}

/// Carries out the plan for `election`, whose Lease was `lease` when it was decided. Returns what follows. `since`: when the
/// reason for all this was seen.
///
/// # Errors
/// The first write that was not answered with success. Nothing after it was sent, but fences beside it may have been.
pub async fn act<S: Server>(
    shared: &Shared<S>,
    election: &Election,
    lease: Option<CachedLease>,
    plan: Plan,
    since: Instant,
) -> Result<Then, Ended> {
    let Plan { lease: lease_write, fence, label, status, then } = plan;
    if let (Some(write), Ok(settings)) = (lease_write, &election.settings) {
        let name = settings.lease_name.clone();
        let write = lease_body(election, &name, lease, write);
        shared
            .write(&election.namespace, Kind::Leases, write)
            .await
            .map_err(|refusal| Ended { refusal, object: Read::Lease(name) })?;
        // A pod that changed meanwhile would refuse what was decided on its former version.
        let current = |write: &PodWrite| shared.world().has_version(&election.namespace, &write.pod, write.resource_version);
        if !fence.iter().chain(&label).all(current) {
            return Ok(Then::DecideAgain);
        }
    }
    // Each one is fenced or the plan ends: nobody is labelled before.
    let fences = stream::iter(fence).map(|fence| patch_pod(shared, election, fence));
    fences.buffer_unordered(FENCES_AT_ONCE).try_collect::<()>().await?;
    if let Some(label) = label {
        patch_pod(shared, election, label).await?;
    }
    if let Some(status) = status {
        let StatusWrite { guard, status, can_wait: _, announce } = status;
        let patch = status_patch(&guard, &status);
        let name = election.name.clone();
        let write = Write::PatchStatus { name: name.clone(), patch };
        shared
            .write(&election.namespace, Kind::Elections, write)
            .await
            .map_err(|refusal| Ended { refusal, object: Read::Election(name) })?;
        if let Some(change) = announce {
            announce::publish(shared, election, change, since).await;
        }
    }
    Ok(then)
}

async fn patch_pod<S: Server>(shared: &Shared<S>, election: &Election, write: PodWrite) -> Result<(), Ended> {
    let Ok(settings) = &election.settings else { return Ok(()) };
    let name = write.pod.name.clone();
    let patch = pod_patch(&election.name, &settings.label, write);
    let result = shared.write(&election.namespace, Kind::Pods, Write::PatchPod { name: name.clone(), patch }).await;
    result.map_err(|refusal| Ended { refusal, object: Read::Pod(name) })
}

fn lease_body(election: &Election, name: &str, lease: Option<CachedLease>, write: LeaseWrite) -> Write {
    let owner = Owner { name: &election.name, uid: election.uid.as_ref() };
    // The object as it was decided on: its UID and resourceVersion are the guard.
    let before = lease.map(|lease| (*lease.object).clone()).unwrap_or_default();
    match write {
        LeaseWrite::Create => Write::CreateLease(object::blank(name, owner)),
        LeaseWrite::Blank(guard, _) => Write::ReplaceLease(guarded(object::blanked(before, owner), &guard)),
        LeaseWrite::Elect { guard, record, acquired, transitions } => {
            let body = object::elected(before, owner, &record, acquired, transitions);
            Write::ReplaceLease(guarded(body, &guard))
        }
    }
}

/// The guard is what the plan says, not what the object happens to carry.
fn guarded(mut body: LeaseObject, guard: &Guard) -> LeaseObject {
    body.metadata.uid = Some(guard.uid.to_string());
    body.metadata.resource_version = Some(guard.resource_version.to_string());
    body
}

/// The merge patch of a fence or of a label: claim and label in one write, guarded by UID and resourceVersion.
fn pod_patch(election: &str, label: &LeaderLabel, write: PodWrite) -> Value {
    let PodWrite { pod, resource_version, label: change, term } = write;
    let mut patch = json!({ "metadata": {
        "uid": pod.uid.as_ref(),
        "resourceVersion": resource_version.to_string(),
        "annotations": { names::claim(election): term.to_string() },
    }});
    match change {
        LabelChange::Set => patch["metadata"]["labels"] = json!({ &label.key: &label.value }),
        LabelChange::Remove => patch["metadata"]["labels"] = json!({ &label.key: null }),
        LabelChange::Keep => {}
    }
    patch
}

/// The merge patch of a status: a field that is not set is removed.
fn status_patch(guard: &Guard, status: &ElectionStatus) -> Value {
    let Guard { uid, resource_version } = guard;
    let ElectionStatus {
        observed_generation,
        leader,
        leader_uid,
        term,
        transitions,
        since,
        candidates,
        eligible,
        lease,
        conditions,
    } = status;
    json!({
        "metadata": { "uid": uid.as_ref(), "resourceVersion": resource_version.to_string() },
        "status": {
            "observedGeneration": observed_generation,
            "leader": leader,
            "leaderUID": leader_uid,
            "term": term,
            "transitions": transitions,
            "since": since,
            "candidates": candidates,
            "eligible": eligible,
            "lease": lease,
            "conditions": conditions,
        },
    })
}
