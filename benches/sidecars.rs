//! Leader-elector processes side by side: ours in its two old roles, and client-go's own example.
//!
//! `PODIUM_KUBECONFIG=$(cluster/up bench) cargo bench --bench sidecars`, ten minutes; `RUNS=1` for a first look.
//!
//! Three processes of each, each in the place of a pod and behind a proxy of its own that counts its requests. Measured: how long
//! after SIGKILL and SIGTERM of the leader the lock names another holder (the lock is read every 20 ms), requests in half a
//! quiet minute of leader and followers, and the memory of each process with those that it started.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/e2e/harness/proxy.rs"]
mod proxy;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Endpoints, Namespace};
use kube::api::{DeleteParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client, ResourceExt};
use proxy::{Fate, Proxy};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

const NAMESPACE: &str = "bench-sidecars";
const LOOK: Duration = Duration::from_millis(20);
const QUIET: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(180);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    ClientGo,
    SupportTools,
    /// SupportTools' with the right to watch the Lease, which the old one did not need.
    Watching,
    Contrib,
}

impl Subject {
    const ALL: [Self; 4] = [Self::SupportTools, Self::Watching, Self::Contrib, Self::ClientGo];

    fn title(self) -> &'static str {
        match self {
            Self::ClientGo => "client-go's example, 60/15/5 s",
            Self::SupportTools => "podium for SupportTools, 15/10/2 s",
            Self::Watching => "the same, which may watch its Lease",
            Self::Contrib => "podium for contrib, 10/5/2.5 s",
        }
    }

    fn lock(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn command(self, identity: &str, directory: &Path, kubeconfig: &Path) -> Result<Command> {
        let lock = self.lock();
        let mut command = match self {
            Self::ClientGo => {
                let mut command = Command::new(binaries()?.join("leader-election"));
                command.args(["-id", identity, "-lease-lock-name", &lock, "-lease-lock-namespace", NAMESPACE]);
                command.arg("-kubeconfig").arg(kubeconfig);
                command
            }
            Self::SupportTools | Self::Watching => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_podium"));
                command.env("LEASE_NAME", lock).env("NAMESPACE", NAMESPACE);
                command.env("PODIUM_FILE", directory.join(identity)).env("PODIUM_HTTP", "127.0.0.1:0");
                command
            }
            Self::Contrib => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_podium"));
                command.args(["--election", &lock, "--election-namespace", NAMESPACE, "--http", "127.0.0.1:0"]);
                command
            }
        };
        command.env("KUBECONFIG", kubeconfig).env("POD_NAME", identity).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    /// Whom the lock names.
    async fn holder(self, client: &Client) -> Result<String> {
        let name = self.lock();
        Ok(match self {
            Self::Contrib => {
                let endpoints = Api::<Endpoints>::namespaced(client.clone(), NAMESPACE).get_opt(&name).await?;
                let record =
                    endpoints.and_then(|it| it.annotations().get("control-plane.alpha.kubernetes.io/leader").cloned());
                let record: Value = serde_json::from_str(record.as_deref().unwrap_or("{}"))?;
                record["holderIdentity"].as_str().unwrap_or_default().to_owned()
            }
            Self::ClientGo | Self::SupportTools | Self::Watching => {
                let lease = Api::<Lease>::namespaced(client.clone(), NAMESPACE).get_opt(&name).await?;
                lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default()
            }
        })
    }
}

struct Replica {
    identity: String,
    child: Child,
    proxy: Proxy,
}

impl Replica {
    async fn start(subject: Subject, number: usize, directory: &Path, kubeconfig: &Kubeconfig) -> Result<Self> {
        let identity = format!("{}-{number}", subject.lock());
        let proxy = Proxy::to(kubeconfig).await;
        if subject != Subject::Watching {
            proxy.rule(|asked| if asked.is_watch() { Fate::Refuse(403) } else { Fate::Forward });
        }
        let path = directory.join(format!("{identity}.kubeconfig"));
        std::fs::write(&path, serde_json::to_string(&proxy.kubeconfig())?)?;
        let child = subject.command(&identity, directory, &path)?.spawn()?;
        Ok(Self { identity, child, proxy })
    }

    fn signal(&self, name: &str) -> Result<()> {
        Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status()?;
        Ok(())
    }

