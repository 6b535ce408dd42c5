//! Names, labels and help of all metrics: the source of the registry and of docs/reference/metrics.md.

use std::fmt::Write;

use prometheus_client::registry::Unit;

use super::census::{DEGRADATIONS, STALLS, STATES};
use super::outcome::OUTCOMES;
use super::requests::{RESOURCES, VERBS};
use crate::controller::key::Kind;
use crate::lease::cause::Cause;

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Only increases.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations up to these bounds.
    Histogram(&'static [f64]),
    /// Always 1; its labels hold the information.
    Info,
}

/// Unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// None.
    Number,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// Values of a label.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// One of these.
    Of(&'static [&'static str]),
    /// Any of a bounded number, with this description.
    Any(&'static str),
}

/// A metric.
#[derive(Debug)]
pub struct Definition {
    /// Name without the suffixes of unit and type.
    pub name: &'static str,
    /// Type.
    pub shape: Shape,
    /// Unit.
    pub measure: Measure,
    /// Labels.
    pub labels: &'static [(&'static str, Values)],
    /// Help text.
    pub help: &'static str,
}

impl Measure {
    /// Returns the unit as OpenMetrics names it.
    pub fn unit(self) -> Option<Unit> {
        match self {
            Self::Number => None,
            Self::Seconds => Some(Unit::Seconds),
            Self::Bytes => Some(Unit::Bytes),
        }
    }
}

impl Definition {
    const fn new(name: &'static str, shape: Shape, help: &'static str) -> Self {
        Self { name, shape, measure: Measure::Number, labels: &[], help }
    }

    const fn seconds(name: &'static str, shape: Shape, help: &'static str) -> Self {
        Self { name, shape, measure: Measure::Seconds, labels: &[], help }
    }

    const fn bytes(name: &'static str, help: &'static str) -> Self {
        Self { name, shape: Shape::Gauge, measure: Measure::Bytes, labels: &[], help }
    }

    const fn by(self, labels: &'static [(&'static str, Values)]) -> Self {
        let Self { name, shape, measure, labels: _, help } = self;
        Self { name, shape, measure, labels, help }
    }

    /// Returns the name with its suffixes.
    pub fn full_name(&self) -> String {
        let unit = self.measure.unit().map_or_else(String::new, |unit| format!("_{}", unit.as_str()));
        let ending = match self.shape {
            Shape::Counter => "_total",
            Shape::Info => "_info",
            Shape::Gauge | Shape::Histogram(_) => "",
        };
        format!("{}{unit}{ending}", self.name)
    }
}

const KINDS: &[&str] = &[Kind::Pods.plural(), Kind::Leases.plural(), Kind::Elections.plural()];

/// From a reconcile without writes to one that awaits an unavailable API server (10 s per request).
const RECONCILE_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// A failover between Ready pods takes 20 to 100 ms, a takeover by a standby replica up to 8 s, a lost node most of a minute. A
/// vacancy lasts until a candidate is eligible.
const FAILOVER_BUCKETS: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

pub(super) const ELECTIONS: Definition = Definition::new(
    "podium_elections",
    Shape::Gauge,
    "Elections by state, each in exactly one, as the caches of the replica have them",
)
.by(&[("state", Values::Of(STATES))]);

pub(super) const STALLED: Definition = Definition::new(
    "podium_elections_stalled",
    Shape::Gauge,
    "Elections with the condition Stalled, by reason. They need a person, and may have a leader",
)
.by(&[("reason", Values::Of(STALLS))]);

pub(super) const DEGRADED: Definition = Definition::new(
    "podium_elections_degraded",
    Shape::Gauge,
    "Elections with the condition Degraded, by reason. They work and need attention",
)
.by(&[("reason", Values::Of(DEGRADATIONS))]);

pub(super) const LONGEST: Definition = Definition::seconds(
    "podium_longest_vacancy",
    Shape::Gauge,
    "Duration of the longest current vacancy, 0 without one. Counts the states vacant and pending, and stalled after a first leader",
);

