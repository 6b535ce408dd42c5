//! One pass over one Election: snapshot, decide, act, until there is nothing left to do.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug, debug_span, field, info, warn};

use super::act::{Acted, Ended, act};
use super::observe::snapshot::Consulted;
use super::observe::stream::Kind;
use super::observe::world::Key;
use super::queue::Outcome;
use super::server::{Read, Refusal, Server};
use super::shared::{Shared, Target};
use super::workers::Place;
use crate::api::{ElectionStatus, Reason};
use crate::election::plan::{Plan, Then};
use crate::election::snapshot::Snapshot;
use crate::election::{decide, status};
use crate::hash::fnv;
use crate::ids::ResourceVersion;
use crate::lease::record::Content;
use crate::sync::lock;

/// How many decisions one pass takes before it lets others have their turn.
const DECISIONS: u32 = 12;

/// How long mere counts may wait for more of them before the status is written.
const COUNTS: Duration = Duration::from_secs(1);

/// What this work is called among the complaints.
const WORK: &str = "electing";

/// What a reconciler remembers: when to write what can wait, and what it wrote last.
#[derive(Debug, Default)]
pub struct Reconciler {
    counts_due: Mutex<HashMap<Key, Instant>>,
    /// [`essence`] of it: that it is the same is all that is asked, of every Election there is.
    written: Mutex<HashMap<Key, u64>>,
    /// What the last write was about, if it was not acknowledged and the object was not read since.
    unread: Mutex<HashMap<Key, Target>>,
}

impl Reconciler {
    /// Brings the Election to rest, or as far as it goes. `since`: when it became due; `place`: its own among those that are worked on.
    pub async fn reconcile<S: Server>(&self, shared: &Shared<S>, key: &Key, since: Instant, place: Place) -> Outcome {
        let pass = shared.monitor.metrics.pass();
        let span = debug_span!("pass", namespace = key.namespace, election = key.name, term = field::Empty);
        let passed = self.pass(shared, key, since, place).instrument(span).await;
        pass.ended(label(&passed));
        match passed {
            Ok(outcome) => {
                if shared.complaints.settle(key, WORK) {
                    info!(election = %key, "going on");
                }
                outcome
            }
            Err(refusal) => {
                if let Refusal::Denied(message) | Refusal::Altered(message) = &refusal {
                    self.tell_refusal(shared, key, message, since).await;
                }
                failed(shared, key, &refusal)
            }
        }
    }

    async fn pass<S: Server>(
        &self,
        shared: &Shared<S>,
        key: &Key,
        since: Instant,
        mut place: Place,
    ) -> Result<Outcome, Refusal> {
        self.read_unread(shared, key).await?;
        let mut consulted = Consulted::default();
        let mut doubted = false;
        for _ in 0..DECISIONS {
            let Some((snapshot, lease)) = shared.snapshot(key, consulted) else {
                self.counts().remove(key);
                lock(&self.written).remove(key);
                shared.disputes.forget(key);
                lock(&self.unread).remove(key);
                shared.monitor.metrics.forget(key);
                return Ok(Outcome::Done);
            };
            if let Some(Content::Term(record)) = snapshot.lease.as_ref().map(|lease| &lease.content) {
                Span::current().record("term", record.term.number());
            }
            let mut plan = decide(&snapshot, (shared.clock)());
            let counts_due = self.postpone_counts(key, &mut plan);
            // Another controller says otherwise, and one of the two looks at old pods. Without a look at the server they would
            // write over each other as fast as they can, until its watch recovers.
            if !doubted && self.is_overwritten(key, &plan) {
                doubted = true;
                debug!(election = %key, "the status was overwritten: reading from the server");
                consulted = consult(shared, key, &snapshot, &mut place).await?;
                continue;
            }
            let in_background = plan.has_background_writes();
            shared.monitor.metrics.planned(key, &snapshot.election.status, &plan, since);
            let acted = act(shared, &snapshot.election, lease, plan, since).await;
            self.note_written(key, &acted);
            let then = match acted {
                Ok(Acted { then, .. }) => then,
                Err(ended) => {
                    self.see_again(shared, key, ended).await?;
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
                    consulted = consult(shared, key, &snapshot, &mut place).await?;
                }
                Then::AwaitChange => return Ok(counts_due.map_or(Outcome::Done, Outcome::Again)),
                Then::RequeueAfter(wait) => {
                    let at = Instant::now() + Duration::try_from(wait).unwrap_or_default();
                    return Ok(Outcome::Again(counts_due.map_or(at, |due| due.min(at))));
                }
            }
        }
        debug!(election = %key, "the world changes faster than it can be followed");
        Ok(Outcome::Failed)
    }

    /// Takes out of the plan a status that may wait, and says when it is due.
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

    /// Whether the plan would write what was written before, so that somebody has changed it since.
    fn is_overwritten(&self, key: &Key, plan: &Plan) -> bool {
        let wanted = plan.status.as_ref().map(|write| essence(&write.status));
        wanted.is_some_and(|wanted| lock(&self.written).get(key) == Some(&wanted))
    }

