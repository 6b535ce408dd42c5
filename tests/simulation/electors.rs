//! Electors: a process in each pod elects with the others on a Lease, by client-go's protocol and with its durations. An
//! Election follows that Lease.

use std::sync::Arc;
use std::time::Duration;

use podium_test_support::random::Random;
use podium_test_support::server::Resource::{Leases, Pods};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, NAMESPACE};

/// The Lease on which the pods elect.
pub const LOCK: &str = "lock";

/// client-go's `LeaseDuration`, in seconds.
const LEASE_DURATION: u64 = 15;

/// client-go's `RenewDeadline`.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// client-go's `RetryPeriod`.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// The time after which a request fails that gets no response.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Parameters of the electors, per thousand turns of a process.
#[derive(Clone, Debug)]
pub struct Electors {
    /// Ends without a release.
    pub crashes: u64,
    /// Ends with a release.
    pub releases: u64,
    /// Partitions from the server.
    pub cuts: u64,
    /// Edits of the Lease by users, per thousand checks of theirs.
    pub edits: u64,
}

impl Electors {
    /// Draws the parameters, or none.
    pub fn of(mut some: impl FnMut(u64, u64) -> u64) -> Option<Self> {
        let takes_part = some(400, 2) > 0;
        let electors = Self { crashes: some(600, 80), releases: some(600, 80), cuts: some(500, 80), edits: some(500, 400) };
        takes_part.then_some(electors)
    }

    /// The same without faults.
    pub fn fair(self) -> Self {
        Self { crashes: 0, cuts: 0, edits: 0, ..self }
    }

    /// Starts the electors in the pods of these names, for as long as the world exists.
    pub fn begin(
        &self,
        cluster: &Arc<Cluster>,
        actors: &mut JoinSet<()>,
        (names, random): (&[String], &mut Random),
        calm: impl Fn() -> bool + Clone + Send + Sync + 'static,
    ) {
        for name in names {
            let elector =
                Elector { cluster: cluster.clone(), electors: self.clone(), pod: name.clone(), calm: calm.clone() };
            actors.spawn(elector.run(random.child()));
        }
        actors.spawn(edit(cluster.clone(), self.edits, random.child(), calm));
    }
}

/// The electing processes of one pod name, one after the other.
struct Elector<F> {
    cluster: Arc<Cluster>,
    electors: Electors,
    pod: String,
    calm: F,
}

/// One process.
struct Process {
    identity: String,
    pod_uid: Value,
    /// The last observed content of the Lease, and since when it is unchanged.
    observed: (Value, Instant),
    /// The last acknowledged renewal, while it leads.
    renewed: Option<Instant>,
    /// It is partitioned until then.
    cut: Instant,
}

impl<F: Fn() -> bool> Elector<F> {
    async fn run(self, mut random: Random) {
        loop {
            sleep(random.millis(100, 3_000)).await;
            let pod = self.cluster.all(Pods).remove(&self.pod).unwrap_or_default();
            // Some electors are in pods that no Election selects.
            let takes_part = pod["metadata"]["labels"]["app"] == "web" || random.permille(50);
            if !takes_part || pod["status"]["phase"] != "Running" || pod["metadata"]["deletionTimestamp"].is_string() {
                continue;
            }
            let now = Instant::now();
            let identity = format!("{}_{:08x}", self.pod, random.between(0, 1 << 32));
            let pod_uid = pod["metadata"]["uid"].clone();
            let process = Process { identity, pod_uid, observed: (Value::Null, now), renewed: None, cut: now };
            self.live(process, &mut random).await;
        }
    }

