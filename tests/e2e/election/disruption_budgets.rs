//! A PodDisruptionBudget on the leader's label, with Kubernetes' own disruption controller and eviction API.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::api::{EvictParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config};
use podium::api::Election;
use serde_json::{Value, json};

use crate::harness::{Leader, Scenario, eventually, scenario};

/// The HTTP status of an eviction that a budget holds. `kubectl drain` retries it.
const HELD: u16 = 429;

/// The HTTP status of an eviction that the API server cannot judge. `kubectl drain` fails.
const FAILED: u16 = 500;

#[tokio::test]
async fn budget_on_the_label_holds_an_eviction_until_the_label_has_moved() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        leader_budget(world).await;
        held(world, "web-0", HELD, "disruption budget").await;
        switch_over(world, &first).await;
        let second = world.leader_is("web", "web-1").await;
        assert_eq!(second.transitions, first.transitions + 1);
        evict(world, "web-0").await.expect("it is a follower");
        held(world, "web-1", HELD, "disruption budget").await;
        assert_eq!(world.leader("web").await, second, "an eviction that is held changes nothing");
    })
    .await;
}

#[tokio::test]
async fn budget_on_the_label_holds_an_eviction_for_as_long_as_no_other_pod_is_eligible() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        leader_budget(world).await;
        world.set_ready("web-1", false).await;
        switch_over(world, &first).await;
        let why = world.condition("web", "Degraded", "True", "SwitchoverPending").await;
        assert!(why.contains("web-1 is not Ready"), "{why}");
        held(world, "web-0", HELD, "disruption budget").await;
        world.set_ready("web-1", true).await;
        world.leader_is("web", "web-1").await;
        evict(world, "web-0").await.expect("it is a follower");
    })
    .await;
}

#[tokio::test]
async fn leader_that_is_retained_unready_is_evicted_only_with_the_policy_always_allow() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        world.election_with("web", json!({ "whenNoneEligible": "Retain" })).await;
        world.leader_is("web", "web-0").await;
        leader_budget(world).await;
        world.set_ready("web-0", false).await;
        budget_status(world, "leader", "it counts no healthy pod", |status| status.current_healthy == 0).await;
        held(world, "web-0", HELD, "disruption budget").await;
        let policy = Patch::Merge(json!({ "spec": { "unhealthyPodEvictionPolicy": "AlwaysAllow" } }));
        let budgets = world.api::<PodDisruptionBudget>();
        budgets.patch("leader", &PatchParams::default(), &policy).await.expect("it is patched");
        eventually("the eviction is allowed", async || evict(world, "web-0").await.map_err(|error| error.1)).await;
    })
    .await;
}

#[tokio::test]
async fn second_budget_on_the_leader_makes_its_eviction_fail() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        leader_budget(world).await;
        budget(world, "all", json!({ "minAvailable": 1, "selector": { "matchLabels": { "app": "web" } } })).await;
        held(world, "web-0", FAILED, "more than one PodDisruptionBudget").await;
        switch_over(world, &first).await;
        world.leader_is("web", "web-1").await;
        evict(world, "web-0").await.expect("only one budget selects a follower");
    })
    .await;
}

#[tokio::test]
async fn budgets_of_leader_and_followers_do_not_overlap() {
    scenario(async |world| {
        let _controller = world.controller();
        world.workload::<Deployment>("web", json!({ "replicas": 3 })).await;
        world.election("web").await;
        world.eligible("web", 3, 3).await;
        let first = world.leader("web").await;
        leader_budget(world).await;
        let followers = json!({
            "matchLabels": { "app": "web" },
            "matchExpressions": [{ "key": "leader", "operator": "NotIn", "values": ["true"] }],
        });
        // maxUnavailable counts all replicas of the Deployment, also the leader, which this budget does not select.
        budget(world, "counts-all", json!({ "maxUnavailable": 1, "selector": followers })).await;
        let status = budget_status(world, "counts-all", "it counts followers", |status| status.current_healthy == 2).await;
        assert_eq!((status.expected_pods, status.disruptions_allowed), (3, 0));
        world.api::<PodDisruptionBudget>().delete("counts-all", &<_>::default()).await.expect("it is deleted");

        budget(world, "followers", json!({ "minAvailable": 1, "selector": followers })).await;
        budget_status(world, "followers", "it allows an eviction", |status| status.disruptions_allowed == 1).await;
        held(world, &first.name, HELD, "disruption budget").await;
        switch_over(world, &first).await;
        world.leader_after("web", &first).await;
        // The disruption controller counts again when a pod of the selector changes, not when one leaves it. So after a change of
        // the leader it may count the new one, too.
        budget_status(world, "followers", "it allows an eviction", |status| status.disruptions_allowed >= 1).await;
        evict(world, &first.name).await.expect("one follower may go");
    })
    .await;
}

/// Creates the budget that the how-to recommends, and waits until the disruption controller has counted the leader.
async fn leader_budget(world: &Scenario) {
    let selector = json!({ "matchLabels": { "app": "web", "leader": "true" } });
    budget(world, "leader", json!({ "minAvailable": 1, "selector": selector })).await;
    budget_status(world, "leader", "it counts the leader", |status| status.current_healthy == 1).await;
}

async fn budget(world: &Scenario, name: &str, spec: Value) {
    let object = json!({ "metadata": { "name": name }, "spec": spec });
    let object = serde_json::from_value(object).expect("a PodDisruptionBudget");
    let budgets = world.api::<PodDisruptionBudget>();
    budgets.create(&PostParams::default(), &object).await.expect("the budget is created");
}

/// Waits until the disruption controller has reported this.
async fn budget_status(
    world: &Scenario,
    name: &str,
    what: &str,
    is: impl Fn(&PodDisruptionBudgetStatus) -> bool,
) -> PodDisruptionBudgetStatus {
    eventually(&format!("{name}: {what}"), async || {
        let budget = world.api::<PodDisruptionBudget>().get(name).await.map_err(|error| error.to_string())?;
        let status = budget.status.unwrap_or_default();
        let current = status.observed_generation == budget.metadata.generation;
        if current && is(&status) { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await
}

/// Requests an eviction. Returns the HTTP status and the message of a refusal.
async fn evict(world: &Scenario, pod: &str) -> Result<(), (u16, String)> {
    // Without retries: they would hide what the API server says first.
    let mut config =
        Config::from_custom_kubeconfig(world.cluster.kubeconfig.clone(), &<_>::default()).await.expect("usable");
    config.default_retry = false;
    let client = Client::try_from(config).expect("usable");
    match Api::<Pod>::namespaced(client, &world.namespace).evict(pod, &EvictParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err((status.code, status.message.clone())),
        Err(error) => panic!("{pod}: {error}"),
    }
}

/// Requires that the eviction is refused with this status and message.
async fn held(world: &Scenario, pod: &str, code: u16, message: &str) {
    let (found, why) = evict(world, pod).await.expect_err("the eviction is refused");
    assert_eq!(found, code, "{why}");
    assert!(why.contains(message), "{why}");
    let pod = world.api::<Pod>().get(pod).await.expect("the pod is there");
    assert_eq!(pod.metadata.deletion_timestamp, None);
}

async fn switch_over(world: &Scenario, leader: &Leader) {
    let request = json!({ "metadata": { "annotations": { "podium.dev/switchover-term": leader.term.to_string() } } });
    let elections = world.api::<Election>();
    elections.patch("web", &PatchParams::default(), &Patch::Merge(request)).await.expect("the Election is annotated");
}
