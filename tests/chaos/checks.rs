//! Tests of the verdict, without a cluster.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use podium_test_support::checker::{Kind, Revision};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::end::Now;
use crate::recorder::{Entry, Record};
use crate::verdict::judge;
use crate::world::{FORGED, Group};

const CLAIM: &str = "term.podium.dev/g001";

fn lease(version: i64, term: &str, holder: &str) -> Revision {
    let annotations = [("podium.dev/term", term), ("podium.dev/holder", holder)];
    let annotations = annotations.map(|(key, value)| (key.into(), value.into())).into();
    Revision { kind: Kind::Lease, name: "g001".into(), uid: "l".into(), annotations, ..pod(version, "", None, None) }
}

fn pod(version: i64, number: &str, label: Option<&str>, term: Option<&str>) -> Revision {
    Revision {
        version,
        kind: Kind::Pod,
        name: format!("g001-{number}"),
        uid: format!("uid-{number}"),
        labels: label.map(|value| ("leader".into(), value.into())).into_iter().collect(),
        annotations: term.map(|term| (CLAIM.into(), term.into())).into_iter().collect(),
        gone: false,
        altered: false,
    }
}

/// The record of these revisions, one per second. The first of each object creates it.
fn record(history: &[Revision], begun: Instant) -> Record {
    let mut record = Record::default();
    let mut known = Vec::new();
    for (second, revision) in (1..).zip(history) {
        let is_new = !known.contains(&revision.uid);
        known.push(revision.uid.clone());
        let at = begun + Duration::from_secs(second);
        record.take(Entry { revision: revision.clone(), at, eligible: !revision.gone }, is_new);
    }
    record
}

fn proper() -> Vec<Revision> {
    vec![
        pod(1, "0", None, None),
        pod(2, "1", None, None),
        lease(5, "4", "g001-0/uid-0"),
        pod(6, "0", Some("true"), Some("4")),
        lease(8, "7", "g001-1/uid-1"),
        pod(9, "0", None, Some("7")),
        pod(10, "1", Some("true"), Some("7")),
    ]
}

fn found(history: &[Revision]) -> Vec<String> {
    let begun = Instant::now();
    judge(&record(history, begun), &[Group::new(1)], begun).violations
}

#[track_caller]
fn assert_found(history: &[Revision], words: &str) {
    let found = found(history);
    assert!(found.iter().any(|violation| violation.contains(words)), "{found:?}");
}

#[test]
fn a_proper_record_is_counted_and_breaks_nothing() {
    let begun = Instant::now();
    let verdict = judge(&record(&proper(), begun), &[Group::new(1)], begun);
    assert_eq!(verdict.violations, [""; 0]);
    assert_eq!((verdict.revisions, verdict.failovers), ((5, 2), 1));
    // Three seconds from the first pod to the first label; one from the former leader's loss of it to the next label.
    assert_eq!(verdict.leaderless, [(Duration::from_secs(3), "g001".to_owned())]);
    let later = judge(&record(&proper(), begun), &[Group::new(1)], begun + Duration::from_secs(4));
    assert_eq!(later.leaderless[0].0, Duration::from_secs(1));
}