    /// Resident memory of this process and those that it started, in MiB: all of it, and what is not shared with a file.
    fn memory(&self) -> Result<(f64, f64)> {
        let own = self.child.id().to_string();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
        let mut sums = (0.0, 0.0);
        for pid in std::iter::once(own.as_str()).chain(children.split_whitespace()) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            let field = |name: &str| -> f64 {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
            };
            sums = (sums.0 + field("VmRSS:"), sums.1 + field("RssAnon:"));
        }
        Ok(sums)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let path = std::env::var("PODIUM_KUBECONFIG").map_err(
        |_| "set PODIUM_KUBECONFIG to the kubeconfig of a cluster for benchmarks, for example $(cluster/up bench)",
    )?;
    let runs = std::env::var("RUNS").ok().map_or(Ok(5), |runs| runs.parse())?;
    let kubeconfig = Kubeconfig::read_from(&path)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig.clone(), &Default::default()).await?;
    let client = Client::try_from(config)?;
    let namespaces = Api::<Namespace>::all(client.clone());
    let namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } }))?;
    namespaces.create(&PostParams::default(), &namespace).await?;
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(NAMESPACE);
    std::fs::create_dir_all(&directory)?;
    for subject in Subject::ALL {
        println!("{}", subject.title());
        measure(subject, &client, &kubeconfig, &directory, runs).await?;
    }
    std::fs::remove_dir_all(&directory)?;
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await?;
    Ok(())
}

async fn measure(subject: Subject, client: &Client, kubeconfig: &Kubeconfig, directory: &Path, runs: usize) -> Result<()> {
    let mut replicas = Vec::new();
    for number in 0..3 {
        replicas.push(Replica::start(subject, number, directory, kubeconfig).await?);
    }
    let leader = next_holder(subject, client, "").await?.0;
    sleep(Duration::from_secs(2)).await;
    for replica in &replicas {
        replica.proxy.take();
    }
    sleep(QUIET).await;
    for replica in &replicas {
        let role = if replica.identity == leader { "leader" } else { "follower" };
        let asked = replica.proxy.take();
        let writes = asked.iter().filter(|asked| asked.method != "GET").count();
        let (all, own) = replica.memory()?;
        println!(
            "  {role}: {:.2} requests/s, {:.0} writes/min, {all:.1} MiB resident, of which {own:.1} not shared with a file",
            asked.len() as f64 / QUIET.as_secs_f64(),
            writes as f64 * 60.0 / QUIET.as_secs_f64(),
        );
    }
    for signal in ["KILL", "TERM"] {
        let mut times = Vec::new();
        for _ in 0..runs {
            let leader = next_holder(subject, client, "").await?.0;
            let index = replicas.iter().position(|replica| replica.identity == leader).ok_or("a stranger leads")?;
            let began = Instant::now();
            replicas[index].signal(signal)?;
            let (_, at) = next_holder(subject, client, &leader).await?;
            times.push(at - began);
            let number = 3 + replicas.len() + times.len() + if signal == "TERM" { runs } else { 0 };
            replicas[index] = Replica::start(subject, number, directory, kubeconfig).await?;
            // The new one has to be in the race before the next leader goes.
            sleep(Duration::from_secs(6)).await;
        }
        times.sort();
        let seconds = |time: &Duration| time.as_secs_f64();
        let (least, median, most) = (times.first(), times.get(times.len() / 2), times.last());
        if let (Some(least), Some(median), Some(most)) = (least, median, most) {
            let (least, median, most) = (seconds(least), seconds(median), seconds(most));
            println!(
                "  SIG{signal} to the next holder: {least:.2} / {median:.2} / {most:.2} s (least / median / most of {runs})"
            );
        }
    }
    Ok(())
}

/// The next one that the lock names who is not `former`, and when that was seen.
async fn next_holder(subject: Subject, client: &Client, former: &str) -> Result<(String, Instant)> {
    let found = timeout(DEADLINE, async {
        loop {
            let holder = subject.holder(client).await?;
            if !holder.is_empty() && holder != former {
                return Ok((holder, Instant::now()));
            }
            sleep(LOOK).await;
        }
    });
    found.await?
}

/// Where the binaries of the local cluster are.
fn binaries() -> Result<PathBuf> {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/build")).output()?;
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
