//! The encoded series agree with the table, and the table with the page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hyper::{Request, StatusCode};
use k8s_openapi::jiff::Timestamp;
use prometheus_parse::{Scrape, Value};
use tokio::time::{Instant, advance};

use super::census::{Census, STATES};
use super::metrics::{Metrics, Scrape as Gauges};
use super::outcome::OUTCOMES;
use super::table::{PER_ELECTION, Shape, TABLE, Values, page};
use crate::api::{ElectionStatus, whole_second};
use crate::controller::key::{Key, Kind};
use crate::election::plan::{Announcement, LeaseWrite, Plan, Then};
use crate::ids::{ResourceVersion, Term, Version};
use crate::lease::cause::Cause;
use crate::lease::record::Record;

fn encoded(metrics: &Metrics) -> String {
    metrics.encode(Gauges {
        census: Census::of(std::iter::empty()),
        elections: String::new(),
        objects: Kind::ALL.map(|kind| (kind, 3)),
        idle_times: Kind::ALL.map(|kind| (kind, Duration::from_secs(9))),
        unserved: 1,
        queues: [("elections", 1), ("cleanups", 0)],
        active: true,
        ready: true,
        halted: false,
        time: Timestamp::UNIX_EPOCH,
    })
}

fn scrape(metrics: &Metrics) -> Scrape {
    Scrape::parse(encoded(metrics).lines().map(|line| Ok(line.to_owned()))).unwrap()
}

/// Returns the value of the sample with this name and these labels.
fn value(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let scrape = scrape(metrics);
    let is = |(label, value): &(&str, &str), found: &prometheus_parse::Labels| found.get(label) == Some(value);
    let found = scrape.samples.iter().filter(|sample| sample.metric == name);
    let found = found.filter(|sample| labels.iter().all(|label| is(label, &sample.labels)));
    let values: Vec<f64> = found
        .map(|sample| match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
            Value::Histogram(_) | Value::Summary(_) => panic!("{name} is not one value"),
        })
        .collect();
    assert!(values.len() <= 1, "{name} {labels:?}: {values:?}");
    values.first().copied()
}

fn key() -> Key {
    Key { namespace: "default".into(), name: "web".into() }
}

fn change(to: Option<&str>, cause: Cause) -> Announcement {
    Announcement { from: None, to: to.map(str::to_owned), term: Term::replacing(revision()), cause, reason: String::new() }
}

/// A status that has had a term.
fn status(leader: Option<&str>, since: i64) -> ElectionStatus {
    ElectionStatus {
        term: Some(5),
        leader: leader.map(str::to_owned),
        acquire_time: Some(whole_second(Timestamp::from_second(since).unwrap())),
        ..ElectionStatus::default()
    }
}

fn revision() -> ResourceVersion {
    ResourceVersion::parse("7").unwrap()
}

fn electing() -> Plan {
    let record = Record {
        holder: None,
        term: Term::replacing(revision()),
        unfenced: BTreeSet::new(),
        cause: Cause::Unknown,
        reason: String::new(),
    };
    let guard = Version { uid: "uid".into(), resource_version: revision() };
    let elect = LeaseWrite::Elect { guard, record, acquired: Timestamp::UNIX_EPOCH, transitions: 1 };
    Plan { lease: Some(elect), ..Plan::default() }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_000).unwrap()
}

/// Metrics that have counted everything once.
fn counted() -> Metrics {
    let metrics = Arc::new(Metrics::new());
    metrics.request(&Request::new(())).responded(StatusCode::OK);
    metrics.watch_failed(Kind::Pods);
    for outcome in OUTCOMES {
        metrics.reconcile().ended(outcome);
    }
    metrics.changed(&key(), &change(Some("web-1"), Cause::Gone), &status(Some("web-0"), 0), Instant::now(), now());
    Arc::into_inner(metrics).unwrap()
}

#[test]
fn committed_page_is_current() {
    let committed =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/metrics.md")).unwrap_or_default();
    assert!(committed == page(), "docs/reference/metrics.md is stale: run `make generate`");
}

