//! Act: sends the writes of a plan in the plan's order. No other code elects, fences or labels.

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::announce;
use super::key::{Key, Kind};
use super::observe::cached::CachedLease;
use super::server::{ApiServer, Refusal, Write};
use super::shared::{Shared, Target};
use crate::api::{ElectionStatus, LeaderLabel, names};
use crate::election::cost::DeletionCost;
use crate::election::plan::{LabelChange, LeaseWrite, Plan, PodWrite, StatusWrite, Then};
use crate::election::snapshot::Election;
use crate::ids::Version;
use crate::lease::object::{self, Owner};

/// Concurrent writes to pods of one Election.
const PATCHES_AT_ONCE: usize = 16;

/// A write that ended the plan.
#[derive(Debug)]
pub struct Ended {
    /// The response.
    pub refusal: Refusal,
    /// Target of the write.
    pub target: Target,
}

/// A plan that was carried out.
#[derive(Debug)]
pub struct Acted {
    /// Next step.
    pub then: Then,
    /// The status that was written.
    pub status: Option<ElectionStatus>,
}

/// Carries out the plan for `election` without its background writes, which [`super::background`] sends. `lease`: the Lease at
/// the decision. `since`: when the controller observed the cause.
///
/// # Errors
/// The first write without success. No later write was sent, but concurrent fences may have been.
pub async fn act<S: ApiServer>(
    shared: &Shared<S>,
    election: &Election,
    lease: Option<CachedLease>,
    plan: Plan,
    since: Instant,
) -> Result<Acted, Ended> {
    let Plan { claim, lease: lease_write, fence, label, status, claim_next: _, follow: _, cost: _, outranking: _, then } =
        plan;
    let namespace = &election.namespace;
    if let Some(claim) = claim {
        patch_pod(shared, election, claim).await?;
    }
    if let (Some(lease_write), Ok(settings)) = (lease_write, &election.settings) {
        let name = settings.lease_name.clone();
        let decided_on = lease.as_ref().map(CachedLease::version);
        let target = Target { kind: Kind::Leases, namespace: namespace.clone(), name, decided_on };
        write(shared, target, lease_body(election, &settings.lease_name, lease, lease_write)).await?;
        // The API server would reject a write to a pod that has changed since the decision.
        let stale = |write: &PodWrite| shared.is_stale(&pod_target(namespace, write));
        if fence.iter().chain(&label).any(stale) {
            return Ok(Acted { then: Then::DecideAgain, status: None });
        }
    }
    // Every former holder is fenced before a pod is labeled; otherwise the plan ends here.
    patch_pods(shared, election, fence).await?;
    if let Some(label) = label {
        patch_pod(shared, election, label).await?;
    }
    let mut written = None;
    if let Some(status) = status {
        let StatusWrite { guard, status, can_wait: _, announce } = status;
        let name = election.name.clone();
        let patch = status_patch(&guard, &status);
        let target =
            Target { kind: Kind::Elections, namespace: namespace.clone(), name: name.clone(), decided_on: Some(guard) };
        write(shared, target, Write::PatchStatus { name, patch }).await?;
        if let Some(change) = announce {
            announce::publish(shared, election, change, since).await;
        }
        written = Some(status);
    }
    Ok(Acted { then, status: written })
}

async fn write<S: ApiServer>(shared: &Shared<S>, target: Target, write: Write) -> Result<(), Ended> {
    shared.write(&target, write).await.map_err(|refusal| Ended { refusal, target })
}

async fn patch_pods<S: ApiServer>(shared: &Shared<S>, election: &Election, pods: Vec<PodWrite>) -> Result<(), Ended> {
    let patches = stream::iter(pods).map(|pod| patch_pod(shared, election, pod));
    patches.buffer_unordered(PATCHES_AT_ONCE).try_collect().await
}

async fn patch_pod<S: ApiServer>(shared: &Shared<S>, election: &Election, pod: PodWrite) -> Result<(), Ended> {
    let target = pod_target(&election.namespace, &pod);
    let is_repair = pod.is_repair;
    let Some(patch) = patch(election, pod) else { return Ok(()) };
    write(shared, target, patch).await?;
    if is_repair {
        shared.disputes.repaired(&Key { namespace: election.namespace.clone(), name: election.name.clone() });
    }
    Ok(())
}

/// Returns the request of a write. `None`: the Election's spec is unusable, and a plan has no writes then.
pub fn patch(election: &Election, write: PodWrite) -> Option<Write> {
    let settings = election.settings.as_ref().ok()?;
    Some(Write::pod_patch(&write.pod.name, &guard(&write), metadata(&election.name, &settings.label, &write)))
}

/// Returns the target of the write.
pub fn pod_target(namespace: &str, write: &PodWrite) -> Target {
    Target { kind: Kind::Pods, namespace: namespace.into(), name: write.pod.name.clone(), decided_on: Some(guard(write)) }
}

fn lease_body(election: &Election, name: &str, lease: Option<CachedLease>, write: LeaseWrite) -> Write {
    let owner = Owner { name: &election.name, uid: election.uid.as_ref() };
    // The object as the decision saw it, with the fields of others.
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

/// Sets UID and resourceVersion of the plan, which guard the write.
fn guarded(mut body: LeaseObject, guard: &Version) -> LeaseObject {
    body.metadata.uid = Some(guard.uid.to_string());
    body.metadata.resource_version = Some(guard.resource_version.to_string());
    body
}

fn guard(PodWrite { pod, resource_version, .. }: &PodWrite) -> Version {
    Version { uid: pod.uid.clone(), resource_version: *resource_version }
}

/// Returns the metadata of a fence or a label: claim, label and deletion cost in one write.
fn metadata(election: &str, label: &LeaderLabel, write: &PodWrite) -> Value {
    let PodWrite { pod: _, resource_version: _, label: change, term, cost, is_repair: _ } = write;
    let term = term.map_or_else(|| names::CLAIMED.to_owned(), |term| term.to_string());
    let mut metadata = json!({ "annotations": { names::claim(election): term } });
    match change {
        LabelChange::Lead => metadata["labels"] = json!({ &label.key: &label.value }),
        LabelChange::Follow => metadata["labels"] = json!({ &label.key: &label.follower_value }),
        LabelChange::Remove => metadata["labels"] = json!({ &label.key: null }),
        LabelChange::Keep => {}
    }
    for (name, value) in cost.iter().flat_map(DeletionCost::annotations) {
        metadata["annotations"][name] = json!(value);
    }
    metadata
}

/// Returns the merge patch of a status, which removes fields that are not set.
fn status_patch(guard: &Version, status: &ElectionStatus) -> Value {
    let Version { uid, resource_version } = guard;
    let ElectionStatus {
        observed_generation,
        leader,
        leader_uid,
        term,
        acquire_time,
        leader_transitions,
        candidates,
        eligible_candidates,
        lease_name,
        next_leader,
        conditions,
    } = status;
    json!({
        "metadata": { "uid": uid.as_ref(), "resourceVersion": resource_version.to_string() },
        "status": {
            "observedGeneration": observed_generation,
            "leader": leader,
            "leaderUID": leader_uid,
            "term": term,
            "acquireTime": acquire_time,
            "leaderTransitions": leader_transitions,
            "candidates": candidates,
            "eligibleCandidates": eligible_candidates,
            "leaseName": lease_name,
            "nextLeader": next_leader,
            "conditions": conditions,
        },
    })
}
