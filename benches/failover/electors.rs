//! Electors without an operator: how long after the leader's end the lock names the next one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::config::Kubeconfig;
use kube::runtime::watcher;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::harness::Result;
use super::harness::arrivals::Arrivals;
use super::harness::cluster::Cluster;
use super::harness::elector::{Elector, Subject};
use super::harness::figures::Spread;

const DEADLINE: Duration = Duration::from_secs(60);

/// How often it is looked whether they take part.
const LOOK: Duration = Duration::from_millis(20);

/// How many groups of three are measured at a time: they wait nearly all the time.
const GROUPS: usize = 5;

/// Three electors on a lock of their own: nothing is left of the round before.
struct Group {
    subject: Subject,
    signal: &'static str,
    /// Of those that are measured at a time.
    number: usize,
    namespace: String,
    lock: String,
    directory: PathBuf,
    kubeconfig: Kubeconfig,
}

/// From this signal to the leader until the Lease names another holder: so many rounds of several groups.
pub async fn measure(
    cluster: &Cluster,
    namespace: &str,
    subject: Subject,
    signal: &'static str,
    rounds: usize,
) -> Result<Spread> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-failover");
    std::fs::create_dir_all(&directory)?;
    let kubeconfig = Kubeconfig::read_from(&cluster.kubeconfig)?;
    let mut times = Vec::new();
    for round in 0..rounds {
        let mut groups = JoinSet::new();
        for number in 0..GROUPS {
            let lock = format!("{subject:?}-{signal}-{round}-{number}").to_lowercase();
            let config = watcher::Config::default().fields(&format!("metadata.name={lock}"));
            let seen = Arrivals::of(cluster.api::<Lease>(namespace), config);
            let (namespace, directory, kubeconfig) = (namespace.to_owned(), directory.clone(), kubeconfig.clone());
            groups.spawn(Group { subject, signal, number, namespace, lock, directory, kubeconfig }.fail_over(seen));
        }
        while let Some(time) = groups.join_next().await {
            times.push(time??);
        }
    }
    std::fs::remove_dir_all(&directory)?;
    Spread::of(&times).ok_or_else(|| "no rounds".into())
}

impl Group {
    /// How long the lock is without a leader that runs.
    async fn fail_over(self, mut seen: Arrivals<Lease>) -> Result<Duration> {
        // Whoever is first leads. Some choose their name themselves.
        let leader = self.start(0)?;
        let (_, first) = seen.first(|lease| !holder(lease).is_empty()).await?;
        let others = [self.start(1)?, self.start(2)?];
        let began = Instant::now();
        while !(others[0].knows_a_leader()? && others[1].knows_a_leader()?) {
            if began.elapsed() > DEADLINE {
                return Err(format!("{}: nobody stands by", self.subject.title()).into());
            }
            sleep(LOOK).await;
        }
        // Measured is from everywhere between two renewals alike: how long the others wait hangs on when the last one was.
        let renewed = first.spec.as_ref().and_then(|spec| spec.renew_time.clone());
        seen.forget();
        seen.first(|lease| lease.spec.as_ref().is_some_and(|spec| spec.renew_time > renewed)).await?;
        sleep(self.subject.retry_period().mul_f64((self.number as f64 + 0.5) / GROUPS as f64)).await;
        let begun = Instant::now();
        leader.process.signal(self.signal)?;
        let (next, _) = seen.first(|lease| !holder(lease).is_empty() && holder(lease) != holder(&first)).await?;
        Ok(next.saturating_duration_since(begun))
    }

    fn start(&self, number: usize) -> Result<Elector> {
        let identity = format!("{}-{number}", self.lock);
        let lock = (self.namespace.as_str(), self.lock.as_str());
        Elector::start(self.subject, &identity, lock, &self.directory, &self.kubeconfig)
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}
