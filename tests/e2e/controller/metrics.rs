//! `/metrics`, parsed as Prometheus does, compared with what happened.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use prometheus_parse::{Sample, Scrape, Value};
use tokio::time::Instant;

use crate::harness::http::{HTTP, get};
use crate::harness::{eventually, scenario};

async fn scrape(http: SocketAddr) -> Vec<Sample> {
    let (status, text) = get(http, "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"), "{text}");
    Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("metrics").samples
}

fn number(sample: &Sample) -> Option<f64> {
    match sample.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => Some(value),
        Value::Histogram(_) | Value::Summary(_) => None,
    }
}

fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted = |sample: &&Sample| {
        sample.metric == name && labels.iter().all(|(label, value)| sample.labels.get(label) == Some(value))
    };
    samples.iter().filter(wanted).filter_map(number).sum()
}

async fn value(http: SocketAddr, name: &str, labels: &[(&str, &str)]) -> f64 {
    sum(&scrape(http).await, name, labels)
}

async fn until(http: SocketAddr, name: &str, labels: &[(&str, &str)], wanted: impl Fn(f64) -> bool) -> f64 {
    eventually(&format!("{name} {labels:?} is as it should be"), async || {
        let value = value(http, name, labels).await;
        if wanted(value) { Ok(value) } else { Err(value.to_string()) }
    })
    .await
}

/// Name and labels of each sample.
fn series(samples: &[Sample]) -> BTreeSet<String> {
    samples.iter().map(|sample| format!("{}{{{}}}", sample.metric, sample.labels)).collect()
}

const CHANGES: &str = "podium_leader_changes_total";

