//! Metrics of the controller, and their encoding.

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
use super::outcome;
use super::process::ProcessCollector;
use super::requests;
use super::table::{self, Definition, Shape};
use crate::api::ElectionStatus;
use crate::controller::key::{Key, Kind};
use crate::election::plan::{Announcement, LeaseWrite, Plan, Then};
use crate::lease::cause::Cause;
use crate::sync::lock;

/// Maximum number of remembered vacancies.
const MAX_VACANCIES: usize = 4_096;

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Labels of a request: verb and resource, and the code of the response.
type WithCode = (Labels<2>, [(&'static str, String); 1]);

/// Metrics of the controller.
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
    /// Start of the vacancy of each Election without a leader.
    vacancies: Mutex<HashMap<Key, Instant>>,
}

/// Values that are read at a scrape.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// Numbers of Elections.
    pub census: Census,
    /// The series of each Election.
    pub elections: String,
    /// Numbers of cached objects.
    pub objects: [(Kind, usize); 3],
    /// Time since the watches last delivered anything.
    pub idle_times: [(Kind, Duration); 3],
    /// Number of namespaces that should be served and are not.
    pub unserved: usize,
    /// Numbers of due Elections and cleanups.
    pub queues: [(&'static str, usize); 2],
    /// This replica is active.
    pub active: bool,
    /// /readyz reports ready.
    pub ready: bool,
    /// The controller stopped all writes.
    pub halted: bool,
    /// Time of the wall clock.
    pub time: Timestamp,
}

/// Bounds of the histograms of a family.
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
    /// Returns metrics that have counted nothing.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let all = &mut registry;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        all.register(table::BUILD.name, table::BUILD.help, Info::new(version));
        all.register_collector(Box::new(ProcessCollector));
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
        // At 0 from the start: `increase` needs a first sample.
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

    /// Returns all series in the OpenMetrics format.
    pub fn encode(&self, scrape: Scrape) -> String {
        let Scrape { census, elections, objects, unserved, idle_times, queues, active, ready, halted, time } = scrape;
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
        for (kind, silence) in idle_times {
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

    /// Starts a request to the API server. The returned value counts it.
    pub fn request<B>(self: &Arc<Self>, request: &hyper::Request<B>) -> PendingRequest {
        PendingRequest { metrics: self.clone(), target: requests::describe(request), code: None }
    }

    /// Counts a failed list or watch.
    pub fn watch_failed(&self, kind: Kind) {
        self.failures.get_or_create(&[("resource", kind.plural())]).inc();
    }

    /// Starts a reconcile. The returned value observes its duration.
    pub fn reconcile(&self) -> PendingReconcile<'_> {
        PendingReconcile { metrics: self, began: Instant::now(), outcome: outcome::ABANDONED }
    }

    /// Notes the start of a vacancy, or its end without an election, of an Election with this status. `since`: when the
    /// controller observed the cause. Retries do not move the start.
    pub fn planned(&self, key: &Key, status: &ElectionStatus, plan: &Plan, since: Instant) {
        let announced = plan.status.as_ref().is_some_and(|status| status.announce.is_some());
        let rests = matches!(plan.then, Then::AwaitChange | Then::RequeueAfter(_));
        match plan.lease {
            Some(LeaseWrite::Elect { .. }) => self.vacant(key, since),
            // Another replica elected a leader, or none was needed.
            None if rests && !announced && status.leader.is_some() => self.forget(key),
            _ => {}
        }
    }

    fn vacant(&self, key: &Key, since: Instant) {
        let mut vacancies = lock(&self.vacancies);
        if vacancies.len() >= MAX_VACANCIES {
            // Most belong to Elections that were deleted during a vacancy. The others fall back to the wall clock.
            vacancies.clear();
        }
        vacancies.entry(key.clone()).or_insert(since);
    }

    /// Forgets the vacancy of an Election.
    pub fn forget(&self, key: &Key) {
        lock(&self.vacancies).remove(key);
    }

    /// Counts a completed change of leader. `before`: the status that it replaced.
    pub fn changed(&self, key: &Key, change: &Announcement, before: &ElectionStatus, since: Instant, now: Timestamp) {
        let Announcement { from: _, to, term: _, cause, reason: _ } = change;
        let direction = if to.is_some() { "leader" } else { "none" };
        self.changes.get_or_create(&[("reason", cause.as_str()), ("to", direction)]).inc();
        if to.is_none() {
            // The vacancy lasts.
            return self.vacant(key, since);
        }
        let since = lock(&self.vacancies).remove(key).unwrap_or(since);
        if before.term.is_none() {
            return;
        }
        // Only the status dates a vacancy that began under another replica.
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

/// A request in flight. Dropped without a response, it counts with the code `none`.
#[derive(Debug)]
pub struct PendingRequest {
    metrics: Arc<Metrics>,
    target: (&'static str, &'static str),
    code: Option<StatusCode>,
}

impl PendingRequest {
    /// Counts the response.
    pub fn responded(mut self, code: StatusCode) {
        self.code = Some(code);
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        let (verb, resource) = self.target;
        let labels = ([("verb", verb), ("resource", resource)], [("code", requests::code(self.code))]);
        self.metrics.requests.get_or_create(&labels).inc();
    }
}

/// A running reconcile. Dropped without an outcome, it counts as abandoned.
#[derive(Debug)]
pub struct PendingReconcile<'a> {
    metrics: &'a Metrics,
    began: Instant,
    outcome: &'static str,
}

impl PendingReconcile<'_> {
    /// Ends the reconcile with one of [`outcome::OUTCOMES`].
    pub fn ended(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for PendingReconcile<'_> {
    fn drop(&mut self) {
        let took = self.began.elapsed().as_secs_f64();
        self.metrics.reconciles.get_or_create(&[("outcome", self.outcome)]).observe(took);
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
