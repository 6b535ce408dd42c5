//! An outage of the API server: all nodes are late at once.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use podium::api::names::CAUSE;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::harness::cluster::succeed;
use crate::harness::leads::now;
use crate::harness::{World, alone};

/// Duration of the outage. `nodeHeartbeatTimeoutSeconds` is less than half of it.
const OUTAGE: Duration = Duration::from_secs(60);

/// The API server, paused until dropped.
struct Paused(Pid);

impl Paused {
    fn new(world: &World) -> Self {
        let cluster = &world.cluster;
        let file = cluster.state().join(".kwok/clusters").join(&cluster.name).join("pids/kube-apiserver.pid");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let pid = text.trim().parse().ok().and_then(Pid::from_raw).expect("a PID");
        kill_process(pid, Signal::STOP).expect("it runs");
        Self(pid)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).expect("it is there");
    }
}

#[tokio::test]
async fn outage_of_the_api_server_makes_no_node_unreachable() {
    alone(async |world: &World| {
        world.install_podium().await;
        let leads = world.record_leads().await;
        let patient = world.record_leads_by("patient.example/leader").await;
        world.deploy_web(3).await;
        world.elect_web("web", json!({ "nodeHeartbeatTimeoutSeconds": 25 })).await;
        world.elect_web("patient", json!({ "label": { "key": "patient.example/leader" } })).await;
        leads.leader("somebody", |_| true).await;
        patient.leader("somebody", |_| true).await;
        world.nodes_send_heartbeats().await;

        let paused = Paused::new(world);
        tokio::time::sleep(OUTAGE).await;
        drop(paused);
        let back = now();
        // Components that lost their own Leases meanwhile have ended.
        succeed(world.cluster.script("up", &[&world.cluster.name])).await;
        // The heartbeats of one node may come back up to 10 s after those of another one.
        world.nodes_send_heartbeats().await;
        let (with, without) = (leads.all().len() - 1, patient.all().len() - 1);
        println!(
            "FIGURE outage of the API server for {} s: {with} changes of the leader with a timeout of 25 s, {without} without, \
             until {:.0} ms after its end",
            OUTAGE.as_secs(),
            now() - back,
        );
        let lease = world.api::<Lease>().get("web").await.expect("the Lease");
        let cause = lease.annotations().get(CAUSE).cloned().unwrap_or_default();
        assert_ne!(cause, "node_unreachable", "{:?}", leads.all());
        assert_eq!(with, without, "{:?}, {:?}", leads.all(), patient.all());
    })
    .await;
}
