//! Thousands of connections to the HTTP servers of a controller and a sidecar, without a cluster: memory and other clients.

#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Half-open connections of a flood, and how many open at a time.
const FLOOD: usize = 5_000;
const AT_A_TIME: usize = 100;

/// The maximum growth of memory.
const MEMORY: u64 = 16 << 20;

/// The timeout of a step on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// A Podium process with an HTTP server but no API server, killed on drop.
struct PodiumProcess {
    child: Child,
    directory: PathBuf,
    address: SocketAddr,
}

impl PodiumProcess {
    async fn start(name: &str, arguments: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("podium-flood-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a writable directory");
        let (kubeconfig, log) = (directory.join("kubeconfig"), directory.join("log"));
        // No server listens there.
        let cluster = r#"{"clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:9"}}], "users": [],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": ""}}], "current-context": "x"}"#;
        fs::write(&kubeconfig, cluster).expect("a writable directory");
        let output = File::create(&log).expect("a writable directory");
        let child = Command::new(env!("CARGO_BIN_EXE_podium"))
            .args(arguments)
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .env("HOME", &directory)
            .env("POD_NAME", "web-0")
            .env("PODIUM_FILE", directory.join("status"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .expect("podium runs");
        let mut process = Self { child, directory, address: ([127, 0, 0, 1], 0).into() };
        let began = Instant::now();
        while process.address.port() == 0 {
            let log = process.log();
            assert!(began.elapsed() < DEADLINE, "it does not listen: {log}");
            let said = log.split("serving HTTP address=").nth(1).and_then(|rest| rest.split_whitespace().next());
            if let Some(address) = said.and_then(|address| address.parse().ok()) {
                process.address = address;
            }
            sleep(Duration::from_millis(20)).await;
        }
        process
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Resident memory, in bytes.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kilobytes.expect("its memory") << 10
    }

    async fn connect(&self) -> TcpStream {
        let connected = timeout(DEADLINE, TcpStream::connect(self.address)).await;
        connected.expect("in time").expect("it listens")
    }

    /// Requests this path on a new connection. Returns the first bytes of the response.
    async fn get(&self, path: &str) -> (TcpStream, String) {
        let mut connection = self.connect().await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        connection.write_all(request.as_bytes()).await.expect("it is sent");
        let mut answer = vec![0; 4096];
        let read = timeout(DEADLINE, connection.read(&mut answer)).await.expect("in time").expect("an answer");
        answer.truncate(read);
        (connection, String::from_utf8_lossy(&answer).into_owned())
    }

    async fn check_health(&self) {
        let (_, answer) = self.get("/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    }

    /// Opens a connection with an incomplete request.
    async fn half_open(&self) -> TcpStream {
        let mut connection = self.connect().await;
        let headers = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Padding: {}", "a".repeat(15 << 10));
        // It may be closed already.
        let _ = connection.write_all(headers.as_bytes()).await;
        connection
    }

    /// Waits until the server closes the connection.
    async fn closes(&self, mut connection: TcpStream) {
        let closed = async {
            let mut buffer = [0; 4096];
            while connection.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        };
        timeout(DEADLINE, closed).await.expect("the server closes it");
    }
}

impl Drop for PodiumProcess {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
    assert!(maximum.is_none_or(|most| most > FLOOD as u64 + 200), "ulimit -Hn {maximum:?}: raise it");
}

async fn flood(process: &PodiumProcess) {
    raise_limit();
    for path in ["/healthz", "/metrics", "/"] {
        process.get(path).await;
    }
    let before = process.memory();
    let mut most = before;
    let mut slowest = Duration::ZERO;
    let mut open = Vec::new();
    while open.len() < FLOOD {
        let some = join_all((0..AT_A_TIME).map(|_| process.half_open()));
        let well = async {
            let asked = Instant::now();
            process.check_health().await;
            asked.elapsed()
        };
        let (some, took) = tokio::join!(some, well);
        open.extend(some);
        most = most.max(process.memory());
        slowest = slowest.max(took);
    }
    // All requests have arrived.
    process.check_health().await;
    most = most.max(process.memory());
    println!("{FLOOD} half-open connections: {} KiB more; slowest /healthz {slowest:?}", (most - before) >> 10);
    assert!(most - before <= MEMORY, "{before} became {most}");
    let complaints = process.log().matches("more than 256 HTTP connections").count();
    assert_eq!(complaints, 1, "{}", process.log());

    drop(open);
    let (half_open, began) = (process.half_open().await, Instant::now());
    process.closes(half_open).await;
    assert!(began.elapsed() > Duration::from_secs(5), "no other client needs its slot");
    let mut large = process.connect().await;
    let headers = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Padding: {}\r\n\r\n", "a".repeat(17 << 10));
    large.write_all(headers.as_bytes()).await.expect("it is sent");
    let mut answer = vec![0; 4096];
    let read = timeout(DEADLINE, large.read(&mut answer)).await.expect("in time").expect("an answer");
    assert!(answer[..read].starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer[..read]));
    process.check_health().await;
}

#[tokio::test]
async fn controller_answers_healthz_during_a_flood_and_takes_little_memory() {
    flood(&PodiumProcess::start("controller", &["controller", "--http", "127.0.0.1:0"]).await).await;
}

const SIDECAR: &[&str] = &["sidecar", "--election=web", "--election-namespace=default", "--http=127.0.0.1:0"];

#[tokio::test]
async fn sidecar_answers_healthz_during_a_flood_and_takes_little_memory() {
    flood(&PodiumProcess::start("sidecar", SIDECAR).await).await;
}

#[tokio::test]
async fn listeners_of_events_are_limited_and_slots_are_reused() {
    let process = PodiumProcess::start("events", SIDECAR).await;
    let mut listeners = Vec::new();
    let mut refused = 0;
    for _ in 0..100 {
        let (connection, answer) = process.get("/events").await;
        match answer.split(' ').nth(1) {
            Some("200") => listeners.push(connection),
            Some("503") if answer.contains("64 listeners") => refused += 1,
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!((listeners.len(), refused), (64, 36));
    assert_eq!(process.log().matches("64 listeners").count(), 1, "{}", process.log());
    process.check_health().await;
    drop(listeners);
    let began = Instant::now();
    while !process.get("/events").await.1.starts_with("HTTP/1.1 200 ") {
        assert!(began.elapsed() < DEADLINE, "the slots are free again");
        sleep(Duration::from_millis(50)).await;
    }
}
