//! Sidecars that campaign with each other and with client-go.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::access::{CONTRIB, SUPPORTTOOLS};
use crate::harness::sidecar::{Call, Sidecar};
use crate::harness::survey::Survey;
use crate::harness::{Scenario, eventually, scenario};
use crate::sidecar::client_go::{CLIENT_GO_DEADLINE, record};

/// Waits until all sidecars name the same one of them, and returns its name.
pub async fn agree(sidecars: &[&Sidecar]) -> String {
    eventually("all sidecars name the same leader", async || {
        let mut names = Vec::new();
        for sidecar in sidecars {
            names.push(sidecar.leader().await);
        }
        let same = names.iter().all(|name| *name == names[0]) && sidecars.iter().any(|sidecar| sidecar.name == names[0]);
        if same { Ok(names[0].clone()) } else { Err(format!("{names:?}")) }
    })
    .await
}

/// Waits for this many changes of the old sidecars' record, which shows that time passes for campaigners.
pub async fn renewals(world: &Scenario, times: usize) {
    let (mut seen, mut changes) = (None, 0);
    eventually(&format!("the record changes {times} times"), async || {
        let endpoints = world.api::<Endpoints>().get("example").await.map_err(|error| error.to_string())?;
        let version = endpoints.resource_version();
        if seen != version {
            changes += usize::from(seen.is_some());
            seen = version;
        }
        if changes >= times { Ok(()) } else { Err(format!("{changes} changes")) }
    })
    .await;
}

async fn three_at_once(call: impl Fn(&str) -> Call) {
    let [first, second, third] = [call("pod-a"), call("pod-b"), call("pod-c")];
    let (mut first, mut second, mut third) = tokio::join!(first.start(), second.start(), third.start());
    let survey = Survey::of([&first, &second, &third]);
    let leader = agree(&[&first, &second, &third]).await;
    let mut leading = 0;
    for sidecar in [&mut first, &mut second, &mut third] {
        assert!(sidecar.runs(), "none dies: {}", sidecar.log());
        leading += usize::from(sidecar.leads().await);
    }
    assert_eq!(leading, 1, "exactly {leader}");
    survey.one_by_one(&[&leader]).await;
}

#[tokio::test]
async fn three_simultaneous_starts_without_a_lock_elect_one_leader() {
    scenario(async |world| {
        let endpoints = world.account_with("endpoints", &CONTRIB).await;
        let leases = world.account_with("leases", &SUPPORTTOOLS).await;
        three_at_once(|name| world.contrib(name, &endpoints)).await;
        three_at_once(|name| world.supporttools(name, &leases)).await;
    })
    .await;
}

#[tokio::test]
async fn the_leader_counts_its_renewals_and_every_sidecar_the_changes_of_leaders() {
    scenario(async |world| {
        let account = world.account_with("pods", &CONTRIB).await;
        let mut first = world.contrib("pod-a", &account).start().await;
        first.names("pod-a").await;
        let second = world.contrib("pod-b", &account).start().await;
        second.names("pod-a").await;
        let has = async |sidecar: &Sidecar, line: &str| {
            let text = sidecar.get("/metrics").await.1;
            if text.lines().any(|told| told == line) { Ok(()) } else { Err(text) }
        };
        renewals(world, 3).await;
        eventually("the leader has renewed", async || {
            has(&first, "podium_sidecar_renewals_total{result=\"success\"} 0")
                .await
                .err()
                .map_or(Err("0".into()), |_| Ok(()))
        })
        .await;
        for line in ["podium_sidecar_leader_changes_total 1", "podium_sidecar_renewals_total{result=\"success\"} 0"] {
            assert_eq!(has(&second, line).await, Ok(()));
        }
        first.terminate().await;
        second.names("pod-b").await;
        eventually("the change is counted", async || has(&second, "podium_sidecar_leader_changes_total 2").await).await;
    })
    .await;
}