#[tokio::test]
async fn a_failover_and_a_vacancy_are_counted_once_each_by_the_active_replica() {
    scenario(async |world| {
        let active = world.controller_with(&world.cluster.kubeconfig, HTTP);
        active.elects().await;
        let standby = world.controller_with(&world.cluster.kubeconfig, HTTP);
        standby.says(&["standing by"]).await;
        let (one, other) = (active.http().await, standby.http().await);
        world.led().await;
        until(one, CHANGES, &[], |changes| changes > 0.0).await;
        for (name, labels, active, standby) in [
            ("podium_controller_active", &[][..], 1.0, 0.0),
            ("podium_ready", &[], 1.0, 1.0),
            ("podium_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0, 1.0),
            (CHANGES, &[("reason", "initial_election"), ("to", "leader")], 1.0, 0.0),
            (CHANGES, &[], 1.0, 0.0),
            ("podium_failover_duration_seconds_count", &[], 0.0, 0.0),
        ] {
            assert_eq!((value(one, name, labels).await, value(other, name, labels).await), (active, standby), "{name}");
        }
        for http in [one, other] {
            until(http, "podium_elections", &[("state", "elected")], |elected| elected == 1.0).await;
            assert_eq!(value(http, "podium_elections", &[]).await, 1.0, "in one state only");
            // The Election's Lease and the controller's own.
            for (resource, count) in [("pods", 2.0), ("leases", 2.0), ("elections", 1.0)] {
                until(http, "podium_cached_objects", &[("resource", resource)], |cached| cached == count).await;
            }
            assert!(value(http, "process_resident_memory_bytes", &[]).await > 1e6);
        }

        let election = [("namespace", world.namespace.as_str()), ("election", "web")];
        let leads =
            |leader, next| [election[0], election[1], ("leader", leader), ("next_leader", next), ("label_key", "leader")];
        for http in [one, other] {
            until(http, "podium_election_info", &leads("web-0", "web-1"), |info| info == 1.0).await;
            until(http, "podium_election_ready", &election, |ready| ready == 1.0).await;
            until(http, "podium_election_eligible_candidates", &election, |eligible| eligible == 2.0).await;
        }

        world.set_ready("web-0", false).await;
        world.leader_is("web", "web-1").await;
        for http in [one, other] {
            until(http, "podium_election_info", &leads("web-1", ""), |info| info == 1.0).await;
            until(http, "podium_election_transitions_total", &election, |transitions| transitions == 1.0).await;
        }
        until(one, CHANGES, &[("reason", "not_ready"), ("to", "leader")], |changes| changes == 1.0).await;
        let short = value(one, "podium_failover_duration_seconds_sum", &[]).await;
        assert_eq!(value(one, "podium_failover_duration_seconds_count", &[]).await, 1.0);
        println!("a failover takes {short} s by the metric");
        assert!(short > 0.0 && short < 10.0);

        let began = Instant::now();
        world.set_ready("web-1", false).await;
        world.vacancy("web").await;
        until(one, CHANGES, &[("reason", "not_ready"), ("to", "none")], |changes| changes == 1.0).await;
        for http in [one, other] {
            until(http, "podium_elections", &[("state", "vacant")], |vacant| vacant == 1.0).await;
            until(http, "podium_longest_vacancy_seconds", &[], |seconds| seconds >= 2.0).await;
        }
        let at_least = began.elapsed().as_secs_f64() - 2.0;
        world.set_ready("web-0", true).await;
        world.leader_is("web", "web-0").await;
        until(one, CHANGES, &[("reason", "became_eligible"), ("to", "leader")], |changes| changes == 1.0).await;
        let whole = value(one, "podium_failover_duration_seconds_sum", &[]).await - short;
        println!("the vacancy lasted {whole} s by the metric");
        assert!(whole > at_least && whole < began.elapsed().as_secs_f64() + 1.0, "{whole}");
        until(one, "podium_longest_vacancy_seconds", &[], |seconds| seconds == 0.0).await;
        assert_eq!(value(one, CHANGES, &[]).await, 4.0);
        assert_eq!(value(other, CHANGES, &[]).await, 0.0);
        // At least one per term.
        let updates = [("verb", "patch"), ("resource", "elections/status"), ("code", "200")];
        assert!(value(one, "podium_api_requests_total", &updates).await >= 4.0);
    })
    .await;
}

#[tokio::test]
async fn election_without_pods_of_its_own_is_stalled_and_counts_no_vacancy() {
    scenario(async |world| {
        let controller = world.controller_with(&world.cluster.kubeconfig, HTTP);
        controller.elects().await;
        let http = controller.http().await;
        world.led().await;
        world.election_with("second", serde_json::json!({})).await;
        until(http, "podium_elections", &[("state", "stalled")], |stalled| stalled == 1.0).await;
        let samples = scrape(http).await;
        assert_eq!(sum(&samples, "podium_elections_stalled", &[("reason", "OverlappingElections")]), 1.0);
        assert_eq!(sum(&samples, "podium_elections", &[("state", "vacant")]), 0.0);
        assert_eq!(sum(&samples, "podium_longest_vacancy_seconds", &[]), 0.0);
    })
    .await;
}

#[tokio::test]
async fn series_of_a_deleted_election_are_removed() {
    scenario(async |world| {
        let controller = world.controller_with(&world.cluster.kubeconfig, HTTP);
        controller.elects().await;
        let http = controller.http().await;
        world.led().await;
        until(http, "podium_election_info", &[("election", "web")], |info| info == 1.0).await;
        world.delete_election("web").await;
        until(http, "podium_election_info", &[("election", "web")], |info| info == 0.0).await;
        let left: Vec<Sample> =
            scrape(http).await.into_iter().filter(|sample| sample.metric.starts_with("podium_election_")).collect();
        assert!(left.is_empty(), "{left:?}");
    })
    .await;
}

#[tokio::test]
async fn scrapes_send_no_request_and_series_are_bounded() {
    scenario(async |world| {
        let options = [HTTP, &["--metrics-per-election=false"]].concat();
        let controller = world.controller_with(&world.cluster.kubeconfig, &options);
        controller.elects().await;
        let http = controller.http().await;
        world.led().await;
        let writes = world.writes().await;
        writes.quiet().await;
        // Without renewals of its own Lease.
        let requests = |samples: &[Sample]| {
            let all = sum(samples, "podium_api_requests_total", &[]);
            all - sum(samples, "podium_api_requests_total", &[("resource", "leases")])
        };
        let before = scrape(http).await;
        for _ in 0..100 {
            get(http, "/readyz").await;
            get(http, "/healthz").await;
            scrape(http).await;
        }
        assert_eq!(requests(&scrape(http).await), requests(&before));
        assert_eq!(writes.all("Event"), 0);

        let few = series(&before);
        for number in 0..20 {
            let name = format!("other-{number}");
            let label = serde_json::json!({ "label": { "key": format!("n{number}.example.com/leader") } });
            world.election_with(&name, label).await;
        }
        until(http, "podium_elections", &[("state", "elected")], |elected| elected == 21.0).await;
        let many = scrape(http).await;
        for sample in &many {
            let named = sample.labels.values().find(|value| value.contains("web") || value.contains("other-"));
            assert_eq!(named, None, "{sample:?}");
        }
        // Results of reconciles and requests are a closed set, but these had not occurred.
        let rare = ["podium_reconcile_duration_seconds", "podium_api_requests_total"];
        let more: Vec<_> = series(&many).difference(&few).cloned().collect();
        let more: Vec<_> = more.iter().filter(|series| !rare.iter().any(|rare| series.starts_with(rare))).collect();
        assert!(more.is_empty(), "{more:?}");
        println!("{} series with 21 Elections", many.len());
        assert!(many.len() < 300, "{}", many.len());
    })
    .await;
}
