//! Takeover by the standby: the active controller is stopped or killed while a leader is deleted.
//!
//! `make bench ONLY=takeover`
//!
//! Two controllers serve one Election of three pods. The active one gets a signal, and right after it the Election's leader is
//! deleted. Two times run from the signal: until the other controller reports on /metrics that it is active, and until the label of
//! the next leader, which only the other controller can write. A controller that gets SIGTERM releases its Lease, and the other one
//! need not wait. After SIGKILL it waits until the Lease has expired. The runs are spread over the time between two renewals.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use podium::api::Election;
use podium::controller::replicas::TIMING;
use podium_test_support::bench::Result;
use podium_test_support::bench::arrivals::Arrivals;
use podium_test_support::bench::cluster::Cluster;
use podium_test_support::bench::figures::{Aim, Better, Figures, Spread, Unit};
use podium_test_support::bench::process::Process;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const NAMESPACE: &str = "bench-takeover";
const RUNS: usize = 10;
const DEADLINE: Duration = Duration::from_secs(60);

/// Pause between two reads of /metrics. A measurement is too long by at most this and the time of an answer.
const POLL: Duration = Duration::from_millis(2);

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::from_env().await?;
    prepare(&cluster).await?;
    let mut figures = Figures::new("takeover");
    let mut pair = [Replica::start(&cluster)?, Replica::start(&cluster)?];
    let pods: Api<Pod> = cluster.api(NAMESPACE);
    let mut seen = Arrivals::of(pods.clone(), Default::default());
    let expiry = TIMING.lease_duration.as_secs_f64();
    for (signal, most) in [("TERM", 1.0), ("KILL", expiry)] {
        let (mut actives, mut labels) = (vec![], vec![]);
        // The first run opens connections.
        for run in 0..=RUNS {
            let (active, leader) = wait_until_stable(&cluster, &pair).await?;
            // Without this the signal would always follow a renewal.
            sleep(TIMING.retry_period.mul_f64(run as f64 / RUNS as f64)).await;
            seen.forget();
            let sent = Instant::now();
            pair[active].process.signal(signal)?;
            let delete = async { Ok(pods.delete(&leader, &DeleteParams::default()).await?) };
            let labeled = async {
                let is_next = |pod: &Pod| pod.labels().contains_key("leader") && pod.name_any() != leader;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(seen.first(is_next).await?.0)
            };
            let (_, taken, labeled) = tokio::try_join!(delete, pair[1 - active].becomes_active(), labeled)?;
            if run > 0 {
                actives.push(taken.saturating_duration_since(sent));
                labels.push(labeled.saturating_duration_since(sent));
            }
            // The next standby.
            pair[active] = Replica::start(&cluster)?;
        }
        for (what, times) in [("the other one is active", actives), ("the next leader is labeled", labels)] {
            let spread = Spread::of(&times).ok_or("no runs")?;
            figures.add_times(format!("SIG{signal} until {what}"), spread);
            if what.ends_with("active") {
                let aim = Some(Aim::AtMost(most));
                figures.add(
                    format!("SIG{signal}: the slowest"),
                    spread.worst.as_secs_f64(),
                    Unit::Seconds,
                    Better::Lower,
                    aim,
                );
            }
        }
    }
    drop(pair);
    cluster.remove(NAMESPACE).await?;
    Ok(figures.finish()?)
}

/// A controller and its HTTP address.
struct Replica {
    process: Process,
    http: SocketAddr,
}

impl Replica {
    fn start(cluster: &Cluster) -> Result<Self> {
        // Free now, and no other process of the benchmark requests a port.
        let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let arguments = ["--namespaces", NAMESPACE, "--http", &http.to_string()];
        Ok(Self { process: Process::controller(&cluster.kubeconfig, &arguments)?, http })
    }

    /// Returns the response, or `None` while it does not listen.
    async fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.http).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    /// Returns whether it is active, or `None` while it is not ready.
    async fn is_active(&self) -> Option<bool> {
        let metrics = self.get("/metrics").await?;
        let reports = |expected: &str| metrics.lines().any(|line| line == expected);
        reports("podium_ready 1").then(|| reports("podium_controller_active 1"))
    }

    /// Waits until it is active. Returns the time.
    async fn becomes_active(&self) -> Result<Instant> {
        let active = async {
            while self.is_active().await != Some(true) {
                sleep(POLL).await;
            }
            Instant::now()
        };
        Ok(timeout(DEADLINE, active).await?)
    }
}

/// Waits until one replica is active and the other one ready, and the Election has a leader and three eligible pods. Returns the
/// index of the active replica, and the leader.
async fn wait_until_stable(cluster: &Cluster, pair: &[Replica; 2]) -> Result<(usize, String)> {
    let elections: Api<Election> = cluster.api(NAMESPACE);
    let pods: Api<Pod> = cluster.api(NAMESPACE);
    let wait_until_stable = async {
        loop {
            let status = elections.get("web").await?.status.unwrap_or_default();
            let all = pods.list(&Default::default()).await?.items;
            let complete = all.len() == 3 && all.iter().all(|pod| pod.metadata.deletion_timestamp.is_none());
            let eligible = status.eligible_candidates == 3;
            // The status may still name a leader that is just gone.
            let labeled = all.iter().find(|pod| pod.labels().contains_key("leader")).map(ResourceExt::name_any);
            if let (true, true, Some(leader)) =
                (complete, eligible, status.leader.filter(|leader| labeled.as_ref() == Some(leader)))
            {
                match (pair[0].is_active().await, pair[1].is_active().await) {
                    (Some(true), Some(false)) => return Ok((0, leader)),
                    (Some(false), Some(true)) => return Ok((1, leader)),
                    _ => {}
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, wait_until_stable).await?
}

async fn prepare(cluster: &Cluster) -> Result<()> {
    cluster.define().await?;
    cluster.namespace(NAMESPACE).await?;
    let labels = json!({ "app": "web" });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "replicas": 3, "selector": { "matchLabels": labels }, "template": {
            "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "web", "image": "web" }] },
        }},
    });
    let election = json!({
        "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": { "name": "web" },
        "spec": { "selector": { "matchLabels": labels } },
    });
    cluster.apply::<Deployment>(NAMESPACE, deployment).await?;
    cluster.apply::<Election>(NAMESPACE, election).await?;
    Ok(())
}
