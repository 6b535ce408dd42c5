//! Failover: from what ends a leader until the Lease, the label, the EndpointSlice and the sidecar's answer name the next one.
//!
//! `make bench ONLY=failover`, `RUNS=4` for a first look. Beside Podium's operator a plain client does the same work on pods of its own, turn by turn: it hears of the
//! end by a watch and writes three times, because that is what the protocol cannot do without: compare-and-swap, fence, label. That is
//! the floor, in the same situation: the control plane is busy replacing the pod then, and every write takes longer. Then
//! electors without an operator, Podium's sidecar and client-go in programs that people run.

#[path = "../harness/mod.rs"]
mod harness;

mod cause;
mod electors;
mod floor;
mod world;

use std::net::TcpListener;
use std::time::Duration;

use cause::Cause;
use floor::{Calm, Floor};
use harness::Result;
use harness::cluster::Cluster;
use harness::elector::Subject;
use harness::figures::{Aim, Better, Figures, Spread, Unit, ratio};
use harness::process::{PODIUM, Process, command};
use world::{Owner, Reached, World};

/// How often each cause is measured.
const RUNS: usize = 60;

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::from_env().await?;
    cluster.define().await?;
    let runs = std::env::var("RUNS").ok().map_or(Ok(RUNS), |runs| runs.parse())?;
    let mut figures = Figures::new("failover");
    let deleted = operator(&cluster, Owner::Deployment, &Cause::ALL, runs, &mut figures).await?;
    operator(&cluster, Owner::Nobody, &[Cause::Deleted], runs, &mut figures).await?;
    electors(&cluster, deleted, &mut figures).await?;
    Ok(figures.finish()?)
}

/// Podium's operator beside the plain client. Returns how long the first cause took to the Lease and to the label.
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
    let mut following = command(PODIUM);
    following.args(["sidecar", "--election=web", "--election-namespace", elected, "--http", &address, "--log-level=warn"]);
    let sidecar = Process::start(following.env("KUBECONFIG", &cluster.kubeconfig).env("POD_NAME", "outside"))?;
    let client = Floor::start(cluster, plain).await?;
    let mut theirs = World::new(cluster, plain, owner, None).await?;
    let mut ours = World::new(cluster, elected, owner, Some(&address)).await?;
    ours.elect(cluster, elected).await?;
    let mut calm = Calm::new(cluster, plain).await?;
    let mut first = None;
    for cause in causes {
        let (mut podium, mut floor, mut latency, mut writes) = (vec![], vec![], vec![], vec![]);
        for run in 0..=runs {
            let leader = theirs.settled().await?;
            ours.settled().await?;
            let (watch, three) = calm.measure(&leader).await?;
            let reached = (ours.measure(*cause).await?, theirs.measure(*cause).await?);
            ours.settled().await?;
            // The first run opens connections.
            if run > 0 {
                podium.push(reached.0);
                floor.push(reached.1);
                latency.push(watch);
                writes.push(three);
            }
        }
        let pods = if owner == Owner::Nobody { " (of a pod that nobody replaces)" } else { "" };
        let end = format!("leader {}{pods}", cause.title());
        let told = tell(&end, &podium, &floor, figures)?;
        first = first.or(Some(told));
        if *cause == Cause::Deleted {
            let (latency, writes) = (spread(&latency)?, spread(&writes)?);
            figures.add_times(format!("plain client, nothing happens{pods}: latency of a watch"), latency);
            figures.add_times(format!("plain client, nothing happens{pods}: three writes"), writes);
            let calm = ratio(told.1.median, latency.median + writes.median);
            let what = format!("{end}: label, median, to the sum of both while nothing happens");
            figures.add(what, calm, Unit::Ratio, Better::Lower, None);
        }
    }
    drop((controller, sidecar, client));
    cluster.remove(elected).await?;
    cluster.remove(plain).await?;
    first.ok_or_else(|| "no causes".into())
}

/// Tells one cause. Returns how long it took to the Lease and to the label.
fn tell(end: &str, podium: &[Reached], floor: &[Reached], figures: &mut Figures) -> Result<(Spread, Spread)> {
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

/// Those that elect by themselves. `deleted`: how long the operator takes to the Lease and to the label when its leader is deleted.
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
            // client-go's has nothing but a Lease to tell by: like for like is the Lease, and the aim is for more, the label.
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

/// An address of this machine on which nothing listens.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn spread(times: &[Duration]) -> Result<Spread> {
    Spread::of(times).ok_or_else(|| "nothing was measured".into())
}