    /// Remembers what was written, whatever it was for: what is found instead of it later was written by somebody else.
    fn note_written(&self, key: &Key, acted: &Result<Acted, Ended>) {
        if let Ok(Acted { status: Some(status), .. }) = acted {
            lock(&self.written).insert(key.clone(), essence(status));
        }
    }

    /// Says in the status that a write, or a read that must come before one, is refused, in the server's words, if at least
    /// that may be written. The next pass that succeeds takes it back.
    async fn tell_refusal<S: Server>(&self, shared: &Shared<S>, key: &Key, message: &str, since: Instant) {
        let Some((snapshot, _)) = shared.snapshot(key, Consulted::default()) else { return };
        let message = format!("the API server refuses a request of Podium: {message}");
        let settings = snapshot.election.settings.as_ref().ok();
        let status = status::stalled(&snapshot, settings, (Reason::RequestDenied, message), (shared.clock)());
        // Once: the words may differ each time, and two controllers would wake each other with them.
        let status = status.filter(|write| !write.can_wait);
        let told = act(shared, &snapshot.election, None, Plan { status, ..Plan::default() }, since).await;
        self.note_written(key, &told);
        if let Err(Ended { refusal, .. }) = told {
            debug!(election = snapshot.election.name, %refusal, "failed to say so in the status");
        }
    }

    /// After a refusal or an unknown answer, the object is seen anew before anything else is decided.
    ///
    /// # Errors
    /// Where that does not help at once: somebody has to act, or the server has to recover.
    async fn see_again<S: Server>(
        &self,
        shared: &Shared<S>,
        key: &Key,
        Ended { refusal, target }: Ended,
    ) -> Result<(), Refusal> {
        debug!(election = %key, %refusal, ?target, "a write was not acknowledged");
        let changed = matches!(refusal, Refusal::Outdated(_) | Refusal::NotFound { named: true, .. });
        // The answer itself, or a watch, has shown it meanwhile.
        if changed && shared.knows_better(&target) {
            return Ok(());
        }
        if let Refusal::Denied(_) | Refusal::Altered(_) | Refusal::Ending(_) = refusal {
            return Err(refusal);
        }
        lock(&self.unread).insert(key.clone(), target);
        // A server that wants to be left alone is not asked now.
        if let Refusal::Busy { .. } = refusal {
            return Err(refusal);
        }
        self.read_unread(shared, key).await?;
        if changed { Ok(()) } else { Err(refusal) }
    }

    /// Reads what a write was about that was not acknowledged, if that was not done yet.
    async fn read_unread<S: Server>(&self, shared: &Shared<S>, key: &Key) -> Result<(), Refusal> {
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

/// How a pass ended, for those who count.
fn label(passed: &Result<Outcome, Refusal>) -> &'static str {
    match passed {
        Ok(Outcome::Done) => "done",
        Ok(Outcome::Again(_)) => "again",
        Ok(Outcome::Failed | Outcome::HeldOff | Outcome::Later(_)) => "busy",
        Err(Refusal::Outdated(_) | Refusal::Ending(_) | Refusal::NotFound { .. }) => "conflict",
        Err(Refusal::Denied(_) | Refusal::Altered(_)) => "refused",
        Err(Refusal::Unknown(_) | Refusal::Busy { .. }) => "unanswered",
    }
}

/// A number for the status without its times, which are new with every change. Should two ever share one, the server is asked
/// once too often.
fn essence(status: &ElectionStatus) -> u64 {
    let mut status = status.clone();
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
    }
    fnv(serde_json::to_vec(&status).unwrap_or_default())
}

/// Reads pods, Election and Lease from the server, in this order: what rule 3 asks of a blank Lease, what rule 6 asks of an
/// absent pod, and what tells a forged term from an old Lease.
async fn consult<S: Server>(
    shared: &Shared<S>,
    key: &Key,
    snapshot: &Snapshot,
    place: &mut Place,
) -> Result<Consulted, Refusal> {
    let read_after: Option<ResourceVersion> = snapshot.lease.as_ref().map(|lease| lease.resource_version);
    let former = shared.world().former_holders(key);
    let found = place.aside(shared.list_pods(&key.namespace)).await?;
    shared.world().note_gone(key, former.difference(&found).cloned().collect());
    shared.read(&key.namespace, Read::Election(key.name.clone())).await?;
    let verified_at = shared.world().now();
    if let Ok(settings) = &snapshot.election.settings {
        shared.read(&key.namespace, Read::Lease(settings.lease_name.clone())).await?;
    }
    Ok(Consulted { read_after, verified_at })
}

fn failed<S: Server>(shared: &Shared<S>, key: &Key, refusal: &Refusal) -> Outcome {
    match refusal {
        Refusal::Outdated(_) | Refusal::Ending(_) => debug!(election = %key, %refusal, "trying again"),
        // Said already, and still so.
        _ if !shared.complaints.is_news(key, WORK, &refusal.to_string()) => {}
        Refusal::Denied(_) | Refusal::Altered(_) => {
            warn!(election = %key, "refused by the API server, trying again until somebody mends it: {refusal}")
        }
        Refusal::NotFound { .. } | Refusal::Unknown(_) | Refusal::Busy { .. } => {
            warn!(election = %key, "trying again: {refusal}")
        }
    }
    refusal.outcome()
}
