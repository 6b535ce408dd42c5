//! Contents of the caches, and effects of changes.

use super::*;
use crate::controller::observe::cached::{self, Object};
use crate::controller::observe::conditions::Clocks;
use k8s_openapi::jiff::Timestamp;

fn names_of(changes: Changes) -> Vec<String> {
    changes.affected.into_iter().map(|key| key.name).collect()
}

#[test]
fn a_pod_concerns_the_elections_that_match_it_now_or_did_before_and_no_others() {
    let other = election("db", 11, |object| object["spec"]["selector"]["matchLabels"] = serde_json::json!({ "app": "db" }));
    let mut world = world([election("web", 10, |_| ()), other]);
    assert_eq!(names_of(apply(&mut world, pod("a", 20, |_| ()))), ["web"]);
    assert_eq!(names_of(apply(&mut world, pod("a", 21, |_| ()))), [""; 0], "a mere new version");
    let moved = |object: &mut serde_json::Value| object["metadata"]["labels"]["app"] = "db".into();
    assert_eq!(names_of(apply(&mut world, pod("a", 22, moved))), ["db", "web"]);
    assert_eq!(names_of(delete(&mut world, pod("a", 23, moved))), ["db"]);
}

#[test]
fn an_old_version_never_replaces_a_newer_one() {
    let mut world = world([election("web", 10, |_| ())]);
    apply(&mut world, pod("a", 30, ready));
    assert_eq!(names_of(apply(&mut world, pod("a", 29, |_| ()))), [""; 0]);
    let (snapshot, _) = world.snapshot(&key("web"), Consulted::default()).unwrap();
    assert!(snapshot.pods[0].ready);
}

#[test]
fn a_watch_that_lags_does_not_bring_back_the_predecessor_of_a_re_created_pod() {
    let named = |uid: &'static str| move |object: &mut serde_json::Value| object["metadata"]["uid"] = uid.into();
    let mut world = world([election("web", 10, |_| ()), lease("web", 20, "a", 15), pod("a", 30, named("old"))]);
    // The controller's own read returns the new one before the watch does.
    let ticket = world.ticket(crate::controller::key::Kind::Pods, "default");
    world.answered(ticket, pod("a", 70, named("a-uid")));
    apply(&mut world, pod("a", 50, named("old")));
    delete(&mut world, pod("a", 60, named("old")));
    let (snapshot, _) = world.snapshot(&key("web"), Consulted::default()).unwrap();
    assert_eq!(snapshot.pods.iter().map(|pod| pod.id.uid.as_ref()).collect::<Vec<_>>(), ["a-uid"]);
    assert!(snapshot.gone.is_empty(), "the leader is not gone");
}

#[test]
fn a_watch_that_lags_does_not_bring_back_what_an_answer_showed_to_be_gone() {
    use crate::controller::key::Kind;
    let mut world = world([election("web", 10, |_| ())]);
    let ticket = world.ticket(Kind::Pods, "default");
    world.answered(ticket, pod("a", 70, |_| ()));
    world.answered_gone(Kind::Pods, "default", "a", &"a-uid".into());
    apply(&mut world, pod("a", 50, |_| ()));
    assert_eq!(world.version(Kind::Pods, "default", "a"), None, "50 is the past of 70");
    apply(&mut world, pod("a", 90, |object| object["metadata"]["uid"] = "another".into()));
    assert!(world.version(Kind::Pods, "default", "a").is_some(), "90 is not");
}

#[test]
fn the_election_that_matches_a_pod_has_the_better_right_than_one_that_only_claims_it() {
    let moved = pod("a", 20, |object| {
        object["metadata"]["labels"] = serde_json::json!({ "app": "db", "leader": "true" });
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("web"): "15" });
    });
    let db = election("db", 11, |object| object["spec"]["selector"]["matchLabels"] = serde_json::json!({ "app": "db" }));
    let world = world([election("web", 10, |_| ()), db, moved]);
    let rival = |name: &str| world.snapshot(&key(name), Consulted::default()).unwrap().0.pods[0].rival.clone();
    assert_eq!((rival("web"), rival("db")), (Some("db".into()), None));
}

#[test]
fn an_election_that_shares_a_lease_looks_again_when_the_other_goes() {
    let lease_named = |object: &mut serde_json::Value| object["spec"]["leaseName"] = "shared".into();
    let mut world = world([election("one", 10, lease_named), election("two", 11, lease_named)]);
    assert_eq!(names_of(delete(&mut world, election("one", 20, lease_named))), ["two"]);
}

