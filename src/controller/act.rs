//! Act: the writes of a plan, in the plan's order. The only code that writes on behalf of an Election.

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::announce;
use super::observe::cached::CachedLease;
use super::observe::stream::Kind;
use super::observe::world::Key;
use super::server::{Refusal, Server, Write};
use super::shared::{Shared, Target};
use crate::api::{ElectionStatus, LeaderLabel, names};
use crate::election::plan::{LabelChange, LeaseWrite, Plan, PodWrite, StatusWrite, Then};
use crate::election::snapshot::Election;
use crate::ids::Version;
use crate::lease::object::{self, Owner};

/// How many pods of one Election are written to at a time.
const PATCHES_AT_ONCE: usize = 16;

/// A write that ended the plan.
#[derive(Debug)]
pub struct Ended {
    /// The answer.
    pub refusal: Refusal,
    /// What was to be written.
    pub target: Target,
}

/// A plan that was carried out.
#[derive(Debug)]
pub struct Acted {
    /// What follows.
    pub then: Then,
    /// The status that was written.
    pub status: Option<ElectionStatus>,
}

/// Carries out the plan for `election`, whose Lease was `lease` when it was decided. Its background writes are left to
/// [`super::background`]. `since`: when the reason for all this was seen.
///
/// # Errors
/// The first write that was not answered with success. Nothing after it was sent, but fences beside it may have been.
pub async fn act<S: Server>(
    shared: &Shared<S>,
    election: &Election,
    lease: Option<CachedLease>,
    plan: Plan,
    since: Instant,
) -> Result<Acted, Ended> {
    let Plan { claim, lease: lease_write, fence, label, status, claim_next: _, follow: _, then } = plan;
    let namespace = &election.namespace;
    if let Some(claim) = claim {
        patch_pod(shared, election, claim).await?;
    }
    if let (Some(lease_write), Ok(settings)) = (lease_write, &election.settings) {
        let name = settings.lease_name.clone();
        let decided_on = lease.as_ref().map(CachedLease::version);
        let target = Target { kind: Kind::Leases, namespace: namespace.clone(), name, decided_on };
        write(shared, target, lease_body(election, &settings.lease_name, lease, lease_write)).await?;
        // A pod that changed meanwhile would refuse what was decided on its former version.
        let outdated = |write: &PodWrite| shared.knows_better(&pod_target(namespace, write));
        if fence.iter().chain(&label).any(outdated) {
            return Ok(Acted { then: Then::DecideAgain, status: None });
        }
    }
    // Each one is fenced or the plan ends: nobody is labelled before.
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

async fn write<S: Server>(shared: &Shared<S>, target: Target, write: Write) -> Result<(), Ended> {
    shared.write(&target, write).await.map_err(|refusal| Ended { refusal, target })
}

async fn patch_pods<S: Server>(shared: &Shared<S>, election: &Election, pods: Vec<PodWrite>) -> Result<(), Ended> {
    let patches = stream::iter(pods).map(|pod| patch_pod(shared, election, pod));
    patches.buffer_unordered(PATCHES_AT_ONCE).try_collect().await
}

async fn patch_pod<S: Server>(shared: &Shared<S>, election: &Election, pod: PodWrite) -> Result<(), Ended> {
    let target = pod_target(&election.namespace, &pod);
    let is_repair = pod.is_repair;
    let Some(patch) = patch(election, pod) else { return Ok(()) };
    write(shared, target, patch).await?;
    if is_repair {
        shared.disputes.repaired(&Key { namespace: election.namespace.clone(), name: election.name.clone() });
    }
    Ok(())
}

/// The write as a request. `None`: the Election's label is not known, and nothing is planned then.
pub fn patch(election: &Election, write: PodWrite) -> Option<Write> {
    let settings = election.settings.as_ref().ok()?;
    let name = write.pod.name.clone();
    Some(Write::PatchPod { name, patch: pod_patch(&election.name, &settings.label, write) })
}

/// What the write is about.
pub fn pod_target(namespace: &str, PodWrite { pod, resource_version, .. }: &PodWrite) -> Target {
    let decided_on = Some(Version { uid: pod.uid.clone(), resource_version: *resource_version });
    Target { kind: Kind::Pods, namespace: namespace.into(), name: pod.name.clone(), decided_on }
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
fn guarded(mut body: LeaseObject, guard: &Version) -> LeaseObject {
    body.metadata.uid = Some(guard.uid.to_string());
    body.metadata.resource_version = Some(guard.resource_version.to_string());
    body
}

/// The merge patch of a fence or of a label: claim and label in one write, guarded by UID and resourceVersion.
fn pod_patch(election: &str, label: &LeaderLabel, write: PodWrite) -> Value {
    let PodWrite { pod, resource_version, label: change, term, is_repair: _ } = write;
    let term = term.map_or_else(|| names::CLAIMED.to_owned(), |term| term.to_string());
    let mut patch = json!({ "metadata": {
        "uid": pod.uid.as_ref(),
        "resourceVersion": resource_version.to_string(),
        "annotations": { names::claim(election): term },
    }});
    match change {
        LabelChange::Lead => patch["metadata"]["labels"] = json!({ &label.key: &label.value }),
        LabelChange::Follow => patch["metadata"]["labels"] = json!({ &label.key: &label.follower_value }),
        LabelChange::Remove => patch["metadata"]["labels"] = json!({ &label.key: null }),
        LabelChange::Keep => {}
    }
    patch
}

/// The merge patch of a status: a field that is not set is removed.
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
