//! Failover: the time from the leader's end until the Lease, the label, the EndpointSlice and the sidecar name the next leader.
//!
//! `make bench ONLY=failover`; `RUNS=4` is quick. A plain client alternates with Podium's operator and does the same work on its own
//! pods: it watches for the end and sends the three writes that the protocol needs, compare-and-swap, fence and label. That is the
//! floor in the same situation: the control plane replaces the pod at that moment, and every write takes longer. Then follow electors
//! without an operator: Podium's sidecar, and client-go in widely used programs.

mod cause;
mod electors;
mod floor;
mod world;

use std::net::TcpListener;
use std::time::Duration;

use cause::Cause;
use floor::{Floor, IdleCluster};
use podium_test_support::bench::Result;
use podium_test_support::bench::cluster::Cluster;
use podium_test_support::bench::elector::Subject;
use podium_test_support::bench::figures::{Aim, Better, Figures, Spread, Unit, ratio};
use podium_test_support::bench::process::{Process, command, podium};
use world::{Owner, Reached, World};

/// Runs per cause.
const RUNS: usize = 60;

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::from_env().await?;
    cluster.define().await?;
    let runs = std::env::var("RUNS").ok().map_or(Ok(RUNS), |runs| runs.parse())?;
    let mut figures = Figures::new("failover");
    let deleted = operator(&cluster, Owner::Deployment, &Cause::ALL, runs, &mut figures).await?;
    operator(&cluster, Owner::None, &[Cause::Deleted], runs, &mut figures).await?;
    electors(&cluster, deleted, &mut figures).await?;
    Ok(figures.finish()?)
}

/// Measures Podium's operator and the plain client. Returns the first cause's times to the Lease and to the label.
async fn operator(
    cluster: &Cluster,
    owner: Owner,
    causes: &[Cause],
    runs: usize,
    figures: &mut Figures,
) -> Result<(Spread, Spread)> {
    let (elected, plain) = ("bench-failover", "bench-floor");
    cluster.namespace(elected).await?;
    cluster.namespace(plain).await?;
    let controller = Process::controller(&cluster.kubeconfig, &["--namespaces", elected])?;
    let address = free_address()?;
    let mut following = command(podium());
    following.args(["sidecar", "--election=web", "--election-namespace", elected, "--http", &address, "--log-level=warn"]);
    let sidecar = Process::start(following.env("KUBECONFIG", &cluster.kubeconfig).env("POD_NAME", "outside"))?;
    let client = Floor::start(cluster, plain).await?;
    let mut theirs = World::new(cluster, plain, owner, None).await?;
    let mut ours = World::new(cluster, elected, owner, Some(&address)).await?;
    ours.elect(cluster, elected).await?;
    let mut calm = IdleCluster::new(cluster, plain).await?;
    let mut first = None;
    for cause in causes {
        let (mut podium, mut floor, mut latency, mut writes) = (vec![], vec![], vec![], vec![]);
        for run in 0..=runs {
            let leader = theirs.wait_until_stable().await?;
            ours.wait_until_stable().await?;
            let (watch, three) = calm.measure(&leader).await?;
            let reached = (ours.measure(*cause).await?, theirs.measure(*cause).await?);
            ours.wait_until_stable().await?;
            // The first run opens connections.
            if run > 0 {
                podium.push(reached.0);
                floor.push(reached.1);
                latency.push(watch);
                writes.push(three);
            }
        }
        let pods = if owner == Owner::None { " (of a pod that nobody replaces)" } else { "" };
        let end = format!("leader {}{pods}", cause.title());
        let reported = report(&end, &podium, &floor, figures)?;
        first = first.or(Some(reported));
        if *cause == Cause::Deleted {
            let (latency, writes) = (spread(&latency)?, spread(&writes)?);
            figures.add_times(format!("plain client, nothing happens{pods}: latency of a watch"), latency);
            figures.add_times(format!("plain client, nothing happens{pods}: three writes"), writes);
            let calm = ratio(reported.1.median, latency.median + writes.median);
            let what = format!("{end}: label, median, to the sum of both while nothing happens");
            figures.add(what, calm, Unit::Ratio, Better::Lower, None);
        }
    }
    drop((controller, sidecar, client));
    cluster.remove(elected).await?;
    cluster.remove(plain).await?;
    first.ok_or_else(|| "no causes".into())
}

/// Adds one cause to the figures. Returns its times to the Lease and to the label.
fn report(end: &str, podium: &[Reached], floor: &[Reached], figures: &mut Figures) -> Result<(Spread, Spread)> {
    type Place = (&'static str, fn(&Reached) -> Option<Duration>);
    let places: [Place; 4] = [
        ("Lease", |reached| Some(reached.lease)),
        ("label", |reached| Some(reached.label)),
        ("EndpointSlice", |reached| Some(reached.slice)),
        ("sidecar's answer", |reached| reached.sidecar),
    ];
    let mut to_label = None;
    for (place, reached) in places {
        let of = |all: &[Reached]| -> Vec<Duration> { all.iter().filter_map(reached).collect() };
        let ours = spread(&of(podium))?;
        figures.add_times(format!("{end}: {place}"), ours);
        let Some(theirs) = Spread::of(&of(floor)) else { continue };
        figures.add_times(format!("{end}: {place}, by the plain client"), theirs);
        if place == "label" {
            to_label = Some(ours);
            let what = format!("{end}: label, median, to the plain client's");
            figures.add(what, ratio(ours.median, theirs.median), Unit::Ratio, Better::Lower, Some(Aim::AtMost(1.25)));
            let what = format!("{end}: label, 99th percentile, to the plain client's median");
            figures.add(what, ratio(ours.p99, theirs.median), Unit::Ratio, Better::Lower, Some(Aim::AtMost(3.0)));
        }
    }
    let to_lease = spread(&podium.iter().map(|reached| reached.lease).collect::<Vec<_>>())?;
    Ok((to_lease, to_label.ok_or("no label was measured")?))
}

/// Measures the electors. `deleted` has the operator's times to the Lease and to the label after a deletion.
async fn electors(cluster: &Cluster, deleted: (Spread, Spread), figures: &mut Figures) -> Result<()> {
    let namespace = "bench-electors";
    cluster.namespace(namespace).await?;
    let subjects = [
        (Subject::Sidecar, 2, 6),
        (Subject::SidecarTuned, 6, 6),
        (Subject::ClientGo, 2, 2),
        (Subject::ClientGoTuned, 4, 2),
        (Subject::Example, 1, 1),
    ];
    for (subject, kills, terms) in subjects {
        let killed = electors::measure(cluster, namespace, subject, "KILL", kills).await?;
        let released = electors::measure(cluster, namespace, subject, "TERM", terms).await?;
        let title = subject.title();
        figures.add_times(format!("{title}: leader killed: Lease"), killed);
        figures.add_times(format!("{title}: leader told to end, which releases: Lease"), released);
        if subject == Subject::ClientGo {
            // client-go announces its leader by the Lease alone, so that ratio is like for like. The aim is for the later label.
            let aim = Some(Aim::AtLeast(500.0));
            for (place, deleted, aim) in [("Lease", deleted.0, None), ("label", deleted.1, aim)] {
                let what = format!(
                    "client-go at its defaults without a release, median, to the operator's leader deleted: {place}"
                );
                figures.add(what, ratio(killed.median, deleted.median), Unit::Ratio, Better::Higher, aim);
            }
        }
    }
    cluster.remove(namespace).await
}

/// Returns a free address of this machine.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn spread(times: &[Duration]) -> Result<Spread> {
    Spread::of(times).ok_or_else(|| "no measurements".into())
}