#[test]
fn an_election_with_a_new_selector_sees_its_new_pods() {
    let mut world = world([pod("a", 20, |_| ()), pod("b", 21, |object| object["metadata"]["labels"]["app"] = "db".into())]);
    apply(&mut world, election("web", 30, |_| ()));
    let seen = |world: &World| {
        let (snapshot, _) = world.snapshot(&key("web"), Consulted::default()).unwrap();
        snapshot.pods.into_iter().filter(|pod| pod.matches).map(|pod| pod.id.name).collect::<Vec<_>>()
    };
    assert_eq!(seen(&world), ["a"]);
    let changed = election("web", 31, |object| {
        object["metadata"]["generation"] = 2.into();
        object["spec"]["selector"]["matchLabels"] = serde_json::json!({ "app": "db" });
    });
    apply(&mut world, changed);
    assert_eq!(seen(&world), ["b"]);
}

#[test]
fn a_deleted_former_holder_is_known_to_be_gone_and_an_unseen_one_is_not() {
    let mut world = world([election("web", 10, |_| ()), lease("web", 40, "a", 30), pod("a", 41, |_| ())]);
    let gone = |world: &World| world.snapshot(&key("web"), Consulted::default()).unwrap().0.gone.contains(&"a-uid".into());
    assert!(!gone(&world));
    delete(&mut world, pod("a", 50, |_| ()));
    assert!(gone(&world));
}

#[test]
fn an_election_that_cannot_be_read_does_not_hinder_the_others() {
    let bad = election("bad", 11, |object| object["spec"] = serde_json::json!({ "selector": 7 }));
    let empty = election("empty", 12, |object| object["spec"]["selector"] = serde_json::json!({}));
    let world = world([bad, empty, election("web", 13, |_| ()), pod("a", 20, ready)]);
    let settings = |name: &str| world.snapshot(&key(name), Consulted::default()).unwrap().0.election.settings;
    assert!(settings("bad").unwrap_err().message.contains("cannot be read"));
    assert!(settings("empty").unwrap_err().message.contains("spec.selector must not be empty"));
    assert!(settings("web").is_ok());
}

#[test]
fn of_two_elections_with_one_label_key_the_one_that_claims_the_pod_has_it_then_the_older() {
    let at =
        |time: &'static str| move |object: &mut serde_json::Value| object["metadata"]["creationTimestamp"] = time.into();
    let old = election("old", 10, at("2026-01-01T00:00:00Z"));
    let young = election("young", 11, at("2026-02-01T00:00:00Z"));
    let claimed = pod("b", 21, |object| {
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("young"): "15" });
    });
    let world = world([old, young, pod("a", 20, |_| ()), claimed]);
    let rivals = |name: &str| {
        let (snapshot, _) = world.snapshot(&key(name), Consulted::default()).unwrap();
        snapshot.pods.into_iter().map(|pod| pod.rival).collect::<Vec<_>>()
    };
    assert_eq!(rivals("old"), [None, Some("young".into())]);
    assert_eq!(rivals("young"), [Some("old".into()), None]);
}

#[test]
fn a_time_beyond_all_calendars_makes_a_lease_damaged_or_held_and_a_pod_not_unreadable() {
    let far = "9999-12-31T23:59:59.000000Z";
    let lease = |annotations: serde_json::Value| {
        let object = serde_json::json!({
            "metadata": { "namespace": "default", "name": "web", "uid": "u", "resourceVersion": "7", "annotations": annotations },
            "spec": { "holderIdentity": "a", "renewTime": far },
        });
        let Object::Lease(lease) = cached::lease(serde_json::from_value(object).unwrap()).unwrap().object else { panic!() };
        lease.lease
    };
    let ours = lease(serde_json::json!({ "podium.dev/election": "web-uid", "podium.dev/term": "5" }));
    assert!(matches!(ours.content, crate::lease::record::Content::Damaged(_)), "{ours:?}");
    assert!(!ours.renewed, "not taken for an elector's");
    assert!(lease(serde_json::json!({})).campaigner().is_some(), "somebody may hold it");

    let named = pod("a", 41, |object| {
        object["status"]["conditions"] =
            serde_json::json!([{ "type": "Ready", "status": "True", "lastTransitionTime": far }]);
    });
    let Object::Pod(pod) = named.object else { panic!() };
    let clocks = Clocks::new(Arc::new(Timestamp::now));
    assert!(pod.conditions.get("Ready", clocks.now()).holds);
}

#[test]
fn users_change_of_the_deletion_cost_causes_no_reconcile_and_the_controllers_note_does() {
    let costs = |cost: &'static str, note: &'static str| {
        move |object: &mut serde_json::Value| {
            object["metadata"]["annotations"] =
                serde_json::json!({ crate::api::names::POD_DELETION_COST: cost, crate::api::names::DELETION_COSTS: note });
        }
    };
    let mut world = world([election("web", 10, |_| ()), pod("a", 20, costs("5", ""))]);
    assert_eq!(names_of(apply(&mut world, pod("a", 21, costs("7", "")))), [""; 0]);
    let (snapshot, _) = world.snapshot(&key("web"), Consulted::default()).unwrap();
    assert_eq!(snapshot.pods[0].cost.cost.as_deref(), Some("7"), "and it is observed");
    assert_eq!(names_of(apply(&mut world, pod("a", 22, costs("7", "web=9")))), ["web"]);
}