/// Returns the words of a page with this prefix.
fn words<'a>(page: &'a str, beginning: &str) -> BTreeSet<&'a str> {
    let words = page.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with(beginning)).collect()
}

#[test]
fn alerts_and_dashboard_use_existing_metrics_and_values() {
    let alerts = include_str!("../../../charts/podium/files/alerts.yaml");
    let dashboard = include_str!("../../../charts/podium/files/dashboard.json");
    serde_json::from_str::<serde_json::Value>(dashboard).expect("JSON");
    let mut names: BTreeSet<String> = TABLE.iter().chain(&PER_ELECTION).map(|definition| definition.full_name()).collect();
    for definition in TABLE.iter().filter(|definition| matches!(definition.shape, Shape::Histogram(_))) {
        names.extend(["bucket", "count", "sum"].map(|part| format!("{}_{part}", definition.full_name())));
    }
    for (page, least) in [(alerts, 5), (dashboard, 10)] {
        let used: BTreeSet<&str> = words(page, "podium_").into_iter().chain(words(page, "process_")).collect();
        assert!(used.len() >= least, "{used:?}");
        for name in used {
            assert!(names.contains(name), "{name}");
        }
    }
    for (page, label, known) in [(alerts, "reason=~\"", Cause::NAMES), (dashboard, "state=~\\\"", STATES)] {
        let lists: Vec<&str> = page.split(label).skip(1).filter_map(|rest| rest.split(['"', '\\']).next()).collect();
        assert!(!lists.is_empty(), "{label}");
        for value in lists.iter().flat_map(|list| list.split('|')) {
            assert!(known.contains(&value), "{value}");
        }
    }
}

#[test]
fn encoded_metrics_are_those_of_the_table() {
    let text = encoded(&counted());
    assert!(text.ends_with("# EOF\n"), "{text}");
    let types: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let shape = |shape: Shape| match shape {
        Shape::Counter => "counter",
        Shape::Gauge => "gauge",
        Shape::Histogram(_) => "histogram",
        Shape::Info => "info",
    };
    let family = |name: String| name.trim_end_matches("_total").trim_end_matches("_info").to_owned();
    let table: BTreeMap<String, &str> = TABLE.iter().map(|entry| (family(entry.full_name()), shape(entry.shape))).collect();
    assert_eq!(types.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect::<BTreeMap<_, _>>(), table);
}

