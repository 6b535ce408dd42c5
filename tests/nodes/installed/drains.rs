//! A client in the cluster while the leader's node is drained with `kubectl drain`.
//!
//! `RUNS=10 tests/nodes/run installed::drains` measures the gap on an idle machine.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use podium::api::Election;
use podium::api::names::CAUSE;
use serde_json::json;

use crate::harness::cluster::finish;
use crate::harness::leads::{Leads, answered_by, judge, now};
use crate::harness::pods::node;
use crate::harness::poller::Poller;
use crate::harness::runs::{runs, summary};
use crate::harness::{World, alone, eventually};

/// Pods of the Deployment: two on each node.
const PODS: usize = 4;

#[tokio::test]
async fn drain_evicts_the_leader_with_the_policy_ignore() {
    drained("Ignore", false).await;
}

#[tokio::test]
async fn leader_of_a_draining_node_is_replaced_once_with_the_policy_switchover() {
    drained("Switchover", false).await;
}

#[tokio::test]
async fn leader_of_a_draining_node_hands_over_before_its_eviction_with_a_budget_on_the_label() {
    drained("Switchover", true).await;
}

#[tokio::test]
async fn drain_waits_for_a_switchover_while_a_budget_protects_the_leader() {
    alone(async |world: &World| {
        let Led { leads, mut poller } = led(world, "Ignore", true).await;
        let leader = ready_leader(world, &leads, &mut poller).await;
        let refused = drain(world, &leader, "3s").await.expect_err("the drain does not finish");
        assert!(refused.contains("would violate the pod's disruption budget"), "{refused}");
        let [only] = &leads.all()[..] else { panic!("the leader changed: {:?}", leads.all()) };
        assert!(only.until.is_none(), "{only:?}");
        world.api::<Pod>().get(&leader.name_any()).await.expect("the leader is there");

        let began = now();
        let term = world.api::<Election>().get("web").await.expect("the Election").status.and_then(|status| status.term);
        let request = json!({ "metadata": { "annotations": {
            "podium.dev/switchover-term": term.expect("a term").to_string(),
            "podium.dev/switchover-to": elsewhere(world, &node(&leader)).await,
        }}});
        let elections = world.api::<Election>();
        elections.patch("web", &PatchParams::default(), &Patch::Merge(request)).await.expect("it is annotated");
        let next = leads.leader("another", |pod| pod != leader.name_any()).await;
        drain(world, &leader, "60s").await.expect("the drain finishes");
        let answers = answered_by(&poller, &next).await;
        judge(&answers, &leads.all(), began).print("a switchover by annotation, then the drain");
        assert_eq!(leads.all().len(), 2);
        assert_eq!(cause(world).await, "switchover");
    })
    .await;
}

/// Drains the leader's node repeatedly, and prints the effects on a client of the other node.
async fn drained(policy: &str, budget: bool) {
    alone(async |world: &World| {
        let Led { leads, mut poller } = led(world, policy, budget).await;
        let (mut gaps, mut labels, mut causes, mut changes) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for run in 0..runs(1) {
            if run > 0 {
                spread(world).await;
            }
            let leader = ready_leader(world, &leads, &mut poller).await;
            let before = leads.all().len();
            let began = now();
            drain(world, &leader, "60s").await.expect("the drain finishes");
            let drained = node(&leader);
            world.all_ready("app=web", PODS).await;
            let next = leads.leader("one of the other node", |pod| pod != leader.name_any()).await;
            let pod = world.api::<Pod>().get(&next).await.expect("the leader is there");
            assert_ne!(node(&pod), drained, "{next} leads on the drained node");
            let answers = answered_by(&poller, &next).await;
            let all = leads.all();
            let change = judge(&answers, &all[before - 1..], began);
            gaps.push(change.gap);
            labels.push(change.label);
            changes += all.len() - before;
            causes.push(cause(world).await);
            world.kubectl(&["uncordon", &drained]).await;
            if policy == "Switchover" {
                assert_eq!(all.len(), before + 1, "the leader changed more than once: {all:?}");
            }
        }
        let drains = gaps.len();
        println!(
            "FIGURE drain with {policy}{}: the longest time without an answer {}; label after {}; {changes} changes of the \
             leader in {drains} drains, the last ones by {}; 0 wrong answers",
            if budget { " and a budget on the label" } else { "" },
            summary(gaps),
            summary(labels),
            causes.join(", "),
        );
        if budget {
            assert!(causes.iter().all(|cause| cause == "node_draining"), "{causes:?}");
        }
    })
    .await;
}

/// A Deployment with a leader and a client of its Service.
struct Led<'a> {
    leads: Leads,
    poller: Poller<'a>,
}

async fn led<'a>(world: &'a World, policy: &str, budget: bool) -> Led<'a> {
    world.install_podium().await;
    let leads = world.record_leads().await;
    world.deploy_web(PODS).await;
    world.elect_web("web", json!({ "whenNodeDrains": policy })).await;
    if budget {
        let selector = json!({ "matchLabels": { "app": "web", "leader": "true" } });
        let spec = json!({ "minAvailable": 1, "selector": selector });
        world.create::<PodDisruptionBudget>(json!({ "metadata": { "name": "leader" }, "spec": spec })).await;
        eventually("the budget counts the leader", async || {
            let budget = world.api::<PodDisruptionBudget>().get("leader").await.map_err(|error| error.to_string())?;
            let healthy = budget.status.map(|status| status.current_healthy);
            if healthy == Some(1) { Ok(()) } else { Err(format!("{healthy:?}")) }
        })
        .await;
    }
    let url = world.service("leader", json!({ "app": "web", "leader": "true" })).await;
    let poller = world.poll("client", "real-1", &url).await;
    Led { leads, poller }
}

/// Waits until the client gets its answers from the leader.
async fn ready_leader(world: &World, leads: &Leads, poller: &mut Poller<'_>) -> Pod {
    let leader = leads.leader("somebody", |_| true).await;
    poller.forget();
    poller.lately(50, &format!("come from {leader}"), |answer| answer.from.as_ref() == Ok(&leader)).await;
    world.api::<Pod>().get(&leader).await.expect("the leader")
}

/// Replaces all pods, so that they are on both nodes again.
async fn spread(world: &World) {
    world.kubectl(&["delete", "pods", "--selector=app=web", "--wait"]).await;
    let pods = world.all_ready("app=web", PODS).await;
    assert!(pods.iter().any(|pod| node(pod) != node(&pods[0])), "all pods are on one node");
}

/// A pod that is not on this node.
async fn elsewhere(world: &World, drained: &str) -> String {
    let pods = world.all_ready("app=web", PODS).await;
    pods.iter().find(|pod| node(pod) != drained).map(ResourceExt::name_any).expect("pods are on both nodes")
}

/// Drains the leader's node of the Deployment's pods. Other pods, such as the controllers, stay for the other tests.
///
/// # Errors
/// The output of `kubectl`.
async fn drain(world: &World, leader: &Pod, timeout: &str) -> Result<(), String> {
    let (node, timeout) = (node(leader), format!("--timeout={timeout}"));
    let arguments = ["--cluster", &world.cluster.name, "drain", &node, "--pod-selector=app=web", &timeout];
    let output = finish(world.cluster.script("kubectl", &arguments)).await;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The cause of the present term.
async fn cause(world: &World) -> String {
    let lease = world.api::<Lease>().get("web").await.expect("the Lease");
    lease.annotations().get(CAUSE).cloned().unwrap_or_default()
}
