//! Reconcile of one Election: snapshot, decide, act, until there is nothing left to do.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug, debug_span, field, info, warn};

use super::act::{Acted, Ended, act};
use super::key::Key;
use super::key::Kind;
use super::monitor::outcome;
use super::observe::snapshot::Consulted;
use super::outranking::OutrankingPods;
use super::queue::Outcome;
use super::server::{ApiServer, Read, Refusal};
use super::shared::{Shared, Target};
use super::slots::Slot;
use crate::api::{ElectionStatus, Reason};
use crate::election::plan::{LeaseWrite, Plan, Then};
use crate::election::snapshot::Snapshot;
use crate::election::{decide, status};
use crate::hash::fnv;
use crate::ids::ResourceVersion;
use crate::lease::cause::Cause;
use crate::lease::record::Content;
use crate::sync::lock;

/// Maximum number of decisions in one reconcile.
const DECISIONS: u32 = 12;

/// Delay of a status write that only changes counts.
const COUNTS: Duration = Duration::from_secs(1);

/// Name of this work in the problem log.
const WORK: &str = "reconcile";

/// State of the reconciler: delayed counts, last written statuses, and objects to read.
#[derive(Debug, Default)]
pub struct Reconciler {
    counts_due: Mutex<HashMap<Key, Instant>>,
    /// [`essence`] of the last written status. Only equality matters, and there may be many Elections.
    written: Mutex<HashMap<Key, u64>>,
    /// The pods that outrank leaders. Empty when this replica becomes active.
    outranking: OutrankingPods,
    /// Target of the last write without an acknowledgment, until the object is read.
    unread: Mutex<HashMap<Key, Target>>,
}

impl Reconciler {
    /// Reconciles the Election. `since`: when it became due; `slot`: its slot in the queue.
    pub async fn reconcile<S: ApiServer>(&self, shared: &Shared<S>, key: &Key, since: Instant, slot: Slot) -> Outcome {
        let pending = shared.monitor.metrics.reconcile();
        let span = debug_span!("reconcile", namespace = key.namespace, election = key.name, term = field::Empty);
        let result = self.reconcile_once(shared, key, since, slot).instrument(span).await;
        pending.ended(label(&result));
        match result {
            Ok(outcome) => {
                if shared.problems.clear(key, WORK) {
                    info!(election = %key, "reconcile succeeded again");
                }
                outcome
            }
            Err(refusal) => {
                if let Refusal::Denied(message) | Refusal::Altered(message) = &refusal {
                    self.report_denied(shared, key, message, since).await;
                }
                failed(shared, key, &refusal)
            }
        }
    }

    async fn reconcile_once<S: ApiServer>(
        &self,
        shared: &Shared<S>,
        key: &Key,
        since: Instant,
        mut slot: Slot,
    ) -> Result<Outcome, Refusal> {
        self.read_unread(shared, key).await?;
        let mut consulted = Consulted::default();
        let mut consulted_overwritten = false;
        for _ in 0..DECISIONS {
            let Some((mut snapshot, lease)) = shared.snapshot(key, consulted) else {
                self.counts().remove(key);
                self.outranking.forget(key);
                lock(&self.written).remove(key);
                shared.disputes.forget(key);
                lock(&self.unread).remove(key);
                shared.monitor.metrics.forget(key);
                return Ok(Outcome::Done);
            };
            if let Some(Content::Term(record)) = snapshot.lease.as_ref().map(|lease| &lease.content) {
                Span::current().record("term", record.term.number());
            }
            snapshot.outranking = self.outranking.times(key, &snapshot, Instant::now());
            let mut plan = decide(&snapshot, (shared.clock)());
            self.outranking.note(key, &plan, Instant::now());
            let counts_due = self.postpone_counts(key, &mut plan);
            // Another controller wrote another status, and the cache of one of the two is stale. Without a read they would overwrite
            // each other until its watch recovers.
            if !consulted_overwritten && self.is_overwritten(key, &plan) {
                consulted_overwritten = true;
                shared.world().nodes.doubt(key);
                debug!(election = %key, "the status was overwritten: reading from the server");
                consulted = consult(shared, key, &snapshot, &mut slot).await?;
                continue;
            }
            if has_drained_twice(&snapshot, &plan) {
                shared.world().nodes.doubt(key);
            }
            let in_background = plan.has_background_writes();
            shared.monitor.metrics.planned(key, &snapshot.election.status, &plan, since);
            let acted = act(shared, &snapshot.election, lease, plan, since).await;
            self.note_written(key, &acted);
            let then = match acted {
                Ok(Acted { then, .. }) => then,
                Err(ended) => {
                    self.recover(shared, key, ended).await?;
                    continue;
                }
            };
            if in_background && then != Then::DecideAgain {
                shared.background.add(key.clone(), Instant::now());
            }
            match then {
                Then::DecideAgain => {}
                Then::Consult(why) => {
                    debug!(election = %key, why, "reading from the server");
                    consulted = consult(shared, key, &snapshot, &mut slot).await?;
                }
                Then::ReadFollowedLease(why) => {
                    debug!(election = %key, why, "reading the followed Lease from the server");
                    consulted.followed_at = read_followed_lease(shared, key, &snapshot).await?;
                }
                Then::AwaitChange => return Ok(counts_due.map_or(Outcome::Done, Outcome::Requeue)),
                Then::RequeueAfter(wait) => {
                    let at = Instant::now() + Duration::try_from(wait).unwrap_or_default();
                    return Ok(Outcome::Requeue(counts_due.map_or(at, |due| due.min(at))));
                }
            }
        }
        debug!(election = %key, "objects kept changing during the reconcile, requeueing");
        Ok(Outcome::Backoff)
    }