pub(super) const CHANGES: Definition = Definition::new(
    "podium_leader_changes",
    Shape::Counter,
    "Terms by cause, and whether they have a leader, as counted by the replica that completed the change",
)
.by(&[("reason", Values::Of(Cause::NAMES)), ("to", Values::Of(&["leader", "none"]))]);

pub(super) const FAILOVERS: Definition = Definition::seconds(
    "podium_failover_duration",
    Shape::Histogram(FAILOVER_BUCKETS),
    "Time without a leader, from when the controller observed the cause until the new leader is labeled and in the status. Initial elections are not counted",
);

pub(super) const RECONCILES: Definition = Definition::seconds(
    "podium_reconcile_duration",
    Shape::Histogram(RECONCILE_BUCKETS),
    "Duration of reconciles of one Election, by outcome",
)
.by(&[("outcome", Values::Of(OUTCOMES))]);

pub(super) const REQUESTS: Definition = Definition::new(
    "podium_api_requests",
    Shape::Counter,
    "Requests to the API server. A watch counts once, when it starts",
)
.by(&[
    ("verb", Values::Of(VERBS)),
    ("resource", Values::Of(RESOURCES)),
    ("code", Values::Any("HTTP status of the response, `none` without a response")),
]);

pub(super) const FAILURES: Definition =
    Definition::new("podium_watch_failures", Shape::Counter, "Failed lists and watches, which the controller retries")
        .by(&[("resource", Values::Of(KINDS))]);

pub(super) const SILENCE: Definition = Definition::seconds(
    "podium_watch_silence",
    Shape::Gauge,
    "Time since the watch delivered anything, in the namespace where it is longest. Above 67 s the watch is dead or denied",
)
.by(&[("resource", Values::Of(KINDS))]);

pub(super) const QUEUE: Definition = Definition::new(
    "podium_queue_depth",
    Shape::Gauge,
    "Due Elections that wait to be reconciled (`elections`), or, deleted, to be cleaned up (`cleanups`). 0 on a standby replica",
)
.by(&[("queue", Values::Of(&["elections", "cleanups"]))]);

pub(super) const OBJECTS: Definition =
    Definition::new("podium_cached_objects", Shape::Gauge, "Objects in the caches of the controller")
        .by(&[("resource", Values::Of(KINDS))]);

pub(super) const UNSERVED: Definition = Definition::new(
    "podium_namespaces_unserved",
    Shape::Gauge,
    "Namespaces of `--namespaces` that are not served, because a list or a watch in them fails or has not completed. /readyz and \
     the log name them with the error. Always 0 when the whole cluster is served",
);

pub(super) const ACTIVE: Definition =
    Definition::new("podium_controller_active", Shape::Gauge, "1 on the active replica, 0 on a standby replica");

pub(super) const READY: Definition =
    Definition::new("podium_ready", Shape::Gauge, "1 if /readyz reports ready, otherwise 0");

pub(super) const HALTED: Definition = Definition::new(
    "podium_halted",
    Shape::Gauge,
    "1 if the controller stopped all writes because revisions of the API server went back, as after a restore of etcd without \
     --bump-revision. Restart the controller when all API servers are back",
);

pub(super) const BUILD: Definition =
    Definition::new("podium_build", Shape::Info, "Build information").by(&[("version", Values::Any("version of Podium"))]);

const ELECTION: (&str, Values) = ("election", Values::Any("name of the Election"));
const NAMESPACE: (&str, Values) = ("namespace", Values::Any("namespace of the Election"));

pub(super) const ELECTION_INFO: Definition = Definition::new(
    "podium_election_info",
    Shape::Gauge,
    "Always 1. `leader` is empty while there is no leader, `next_leader` while no other pod is eligible",
)
.by(&[
    NAMESPACE,
    ELECTION,
    ("leader", Values::Any("name of the leader's pod")),
    ("next_leader", Values::Any("name of the pod that would be elected if the leader failed")),
    ("label_key", Values::Any("key of the leader's label")),
]);

pub(super) const ELECTION_READY: Definition =
    Definition::new("podium_election_ready", Shape::Gauge, "1 if the Election's Ready condition is True, otherwise 0")
        .by(&[NAMESPACE, ELECTION]);

