//! A client in the cluster that continuously uses a Service with `leader=true`, while leaders fail.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;

use crate::harness::leads::{answered_by, judge, now};
use crate::harness::pods::restarts;
use crate::harness::{World, eventually, world};

#[tokio::test]
async fn service_follows_the_leader_when_its_pod_is_deleted() {
    lose_leader("the leader is deleted", async |world, leader| {
        world.api::<Pod>().delete(&leader.name_any(), &DeleteParams::default()).await.expect("it is deleted");
    })
    .await;
}

#[tokio::test]
async fn service_follows_the_leader_when_its_pod_is_force_deleted() {
    lose_leader("the leader is deleted by force", async |world, leader| {
        let how = DeleteParams::default().grace_period(0);
        world.api::<Pod>().delete(&leader.name_any(), &how).await.expect("it is deleted");
    })
    .await;
}

#[tokio::test]
async fn service_follows_the_leader_when_its_process_is_killed() {
    lose_leader("the leader's process is killed", async |world, leader| {
        world.signal(leader, "SIGKILL").await;
        eventually("its container starts again", async || {
            let pod = world.api::<Pod>().get(&leader.name_any()).await.map_err(|error| error.to_string())?;
            if restarts(&pod) > 0 { Ok(()) } else { Err(format!("{:?}", pod.status)) }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn service_follows_the_leader_when_its_readiness_probe_fails() {
    lose_leader("the leader's readiness probe fails", async |world, leader| world.say_ok(leader, false).await).await;
}

/// Runs three servers with a leader and a client on each node, ends the leader like this, and prints the effects.
async fn lose_leader(cause: &str, end: impl AsyncFn(&World, &Pod)) {
    world(async |world| {
        world.install_podium().await;
        let leads = world.record_leads().await;
        let url = world.led_service().await;
        let first = leads.leader("somebody", |_| true).await;
        let mut pollers = Vec::new();
        for node in ["real-1", "real-2"] {
            let poller = world.poll(&format!("client-{node}"), node, &url).await;
            answered_by(&poller, &first).await;
            pollers.push((node, poller));
        }
        let leader = world.api::<Pod>().get(&first).await.expect("the leader");
        let began = now();
        end(world, &leader).await;
        let second = leads.leader("another", |pod| pod != first).await;
        for (node, poller) in &pollers {
            let answers = answered_by(poller, &second).await;
            judge(&answers, &leads.all(), began).print(&format!("{cause}, client on {node}"));
        }
    })
    .await;
}
