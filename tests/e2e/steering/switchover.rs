//! Switchovers that annotations of the Election request.

use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use podium::api::Election;
use serde_json::{Value, json};

use crate::harness::label_watch::LabelWatch;
use crate::harness::{Leader, Scenario, eventually, scenario};

/// Requests the end of this term.
async fn request(world: &Scenario, term: impl ToString, to: Option<&str>) {
    let annotations = json!({ "podium.dev/switchover-term": term.to_string(), "podium.dev/switchover-to": to });
    world.annotate_election("web", annotations).await;
}

/// Applies the whole manifest with the request in it, as a GitOps controller does again and again.
async fn apply(world: &Scenario, term: i64) {
    let manifest = json!({
        "apiVersion": "podium.dev/v1beta1", "kind": "Election",
        "metadata": { "name": "web", "annotations": { "podium.dev/switchover-term": term.to_string() } },
        "spec": { "selector": { "matchLabels": { "app": "web" } } },
    });
    let how = PatchParams::apply("gitops").force();
    world.api::<Election>().patch("web", &how, &Patch::Apply(manifest)).await.expect("the manifest is accepted");
}

/// Waits for the Event that announces this leader.
async fn announced(world: &Scenario, leader: &Leader) -> Event {
    let start = format!("Pod {} became leader (term {}): ", leader.name, leader.term);
    eventually(&format!("an Event begins with {start:?}"), async || {
        let events = world.api::<Event>().list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let is_it = |event: &&Event| event.note.as_deref().is_some_and(|note| note.starts_with(&start));
        events.iter().find(is_it).cloned().ok_or_else(|| format!("{events:?}"))
    })
    .await
}

/// Returns Ready's message, once the Election is Ready with these words in it.
async fn ready_with(world: &Scenario, words: &str) -> String {
    eventually(&format!("Ready's message has {words:?}"), async || {
        let message = world.condition("web", "Ready", "True", "LeaderElected").await;
        if message.contains(words) { Ok(message) } else { Err(message) }
    })
    .await
}

async fn degraded(world: &Scenario) -> Option<Value> {
    let status = world.status("web").await.expect("a current status");
    status.condition("Degraded").map(|condition| json!([condition.reason, condition.message]))
}

#[tokio::test]
async fn switchover_moves_the_leader_once_and_breaks_before_it_makes() {
    scenario(async |world| {
        let _controller = world.controller();
        let labels = LabelWatch::start(world).await;
        world.pods(["web-0", "web-1", "web-2"]).await;
        world.election("web").await;
        let first = world.leader_is("web", "web-0").await;
        world.next_is("web", Some("web-1")).await;

        apply(world, first.term).await;
        let second = world.leader_is("web", "web-1").await;
        println!("the watch saw no label for {:?}", labels.gap("web-0", "web-1").await);
        assert_eq!(second.transitions, 1);
        assert_eq!(world.cause("web").await, "switchover");
        let event = announced(world, &second).await;
        assert!(event.note.as_ref().unwrap().ends_with(": a switchover from web-0 was requested"), "{event:?}");
        assert_eq!(event.type_.as_deref(), Some("Normal"));

        for round in 0..3 {
            apply(world, first.term).await;
            world.serve_another(&format!("other-{round}")).await;
            assert_eq!(world.leader("web").await, second, "the request is done");
        }
        assert_eq!(degraded(world).await, None);
    })
    .await;
}

#[tokio::test]
async fn switchover_to_elects_the_named_pod() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1", "web-2"]).await;
        world.election("web").await;
        let first = world.leader_is("web", "web-0").await;
        request(world, first.term, Some("web-2")).await;
        let second = world.leader_after("web", &first).await;
        assert_eq!((&*second.name, second.transitions), ("web-2", 1));
        // It ended one term: a failure later is a failover like any other.
        world.set_ready("web-2", false).await;
        world.leader_is("web", "web-0").await;
        assert_eq!(world.cause("web").await, "not_ready");
    })
    .await;
}

#[tokio::test]
async fn request_for_another_term_is_inert_and_named() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        let term = first.term;
        for (request_term, to, words) in [
            (
                (term + 1_000_000).to_string(),
                None,
                format!("switchover-term {} is ignored: the term is {term}", term + 1_000_000),
            ),
            ("soon".into(), None, format!("switchover-term \"soon\" is ignored: it is not a term, set it to {term}")),
            (term.to_string(), Some("web-0"), "switchover-to is ignored: web-0 is the leader".into()),
        ] {
            request(world, request_term, to).await;
            ready_with(world, &words).await;
            assert_eq!(world.leader("web").await, first, "{words}");
            assert_eq!(degraded(world).await, None, "{words}");
        }
        world
            .annotate_election("web", json!({ "podium.dev/switchover-term": null, "podium.dev/switchover-to": "web-1" }))
            .await;
        ready_with(world, &format!("switchover-to is ignored without podium.dev/switchover-term: set that to {term}")).await;
        request(world, term - 1, None).await;
        world.serve_another("other").await;
        assert_eq!(world.leader("web").await, first, "a lower term has ended long ago");
        request(world, term, None).await;
        world.leader_is("web", "web-1").await;
    })
    .await;
}

#[tokio::test]
async fn switchover_to_an_ineligible_pod_waits_until_it_is_eligible() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1", "web-2"]).await;
        world.election("web").await;
        let first = world.leader_is("web", "web-0").await;
        world.set_ready("web-1", false).await;
        world.eligible("web", 2, 3).await;
        request(world, first.term, Some("web-1")).await;
        let message = world.condition("web", "Degraded", "True", "SwitchoverPending").await;
        assert_eq!(message, "The switchover to web-1 waits: that pod is not Ready");
        world.serve_another("other").await;
        assert_eq!(world.leader("web").await, first, "web-2 was not asked for");
        world.condition("web", "Ready", "True", "LeaderElected").await;
        world.set_ready("web-1", true).await;
        let second = world.leader_after("web", &first).await;
        assert_eq!((&*second.name, &*world.cause("web").await), ("web-1", "switchover"));
        world.recovered("web").await;
    })
    .await;
}

#[tokio::test]
async fn switchover_without_another_eligible_pod_waits_for_one() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        world.election("web").await;
        let first = world.leader_is("web", "web-0").await;
        request(world, first.term, None).await;
        let message = world.condition("web", "Degraded", "True", "SwitchoverPending").await;
        assert_eq!(message, "The switchover from web-0 waits: there is no other candidate");
        assert_eq!(world.leader("web").await, first);
        world.pods(["web-1"]).await;
        world.leader_is("web", "web-1").await;
        world.recovered("web").await;
    })
    .await;
}

#[tokio::test]
async fn suspended_election_postpones_a_switchover() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        world.patch_election("web", json!({ "suspend": true })).await.expect("it may be suspended");
        request(world, first.term, None).await;
        let message = world.condition("web", "Degraded", "True", "SwitchoverPending").await;
        assert_eq!(message, "The switchover from web-0 waits: elections are suspended by spec.suspend");
        assert_eq!(world.leader("web").await, first);
        world.patch_election("web", json!({ "suspend": false })).await.expect("it may resume");
        world.leader_is("web", "web-1").await;
        world.recovered("web").await;
    })
    .await;
}
