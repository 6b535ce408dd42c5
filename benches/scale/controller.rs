//! The controller that is measured, and what it says of itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use prometheus_parse::{Scrape, Value};

use crate::harness::Result;
use crate::harness::cluster::Cluster;
use crate::harness::process::Process;

/// How long a controller may take until it is ready, or has elected everybody.
const DEADLINE: Duration = Duration::from_secs(900);

/// One `podium controller`.
pub struct Controller {
    /// Its process.
    pub process: Process,
    /// From its start until it said that it was ready.
    pub ready_after: Duration,
    address: SocketAddr,
}

impl Controller {
    /// Starts it for these namespaces, or for all, and waits until it is ready.
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

    /// Waits until so many Elections have a leader, and it has nothing left to do.
    pub async fn settled(&self, led: usize) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            let told = self.told()?;
            let elections = sum(&told, "podium_elections", |labels| labels.get("state") == Some("led"));
            if elections as usize == led && sum(&told, "podium_queue_depth", |_| true) == 0.0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(format!("not {led} Elections had a leader within the deadline").into())
    }

    /// How many requests it has sent so far besides watches. It has no Lease of its own here.
    pub fn requests(&self) -> Result<Requests> {
        let told = self.told()?;
        let of = |writes: bool| {
            sum(&told, "podium_api_requests_total", |labels| {
                let verb = labels.get("verb").unwrap_or_default();
                verb != "watch" && matches!(verb, "create" | "update" | "patch" | "delete") == writes
            })
        };
        Ok(Requests { reads: of(false), writes: of(true) })
    }

    fn told(&self) -> Result<Scrape> {
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

/// Requests besides watches.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    pub reads: f64,
    pub writes: f64,
}

fn sum(told: &Scrape, metric: &str, of: impl Fn(&prometheus_parse::Labels) -> bool) -> f64 {
    let samples = told.samples.iter().filter(|sample| sample.metric == metric && of(&sample.labels));
    let values = samples.map(|sample| match sample.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
        Value::Histogram(_) | Value::Summary(_) => 0.0,
    });
    values.sum()
}
