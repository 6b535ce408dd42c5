//! Followed Leases from the watch to the plan, in virtual time.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::advance;

use super::*;
use crate::api::Reason;
use crate::controller::key::Key;
use crate::controller::limits::Limits;
use crate::controller::observe::cached::Object;
use crate::election::decide;
use crate::election::plan::{LeaseWrite, Then};

const DURATION: Duration = Duration::from_secs(15);

/// The Lease `lock` at this revision, held by a controller in the pod of this name.
fn lock(holder: &str, revision: i64) -> Named {
    locked(revision, |spec| spec["holderIdentity"] = json!(format!("{holder}_1")))
}

fn locked(revision: i64, change: impl FnOnce(&mut Value)) -> Named {
    let mut spec =
        json!({ "leaseDurationSeconds": 15, "renewTime": format!("2026-01-01T00:00:{:02}.000000Z", revision % 60) });
    change(&mut spec);
    let metadata =
        json!({ "namespace": "default", "name": "lock", "uid": "lock-uid", "resourceVersion": revision.to_string() });
    cached::lease(serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()).unwrap()
}

fn follows(object: &mut Value) {
    object["spec"]["leaderFrom"] = json!({ "lease": { "name": "lock" } });
}

/// Caches in which `a` leads the Election `web`, which follows the Lease that `a` holds.
fn led() -> World {
    let claimed = |name: &str, revision| {
        pod(name, revision, |object| {
            claimed(object);
            if name == "a" {
                object["metadata"]["labels"]["leader"] = "true".into();
                object["metadata"]["annotations"] = json!({ names::claim("web"): "20" });
            }
        })
    };
    let (a, b) = (claimed("a", 11), claimed("b", 12));
    world([election("web", 10, follows), a, b, lease("web", 50, "a", 20), lock("a", 60)])
}

fn plan(world: &World) -> Plan {
    let (snapshot, _) = world.snapshot(&key("web"), Consulted::default()).unwrap();
    decide(&snapshot, Timestamp::from_second(1_800_000_000).unwrap())
}

/// The pod that the next decision elects (`""`: a vacancy), if the leader changes.
fn elects(world: &World) -> Option<String> {
    match plan(world).lease {
        Some(LeaseWrite::Elect { record, .. }) => Some(record.holder.map_or_else(String::new, |holder| holder.name)),
        _ => None,
    }
}

fn web() -> BTreeSet<Key> {
    [key("web")].into()
}

fn expired(world: &mut World) -> BTreeSet<Key> {
    world.expired(Instant::now()).0
}

#[tokio::test(start_paused = true)]
async fn renewals_wake_nobody_and_another_holder_wakes_the_followers_only() {
    let mut world = led();
    apply(&mut world, election("db", 13, |_| ()));
    for revision in 61..70 {
        advance(Duration::from_secs(2)).await;
        assert_eq!(apply(&mut world, lock("a", revision)), Changes::default());
        assert_eq!(expired(&mut world), BTreeSet::new());
    }
    assert_eq!(apply(&mut world, lock("b", 70)).affected, web());
    assert_eq!(elects(&world).as_deref(), Some("b"));
    assert_eq!(apply(&mut world, locked(71, |spec| spec["holderIdentity"] = "".into())).affected, web());
    assert_eq!(apply(&mut world, locked(72, |spec| spec["leaseDurationSeconds"] = 30.into())).affected, web());
}

#[tokio::test(start_paused = true)]
async fn lease_expires_once_after_its_duration_and_its_next_renewal_wakes_the_followers() {
    let mut world = led();
    let begin = Instant::now();
    assert_eq!(world.expired(begin), (BTreeSet::new(), Some(begin + DURATION)));
    advance(DURATION - Duration::from_millis(1)).await;
    assert_eq!(expired(&mut world), BTreeSet::new());
    advance(Duration::from_millis(1)).await;
    assert_eq!(world.expired(Instant::now()), (web(), None));
    assert!(matches!(plan(&world).then, Then::ReadFollowedLease(_)));
    assert_eq!(expired(&mut world), BTreeSet::new(), "it is reported once");
    assert_eq!(apply(&mut world, lock("a", 61)).affected, web());
    assert_eq!(elects(&world), None);
    advance(DURATION).await;
    assert_eq!(expired(&mut world), web(), "another version may expire again");
}

#[tokio::test(start_paused = true)]
async fn only_the_time_until_a_read_counts() {
    let mut world = led();
    advance(DURATION).await;
    world.followed.confirm("default", "lock", Instant::now());
    assert_eq!(elects(&world).as_deref(), Some(""));
    let mut world = led();
    advance(DURATION / 2).await;
    world.followed.confirm("default", "lock", Instant::now());
    advance(DURATION).await;
    assert!(matches!(plan(&world).then, Then::ReadFollowedLease(_)));
}

