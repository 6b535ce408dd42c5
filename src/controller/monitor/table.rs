//! Every metric: its name, its labels and what it means. The registry is filled from here, and docs/reference/metrics.md is
//! printed from here.

use std::fmt::Write;

use prometheus_client::registry::Unit;

use super::census::{DEGRADATIONS, STALLS, STATES};
use super::metrics::OUTCOMES;
use super::requests::{RESOURCES, VERBS};
use crate::controller::observe::stream::Kind;
use crate::lease::cause::Cause;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often each duration was seen: at or below these bounds.
    Histogram(&'static [f64]),
    /// Always 1; its labels say something.
    Info,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Things.
    Number,
    /// Time.
    Seconds,
    /// Memory.
    Bytes,
}

/// What a label may say.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// One of these.
    Of(&'static [&'static str]),
    /// What it is, where the values are not listed. Bounded all the same.
    Any(&'static str),
}

/// One metric.
#[derive(Debug)]
pub struct Definition {
    /// Its name without the endings that say measure and shape.
    pub name: &'static str,
    /// What it is.
    pub shape: Shape,
    /// What it counts.
    pub measure: Measure,
    /// Its labels.
    pub labels: &'static [(&'static str, Values)],
    /// What it means.
    pub help: &'static str,
}

impl Measure {
    /// The same in the words of the format.
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

    /// The name under which it is told.
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

/// From a pass that writes nothing to one that waits for an API server which does not answer (10 s for each request).
const PASSES: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// A change from one ready pod to the next takes 20 to 100 ms, a takeover by another replica up to 8 s, a lost node most of a
/// minute, and a vacancy as long as nobody is ready.
const VACANCIES: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

pub(super) const ELECTIONS: Definition = Definition::new(
    "podium_elections",
    Shape::Gauge,
    "Elections by state, each in exactly one. Every replica tells what its caches say",
)
.by(&[("state", Values::Of(STATES))]);

pub(super) const STALLED: Definition = Definition::new(
    "podium_elections_stalled",
    Shape::Gauge,
    "Elections that need a person, by the reason of their condition Stalled. They may have a leader all the same",
)
.by(&[("reason", Values::Of(STALLS))]);

pub(super) const DEGRADED: Definition = Definition::new(
    "podium_elections_degraded",
    Shape::Gauge,
    "Elections that work and need attention, by the reason of their condition Degraded",
)
.by(&[("reason", Values::Of(DEGRADATIONS))]);

pub(super) const LONGEST: Definition = Definition::seconds(
    "podium_longest_vacancy",
    Shape::Gauge,
    "How long the Election that has been without a leader for the longest time has been so: its state is vacant or new, or stalled if it ever had a leader. 0: there is none",
);

pub(super) const CHANGES: Definition = Definition::new(
    "podium_leader_changes",
    Shape::Counter,
    "Terms that began, by why, and whether with a leader or without. Told by the replica that finished the change",
)
.by(&[("reason", Values::Of(Cause::NAMES)), ("to", Values::Of(&["leader", "none"]))]);

pub(super) const FAILOVERS: Definition = Definition::seconds(
    "podium_failover_duration",
    Shape::Histogram(VACANCIES),
    "Time without a leader, at each change to one: from when the API server said why the last one cannot lead until the next one is labelled and in the status. First elections do not count",
);

pub(super) const RECONCILES: Definition = Definition::seconds(
    "podium_reconcile_duration",
    Shape::Histogram(PASSES),
    "Duration of one pass over one Election, by how it ended",
)
.by(&[("outcome", Values::Of(OUTCOMES))]);

pub(super) const REQUESTS: Definition = Definition::new(
    "podium_api_requests",
    Shape::Counter,
    "Requests to the API server. A watch counts once, when it begins",
)
.by(&[
    ("verb", Values::Of(VERBS)),
    ("resource", Values::Of(RESOURCES)),
    ("code", Values::Any("the answer's HTTP status; `none`: there was no answer")),
]);

pub(super) const FAILURES: Definition =
    Definition::new("podium_watch_failures", Shape::Counter, "Lists and watches that failed and were begun again")
        .by(&[("resource", Values::Of(KINDS))]);

pub(super) const SILENCE: Definition = Definition::seconds(
    "podium_watch_silence",
    Shape::Gauge,
    "Time since anything came on the watch, in the namespace where it is longest. More than 67 s: the watch is dead, or is refused",
)
.by(&[("resource", Values::Of(KINDS))]);

pub(super) const QUEUE: Definition = Definition::new(
    "podium_queue_depth",
    Shape::Gauge,
    "Elections that are due and that nobody works on yet: to be decided on, or, being gone, to be removed. 0 on a replica that \
     stands by",
)
.by(&[("queue", Values::Of(&["elections", "cleanups"]))]);

pub(super) const OBJECTS: Definition =
    Definition::new("podium_cached_objects", Shape::Gauge, "Objects in the caches").by(&[("resource", Values::Of(KINDS))]);

pub(super) const UNSERVED: Definition = Definition::new(
    "podium_namespaces_unserved",
    Shape::Gauge,
    "Namespaces of `--namespaces` that are not served, because a list or a watch in them is refused, or was not answered yet: /readyz \
     and the log say which, and why. Always 0 where the whole cluster is served",
);

pub(super) const ACTIVE: Definition =
    Definition::new("podium_controller_active", Shape::Gauge, "1 on the replica that elects, 0 on those that stand by");

pub(super) const READY: Definition = Definition::new("podium_ready", Shape::Gauge, "1 if /readyz says so, else 0");

pub(super) const HALTED: Definition = Definition::new(
    "podium_halted",
    Shape::Gauge,
    "1 if revisions of the API server went back, as after a restore of etcd without --bump-revision: nothing is written any more \
     until the process is started again",
);

pub(super) const BUILD: Definition =
    Definition::new("podium_build", Shape::Info, "Which Podium this is").by(&[("version", Values::Any("of the program"))]);

const ELECTION: (&str, Values) = ("election", Values::Any("name of the Election"));
const NAMESPACE: (&str, Values) = ("namespace", Values::Any("of the Election"));

pub(super) const ELECTION_INFO: Definition =
    Definition::new("podium_election_info", Shape::Gauge, "Always 1. `leader` is empty while there is no leader").by(&[
        NAMESPACE,
        ELECTION,
        ("leader", Values::Any("name of the leader's pod")),
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

pub(super) const CPU: Definition =
    Definition::seconds("process_cpu", Shape::Counter, "Processor time that the process used, its own and the kernel's");
pub(super) const RESIDENT: Definition = Definition::bytes("process_resident_memory", "Memory that the process has");
pub(super) const VIRTUAL: Definition = Definition::bytes("process_virtual_memory", "Addresses that the process has");
pub(super) const STARTED: Definition =
    Definition::seconds("process_start_time", Shape::Gauge, "When the process started, since 1970");
pub(super) const OPEN: Definition = Definition::new("process_open_fds", Shape::Gauge, "Files and sockets that are open");
pub(super) const MOST_OPEN: Definition = Definition::new("process_max_fds", Shape::Gauge, "How many may be");

/// All of them.
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

/// docs/reference/metrics.md
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
