//! The controller under measurement, and its metrics.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use podium_test_support::bench::Result;
use podium_test_support::bench::cluster::Cluster;
use podium_test_support::bench::process::Process;
use prometheus_parse::{Scrape, Value};

/// Bound on the time until a controller is ready, or has elected all leaders.
const DEADLINE: Duration = Duration::from_secs(900);

/// A running `podium controller`.
pub struct Controller {
    /// The process.
    pub process: Process,
    /// Time from its start until it was ready.
    pub ready_after: Duration,
    address: SocketAddr,
}

impl Controller {
    /// Starts the controller for these namespaces, or for all if empty. Waits until it is ready.
    pub async fn start(cluster: &Cluster, namespaces: &[&str]) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut arguments = vec!["--leader-elect=false".to_owned(), "--http".into(), address.to_string()];
        if !namespaces.is_empty() {
            arguments.extend(["--namespaces".to_owned(), namespaces.join(",")]);
        }
        let begun = Instant::now();
        let process = Process::controller(&cluster.kubeconfig, &arguments)?;
        let mut controller = Self { process, ready_after: Duration::ZERO, address };
        while !controller.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            if begun.elapsed() > DEADLINE {
                return Err("the controller was not ready within the deadline".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        controller.ready_after = begun.elapsed();
        Ok(controller)
    }

    /// Waits until this number of Elections have a leader and the queue is empty.
    pub async fn wait_until_stable(&self, led: usize) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            let scrape = self.scrape()?;
            let elections = sum(&scrape, "podium_elections", |labels| labels.get("state") == Some("elected"));
            if elections as usize == led && sum(&scrape, "podium_queue_depth", |_| true) == 0.0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(format!("not {led} Elections had a leader within the deadline").into())
    }

    /// Returns the requests so far, except watches. The controller has no Lease of its own here.
    pub fn requests(&self) -> Result<Requests> {
        let scrape = self.scrape()?;
        let of = |writes: bool| {
            sum(&scrape, "podium_api_requests_total", |labels| {
                let verb = labels.get("verb").unwrap_or_default();
                verb != "watch" && matches!(verb, "create" | "update" | "patch" | "delete") == writes
            })
        };
        Ok(Requests { reads: of(false), writes: of(true) })
    }

    fn scrape(&self) -> Result<Scrape> {
        let answer = self.get("/metrics")?;
        let body = answer.split_once("\r\n\r\n").ok_or("an answer without a body")?.1;
        Ok(Scrape::parse(body.lines().map(|line| Ok(line.to_owned())))?)
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// Requests, except watches.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    pub reads: f64,
    pub writes: f64,
}

fn sum(scrape: &Scrape, metric: &str, of: impl Fn(&prometheus_parse::Labels) -> bool) -> f64 {
    let samples = scrape.samples.iter().filter(|sample| sample.metric == metric && of(&sample.labels));
    let values = samples.map(|sample| match sample.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
        Value::Histogram(_) | Value::Summary(_) => 0.0,
    });
    values.sum()
}
