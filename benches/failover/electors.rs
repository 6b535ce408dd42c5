//! Electors without an operator: the time from the leader's end until the lock names the next one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::config::Kubeconfig;
use kube::runtime::watcher;
use podium_test_support::bench::Result;
use podium_test_support::bench::arrivals::Arrivals;
use podium_test_support::bench::cluster::Cluster;
use podium_test_support::bench::elector::{Elector, Subject};
use podium_test_support::bench::figures::Spread;
use tokio::task::JoinSet;
use tokio::time::sleep;

const DEADLINE: Duration = Duration::from_secs(60);

/// Pause between two reads of a log.
const POLL: Duration = Duration::from_millis(20);

/// Groups of three in parallel: they wait nearly always.
const GROUPS: usize = 5;

/// Three electors on a new lock.
struct Group {
    subject: Subject,
    signal: &'static str,
    /// Index among the parallel groups.
    number: usize,
    namespace: String,
    lock: String,
    directory: PathBuf,
    kubeconfig: Kubeconfig,
}

/// Measures the time from the signal to the leader until the Lease names another holder, in `rounds` rounds of parallel groups.
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
    /// Returns the time during which the lock has no running leader.
    async fn fail_over(self, mut seen: Arrivals<Lease>) -> Result<Duration> {
        // The first elector leads. Some electors choose their own identity.
        let leader = self.start(0)?;
        let (_, first) = seen.first(|lease| !holder(lease).is_empty()).await?;
        let others = [self.start(1)?, self.start(2)?];
        let began = Instant::now();
        while !(others[0].knows_a_leader()? && others[1].knows_a_leader()?) {
            if began.elapsed() > DEADLINE {
                return Err(format!("{}: no standby within the deadline", self.subject.title()).into());
            }
            sleep(POLL).await;
        }
        // Spreads the signals evenly between two renewals, because the wait of the others depends on the last renewal.
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