    /// Removes a status that may wait from the plan, and returns when it is due.
    fn postpone_counts(&self, key: &Key, plan: &mut Plan) -> Option<Instant> {
        let mut counts = self.counts();
        if !plan.status.as_ref().is_some_and(|status| status.can_wait) {
            counts.remove(key);
            return None;
        }
        let due = *counts.entry(key.clone()).or_insert_with(|| Instant::now() + COUNTS);
        if due <= Instant::now() {
            counts.remove(key);
            return None;
        }
        plan.status = None;
        Some(due)
    }

    /// Returns whether the plan repeats the last written status, which another controller has overwritten then.
    fn is_overwritten(&self, key: &Key, plan: &Plan) -> bool {
        let wanted = plan.status.as_ref().map(|write| essence(&write.status));
        wanted.is_some_and(|wanted| lock(&self.written).get(key) == Some(&wanted))
    }

    /// Remembers the written status: a different one later was written by another controller.
    fn note_written(&self, key: &Key, acted: &Result<Acted, Ended>) {
        if let Ok(Acted { status: Some(status), .. }) = acted {
            lock(&self.written).insert(key.clone(), essence(status));
        }
    }

    /// Reports in the status that the API server denied a request, if it accepts that status. The next reconcile that succeeds
    /// removes the condition.
    async fn report_denied<S: ApiServer>(&self, shared: &Shared<S>, key: &Key, message: &str, since: Instant) {
        let Some((snapshot, _)) = shared.snapshot(key, Consulted::default()) else { return };
        let message = format!("the API server denied a request of Podium: {message}");
        let settings = snapshot.election.settings.as_ref().ok();
        let status = status::stalled(&snapshot, settings, (Reason::RequestDenied, message), (shared.clock)());
        // Only once: messages may differ each time, and two controllers would wake each other with them.
        let status = status.filter(|write| !write.can_wait);
        let acted = act(shared, &snapshot.election, None, Plan { status, ..Plan::default() }, since).await;
        self.note_written(key, &acted);
        if let Err(Ended { refusal, .. }) = acted {
            debug!(election = snapshot.election.name, %refusal, "failed to report the denied request in the status");
        }
    }

    /// After a write without an acknowledgment, reads its object before the next decision.
    ///
    /// # Errors
    /// When an immediate decision would not help: a person has to act, or the API server has to recover.
    async fn recover<S: ApiServer>(
        &self,
        shared: &Shared<S>,
        key: &Key,
        Ended { refusal, target }: Ended,
    ) -> Result<(), Refusal> {
        debug!(election = %key, %refusal, ?target, "a write was not acknowledged");
        let changed = matches!(refusal, Refusal::Outdated(_) | Refusal::NotFound { named: true, .. });
        // The response, or a watch, has delivered the object.
        if changed && shared.is_stale(&target) {
            return Ok(());
        }
        if let Refusal::Denied(_) | Refusal::Altered(_) | Refusal::Ending(_) = refusal {
            return Err(refusal);
        }
        lock(&self.unread).insert(key.clone(), target);
        // An overloaded API server gets no read now.
        if let Refusal::Busy { .. } = refusal {
            return Err(refusal);
        }
        self.read_unread(shared, key).await?;
        if changed { Ok(()) } else { Err(refusal) }
    }

