//! A Service on real nodes: the pods that respond to a client in a pod.

use std::collections::BTreeSet;

use kube::ResourceExt;
use serde_json::json;

use crate::harness::pods::node;
use crate::harness::world;

#[tokio::test]
async fn a_service_is_answered_by_all_its_pods_from_every_node() {
    world(async |world| {
        let pods = world.deploy_web(4).await;
        let names: BTreeSet<String> = pods.iter().map(ResourceExt::name_any).collect();
        let url = world.service("web", json!({ "app": "web" })).await;
        for client in ["real-1", "real-2"] {
            let poller = world.poll(&format!("client-{client}"), client, &url).await;
            // The rules of a new Service may lag behind the client.
            let answers = poller.lately(200, "come from its pods", |answer| answer.from.is_ok()).await;
            let last: BTreeSet<String> =
                answers[answers.len() - 200..].iter().flat_map(|answer| answer.from.clone()).collect();
            assert_eq!(last, names);
        }
    })
    .await;
}

#[tokio::test]
async fn service_skips_a_pod_that_is_not_ready() {
    world(async |world| {
        let pods = world.deploy_web(2).await;
        let url = world.service("web", json!({ "app": "web" })).await;
        let [out, stays] = [&pods[0], &pods[1]];
        let poller = world.poll("client", &node(stays), &url).await;
        poller.lately(100, "come", |answer| answer.from.is_ok()).await;
        world.say_ok(out, false).await;
        world.pod_is(&out.name_any(), "False").await;
        poller.lately(200, "come from the other", |answer| answer.is_from(stays)).await;
        world.say_ok(out, true).await;
        world.pod_is(&out.name_any(), "True").await;
        let answers = poller.lately(1, "come from it again", |answer| answer.is_from(out)).await;
        let lost: Vec<_> =
            answers.iter().skip_while(|answer| answer.from.is_err()).filter(|answer| answer.from.is_err()).collect();
        assert!(lost.is_empty(), "a server that is merely not Ready still answers: {lost:?}");
    })
    .await;
}