#[test]
fn a_label_on_two_pods_is_found() {
    let mut history = proper();
    history.swap(5, 6);
    assert_found(&history, r#"several pods carry the label: ["g001-0", "g001-1"]"#);
}

#[test]
fn forged_label_is_excused_only_at_a_new_mark() {
    let mut forged = pod(11, "0", Some("true"), Some("7"));
    assert_found(&[proper(), vec![forged.clone()]].concat(), "with which no Lease named it");
    forged.annotations.insert(FORGED.into(), "1".into());
    assert_eq!(found(&[proper(), vec![forged.clone()]].concat()), [""; 0]);
    let stripped = Revision { version: 12, labels: BTreeMap::new(), ..forged.clone() };
    let again = Revision { version: 13, ..forged.clone() };
    assert_found(&[proper(), vec![forged, stripped, again]].concat(), "with which no Lease named it");
}

#[test]
fn a_revision_that_is_missing_is_found_where_the_watch_contradicts_itself() {
    let begun = Instant::now();
    let entry = |revision| Entry { revision, at: begun, eligible: true };
    let gaps = |events: &[(Revision, bool)]| {
        let mut record = Record::default();
        events.iter().for_each(|(revision, is_new)| record.take(entry(revision.clone()), *is_new));
        record.gaps.len()
    };
    let gone = Revision { gone: true, ..pod(2, "0", None, None) };
    assert_eq!(gaps(&[(pod(1, "0", None, None), true), (gone.clone(), false)]), 0);
    assert_eq!(gaps(&[(pod(1, "0", None, None), false)]), 1, "changed before it was created");
    assert_eq!(gaps(&[(gone.clone(), false)]), 1, "gone before it was created");
    assert_eq!(gaps(&[(pod(1, "0", None, None), true), (gone, false), (pod(3, "0", None, None), false)]), 1, "came back");
    assert_eq!(gaps(&[(pod(1, "0", None, None), true), (pod(3, "0", None, None), true)]), 1, "created twice");
}

#[test]
fn objects_without_a_group_are_found() {
    let stranger = Revision { name: "g002-0".into(), ..pod(11, "9", None, None) };
    assert_found(&[proper(), vec![stranger]].concat(), "nobody knows g002");
}

/// Reports on a state in which `g001-0` leads, with these changes by JSON pointer.
fn unrest(changes: &[(&str, Value)]) -> Vec<String> {
    let mut world = json!({
        "pods": [
            { "metadata": { "name": "g001-0", "uid": "uid-0", "labels": { "leader": "true" }, "annotations": { CLAIM: "4" } },
              "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } },
            { "metadata": { "name": "g001-1", "uid": "uid-1", "labels": { "leader": "no" } } },
        ],
        "lease": {
            "metadata": { "name": "g001", "annotations": { "podium.dev/term": "4", "podium.dev/holder": "g001-0/uid-0" } },
            "spec": { "holderIdentity": "g001-0" } },
        "election": {
            "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": { "name": "g001", "generation": 2 },
            "status": { "leader": "g001-0", "leaderUID": "uid-0", "term": 4, "observedGeneration": 2,
                        "conditions": [{ "type": "Ready", "status": "True" }] } },
    });
    for (place, value) in changes {
        *world.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value.clone();
    }
    fn read<T: DeserializeOwned>(value: &Value) -> T {
        serde_json::from_value(value.clone()).expect("an object")
    }
    let now = Now {
        pods: read::<Vec<Pod>>(&world["pods"]),
        leases: [("g001".into(), read::<Lease>(&world["lease"]))].into(),
        elections: [("g001".into(), read(&world["election"]))].into(),
    };
    now.unrest(Group::new(1).elections.into_iter())
}

#[test]
fn consistent_end_passes_and_every_inconsistency_is_found() {
    assert_eq!(unrest(&[]), [""; 0]);
    let wrong = [
        ("/pods/0/metadata/labels/leader", json!("no")),
        ("/pods/1/metadata/labels/leader", json!("true")),
        ("/pods/0/metadata/uid", json!("uid-2")),
        ("/pods/0/metadata/annotations", json!({})),
        ("/pods/0/metadata/annotations", json!({ CLAIM: "3" })),
        ("/pods/0/status/phase", json!("Failed")),
        ("/pods/0/status/conditions/0/status", json!("False")),
        ("/lease/metadata/annotations/podium.dev~1term", json!("5")),
        ("/lease/metadata/annotations/podium.dev~1holder", json!("g001-1/uid-1")),
        ("/lease/spec/holderIdentity", json!("somebody")),
        ("/election/status/leader", json!("g001-1")),
        ("/election/status/leaderUID", json!("uid-1")),
        ("/election/status/term", json!(3)),
        ("/election/status/observedGeneration", json!(1)),
        ("/election/status/conditions/0/status", json!("False")),
        ("/election/status", json!({})),
    ];
    for change in wrong {
        assert_eq!(unrest(std::slice::from_ref(&change)).len(), 1, "{change:?}");
    }
}
