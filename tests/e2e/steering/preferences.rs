//! The order that users choose, and preemption.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use prometheus_parse::Scrape;
use serde_json::{Value, json};

use crate::harness::http::{HTTP, get};
use crate::harness::workloads::transition;
use crate::harness::{Scenario, eventually, scenario};

/// Seconds of the preemption delay.
const DELAY: i64 = 3;

async fn prioritize(world: &Scenario, pod: &str, priority: Value) {
    world.patch_pod(pod, json!({ "annotations": { "podium.dev/priority": priority } })).await;
}

/// Three pods of which `web-0` leads, and an Election that lets a better one preempt it.
async fn preempting(world: &Scenario, delay: i64) {
    world.pods(["web-0", "web-1", "web-2"]).await;
    world.election_with("web", json!({ "preemption": { "policy": "PreferHigher", "delaySeconds": delay } })).await;
    world.leader_is("web", "web-0").await;
    world.next_is("web", Some("web-1")).await;
}

#[tokio::test]
async fn weights_of_matching_preferences_and_the_priority_add_up() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        // 100 + 30 - 5, 120, 100 - 1000 + 999
        let zone = |more: Value| {
            let mut labels = json!({ "zone": "a" });
            labels.as_object_mut().expect("labels").extend(more.as_object().expect("labels").clone());
            labels
        };
        let priority = |priority: &str| json!({ "podium.dev/priority": priority });
        world.pod("web-1", json!({ "labels": zone(json!({ "tier": "gold" })), "annotations": priority("-5") })).await;
        world.pod("web-2", json!({ "annotations": priority("120") })).await;
        world.pod("web-3", json!({ "labels": zone(json!({ "old": "yes" })), "annotations": priority("999") })).await;
        let gold = json!([{ "key": "tier", "operator": "In", "values": ["gold", "silver"] }]);
        world
            .election_with(
                "web",
                json!({ "preferences": [
                    { "weight": 100, "selector": { "matchLabels": { "zone": "a" } } },
                    { "weight": 30, "selector": { "matchExpressions": gold } },
                    { "weight": -1000, "selector": { "matchLabels": { "old": "yes" } } },
                ] }),
            )
            .await;
        world.leader_is("web", "web-1").await;
        world.next_is("web", Some("web-2")).await;
        world.set_ready("web-1", false).await;
        let second = world.leader_is("web", "web-2").await;
        world.next_is("web", Some("web-3")).await;
        world.set_ready("web-1", true).await;
        world.eligible("web", 4, 4).await;
        assert_eq!(world.leader("web").await, second, "a healthy leader stays by default");
        world.next_is("web", Some("web-1")).await;

        // Other weights, and no change of the leader.
        world.patch_election("web", json!({ "preferences": [] })).await.expect("they may be removed");
        world.next_is("web", Some("web-3")).await;
        prioritize(world, "web-0", json!("1000")).await;
        world.next_is("web", Some("web-0")).await;
        assert_eq!(world.leader("web").await, second);
        world.delete_pod("web-2").await;
        world.leader_is("web", "web-0").await;
    })
    .await;
}

#[tokio::test]
async fn election_info_names_the_leader_and_the_next_one() {
    scenario(async |world| {
        let controller = world.controller_with(&world.cluster.kubeconfig, HTTP);
        let http = controller.http().await;
        world.pods(["web-0", "web-1", "web-2"]).await;
        world.election("web").await;
        world.leader_is("web", "web-0").await;
        let named = async |leader: &str, next: &str| {
            eventually(&format!("podium_election_info has leader {leader} and next_leader {next:?}"), async || {
                let (_, text) = get(http, "/metrics").await;
                let samples = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("metrics").samples;
                let info: Vec<_> = samples.iter().filter(|sample| sample.metric == "podium_election_info").collect();
                let labels = |label: &str| info.iter().filter_map(|sample| sample.labels.get(label)).collect::<Vec<_>>();
                let is_it = labels("leader") == [leader] && labels("next_leader") == [next];
                is_it.then_some(()).ok_or_else(|| format!("{info:?}"))
            })
            .await;
        };
        named("web-0", "web-1").await;
        prioritize(world, "web-2", json!("1")).await;
        named("web-0", "web-2").await;
        world.delete_pod("web-0").await;
        named("web-2", "web-1").await;
        world.delete_pod("web-1").await;
        named("web-2", "").await;
    })
    .await;
}

