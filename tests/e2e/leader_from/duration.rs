//! Release, expiry and deletion of the Lease, and controllers that did not observe them.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::lock::{HOUR, Lock};
use super::{announced, follow, ready_says, vacant};
use crate::harness::{Scenario, scenario};

/// Two pods, of which the Lease `lock` names `web-0`, and the Election.
async fn led(world: &Scenario, seconds: i32) -> Lock {
    world.pods(["web-0", "web-1"]).await;
    let lock = Lock::held_by(world, "web-0_5a3e", seconds).await;
    follow(world, json!({})).await;
    lock
}

/// Asserts that the term of the Election's Lease began at least this many seconds after `begin`.
async fn began_after(world: &Scenario, begin: Timestamp, seconds: i64) {
    let after = world.began("web").await.duration_since(begin);
    println!("the vacancy began after {after:?}");
    assert!(after >= SignedDuration::from_secs(seconds), "{after:?}");
}

#[tokio::test]
async fn released_lease_is_a_vacancy_at_once() {
    scenario(async |world| {
        let _controller = world.controller();
        let lock = led(world, HOUR).await;
        let first = world.leader_is("web", "web-0").await;
        lock.hold("").await;
        vacant(world, "Lease lock has no holder").await;
        assert_eq!(world.cause("web").await, "lease_released");
        let term = world.status("web").await.unwrap().term.unwrap();
        announced(world, &format!("No leader (term {term}): Lease lock has no holder, and no candidate is eligible")).await;
        lock.hold("web-0").await;
        let again = world.leader_is("web", "web-0").await;
        assert!(again.term > term && term > first.term);
    })
    .await;
}

#[tokio::test]
async fn lease_that_nobody_renews_is_a_vacancy_when_it_expires() {
    scenario(async |world| {
        let _controller = world.controller();
        let lock = led(world, 6).await;
        world.leader_is("web", "web-0").await;
        for _ in 0..2 {
            let renewed = lock.renew().await;
            world.leader_is("web", "web-0").await;
            vacant(world, "Lease lock expired: its holder \"web-0_5a3e\" has not renewed it for 6 s").await;
            assert_eq!(world.cause("web").await, "lease_expired");
            began_after(world, renewed, 6).await;
        }
        // A renewal revives it: the elector was only slow.
        let _renewals = lock.renewals(Duration::from_millis(500));
        world.leader_is("web", "web-0").await;
    })
    .await;
}

#[tokio::test]
async fn deleted_lease_keeps_its_leader_for_its_duration() {
    scenario(async |world| {
        let _controller = world.controller();
        let lock = led(world, 6).await;
        world.leader_is("web", "web-0").await;
        let renewed = lock.renew().await;
        let leader = world.leader_is("web", "web-0").await;
        lock.delete().await;
        world.serve_another("other").await;
        vacant(world, "Lease lock was deleted, and its holder \"web-0_5a3e\" has not renewed it for 6 s").await;
        assert_eq!(world.cause("web").await, "lease_expired");
        began_after(world, renewed, 6).await;
        lock.create("web-1_5a3e", HOUR).await;
        assert_eq!(world.leader_is("web", "web-1").await.transitions, leader.transitions + 1);
    })
    .await;
}

#[tokio::test]
async fn lease_that_is_recreated_in_time_changes_nothing() {
    scenario(async |world| {
        let _controller = world.controller();
        let lock = led(world, HOUR).await;
        let leader = world.leader_is("web", "web-0").await;
        lock.delete().await;
        world.serve_another("between").await;
        assert_eq!(world.leader("web").await, leader);
        lock.create("web-0_5a3e", HOUR).await;
        world.serve_another("after").await;
        assert_eq!(world.leader("web").await, leader);
    })
    .await;
}