    /// Runs a process until its end.
    async fn live(&self, mut process: Process, random: &mut Random) {
        loop {
            let pod = self.cluster.all(Pods).remove(&self.pod).unwrap_or_default();
            if pod["metadata"]["uid"] != process.pod_uid || pod["status"]["phase"] != "Running" {
                return;
            }
            let happens = |often: u64, random: &mut Random| !(self.calm)() && random.permille(often);
            if happens(self.electors.crashes, random) {
                return;
            }
            let stops = pod["metadata"]["deletionTimestamp"].is_string() && random.permille(300);
            if stops || happens(self.electors.releases, random) {
                return self.release(&process, random).await;
            }
            if happens(self.electors.cuts, random) {
                process.cut = Instant::now() + random.millis(100, 30_000);
            }
            if (self.calm)() {
                process.cut = Instant::now();
            }
            let began = Instant::now();
            if self.acquire_or_renew(&mut process, random).await {
                process.renewed = Some(began);
            } else if process.renewed.is_some_and(|renewed| renewed.elapsed() > RENEW_DEADLINE) {
                return;
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    /// One attempt of client-go's `tryAcquireOrRenew`.
    async fn acquire_or_renew(&self, process: &mut Process, random: &mut Random) -> bool {
        let mut spec = json!({
            "holderIdentity": process.identity,
            "leaseDurationSeconds": LEASE_DURATION,
            "acquireTime": self.now(),
            "renewTime": self.now(),
            "leaseTransitions": 0,
        });
        let Some(mut lease) = self.ask(process, "GET", Value::Null, random).await else {
            let body = json!({ "metadata": { "name": LOCK }, "spec": spec });
            return self.ask(process, "POST", body, random).await.is_some();
        };
        let before = &lease["spec"];
        if process.observed.0 != *before {
            process.observed = (before.clone(), Instant::now());
        }
        let holder = before["holderIdentity"].as_str().unwrap_or_default();
        let duration = Duration::from_secs(before["leaseDurationSeconds"].as_u64().unwrap_or(LEASE_DURATION));
        if holder == process.identity {
            spec["acquireTime"] = before["acquireTime"].clone();
            spec["leaseTransitions"] = before["leaseTransitions"].clone();
        } else if !holder.is_empty() && process.observed.1.elapsed() < duration {
            return false;
        }
        lease["spec"] = spec.clone();
        let renewed = self.ask(process, "PUT", lease, random).await.is_some();
        if renewed {
            process.observed = (spec, Instant::now());
        }
        renewed
    }

    /// Releases the Lease if the process holds it, as client-go does with `ReleaseOnCancel`.
    async fn release(&self, process: &Process, random: &mut Random) {
        let Some(mut lease) = self.ask(process, "GET", Value::Null, random).await else { return };
        if lease["spec"]["holderIdentity"] == process.identity.as_str() {
            lease["spec"] = json!({
                "holderIdentity": "",
                "leaseDurationSeconds": 1,
                "acquireTime": self.now(),
                "renewTime": self.now(),
                "leaseTransitions": lease["spec"]["leaseTransitions"],
            });
            self.ask(process, "PUT", lease, random).await;
        }
    }

    /// Sends a request about the Lease. `None`: rejected, or lost with its response.
    async fn ask(&self, process: &Process, method: &str, body: Value, random: &mut Random) -> Option<Value> {
        let is_cut = || process.cut > Instant::now();
        sleep(random.millis(1, 12)).await;
        let answer = if is_cut() { None } else { self.cluster.ask_aside(&process.identity, method, (Leases, LOCK), body) };
        // Some partitions begin between request and response.
        if is_cut() || (!(self.calm)() && self.electors.cuts > 0 && random.permille(20)) {
            sleep(TIMEOUT).await;
            return None;
        }
        sleep(random.millis(1, 12)).await;
        answer
    }

    fn now(&self) -> String {
        self.cluster.now().to_string()
    }
}

/// Users who delete or edit the Lease, until it is calm.
async fn edit(cluster: Arc<Cluster>, edits: u64, mut random: Random, calm: impl Fn() -> bool) {
    while !calm() {
        sleep(random.millis(500, 10_000)).await;
        if !calm() && random.permille(edits) {
            tamper(&cluster, "user", &mut random);
        }
    }
}

/// Deletes the Lease, or edits it.
pub fn tamper(cluster: &Cluster, who: &str, random: &mut Random) {
    let spec = match random.between(0, 6) {
        0..=2 => return drop(cluster.ask(who, "DELETE", (Leases, LOCK), Value::Null)),
        3 => json!({ "holderIdentity": "somebody" }),
        4 => json!({ "holderIdentity": null }),
        _ => json!({ "leaseDurationSeconds": random.between(3, 20) }),
    };
    cluster.ask(who, "PATCH", (Leases, LOCK), json!({ "spec": spec }));
}

/// Gives the Lease to this pod, or to nobody. Nobody renews it.
pub fn hold(cluster: &Cluster, who: &str, pod: Option<&str>) {
    let identity = pod.map_or_else(String::new, |pod| format!("{pod}_{}", cluster.server().revision()));
    let now = cluster.now().to_string();
    let spec = json!({ "holderIdentity": identity, "leaseDurationSeconds": LEASE_DURATION, "renewTime": now });
    let body = json!({ "metadata": { "name": LOCK, "namespace": NAMESPACE }, "spec": spec });
    let method = if cluster.all(Leases).contains_key(LOCK) { "PATCH" } else { "POST" };
    cluster.ask(who, method, (Leases, LOCK), body);
}

/// Renews the Lease for its holder.
pub fn renew(cluster: &Cluster, who: &str) {
    let lease = cluster.all(Leases).remove(LOCK).unwrap_or_default();
    let held = lease["spec"]["holderIdentity"].as_str().is_some_and(|holder| !holder.is_empty());
    if held {
        let body = json!({ "spec": { "renewTime": cluster.now().to_string() } });
        cluster.ask_aside(who, "PATCH", (Leases, LOCK), body);
    }
}

/// Renews the Lease in time for whoever holds it, from when it is calm.
pub async fn keep(cluster: Arc<Cluster>, calm: impl Fn() -> bool) {
    loop {
        sleep(RETRY_PERIOD).await;
        if calm() {
            renew(&cluster, "elector");
        }
    }
}
