//! Cost of one decision and of one watch event, without API server and network.
//!
//! `make bench ONLY=core`. The figures are criterion's medians.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::Event;
use podium::controller::key::Kind;
use podium::controller::key::{Key, Scope};
use podium::controller::limits::{LabelKeys, Limits};
use podium::controller::observe::cached::{self, Named};
use podium::controller::observe::snapshot::Consulted;
use podium::controller::observe::world::World;
use podium::election::decide;
use podium_test_support::bench::Result;
use podium_test_support::bench::figures::{Better, Figures, Unit};
use serde_json::{Value, json};

/// Numbers of pods of the Election under decision.
const CANDIDATES: [usize; 3] = [3, 100, 5_000];

/// Numbers of Elections, with three pods each, in the caches that receive the event.
const ELECTIONS: [usize; 3] = [100, 1_000, 10_000];

fn main() -> Result<()> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut names = Vec::new();
    for pods in CANDIDATES {
        let world = election_with(pods);
        names.push(format!("snapshot of an Election with {pods} pods"));
        criterion.bench_function(&names[names.len() - 1], |bencher| bencher.iter(|| snapshot(&world)));
        names.push(format!("decision, nothing to do, {pods} pods"));
        let rest = snapshot(&world);
        criterion.bench_function(&names[names.len() - 1], |bencher| bencher.iter(|| decide(black_box(&rest), now())));
        names.push(format!("decision, the leader is deleted, {pods} pods"));
        let mut world = world;
        world.watched(Kind::Pods, None, Event::Delete(pod("web", "e0", 0, 1_000_000, true)));
        let lost = snapshot(&world);
        criterion.bench_function(&names[names.len() - 1], |bencher| bencher.iter(|| decide(black_box(&lost), now())));
        if pods == CANDIDATES[2] {
            first_failover(&mut criterion, &mut names, pods);
        }
    }
    for elections in ELECTIONS {
        for (place, each) in [("in one namespace", elections), ("100 to a namespace", 100)] {
            names.push(format!("readiness of a pod changes, caches of {elections} Elections {place}"));
            let mut world = elections_in(elections, each);
            let mut revision = 2_000_000;
            let event = |number: usize, revision: i64, ready: bool| {
                let (namespace, election) = (format!("n{}", number / each), format!("e{}", number % each));
                Event::Apply(pod(&namespace, &election, 1, revision, ready))
            };
            let mut number = 0;
            criterion.bench_function(&names[names.len() - 1], |bencher| {
                // Each event belongs to the next Election. Its pod changes readiness in every round, so the event matters.
                let prepare = || {
                    (revision, number) = (revision + 1, number + 1);
                    event(number * 7 % elections, revision, (number / elections).is_multiple_of(2))
                };
                let take = |event| world.watched(Kind::Pods, None, event);
                bencher.iter_batched(prepare, take, BatchSize::SmallInput);
            });
        }
    }
    criterion.final_summary();
    report(&names)
}

/// Measures the failover after an initial election, which lists every pod but the leader as unfenced.
fn first_failover(criterion: &mut Criterion, names: &mut Vec<String>, pods: usize) {
    let mut world = election_with(pods);
    let unfenced = (1..pods).map(|number| format!("web-e0-{number}-8c2c5fd0")).collect::<Vec<_>>().join(",");
    world.watched(Kind::Leases, None, Event::Apply(lease("web", "e0", 60, Some(&unfenced))));
    names.push(format!("one of {} unfenced pods is deleted", pods - 1));
    let last = || Event::Delete(pod("web", "e0", pods - 1, 1_000_000, true));
    criterion.bench_function(&names[names.len() - 1], |bencher| {
        let before = || (world.clone(), last());
        bencher.iter_batched_ref(
            before,
            |(world, last)| world.watched(Kind::Pods, None, last.clone()),
            BatchSize::LargeInput,
        );
    });
    names.push(format!("decision, the leader is deleted, {} unfenced pods", pods - 1));
    world.watched(Kind::Pods, None, Event::Delete(pod("web", "e0", 0, 1_000_000, true)));
    let lost = snapshot(&world);
    criterion.bench_function(&names[names.len() - 1], |bencher| bencher.iter(|| decide(black_box(&lost), now())));
}

/// Adds criterion's medians to the figures.
fn report(names: &[String]) -> Result<()> {
    let mut figures = Figures::new("core");
    for name in names {
        let Some(median) = median(name)? else { continue };
        figures.add(name, median / 1e3, Unit::Microseconds, Better::Lower, None);
    }
    Ok(figures.finish()?)
}