    /// Reads the target of a write without an acknowledgment, if there is one.
    async fn read_unread<S: ApiServer>(&self, shared: &Shared<S>, key: &Key) -> Result<(), Refusal> {
        let Some(target) = lock(&self.unread).get(key).cloned() else { return Ok(()) };
        let read = match target.kind {
            Kind::Pods => Read::Pod(target.name),
            Kind::Leases => Read::Lease(target.name),
            Kind::Elections => Read::Election(target.name),
        };
        shared.read(&key.namespace, read).await?;
        lock(&self.unread).remove(key);
        Ok(())
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Key, Instant>> {
        lock(&self.counts_due)
    }
}

/// Returns whether the leader is replaced because its node drains, and its predecessor was, too. Another controller with other
/// nodes may be replacing it in turn.
fn has_drained_twice(snapshot: &Snapshot, plan: &Plan) -> bool {
    let before = snapshot.lease.as_ref().map(|lease| &lease.content);
    match (before, &plan.lease) {
        (Some(Content::Term(before)), Some(LeaseWrite::Elect { record, .. })) => {
            (before.cause, record.cause) == (Cause::NodeDraining, Cause::NodeDraining)
        }
        _ => false,
    }
}

/// Returns the outcome for metrics.
fn label(result: &Result<Outcome, Refusal>) -> &'static str {
    match result {
        Ok(Outcome::Done) => outcome::DONE,
        Ok(Outcome::Requeue(_)) => outcome::REQUEUED,
        Ok(Outcome::Backoff | Outcome::StrictBackoff | Outcome::RetryAfter(_)) => outcome::CONTENDED,
        Err(Refusal::Outdated(_) | Refusal::Ending(_) | Refusal::NotFound { .. }) => outcome::CONFLICT,
        Err(Refusal::Denied(_) | Refusal::Altered(_)) => outcome::DENIED,
        Err(Refusal::Unknown(_) | Refusal::Busy { .. }) => outcome::UNAVAILABLE,
    }
}

/// Returns a hash of the status without its times, which differ with each change. A collision costs one additional read.
fn essence(status: &ElectionStatus) -> u64 {
    let mut status = status.clone();
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
    }
    fnv(serde_json::to_vec(&status).unwrap_or_default())
}

/// Reads pods, Election and Lease from the server, in this order, as rule 3 requires of a blank Lease and rule 6 of an absent
/// pod. It also tells a forged term from an old Lease. The followed Lease comes last: whoever wrote the Election's Lease may have
/// read a later version of it.
async fn consult<S: ApiServer>(
    shared: &Shared<S>,
    key: &Key,
    snapshot: &Snapshot,
    slot: &mut Slot,
) -> Result<Consulted, Refusal> {
    let read_after: Option<ResourceVersion> = snapshot.lease.as_ref().map(|lease| lease.resource_version);
    let former = shared.world().former_holders(key);
    let found = slot.yield_slot(shared.list_pods(&key.namespace)).await?;
    shared.world().note_gone(key, former.difference(&found).cloned().collect());
    shared.read(&key.namespace, Read::Election(key.name.clone())).await?;
    let verified_at = shared.world().now();
    if let Ok(settings) = &snapshot.election.settings {
        shared.read(&key.namespace, Read::Lease(settings.lease_name.clone())).await?;
    }
    let followed_at = read_followed_lease(shared, key, snapshot).await?;
    Ok(Consulted { read_after, verified_at, followed_at })
}

/// Reads the followed Lease from the server, if there is one. Returns the number of cache changes before.
async fn read_followed_lease<S: ApiServer>(shared: &Shared<S>, key: &Key, snapshot: &Snapshot) -> Result<u64, Refusal> {
    let from = snapshot.election.settings.as_ref().ok().and_then(|settings| settings.leader_from.as_ref());
    let Some(from) = from else { return Ok(0) };
    let (followed_at, asked) = (shared.world().now(), Instant::now());
    shared.read(&key.namespace, Read::Lease(from.lease.clone())).await?;
    shared.world().followed.confirm(&key.namespace, &from.lease, asked);
    Ok(followed_at)
}

fn failed<S: ApiServer>(shared: &Shared<S>, key: &Key, refusal: &Refusal) -> Outcome {
    match refusal {
        Refusal::Outdated(_) | Refusal::Ending(_) => debug!(election = %key, %refusal, "retrying"),
        // Logged already.
        _ if !shared.problems.is_new(key, WORK, &refusal.to_string()) => {}
        Refusal::Denied(_) | Refusal::Altered(_) => {
            warn!(election = %key, "request denied by the API server, retrying with backoff: {refusal}")
        }
        Refusal::NotFound { .. } | Refusal::Unknown(_) | Refusal::Busy { .. } => {
            warn!(election = %key, "retrying with backoff: {refusal}")
        }
    }
    refusal.outcome()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::fixtures::{held_by, pod, world};

    #[test]
    fn two_drains_in_a_row_put_the_nodes_in_doubt() {
        let drained = |cause, is_draining| {
            let world = world(held_by("a", 90, [])).pods([pod("a").labeled().term(90), pod("b")]).with(|world| {
                world.pods[0].is_draining = is_draining;
                world.pods[0].ready = is_draining;
                let Content::Term(record) = &mut world.lease.as_mut().unwrap().content else { panic!("a term") };
                record.cause = cause;
            });
            has_drained_twice(&world, &world.plan())
        };
        assert!(drained(Cause::NodeDraining, true));
        assert!(!drained(Cause::Gone, true));
        assert!(!drained(Cause::NodeDraining, false), "the leader is not Ready");
    }
}