#[tokio::test(start_paused = true)]
async fn deleted_lease_keeps_its_holder_for_its_duration() {
    let mut world = led();
    advance(Duration::from_secs(10)).await;
    apply(&mut world, lock("a", 61));
    assert_eq!(delete(&mut world, lock("a", 62)).affected, web());
    advance(Duration::from_secs(14)).await;
    assert_eq!((elects(&world), expired(&mut world)), (None, BTreeSet::new()));
    advance(Duration::from_secs(1)).await;
    assert_eq!(expired(&mut world), web());
    world.followed.confirm("default", "lock", Instant::now());
    assert_eq!(elects(&world).as_deref(), Some(""));
    assert_eq!(apply(&mut world, lock("b", 70)).affected, web(), "it is created again");
    assert_eq!(elects(&world).as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn lease_that_was_cached_before_it_is_followed_has_been_unchanged_since_then() {
    let mut world = world([lock("a", 60)]);
    advance(Duration::from_secs(100)).await;
    apply(&mut world, election("web", 70, follows));
    assert_eq!(expired(&mut world), web());
    let (snapshot, _) = world.snapshot(&key("web"), Consulted::default()).unwrap();
    let followed = snapshot.followed.unwrap();
    assert_eq!((followed.unchanged_for.as_secs(), followed.confirmed_for.as_secs()), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn lease_that_nobody_follows_any_more_wakes_nobody() {
    let mut world = led();
    apply(&mut world, election("db", 14, follows));
    assert_eq!(apply(&mut world, lock("b", 61)).affected.len(), 2);
    delete(&mut world, election("web", 15, follows));
    assert_eq!(apply(&mut world, lock("a", 62)).affected, [key("db")].into());
    apply(&mut world, election("db", 16, |object| object["metadata"]["generation"] = json!(2)));
    assert_eq!(apply(&mut world, lock("b", 63)), Changes::default());
    advance(DURATION).await;
    assert_eq!(world.expired(Instant::now()), (BTreeSet::new(), None));
}

#[tokio::test(start_paused = true)]
async fn reconcile_reads_the_lease_once_before_it_deposes_and_a_renewal_that_the_watch_missed_keeps_the_leader() {
    for (newest, deposes) in [(60, true), (61, false)] {
        let shared = shared(Script::default(), []);
        *shared.world() = led();
        advance(DURATION).await;
        *shared.server.to_reads.lock().unwrap() = [Ok(vec![lock("a", newest)])].into();
        Reconciler::default().reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
        let first = shared.server.reads.lock().unwrap()[0].clone();
        assert_eq!(first, Read::Lease("lock".into()));
        let elects = shared.server.writes.lock().unwrap().iter().any(|write| matches!(write, Write::ReplaceLease(_)));
        assert_eq!(elects, deposes);
    }
}

#[test]
fn unusable_leader_from_is_named_with_its_field() {
    let problem = |change: fn(&mut Value)| {
        let Object::Election(election) = election("web", 10, |object| {
            follows(object);
            change(&mut object["spec"]);
        })
        .object
        else {
            panic!("an Election")
        };
        let problem = election.parsed.unwrap_err();
        (problem.reason, problem.message.split(':').next().unwrap().to_owned())
    };
    for (change, field) in [
        (
            (|spec| spec["leaseName"] = "lock".into()) as fn(&mut Value),
            "spec.leaderFrom.lease.name must not be the Election's own Lease",
        ),
        (
            |spec| spec["preferences"] = json!([{ "weight": 1, "selector": { "matchLabels": { "a": "b" } } }]),
            "spec.preferences must be empty with spec.leaderFrom, because the Lease decides who leads",
        ),
        (
            |spec| spec["preemption"] = json!({ "policy": "PreferHigher" }),
            "spec.preemption.policy must be Never with spec.leaderFrom, because the Lease decides who leads",
        ),
    ] {
        assert_eq!(problem(change), (Reason::InvalidSpec, field.to_owned()));
    }
}

#[test]
fn lease_of_the_controllers_own_replicas_is_refused() {
    let limits = Limits { own_lease: Some(("default".into(), "lock".into())), ..limits() };
    let object = json!({
        "metadata": { "namespace": "default", "name": "web", "uid": "web-uid", "resourceVersion": "10" },
        "spec": { "selector": { "matchLabels": { "app": "web" } }, "leaderFrom": { "lease": { "name": "lock" } } },
    });
    let Object::Election(election) = cached::election(serde_json::from_value(object).unwrap(), &limits).unwrap().object
    else {
        panic!("an Election")
    };
    assert_eq!(election.parsed.unwrap_err().reason, Reason::LeaseConflict);
}

#[test]
fn fields_that_have_no_effect_beside_a_followed_lease_are_listed_and_off() {
    let Object::Election(election) = election("web", 10, |object| {
        follows(object);
        let spec = &mut object["spec"];
        spec["failoverDelaySeconds"] = 30.into();
        spec["tieBreak"] = "Spread".into();
        spec["whenNodeDrains"] = "Switchover".into();
        spec["nodeHeartbeatTimeoutSeconds"] = 25.into();
    })
    .object
    else {
        panic!("an Election")
    };
    let settings = &election.parsed.as_ref().unwrap().settings;
    assert!(settings.failover_delay.is_zero() && !settings.spread);
    assert!(!settings.leave_draining_nodes && settings.node_timeout.is_none());
    let listed = &settings.leader_from.as_ref().unwrap().without_effect;
    assert_eq!(*listed, ["failoverDelaySeconds", "tieBreak", "whenNodeDrains", "nodeHeartbeatTimeoutSeconds"]);
}