#[tokio::test]
async fn killed_leader_is_replaced_when_its_lease_expires() {
    scenario(async |world| {
        let account = world.account_with("pods", &CONTRIB).await;
        let start = async |name: &str| world.contrib(name, &account).start().await;
        let mut first = start("pod-a").await;
        first.names("pod-a").await;
        let (second, third) = (start("pod-b").await, start("pod-c").await);
        second.names("pod-a").await;
        third.names("pod-a").await;
        let survey = Survey::of([&first, &second, &third]);
        first.kill();
        let killed = Instant::now();
        eventually("one of the others leads", async || {
            if second.leads().await || third.leads().await { Ok(()) } else { Err("nobody leads".into()) }
        })
        .await;
        println!("from SIGKILL to the next leader: {:?}", killed.elapsed());
        // The others waited from its last renewal, at most 2.5 s before it was killed.
        assert!(killed.elapsed() >= Duration::from_secs(7), "{:?}", killed.elapsed());
        let next = agree(&[&second, &third]).await;
        survey.one_by_one(&[&next]).await;
    })
    .await;
}

#[tokio::test]
async fn leader_restarted_in_its_pod_keeps_leading() {
    scenario(async |world| {
        let account = world.account_with("pods", &SUPPORTTOOLS).await;
        let start = async |name: &str| world.supporttools(name, &account).start().await;
        let spec = async || world.api::<Lease>().get("example").await.expect("there is a Lease").spec.expect("a record");
        let mut first = start("pod-a").await;
        first.names("pod-a").await;
        let other = start("pod-b").await;
        other.names("pod-a").await;
        let survey = Survey::of([&other]);
        let before = spec().await;
        first.kill();
        let again = start("pod-a").await;
        again.names("pod-a").await;
        assert!(again.leads().await);
        let after = spec().await;
        assert_eq!((after.acquire_time, after.lease_transitions), (before.acquire_time, Some(0)));
        assert!(after.renew_time > before.renew_time);
        survey.go_on(&[&other]).await;
        let seen = survey.answers().into_values().flatten();
        let another = seen.filter_map(|told| told.names).find(|name| name != "pod-a");
        assert_eq!(another, None);
    })
    .await;
}

#[tokio::test]
async fn two_sidecars_of_one_name_are_logged_and_never_both_lead() {
    scenario(async |world| {
        let account = world.account_with("pods", &CONTRIB).await;
        let first = world.contrib("pod-a", &account).start().await;
        first.names("pod-a").await;
        let second = world.contrib("pod-a", &account).start().await;
        eventually("one of them says so", async || {
            let words = "another process campaigns for the Endpoints";
            let said = [first.said(words), second.said(words)];
            if said.iter().sum::<usize>() > 0 { Ok(()) } else { Err(first.log() + &second.log()) }
        })
        .await;
        let survey = Survey::of([&first, &second]);
        renewals(world, 8).await;
        survey.one_by_one(&["pod-a"]).await;
        let mut log = first.log() + &second.log();
        log.retain(|c| c != '\n');
        assert!(log.contains("as pod-a: give each process its own identity"), "{log}");
        let said = [&first, &second].map(|sidecar| sidecar.said("WARN"));
        assert!(said.iter().sum::<usize>() <= 2, "once each: {} {}", first.log(), second.log());
    })
    .await;
}

/// A policy, with its binding, that mutates every write of a Lease in the test's namespace.
fn mutating_policy(world: &Scenario, patch: &str) -> [Value; 2] {
    let object = |kind: &str, spec: Value| {
        let name = json!({ "name": world.namespace });
        json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": name, "spec": spec })
    };
    let policy = json!({
        "matchConstraints": {
            "resourceRules": [{ "apiGroups": ["coordination.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["leases"] }],
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": world.namespace } },
        },
        "failurePolicy": "Fail", "reinvocationPolicy": "Never",
        "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": patch } }],
    });
    let binding = json!({ "policyName": world.namespace });
    [object("MutatingAdmissionPolicy", policy), object("MutatingAdmissionPolicyBinding", binding)]
}

