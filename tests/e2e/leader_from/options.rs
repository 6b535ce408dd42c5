//! The other fields of an Election that follows a Lease, and its metrics.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;

use super::lock::{HOUR, Lock};
use super::{follow, ready_says, vacant};
use crate::harness::http::{HTTP, get};
use crate::harness::{Scenario, eventually, scenario};

/// Waits until the pods `web-0`, `web-1` and `web-2` have these values of the label.
async fn labels(world: &Scenario, expected: [Option<&str>; 3]) {
    eventually(&format!("the labels are {expected:?}"), async || {
        let mut found = Vec::new();
        for name in ["web-0", "web-1", "web-2"] {
            let pod = world.api::<Pod>().get_metadata(name).await.map_err(|error| error.to_string())?;
            found.push(pod.labels().get("leader").cloned());
        }
        let found: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test]
async fn standby_pods_carry_the_value_of_followers() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1", "web-2"]).await;
        world.set_ready("web-2", false).await;
        let lock = Lock::held_by(world, "web-0", HOUR).await;
        follow(world, json!({ "label": { "followerValue": "false" } })).await;
        world.leader_is("web", "web-0").await;
        labels(world, [Some("true"), Some("false"), None]).await;
        world.set_ready("web-2", true).await;
        labels(world, [Some("true"), Some("false"), Some("false")]).await;
        lock.hold("web-1").await;
        labels(world, [Some("false"), Some("true"), Some("false")]).await;
        lock.hold("").await;
        world.vacancy("web").await;
        labels(world, [Some("false"), Some("false"), Some("false")]).await;
    })
    .await;
}

#[tokio::test]
async fn deletion_cost_moves_with_the_label() {
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    scenario(async |world| {
        let costs = async |expected: [Option<&str>; 2]| {
            eventually(&format!("the deletion costs are {expected:?}"), async || {
                let mut found = Vec::new();
                for name in ["web-0", "web-1"] {
                    let pod = world.api::<Pod>().get_metadata(name).await.map_err(|error| error.to_string())?;
                    found.push(pod.annotations().get(COST).cloned());
                }
                let found: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
                if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
            })
            .await;
        };
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        let lock = Lock::held_by(world, "web-0", HOUR).await;
        follow(world, json!({ "leaderDeletionCost": 100 })).await;
        costs([Some("100"), None]).await;
        lock.hold("web-1").await;
        costs([None, Some("100")]).await;
        lock.hold("").await;
        costs([None, None]).await;
    })
    .await;
}

#[tokio::test]
async fn fields_and_requests_without_effect_are_named_in_ready() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        let _lock = Lock::held_by(world, "web-0", HOUR).await;
        follow(world, json!({ "tieBreak": "Spread", "whenNodeDrains": "Switchover" })).await;
        let leader = world.leader_is("web", "web-0").await;
        let leads = format!("Pod web-0 is the leader (term {})", leader.term);
        ready_says(world, &format!("{leads}. Without effect beside spec.leaderFrom: tieBreak, whenNodeDrains")).await;
        let all = json!({ "failoverDelaySeconds": 60, "nodeHeartbeatTimeoutSeconds": 25 });
        world.patch_election("web", all).await.expect("the fields may change");
        let without = "Without effect beside spec.leaderFrom: failoverDelaySeconds, tieBreak, whenNodeDrains, nodeHeartbeatTimeoutSeconds";
        ready_says(world, &format!("{leads}. {without}")).await;
        let request = json!({ "podium.dev/switchover-term": leader.term.to_string(), "podium.dev/switchover-to": "web-1" });
        world.annotate_election("web", request).await;
        let ignored = "Annotation podium.dev/switchover-term is ignored: Lease lock decides who leads";
        ready_says(world, &format!("{leads}. {ignored}. {without}")).await;
        world.annotate_election("web", json!({ "podium.dev/switchover-term": null })).await;
        let ignored = "Annotation podium.dev/switchover-to is ignored: Lease lock decides who leads";
        ready_says(world, &format!("{leads}. {ignored}. {without}")).await;
        world.serve_another("other").await;
        assert_eq!(world.leader("web").await, leader);
        let status = world.status("web").await.unwrap();
        assert_eq!((status.condition("Degraded"), &status.next_leader), (None, &None));
    })
    .await;
}

#[tokio::test]
async fn metrics_count_the_changes_by_their_cause() {
    scenario(async |world| {
        let controller = world.controller_with(&world.cluster.controllers, HTTP);
        let http = controller.http().await;
        let until = async |sample: &str| {
            eventually(&format!("the metrics have {sample}"), async || {
                let (_, text) = get(http, "/metrics").await;
                if text.lines().any(|line| line == sample) { Ok(()) } else { Err(text) }
            })
            .await;
        };
        world.pods(["web-0", "web-1"]).await;
        let lock = Lock::held_by(world, "web-0", HOUR).await;
        follow(world, json!({})).await;
        world.leader_is("web", "web-0").await;
        lock.hold("web-1").await;
        world.leader_is("web", "web-1").await;
        until("podium_leader_changes_total{reason=\"holder_changed\",to=\"leader\"} 1").await;
        lock.hold("").await;
        vacant(world, "Lease lock has no holder").await;
        until("podium_leader_changes_total{reason=\"lease_released\",to=\"none\"} 1").await;
        until("podium_elections{state=\"vacant\"} 1").await;
        lock.delete().await;
        lock.create("web-0", 6).await;
        world.leader_is("web", "web-0").await;
        vacant(world, "Lease lock expired: its holder \"web-0\" has not renewed it for 6 s").await;
        until("podium_leader_changes_total{reason=\"lease_expired\",to=\"none\"} 1").await;
        until("podium_leader_changes_total{reason=\"holder_changed\",to=\"leader\"} 2").await;
    })
    .await;
}
