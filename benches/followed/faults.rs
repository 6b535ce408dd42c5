//! An elector ends in one of four ways: its own view, and the label of an Election that follows its Lease.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::config::Kubeconfig;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use podium::api::Election;
use podium_test_support::bench::Result;
use podium_test_support::bench::arrivals::Arrivals;
use podium_test_support::bench::cluster::Cluster;
use podium_test_support::bench::elector::{Elector, Subject};
use podium_test_support::bench::figures::{Figures, Spread};
use podium_test_support::proxy::{Fate, Proxy};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::controller::Controller;

const NAMESPACE: &str = "bench-followed-faults";

/// Number of faults of each kind with short durations. `RUNS` changes it.
const RUNS: usize = 10;

/// Groups of three electors in parallel: they wait nearly always.
const GROUPS: usize = 5;

/// Bound on the start of a group.
const DEADLINE: Duration = Duration::from_secs(120);

/// Pause between two looks at an elector. A measurement is too long by at most this.
const POLL: Duration = Duration::from_millis(5);

/// A fault of the elector that leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGTERM: it releases the Lease.
    Term,
    /// SIGKILL
    Kill,
    /// Its requests get no answer any more.
    Partition,
    /// SIGSTOP
    Stop,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Term => "SIGTERM, which releases",
            Self::Kill => "SIGKILL",
            Self::Partition => "cut off",
            Self::Stop => "SIGSTOP",
        })
    }
}

/// Times since the fault.
struct Times {
    /// The former leader does not claim to lead any more. `None`: a stopped process that still does.
    stops: Option<Duration>,
    /// The former leader's pod has no label.
    leaves: Duration,
    /// The Lease names the next elector.
    acquires: Duration,
    /// The next elector's pod has the label.
    arrives: Duration,
}

/// Measures all faults for Podium's sidecar and for client-go's example.
pub async fn measure(cluster: &Cluster, figures: &mut Figures) -> Result<()> {
    let runs = std::env::var("RUNS").ok().map_or(Ok(RUNS), |runs| runs.parse())?;
    cluster.namespace(NAMESPACE).await?;
    let _controller = Controller::start(cluster, &[NAMESPACE]).await?;
    // The example's Lease lasts a minute, so it gets one round.
    for (subject, rounds) in [(Subject::Sidecar, runs.div_ceil(GROUPS)), (Subject::Example, 1)] {
        for fault in [Fault::Term, Fault::Kill, Fault::Partition, Fault::Stop] {
            let mut times = Vec::new();
            for round in 0..rounds {
                times.extend(measure_round(cluster, subject, fault, round).await?);
            }
            let mut add = |what: &str, times: Vec<Duration>| {
                if let Some(spread) = Spread::of(&times) {
                    figures.add_times(format!("{}: {fault}: {what}", subject.title()), spread);
                }
            };
            add("it stops claiming", times.iter().filter_map(|times| times.stops).collect());
            add("its label leaves", times.iter().map(|times| times.leaves).collect());
            add("the next one acquires", times.iter().map(|times| times.acquires).collect());
            add("the next label arrives", times.iter().map(|times| times.arrives).collect());
        }
    }
    cluster.remove(NAMESPACE).await
}

async fn measure_round(cluster: &Cluster, subject: Subject, fault: Fault, round: usize) -> Result<Vec<Times>> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(NAMESPACE);
    std::fs::create_dir_all(&directory)?;
    let kubeconfig = Kubeconfig::read_from(&cluster.kubeconfig)?;
    let mut groups = JoinSet::new();
    for number in 0..GROUPS {
        let name = format!("{subject:?}-{fault:?}-{round}-{number}").to_lowercase();
        create(cluster, &name).await?;
        let lease = watcher::Config::default().fields(&format!("metadata.name={}", lock(&name)));
        let leases = Arrivals::of(cluster.api(NAMESPACE), lease);
        let pods = Arrivals::of(cluster.api(NAMESPACE), watcher::Config::default().labels(&format!("app={name}")));
        let (directory, kubeconfig) = (directory.clone(), kubeconfig.clone());
        groups.spawn(Group { subject, fault, number, name, directory, kubeconfig }.fail_over(leases, pods));
    }
    let mut times = Vec::new();
    while let Some(group) = groups.join_next().await {
        times.push(group??);
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(times)
}