#[tokio::test]
async fn lock_altered_by_a_policy_has_no_leader() {
    scenario(async |world| {
        let account = world.account_with("pods", &SUPPORTTOOLS).await;
        let first = world.supporttools("pod-a", &account).start().await;
        first.names("pod-a").await;
        let patch = "[JSONPatch{op: 'replace', path: '/spec/leaseDurationSeconds', value: 3}]";
        let policy = mutating_policy(world, patch);
        for object in policy.clone() {
            world.cluster.apply(object).await;
        }
        first.says(&["WARN", "leaseDurationSeconds is Some(3) instead of Some(15)", "admission policy or webhook"]).await;
        first.names("").await;
        let second = world.supporttools("pod-b", &account).start().await;
        second.says(&["WARN", "leaseDurationSeconds is Some(3)"]).await;
        assert!(!first.leads().await && !second.leads().await);
        assert!(first.status().await["waitingFor"].as_str().is_some_and(|what| what.contains("leaseDurationSeconds")));
        for object in policy.iter().rev() {
            world.cluster.delete(object.clone()).await;
        }
        let leader = agree(&[&first, &second]).await;
        for sidecar in [&first, &second] {
            assert_eq!(sidecar.leads().await, sidecar.name == leader);
            assert!(sidecar.said("leaseDurationSeconds is") <= 2, "{}", sidecar.log());
        }
    })
    .await;
}

/// Asserts that no sidecar claimed to lead while client-go did: from each of its renewals to its release or deadline.
fn assert_no_overlap(survey: &Survey, ours: &str, records: &Arc<Mutex<Vec<(String, Timestamp)>>>) {
    let (claims, records) = (survey.claims(ours), records.lock().unwrap().clone());
    let others = records.iter().filter(|(holder, _)| holder.starts_with("client-go")).count();
    assert!(!claims.is_empty() && others > 0, "nothing to compare: {} claims, {records:?}", claims.len());
    for (index, (holder, from)) in records.iter().enumerate().filter(|(_, (holder, _))| holder.starts_with("client-go")) {
        let next = records.get(index + 1);
        let until = next.map_or(Timestamp::MAX, |(_, time)| (*time).min(*from + CLIENT_GO_DEADLINE));
        let within = claims.iter().find(|told| told.between.0 >= *from && told.between.1 <= until);
        assert_eq!(within, None, "{holder} led from {from} to {until}, and {ours} claimed to");
    }
}

#[tokio::test]
async fn a_sidecar_and_client_go_hand_over_to_each_other_without_overlap() {
    scenario(async |world| {
        let account = world.account_with("pods", &SUPPORTTOOLS).await;
        let records = record(world, "example");
        let first = world.elector("example", "client-go-1");
        first.leads().await;
        let mut ours = world.supporttools("pod-a", &account).start().await;
        ours.names("client-go-1").await;
        let survey = Survey::of([&ours]);
        first.terminate().await;
        ours.names("pod-a").await;
        let second = world.elector("example", "client-go-2");
        second.says("ew leader elected", 1).await;
        assert!(ours.leads().await);
        survey.one_by_one(&["pod-a"]).await;
        assert!(ours.terminate().await.success());
        second.leads().await;
        let again = world.supporttools("pod-a", &account).start().await;
        again.names("client-go-2").await;
        assert_no_overlap(&survey, "pod-a", &records);
    })
    .await;
}

#[tokio::test]
async fn old_and_new_pods_elect_together_on_endpoints_during_a_rolling_update() {
    scenario(async |world| {
        let account = world.account_with("pods", &CONTRIB).await;
        let old = world.old_elector("example", "old-1");
        old.says("started leading", 1).await;
        let mut new = world.contrib("pod-a", &account).start().await;
        new.names("old-1").await;
        let before = Survey::of([&new]);
        // The old pod is replaced without a release.
        drop(old);
        new.names("pod-a").await;
        before.one_by_one(&["pod-a"]).await;
        // A rollback: the old elector respects the new one's lock, and takes over after its release.
        let old = world.old_elector("example", "old-2");
        old.says("the leader is pod-a", 1).await;
        renewals(world, 3).await;
        assert!(new.leads().await, "{}", new.log());
        assert!(new.terminate().await.success());
        old.says("started leading", 1).await;
        let again = world.contrib("pod-a", &account).start().await;
        again.names("old-2").await;
        let during = Survey::of([&again]);
        renewals(world, 3).await;
        assert_eq!(during.claims("pod-a"), [], "the old one leads");
        assert_eq!(again.leader().await, "old-2");
    })
    .await;
}
