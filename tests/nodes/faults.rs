//! Failures of nodes.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::harness::pods::{ip, node, restarts};
use crate::harness::poller::gap;
use crate::harness::{World, alone};

#[tokio::test]
async fn a_node_that_is_cut_off_is_out_of_reach_until_it_is_healed() {
    out_of_reach("cut", "heal").await;
}

#[tokio::test]
async fn a_node_that_is_frozen_does_nothing_until_it_is_thawed() {
    out_of_reach("freeze", "thaw").await;
}

/// Neither node gets a response from the other one. Afterwards the pod responds again, without a restart.
async fn out_of_reach(begin: &str, end: &str) {
    alone(async |world| {
        let (pod, url) = server_on(world, "real-2").await;
        let poller = world.poll("client", "real-1", &url).await;
        poller.lately(50, "come", |answer| answer.is_from(&pod)).await;
        world.cluster.node(&[begin, "real-2"]).await;
        poller.lately(50, "fail", |answer| answer.from.is_err()).await;
        world.cluster.node(&[end, "real-2"]).await;
        let answers = poller.lately(50, "come again", |answer| answer.is_from(&pod)).await;
        let failed = answers.iter().filter(|answer| answer.from.is_err()).count();
        println!("{failed} questions failed, {:.0} ms without an answer", gap(&answers));
        assert!(gap(&answers) >= 500.0, "50 questions in a row, one every 10 ms, had no answer");
        assert_eq!(restarts(&world.pod_is(&pod.name_any(), "True").await), 0, "the pod has run all the time");
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_killed_is_noticed_and_comes_back_with_its_pods() {
    alone(async |world| {
        let (pod, url) = server_on(world, "real-2").await;
        let poller = world.poll("client", "real-1", &url).await;
        poller.lately(50, "come", |answer| answer.is_from(&pod)).await;
        world.cluster.node(&["kill", "real-2"]).await;
        poller.lately(50, "fail", |answer| answer.from.is_err()).await;
        world.node_is("real-2", "Unknown").await;
        world.pod_is(&pod.name_any(), "False").await;
        world.cluster.node(&["start", "real-2"]).await;
        let again = world.pod_is(&pod.name_any(), "True").await;
        assert_eq!((again.uid(), restarts(&again)), (pod.uid(), 1), "the same pod, whose container was started again");
    })
    .await;
}

/// A web server on this node, and its own URL.
async fn server_on(world: &World, wanted: &str) -> (Pod, String) {
    world.deploy_web(4).await;
    let pods = world.api::<Pod>().list(&ListParams::default()).await.expect("pods").items;
    let pod = pods.into_iter().find(|pod| node(pod) == wanted).expect("they are spread");
    let url = format!("http://{}:8080/", ip(&pod));
    (pod, url)
}