#[tokio::test]
async fn higher_score_preempts_the_leader_after_the_delay() {
    scenario(async |world| {
        let _controller = world.controller();
        preempting(world, DELAY).await;
        let before = Timestamp::now();
        prioritize(world, "web-2", json!("10")).await;
        let second = world.leader_is("web", "web-2").await;
        let began = world.began("web").await;
        println!("preempted after {}", began.duration_since(before));
        assert!(began.duration_since(before) >= SignedDuration::from_secs(DELAY), "{before} to {began}");
        assert_eq!((second.transitions, &*world.cause("web").await), (1, "preempted"));
        // Equal scores preempt nobody, whoever would come first by other criteria.
        prioritize(world, "web-1", json!("10")).await;
        world.next_is("web", Some("web-1")).await;
        prioritize(world, "web-0", json!("10")).await;
        world.next_is("web", Some("web-0")).await;
        // The leader of this one is preempted after the same delay, which begins later.
        world.serve_another("other").await;
        world.pod("other-1", json!({ "labels": { "app": "other" }, "annotations": { "podium.dev/priority": "1" } })).await;
        let preemption = json!({ "preemption": { "policy": "PreferHigher", "delaySeconds": DELAY } });
        world.patch_election("other", preemption).await.expect("the policy may be changed");
        world.leader_is("other", "other-1").await;
        assert_eq!(world.leader("web").await, second);
    })
    .await;
}

#[tokio::test]
async fn restarted_controller_counts_the_preemption_delay_from_its_start() {
    scenario(async |world| {
        let mut controller = world.controller();
        preempting(world, DELAY).await;
        prioritize(world, "web-2", json!("10")).await;
        // It has observed that web-2 outranks the leader.
        world.next_is("web", Some("web-2")).await;
        let mut start = Timestamp::now();
        for _ in 0..3 {
            controller.kill();
            start = Timestamp::now();
            controller = world.controller();
            controller.elects().await;
            // A life may be long enough on a busy machine.
            if world.leader("web").await.name == "web-2" {
                break;
            }
        }
        world.leader_is("web", "web-2").await;
        let began = world.began("web").await;
        println!("preempted {} after the restart", began.duration_since(start));
        assert!(began.duration_since(start) >= SignedDuration::from_secs(DELAY), "{start} to {began}");
    })
    .await;
}

#[tokio::test]
async fn pod_that_flaps_does_not_preempt() {
    scenario(async |world| {
        let delay = 8;
        let _controller = world.controller();
        preempting(world, delay).await;
        prioritize(world, "web-2", json!("10")).await;
        world.next_is("web", Some("web-2")).await;
        let first = world.leader("web").await;
        // The whole flapping takes longer than the delay, and each stretch is shorter.
        let began = Timestamp::now();
        let mut ready = began;
        while Timestamp::now().duration_since(began) < SignedDuration::from_secs(delay + 4) {
            assert_eq!(world.leader("web").await, first);
            world.set_ready("web-2", false).await;
            world.eligible("web", 2, 3).await;
            ready = transition(&world.set_ready("web-2", true).await, "Ready");
            world.eligible("web", 3, 3).await;
        }
        world.leader_is("web", "web-2").await;
        let preempted = world.began("web").await;
        assert!(preempted.duration_since(ready) >= SignedDuration::from_secs(delay), "{ready} to {preempted}");
    })
    .await;
}