pub(super) const ELECTION_TERM: Definition =
    Definition::new("podium_election_term", Shape::Gauge, "Term of the Election, 0 before the first one")
        .by(&[NAMESPACE, ELECTION]);

pub(super) const ELECTION_TRANSITIONS: Definition =
    Definition::new("podium_election_transitions", Shape::Counter, "Changes of the Election's leader")
        .by(&[NAMESPACE, ELECTION]);

pub(super) const ELECTION_ELIGIBLE: Definition =
    Definition::new("podium_election_eligible_candidates", Shape::Gauge, "Eligible candidates of the Election")
        .by(&[NAMESPACE, ELECTION]);

/// The series of each Election: `--metrics-per-election`.
pub const PER_ELECTION: [&Definition; 5] =
    [&ELECTION_INFO, &ELECTION_READY, &ELECTION_TERM, &ELECTION_TRANSITIONS, &ELECTION_ELIGIBLE];

pub(super) const CPU: Definition = Definition::seconds("process_cpu", Shape::Counter, "Total user and system CPU time");
pub(super) const RESIDENT: Definition = Definition::bytes("process_resident_memory", "Resident memory size");
pub(super) const VIRTUAL: Definition = Definition::bytes("process_virtual_memory", "Virtual memory size");
pub(super) const STARTED: Definition =
    Definition::seconds("process_start_time", Shape::Gauge, "Start time of the process since the Unix epoch");
pub(super) const OPEN: Definition = Definition::new("process_open_fds", Shape::Gauge, "Number of open file descriptors");
pub(super) const MOST_OPEN: Definition =
    Definition::new("process_max_fds", Shape::Gauge, "Maximum number of open file descriptors");

/// All metrics without labels that name an Election.
pub const TABLE: [&Definition; 23] = [
    &ELECTIONS,
    &STALLED,
    &DEGRADED,
    &LONGEST,
    &CHANGES,
    &FAILOVERS,
    &RECONCILES,
    &REQUESTS,
    &FAILURES,
    &SILENCE,
    &QUEUE,
    &OBJECTS,
    &UNSERVED,
    &ACTIVE,
    &READY,
    &HALTED,
    &BUILD,
    &CPU,
    &RESIDENT,
    &VIRTUAL,
    &STARTED,
    &OPEN,
    &MOST_OPEN,
];

/// Returns docs/reference/metrics.md.
pub fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    for definition in TABLE.into_iter().chain(PER_ELECTION) {
        let Definition { shape, labels, help, .. } = definition;
        let shape = match shape {
            Shape::Counter => "counter",
            Shape::Gauge => "gauge",
            Shape::Histogram(_) => "histogram",
            Shape::Info => "info",
        };
        let labels: Vec<String> = labels.iter().map(|(name, values)| label(name, *values)).collect();
        let _ = writeln!(page, "| `{}` | {shape} | {} | {help} |", definition.full_name(), labels.join("; "));
    }
    page += "\n## Histogram buckets\n\n| metric | upper bounds in seconds |\n|---|---|\n";
    for definition in TABLE {
        if let Shape::Histogram(bounds) = definition.shape {
            let bounds: Vec<String> = bounds.iter().map(f64::to_string).collect();
            let _ = writeln!(page, "| `{}` | {} |", definition.full_name(), bounds.join(", "));
        }
    }
    page
}

fn label(name: &str, values: Values) -> String {
    match values {
        Values::Any(what) => format!("`{name}`: {what}"),
        Values::Of(values) => {
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            format!("`{name}`: {}", values.join(", "))
        }
    }
}

const INTRODUCTION: &str = "\
# Metrics

<!-- Printed by `podium metrics`; `make generate` renews it. -->

`podium controller --http :8080` serves `/metrics` in the OpenMetrics text format. Each replica
reports what it observes. Aggregate gauges and `podium_election_*` over the replicas by `max`, and
other counters by `sum`. [The sidecar](sidecar.md#metrics) has metrics of its own.

The five series `podium_election_*` of an Election have its name as a label and go when it is
deleted. `--metrics-per-election=false` switches them off. No other label names an Election, a pod
or a namespace, so the number of the other series is bounded.

| metric | type | labels | meaning |
|---|---|---|---|
";
