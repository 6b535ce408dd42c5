//! Cost of idle electors: requests, writes, memory and processor time of leader and followers.
//!
//! `make bench ONLY=sidecars`. Each of the three processes of a kind stands for a pod. Its own proxy counts its requests to the API
//! server. All kinds run in parallel, because they wait nearly always.

use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::config::Kubeconfig;
use podium_test_support::bench::Result;
use podium_test_support::bench::cluster::Cluster;
use podium_test_support::bench::elector::{Elector, Subject};
use podium_test_support::bench::figures::{Aim, Better, Figures, Unit};
use podium_test_support::bench::process::Memory;
use podium_test_support::proxy::{Fate, Proxy};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

const NAMESPACE: &str = "bench-sidecars";

/// Duration of the measurement.
const IDLE: Duration = Duration::from_secs(60);

/// Pause between two reads of a log.
const POLL: Duration = Duration::from_millis(20);

const DEADLINE: Duration = Duration::from_secs(60);

/// Electors to compare. A kube-scheduler does more than elect, so only its requests for the lock count.
const SUBJECTS: [Subject; 6] =
    [Subject::Follow, Subject::Sidecar, Subject::Polling, Subject::Contrib, Subject::ClientGo, Subject::Example];

/// Cost of one process while idle.
struct Cost {
    subject: Subject,
    leads: bool,
    /// Requests that began a watch do not count.
    requests: usize,
    writes: usize,
    memory: Memory,
    processor_time: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::from_env().await?;
    cluster.namespace(NAMESPACE).await?;
    let mut figures = Figures::new("sidecars");
    let mut kinds = JoinSet::new();
    for subject in SUBJECTS {
        let (kubeconfig, leases) = (Kubeconfig::read_from(&cluster.kubeconfig)?, cluster.api::<Lease>(NAMESPACE));
        if subject == Subject::Follow {
            // The Lease of an earlier election.
            let lease = json!({ "metadata": { "name": lock(subject) }, "spec": { "holderIdentity": "web-1" } });
            leases.create(&Default::default(), &serde_json::from_value(lease)?).await?;
        }
        kinds.spawn(async move { measure_idle(subject, &kubeconfig).await });
    }
    let mut costs = Vec::new();
    while let Some(cost) = kinds.join_next().await {
        costs.extend(cost??);
    }
    for subject in SUBJECTS {
        for leads in [true, false] {
            report(costs.iter().filter(|cost| cost.subject == subject && cost.leads == leads), &mut figures);
        }
    }
    cluster.remove(NAMESPACE).await?;
    Ok(figures.finish()?)
}

fn lock(subject: Subject) -> String {
    format!("{subject:?}").to_lowercase()
}

/// Starts three electors, waits until they take part, and measures them while idle.
async fn measure_idle(subject: Subject, kubeconfig: &Kubeconfig) -> Result<Vec<Cost>> {
    let lock = lock(subject);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(NAMESPACE).join(&lock);
    std::fs::create_dir_all(&directory)?;
    let mut electors: Vec<(Elector, Proxy)> = Vec::new();
    for number in 0..3 {
        let identity = format!("{lock}-{number}");
        let proxy = Proxy::to(kubeconfig).await;
        if matches!(subject, Subject::Polling | Subject::Contrib) {
            proxy.rule(|asked| if asked.is_watch() { Fate::Refuse(403) } else { Fate::Forward });
        }
        let elector = Elector::start(subject, &identity, (NAMESPACE, &lock), &directory, &proxy.kubeconfig())?;
        let began = Instant::now();
        // The first elector leads.
        while !elector.knows_a_leader()? {
            if began.elapsed() > DEADLINE {
                return Err(format!("{}: no leader in its log within the deadline", subject.title()).into());
            }
            sleep(POLL).await;
        }
        electors.push((elector, proxy));
    }
    // Twice the longest pause between two requests: the start is over.
    sleep(subject.retry_period() * 4).await;
    let mut before = Vec::new();
    for (elector, proxy) in &electors {
        proxy.take();
        before.push(elector.process.processor_time()?);
    }
    sleep(IDLE).await;
    let mut costs = Vec::new();
    for ((elector, proxy), before) in electors.iter().zip(before) {
        let asked = proxy.asked(|asked| asked.path.contains(&lock) && !asked.is_watch());
        let writes = asked.iter().filter(|asked| asked.method != "GET").count();
        let processor_time = elector.process.processor_time()?.saturating_sub(before);
        let memory = elector.process.memory_with_children()?;
        costs.push(Cost { subject, leads: writes > 0, requests: asked.len(), writes, memory, processor_time });
    }
    drop(electors);
    std::fs::remove_dir_all(&directory)?;
    Ok(costs)
}

/// Adds the cost of the leader, or the largest of the followers, to the figures.
fn report<'a>(costs: impl Iterator<Item = &'a Cost>, figures: &mut Figures) {
    let costs: Vec<&Cost> = costs.collect();
    let Some(Cost { subject, leads, .. }) = costs.first() else { return };
    let role = match (subject, leads) {
        (Subject::Follow, _) => String::new(),
        (_, true) => " leader,".to_owned(),
        (_, false) => " follower,".to_owned(),
    };
    let title = subject.title();
    let most = |of: fn(&Cost) -> f64| costs.iter().map(|cost| of(cost)).fold(0.0, f64::max);
    let minutes = IDLE.as_secs_f64() / 60.0;
    // A process that may watch sends no requests while idle, unless it leads and renews.
    let silent = !leads && matches!(subject, Subject::Follow | Subject::Sidecar);
    let aim = silent.then_some(Aim::AtMost(0.0));
    let requests = most(|cost| cost.requests as f64) / minutes;
    figures.add(format!("{title}:{role} requests beside watches"), requests, Unit::PerMinute, Better::Lower, aim);
    let writes = most(|cost| cost.writes as f64) / minutes;
    figures.add(format!("{title}:{role} writes"), writes, Unit::PerMinute, Better::Lower, aim);
    if *subject == Subject::ClientGo {
        return;
    }
    let resident = most(|cost| cost.memory.resident);
    figures.add(format!("{title}:{role} resident"), resident, Unit::MiB, Better::Lower, None);
    let own = most(|cost| cost.memory.own);
    figures.add(format!("{title}:{role} of it not shared with a file"), own, Unit::MiB, Better::Lower, None);
    let milliseconds = most(|cost| cost.processor_time.as_secs_f64() * 1e3) / minutes;
    let what = format!("{title}:{role} processor time in a minute");
    figures.add(what, milliseconds, Unit::Milliseconds, Better::Lower, None);
}