/// Creates the pods of three electors, and an Election that follows their Lease.
async fn create(cluster: &Cluster, name: &str) -> Result<()> {
    let nodes = Api::<Node>::all(cluster.client.clone()).list(&ListParams::default().labels("type=kwok")).await?.items;
    for (number, node) in nodes.iter().cycle().take(3).enumerate() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": format!("{name}-{number}"), "labels": { "app": name } },
            "spec": { "nodeName": node.name_any(), "containers": [{ "name": "app", "image": "app" }] },
        });
        cluster.apply::<Pod>(NAMESPACE, pod).await?;
    }
    let election = json!({
        "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": { "name": name },
        "spec": { "selector": { "matchLabels": { "app": name } }, "leaderFrom": { "lease": { "name": lock(name) } } },
    });
    cluster.apply::<Election>(NAMESPACE, election).await?;
    Ok(())
}

fn lock(name: &str) -> String {
    format!("{name}-lock")
}

/// Three electors, whose names are those of their pods.
struct Group {
    subject: Subject,
    fault: Fault,
    /// Index among the parallel groups.
    number: usize,
    name: String,
    directory: PathBuf,
    kubeconfig: Kubeconfig,
}

impl Group {
    /// Lets the first elector lead, and then end.
    async fn fail_over(self, mut leases: Arrivals<Lease>, mut pods: Arrivals<Pod>) -> Result<Times> {
        let proxy = Proxy::to(&self.kubeconfig).await;
        let leader = self.start(0, &proxy.kubeconfig())?;
        let former = self.identity(0);
        leases.first(|lease| holder(lease) == former).await?;
        let others = [self.start(1, &self.kubeconfig)?, self.start(2, &self.kubeconfig)?];
        let began = Instant::now();
        while !(others[0].knows_a_leader()? && others[1].knows_a_leader()? && self.claims(&leader)) {
            if began.elapsed() > DEADLINE {
                return Err(format!("{}: no leader with two standbys within the deadline", self.subject.title()).into());
            }
            sleep(POLL).await;
        }
        pods.first(|pod| pod.name_any() == former && is_labeled(pod)).await?;
        // Spreads the faults evenly between two renewals, because the wait of the others depends on the last renewal.
        leases.forget();
        leases.first(|lease| holder(lease) == former).await?;
        sleep(self.subject.retry_period().mul_f64((self.number as f64 + 0.5) / GROUPS as f64)).await;
        let begun = Instant::now();
        match self.fault {
            Fault::Term => leader.process.signal("TERM")?,
            Fault::Kill => leader.process.signal("KILL")?,
            Fault::Stop => leader.process.signal("STOP")?,
            Fault::Partition => {
                proxy.rule(|_| Fate::Hang);
                proxy.cut();
            }
        }
        let stops = async {
            // client-go cannot stop claiming while its process is stopped.
            if self.fault == Fault::Stop && self.subject == Subject::Example {
                return Ok(None);
            }
            while self.claims(&leader) {
                if begun.elapsed() > DEADLINE {
                    return Err(format!("{}: it claims to lead after {}", self.subject.title(), self.fault).into());
                }
                sleep(POLL).await;
            }
            Ok(Some(begun.elapsed()))
        };
        let acquires = async { Ok(leases.first(|lease| !["", &former].contains(&holder(lease))).await?.0) };
        let label = async {
            let (left, _) = pods.first(|pod| pod.name_any() == former && !is_labeled(pod)).await?;
            let (arrived, _) = pods.first(|pod| pod.name_any() != former && is_labeled(pod)).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((left, arrived))
        };
        let (stops, acquired, (left, arrived)) = tokio::try_join!(stops, acquires, label)?;
        let since = |at: Instant| at.saturating_duration_since(begun);
        Ok(Times { stops, leaves: since(left), acquires: since(acquired), arrives: since(arrived) })
    }

    /// Returns whether the elector claims to lead: Podium's by its file, the example by running.
    fn claims(&self, elector: &Elector) -> bool {
        match self.subject {
            Subject::Example => elector.process.memory().is_ok(),
            _ => self.directory.join(self.identity(0)).exists(),
        }
    }

    fn identity(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    fn start(&self, number: usize, kubeconfig: &Kubeconfig) -> Result<Elector> {
        let lock = lock(&self.name);
        Elector::start(self.subject, &self.identity(number), (NAMESPACE, &lock), &self.directory, kubeconfig)
    }
}

fn is_labeled(pod: &Pod) -> bool {
    pod.labels().contains_key("leader")
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}
