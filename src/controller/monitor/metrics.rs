//! The metrics, and how they are told.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::StatusCode;
use k8s_openapi::jiff::Timestamp;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use tokio::time::Instant;

use super::census::Census;
use super::process::Process;
use super::requests;
use super::table::{self, Definition, Shape};
use crate::api::ElectionStatus;
use crate::controller::observe::stream::Kind;
use crate::controller::observe::world::Key;
use crate::election::plan::{Announcement, LeaseWrite, Plan, Then};
use crate::lease::cause::Cause;
use crate::sync::lock;

/// How a pass may end: at rest; to be looked at again at a known time; because the world had changed; refused by the API server;
/// without an answer from it; without an end, because the world changes faster than it can be followed; not at all, because it was
/// given up or because of a bug.
pub const OUTCOMES: &[&str] = &["done", "again", "conflict", "refused", "unanswered", "busy", "abandoned"];

/// How many Elections without a leader may be remembered.
const MANY_VACANCIES: usize = 4_096;

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Of a request: verb and resource, and what was answered.
type WithCode = (Labels<2>, [(&'static str, String); 1]);

/// What Podium counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    elections: Family<Labels<1>, Gauge>,
    stalled: Family<Labels<1>, Gauge>,
    degraded: Family<Labels<1>, Gauge>,
    longest: Gauge<f64, AtomicU64>,
    changes: Family<Labels<2>, Counter>,
    failovers: Histogram,
    reconciles: Family<Labels<1>, Histogram, Buckets>,
    requests: Family<WithCode, Counter>,
    failures: Family<Labels<1>, Counter>,
    silence: Family<Labels<1>, Gauge<f64, AtomicU64>>,
    queue: Family<Labels<1>, Gauge>,
    objects: Family<Labels<1>, Gauge>,
    unserved: Gauge,
    active: Gauge,
    ready: Gauge,
    halted: Gauge,
    /// Since when each Election has been without a leader.
    vacancies: Mutex<HashMap<Key, Instant>>,
}

/// What is counted when somebody asks.
#[derive(Clone, Debug)]
pub struct Now {
    /// The Elections in total.
    pub census: Census,
    /// The series of each Election.
    pub elections: String,
    /// How many objects the caches have.
    pub objects: [(Kind, usize); 3],
    /// How long nothing has come on the watches.
    pub silences: [(Kind, Duration); 3],
    /// How many of the namespaces that are to be served are not.
    pub unserved: usize,
    /// How many Elections are due, and names to be removed.
    pub queues: [(&'static str, usize); 2],
    /// Whether this replica is the active one.
    pub active: bool,
    /// Whether /readyz says that it is ready.
    pub ready: bool,
    /// Whether nothing is written any more.
    pub halted: bool,
    /// The time on the wall clock.
    pub time: Timestamp,
}

/// Makes the histograms of a family.
#[derive(Clone, Debug)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

fn bounds(definition: &Definition) -> &'static [f64] {
    match definition.shape {
        Shape::Histogram(bounds) => bounds,
        Shape::Counter | Shape::Gauge | Shape::Info => &[],
    }
}

impl Metrics {
    /// Nothing was counted yet.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let all = &mut registry;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        all.register(table::BUILD.name, table::BUILD.help, Info::new(version));
        all.register_collector(Box::new(Process));
        let reconciles = Family::new_with_constructor(Buckets(bounds(&table::RECONCILES)));
        let metrics = Self {
            elections: add(all, &table::ELECTIONS, Family::default()),
            stalled: add(all, &table::STALLED, Family::default()),
            degraded: add(all, &table::DEGRADED, Family::default()),
            longest: add(all, &table::LONGEST, Gauge::default()),
            changes: add(all, &table::CHANGES, Family::default()),
            failovers: add(all, &table::FAILOVERS, Buckets(bounds(&table::FAILOVERS)).new_metric()),
            reconciles: add(all, &table::RECONCILES, reconciles),
            requests: add(all, &table::REQUESTS, Family::default()),
            failures: add(all, &table::FAILURES, Family::default()),
            silence: add(all, &table::SILENCE, Family::default()),
            queue: add(all, &table::QUEUE, Family::default()),
            objects: add(all, &table::OBJECTS, Family::default()),
            unserved: add(all, &table::UNSERVED, Gauge::default()),
            active: add(all, &table::ACTIVE, Gauge::default()),
            ready: add(all, &table::READY, Gauge::default()),
            halted: add(all, &table::HALTED, Gauge::default()),
            vacancies: Mutex::default(),
            registry,
        };
        // At 0 from the start: nobody sees an increase from nothing to one.
        for cause in Cause::NAMES {
            for to in ["leader", "none"] {
                metrics.changes.get_or_create(&[("reason", cause), ("to", to)]).inc_by(0);
            }
        }
        for kind in Kind::ALL {
            metrics.failures.get_or_create(&[("resource", kind.plural())]).inc_by(0);
        }
        metrics
    }

    /// All of it, as it is now.
    pub fn tell(&self, now: Now) -> String {
        let Now { census, elections, objects, unserved, silences, queues, active, ready, halted, time } = now;
        let Census { states, stalled, degraded, vacant_since } = census;
        for (state, count) in states {
            self.elections.get_or_create(&[("state", state)]).set(count);
        }
        for (reason, count) in stalled {
            self.stalled.get_or_create(&[("reason", reason)]).set(count);
        }
        for (reason, count) in degraded {
            self.degraded.get_or_create(&[("reason", reason)]).set(count);
        }
        self.longest.set(vacant_since.map_or(0.0, |since| time.duration_since(since).as_secs_f64().max(0.0)));
        for (kind, count) in objects {
            self.objects.get_or_create(&[("resource", kind.plural())]).set(whole(count));
        }
        for (kind, silence) in silences {
            self.silence.get_or_create(&[("resource", kind.plural())]).set(silence.as_secs_f64());
        }
        for (queue, depth) in queues {
            self.queue.get_or_create(&[("queue", queue)]).set(whole(depth));
        }
        self.unserved.set(whole(unserved));
        self.active.set(active.into());
        self.ready.set(ready.into());
        self.halted.set(halted.into());
        let mut metrics = String::new();
        // Writing to a string does not fail.
        let _ = text::encode_registry(&mut metrics, &self.registry);
        metrics += &elections;
        let _ = text::encode_eof(&mut metrics);
        metrics
    }

    /// A request to the API server begins. Count it by what is returned.
    pub fn request<B>(self: &Arc<Self>, request: &hyper::Request<B>) -> Pending {
        Pending { metrics: self.clone(), what: requests::describe(request), code: None }
    }

    /// A list or a watch failed.
    pub fn watch_failed(&self, kind: Kind) {
        self.failures.get_or_create(&[("resource", kind.plural())]).inc();
    }

    /// A pass over an Election begins.
    pub fn pass(&self) -> Pass<'_> {
        Pass { metrics: self, began: Instant::now(), outcome: "abandoned" }
    }

    /// What is about to be done about an Election with this status. `since`: when the reason for it was seen. However often it has to
    /// be tried, the time without a leader began then.
    pub fn planned(&self, key: &Key, status: &ElectionStatus, plan: &Plan, since: Instant) {
        let announced = plan.status.as_ref().is_some_and(|status| status.announce.is_some());
        let rests = matches!(plan.then, Then::AwaitChange | Then::RequeueAfter(_));
        match plan.lease {
            Some(LeaseWrite::Elect { .. }) => self.vacant(key, since),
            // Somebody else was faster, or it was a false alarm.
            None if rests && !announced && status.leader.is_some() => self.forget(key),
            _ => {}
        }
    }

    fn vacant(&self, key: &Key, since: Instant) {
        let mut vacancies = lock(&self.vacancies);
        if vacancies.len() >= MANY_VACANCIES {
            // Of Elections that were deleted while they had no leader. For those that are left, the wall clock will do.
            vacancies.clear();
        }
        vacancies.entry(key.clone()).or_insert(since);
    }

    /// There is no such Election any more.
    pub fn forget(&self, key: &Key) {
        lock(&self.vacancies).remove(key);
    }

    /// A change is complete: written to the Lease, to the pods, and to the status, which was `before` until then.
    pub fn changed(&self, key: &Key, change: &Announcement, before: &ElectionStatus, since: Instant, now: Timestamp) {
        let Announcement { from: _, to, term: _, cause, reason: _ } = change;
        let direction = if to.is_some() { "leader" } else { "none" };
        self.changes.get_or_create(&[("reason", cause.as_str()), ("to", direction)]).inc();
        if to.is_none() {
            // The vacancy goes on.
            return self.vacant(key, since);
        }
        let since = lock(&self.vacancies).remove(key).unwrap_or(since);
        if before.term.is_none() {
            return;
        }
        // A vacancy that began under another replica: only the wall clock knows.
        let vacant = before.acquire_time.as_ref().filter(|_| before.leader.is_none());
        let vacant = vacant.and_then(|since| Duration::try_from(now.duration_since(since.0)).ok());
        self.failovers.observe(since.elapsed().max(vacant.unwrap_or_default()).as_secs_f64());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers a metric under its name.
pub(super) fn add<M: Metric + Clone>(registry: &mut Registry, definition: &Definition, metric: M) -> M {
    let Definition { name, measure, help, shape: _, labels: _ } = definition;
    match measure.unit() {
        None => registry.register(*name, *help, metric.clone()),
        Some(unit) => registry.register_with_unit(*name, *help, unit, metric.clone()),
    }
    metric
}

/// A request under way. One that nobody waits for any more was not answered.
#[derive(Debug)]
pub struct Pending {
    metrics: Arc<Metrics>,
    what: (&'static str, &'static str),
    code: Option<StatusCode>,
}

impl Pending {
    /// It was answered.
    pub fn answered(mut self, code: StatusCode) {
        self.code = Some(code);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let (verb, resource) = self.what;
        let labels = ([("verb", verb), ("resource", resource)], [("code", requests::code(self.code))]);
        self.metrics.requests.get_or_create(&labels).inc();
    }
}

/// A pass under way. One of which the end is not reported was abandoned.
#[derive(Debug)]
pub struct Pass<'a> {
    metrics: &'a Metrics,
    began: Instant,
    outcome: &'static str,
}

impl Pass<'_> {
    /// It ended so: one of [`OUTCOMES`].
    pub fn ended(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let took = self.began.elapsed().as_secs_f64();
        self.metrics.reconciles.get_or_create(&[("outcome", self.outcome)]).observe(took);
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