#[tokio::test]
async fn retain_keeps_the_leader_of_a_lease_that_names_nobody() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        let lock = Lock::held_by(world, "web-0", HOUR).await;
        follow(world, json!({ "whenNoneEligible": "Retain" })).await;
        let leader = world.leader_is("web", "web-0").await;
        let kept = format!(
            "Pod web-0 is not named by the Lease of spec.leaderFrom and keeps the label (term {}): Lease lock",
            leader.term
        );
        lock.hold("").await;
        assert_eq!(ready_says(world, &format!("{kept} has no holder")).await, "LeaderRetained");
        lock.hold("web-2").await;
        let would = "which names no matching pod: of web-0 it would be \"web-0\", \"web-0_…\" or its UID";
        assert_eq!(ready_says(world, &format!("{kept} is held by \"web-2\", {would}")).await, "LeaderRetained");
        assert_eq!(world.leader("web").await, leader, "one term");
        lock.hold("web-1").await;
        world.leader_is("web", "web-1").await;
        lock.hold("").await;
        world.condition("web", "Ready", "True", "LeaderRetained").await;
        world.delete_pod("web-1").await;
        vacant(world, "Lease lock has no holder").await;
    })
    .await;
}

#[tokio::test]
async fn restarted_controller_observes_a_dead_lease_for_its_duration() {
    scenario(async |world| {
        let mut controller = world.controller();
        let lock = led(world, 8).await;
        let renewals = lock.renewals(Duration::from_millis(500));
        let leader = world.leader_is("web", "web-0").await;
        drop(renewals);
        controller.kill();
        let begin = Timestamp::now();
        let controller = world.controller();
        controller.elects().await;
        assert_eq!(world.leader("web").await, leader, "it does not depose anybody at its start");
        vacant(world, "Lease lock expired: its holder \"web-0_5a3e\" has not renewed it for 8 s").await;
        began_after(world, begin, 8).await;

        // The next one observes it anew, too, and does not elect the dead holder again meanwhile.
        drop(controller);
        let term = world.status("web").await.unwrap().term;
        let _controller = world.controller();
        world.serve_another("other").await;
        world.vacancy("web").await;
        assert_eq!(world.status("web").await.unwrap().term, term);
        lock.renew().await;
        assert!(world.leader_is("web", "web-0").await.term > leader.term);
    })
    .await;
}

#[tokio::test]
async fn restarted_controller_waits_for_a_lease_that_it_never_observed() {
    scenario(async |world| {
        let mut controller = world.controller();
        let lock = led(world, HOUR).await;
        let leader = world.leader_is("web", "web-0").await;
        controller.kill();
        lock.delete().await;
        let begin = Timestamp::now();
        let _controller = world.controller();
        world.serve_another("other").await;
        assert_eq!(world.leader("web").await, leader);
        vacant(world, "Lease lock does not exist").await;
        assert_eq!(world.cause("web").await, "lease_expired");
        began_after(world, begin, 15).await;
    })
    .await;
}

#[tokio::test]
async fn lease_that_moves_without_a_controller_moves_the_label_at_its_start() {
    scenario(async |world| {
        let mut controller = world.controller();
        let lock = led(world, HOUR).await;
        let mut leader = world.leader_is("web", "web-0").await;
        for pod in ["web-1", "web-0"] {
            controller.kill();
            lock.hold(pod).await;
            controller = world.controller();
            let next = world.leader_is("web", pod).await;
            assert!(next.term > leader.term);
            leader = next;
        }
        controller.kill();
        lock.renew().await;
        let _controller = world.controller();
        world.serve_another("other").await;
        assert_eq!(world.leader("web").await, leader);
    })
    .await;
}

#[tokio::test]
async fn suspended_election_keeps_its_leader_while_the_lease_moves() {
    scenario(async |world| {
        let _controller = world.controller();
        let lock = led(world, HOUR).await;
        let leader = world.leader_is("web", "web-0").await;
        world.patch_election("web", json!({ "suspend": true })).await.expect("it may be suspended");
        assert_eq!(world.leader("web").await, leader, "the controller has observed it");
        lock.hold("web-1").await;
        world.serve_another("other").await;
        assert_eq!(world.leader("web").await, leader);
        world.patch_election("web", json!({ "suspend": false })).await.expect("it may resume");
        world.leader_is("web", "web-1").await;
    })
    .await;
}