/// Returns the median in nanoseconds, or `None` if a filter excluded this benchmark.
fn median(name: &str) -> Result<Option<f64>> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let path = target.join("criterion").join(name).join("new/estimates.json");
    let Ok(estimates) = std::fs::read_to_string(path) else { return Ok(None) };
    let estimates: Value = serde_json::from_str(&estimates)?;
    Ok(estimates["median"]["point_estimate"].as_f64())
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn limits() -> Limits {
    Limits { label_keys: LabelKeys::new(["leader".into()]), own_lease: None }
}

fn metadata(namespace: &str, name: &str, revision: i64) -> Value {
    json!({
        "namespace": namespace, "name": name, "uid": format!("{namespace}-{name}-8c2c5fd0"),
        "resourceVersion": revision.to_string(), "generation": 1, "creationTimestamp": "1970-01-01T00:00:00Z",
    })
}

/// Returns pod `number` of an Election, parsed from the API server's form. Pod 0 leads with term 40.
fn pod(namespace: &str, election: &str, number: usize, revision: i64, ready: bool) -> Named {
    let mut metadata = metadata(namespace, &format!("{election}-{number}"), revision);
    metadata["labels"] = json!({ "app": election, "pod-template-hash": "5d8c7f9b64", "app.kubernetes.io/part-of": "bench" });
    metadata["annotations"] = json!({ format!("term.podium.dev/{election}"): "40" });
    if number == 0 {
        metadata["labels"]["leader"] = "true".into();
    }
    let condition = |kind: &str, holds: bool| {
        let holds = if holds { "True" } else { "False" };
        json!({ "type": kind, "status": holds, "lastTransitionTime": "1970-01-01T00:00:00Z" })
    };
    let conditions = [condition("PodScheduled", true), condition("Initialized", true), condition("Ready", ready)];
    let object = json!({ "metadata": metadata, "status": { "phase": "Running", "conditions": conditions } });
    cached::pod(serde_json::from_value(object).expect("a pod")).expect("a revision")
}

fn election(namespace: &str, name: &str) -> Named {
    let object = json!({
        "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": metadata(namespace, name, 10),
        "spec": { "selector": { "matchLabels": { "app": name } } },
    });
    cached::election(serde_json::from_value(object).expect("an Election"), &limits()).expect("a revision")
}

fn lease(namespace: &str, election: &str, revision: i64, unfenced: Option<&str>) -> Named {
    let mut metadata = metadata(namespace, election, revision);
    let uid = |name: &str| format!("{namespace}-{name}-8c2c5fd0");
    metadata["annotations"] = json!({
        "podium.dev/election": uid(election), "podium.dev/term": "40",
        "podium.dev/holder": format!("{election}-0/{}", uid(&format!("{election}-0"))),
    });
    if let Some(unfenced) = unfenced {
        metadata["annotations"]["podium.dev/unfenced"] = unfenced.into();
    }
    let spec = json!({ "holderIdentity": format!("{election}-0"), "leaseDurationSeconds": i32::MAX, "leaseTransitions": 0 });
    cached::lease(serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).expect("a Lease"))
        .expect("a revision")
}

/// Returns caches with these objects.
fn world(items: impl IntoIterator<Item = Named>) -> World {
    let mut world = World::new(&Scope::Cluster, Arc::new(now));
    let mut by_kind: BTreeMap<Kind, Vec<Named>> = BTreeMap::new();
    items.into_iter().for_each(|item| by_kind.entry(item.object.kind()).or_default().push(item));
    for kind in Kind::ALL {
        world.watched(kind, None, Event::Init);
        for item in by_kind.remove(&kind).unwrap_or_default() {
            world.watched(kind, None, Event::InitApply(item));
        }
        world.watched(kind, None, Event::InitDone);
    }
    world
}

fn election_with(pods: usize) -> World {
    let pods = (0..pods).map(|number| pod("web", "e0", number, 100, true));
    world([election("web", "e0"), lease("web", "e0", 50, None)].into_iter().chain(pods))
}

fn elections_in(elections: usize, each: usize) -> World {
    let items = (0..elections).flat_map(|number| {
        let (namespace, name) = (format!("n{}", number / each), format!("e{}", number % each));
        let pods: Vec<Named> = (0..3).map(|number| pod(&namespace, &name, number, 100, true)).collect();
        [election(&namespace, &name), lease(&namespace, &name, 50, None)].into_iter().chain(pods)
    });
    world(items)
}

fn snapshot(world: &World) -> podium::election::Snapshot {
    let key = Key { namespace: "web".into(), name: "e0".into() };
    world.snapshot(black_box(&key), Consulted::default()).expect("the Election").0
}