#[test]
fn labels_have_the_values_of_the_table() {
    let scrape = scrape(&counted());
    let mut seen = BTreeSet::new();
    for sample in &scrape.samples {
        let name = sample.metric.trim_end_matches("_sum").trim_end_matches("_count").trim_end_matches("_bucket");
        let definition = TABLE.iter().find(|entry| entry.full_name() == name).unwrap_or_else(|| panic!("{name}"));
        let labels: BTreeSet<&str> = definition.labels.iter().map(|(label, _)| *label).collect();
        assert_eq!(labels, sample.labels.keys().map(String::as_str).collect(), "{name}");
        for (label, values) in definition.labels {
            let value = sample.labels.get(label).unwrap();
            match values {
                Values::Of(values) => assert!(values.contains(&value), "{name} {label}={value:?}"),
                Values::Any(_) => {}
            }
            seen.insert((name.to_owned(), *label, value.to_owned()));
        }
    }
    // A gauge by state has a series for each state, also at 0.
    for definition in TABLE.iter().filter(|entry| entry.shape == Shape::Gauge) {
        for (label, values) in definition.labels {
            let Values::Of(values) = values else { panic!("{} may be anything", definition.name) };
            for value in *values {
                assert!(seen.contains(&(definition.full_name(), label, (*value).to_owned())), "{label}={value}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failover_duration_starts_at_the_observation_of_the_cause() {
    let metrics = Metrics::new();
    let (before, first) = (status(Some("web-0"), 900), Instant::now());
    metrics.planned(&key(), &before, &electing(), first);
    advance(Duration::from_secs(3)).await;
    metrics.planned(&key(), &before, &electing(), Instant::now());
    advance(Duration::from_secs(1)).await;
    metrics.changed(&key(), &change(Some("web-1"), Cause::Gone), &before, Instant::now(), now());
    assert_eq!(value(&metrics, "podium_failover_duration_seconds_count", &[]), Some(1.0));
    assert_eq!(value(&metrics, "podium_failover_duration_seconds_sum", &[]), Some(4.0));
    let labels = [("reason", "gone"), ("to", "leader")];
    assert_eq!(value(&metrics, "podium_leader_changes_total", &labels), Some(1.0));
    assert_eq!(value(&metrics, "podium_leader_changes_total", &[("reason", "gone"), ("to", "none")]), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn vacancy_is_observed_once_at_its_end() {
    let metrics = Metrics::new();
    let began = Instant::now();
    metrics.planned(&key(), &status(Some("web-0"), 900), &electing(), began);
    metrics.changed(&key(), &change(None, Cause::NotReady), &status(Some("web-0"), 900), began, now());
    assert_eq!(value(&metrics, "podium_failover_duration_seconds_count", &[]), Some(0.0));
    advance(Duration::from_secs(60)).await;
    let vacant = status(None, 1_000);
    metrics.planned(&key(), &vacant, &electing(), Instant::now());
    metrics.changed(&key(), &change(Some("web-1"), Cause::BecameEligible), &vacant, Instant::now(), now());
    assert_eq!(value(&metrics, "podium_failover_duration_seconds_sum", &[]), Some(60.0));
    // A vacancy that began under another replica, 250 s ago.
    let vacant = status(None, 750);
    metrics.changed(&key(), &change(Some("web-1"), Cause::BecameEligible), &vacant, Instant::now(), now());
    assert_eq!(value(&metrics, "podium_failover_duration_seconds_sum", &[]), Some(310.0));
}

#[tokio::test(start_paused = true)]
async fn initial_election_and_false_alarm_are_not_observed() {
    let metrics = Metrics::new();
    let none = ElectionStatus::default();
    metrics.planned(&key(), &none, &electing(), Instant::now());
    metrics.changed(&key(), &change(Some("web-0"), Cause::InitialElection), &none, Instant::now(), now());
    assert_eq!(value(&metrics, "podium_failover_duration_seconds_count", &[]), Some(0.0));
    let led = status(Some("web-0"), 900);
    metrics.planned(&key(), &led, &electing(), Instant::now());
    advance(Duration::from_secs(100)).await;
    // Undecided: the controller reads from the server first.
    metrics.planned(&key(), &led, &Plan { then: Then::Consult("why"), ..Plan::default() }, Instant::now());
    metrics.changed(&key(), &change(Some("web-1"), Cause::Gone), &led, Instant::now(), now());
    assert_eq!(value(&metrics, "podium_failover_duration_seconds_sum", &[]), Some(100.0));
    metrics.planned(&key(), &led, &electing(), Instant::now());
    metrics.planned(&key(), &led, &Plan::default(), Instant::now());
    advance(Duration::from_secs(100)).await;
    metrics.changed(&key(), &change(Some("web-1"), Cause::Gone), &led, Instant::now(), now());
    assert_eq!(value(&metrics, "podium_failover_duration_seconds_sum", &[]), Some(100.0), "another replica elected");
}

#[test]
fn dropped_reconciles_and_requests_are_counted() {
    let metrics = Arc::new(Metrics::new());
    drop(metrics.reconcile());
    drop(metrics.request(&Request::get("/api/v1/pods").body(()).unwrap()));
    assert_eq!(value(&metrics, "podium_reconcile_duration_seconds_count", &[("outcome", "abandoned")]), Some(1.0));
    let labels = [("verb", "list"), ("resource", "pods"), ("code", "none")];
    assert_eq!(value(&metrics, "podium_api_requests_total", &labels), Some(1.0));
}
