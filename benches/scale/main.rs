//! Many Elections: their cost at rest, the rate of initial elections, a storm of failovers, and the growth of all of these.
//!
//! `make bench ONLY=scale` runs 10,000 Elections with three pods each on kwok's nodes, for about twenty minutes; `ELECTIONS=1000` is
//! quick. A plain client sends the same writes in the same run, for comparison.

mod controller;
mod plain;
mod storm;
mod world;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use controller::Controller;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use podium_test_support::bench::Result;
use podium_test_support::bench::cluster::Cluster;
use podium_test_support::bench::figures::{Aim, Better, Figures, Spread, Unit, ratio};
use serde_json::json;
use storm::{Leaders, leaders, three_writes};
use world::{Layout, PODS, concurrently};

/// Duration of a measurement at rest.
const REST: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::from_env().await?;
    cluster.define().await?;
    let all = std::env::var("ELECTIONS").ok().map_or(Ok(10_000), |number| number.parse::<usize>())?;
    let worlds = Worlds::of(all);
    let mut figures = Figures::new("scale");
    let client = &cluster.client;
    let mut took = Duration::ZERO;
    for layout in worlds.all() {
        took += layout.create_pods(client).await?;
        layout.create_elections(client).await?;
    }
    println!("  ({} pods after {} s)", all * PODS, took.as_secs());

    let plain = plain::elect_all(client, worlds.plain).await?;
    let rate = |elections: usize, took: Duration| elections as f64 / took.as_secs_f64();
    let given = rate(worlds.plain.elections(), plain);
    figures.add("cold start: Elections by a plain client's writes", given, Unit::PerSecond, Better::Neither, None);
    // The controller would serve these until they are gone.
    for namespace in worlds.plain.namespace_names() {
        cluster.remove(&namespace).await?;
    }

    cold_start(&cluster, worlds, given, &mut figures).await?;
    restart(&cluster, worlds, &mut figures).await?;
    storm(&cluster, worlds, &mut figures).await?;
    unrelated_pods(&cluster, worlds, &mut figures).await?;
    let namespaces = worlds.all().into_iter().skip(1).flat_map(Layout::namespace_names);
    world::remove(client, namespaces.chain([UNRELATED.to_owned()])).await?;
    Ok(figures.finish()?)
}

/// Placement of the Elections. Single namespaces of several sizes show growth within a namespace, all of them growth across.
#[derive(Clone, Copy)]
struct Worlds {
    /// For the plain client only.
    plain: Layout,
    one: Layout,
    hundred: Layout,
    thousand: Layout,
    rest: Layout,
}

impl Worlds {
    fn of(all: usize) -> Self {
        let place = |prefix, namespaces, each| Layout { prefix, namespaces, each };
        let rest = all - 1 - all / 100 - all / 10;
        Self {
            plain: place("bench-plain", 10, all / 100),
            one: place("bench-one", 1, 1),
            hundred: place("bench-hundredth", 1, all / 100),
            thousand: place("bench-tenth", 1, all / 10),
            rest: place("bench-rest", rest.div_ceil(100), 100),
        }
    }

    fn all(self) -> [Layout; 5] {
        [self.plain, self.one, self.hundred, self.thousand, self.rest]
    }

    /// Returns the number of Elections that the controller serves.
    fn elections(self) -> usize {
        self.all().iter().skip(1).map(Layout::elections).sum()
    }
}

/// Measures the initial election of all leaders.
async fn cold_start(cluster: &Cluster, worlds: Worlds, given: f64, figures: &mut Figures) -> Result<()> {
    let all = worlds.elections();
    let begun = Instant::now();
    let controller = Controller::start(cluster, &[]).await?;
    controller.wait_until_stable(all).await?;
    let rate = all as f64 / begun.elapsed().as_secs_f64();
    figures.add("cold start: Elections by Podium", rate, Unit::PerSecond, Better::Higher, None);
    let aim = Some(Aim::AtLeast(0.75));
    figures.add("cold start: Podium's rate to the plain client's", rate / given, Unit::Ratio, Better::Higher, aim);
    let memory = controller.process.memory()?;
    figures.add("cold start: memory at its peak", memory.peak, Unit::MiB, Better::Lower, None);
    at_rest(&controller, &format!("{all} Elections, after a cold start"), figures).await
}

/// Measures restarts over a correct state, which needs no writes.
async fn restart(cluster: &Cluster, worlds: Worlds, figures: &mut Figures) -> Result<()> {
    let sizes = [(worlds.elections(), None), (worlds.thousand.elections(), Some(worlds.thousand)), (1, Some(worlds.one))];
    let mut memories = Vec::new();
    for (elections, only) in sizes {
        let namespaces: Vec<String> = only.into_iter().flat_map(Layout::namespace_names).collect();
        let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
        let controller = Controller::start(cluster, &namespaces).await?;
        controller.wait_until_stable(elections).await?;
        let name = format!("{elections} Elections");
        let ready = controller.ready_after.as_secs_f64();
        figures.add(format!("{name}: restart, ready after"), ready, Unit::Seconds, Better::Lower, None);
        let wrote = controller.requests()?.writes;
        figures.add(format!("{name}: restart, writes"), wrote, Unit::Count, Better::Lower, Some(Aim::AtMost(0.0)));
        memories.push((elections, at_rest(&controller, &name, figures).await.and(controller.process.memory())?.resident));
        per_event(cluster, &controller, only.unwrap_or(worlds.rest), &name, figures).await?;
    }
    let [(many, large), _, (_, small)] = memories[..] else { return Ok(()) };
    let each = (large - small) * 1024.0 * 1024.0 / many as f64;
    figures.add("memory for each Election with its three pods", each, Unit::Bytes, Better::Lower, None);
    Ok(())
}

/// Measures requests, processor time and memory at rest.
async fn at_rest(controller: &Controller, name: &str, figures: &mut Figures) -> Result<()> {
    let before = (controller.requests()?, controller.process.processor_time()?);
    tokio::time::sleep(REST).await;
    let after = (controller.requests()?, controller.process.processor_time()?);
    let minutes = REST.as_secs_f64() / 60.0;
    let none = Some(Aim::AtMost(0.0));
    let writes = (after.0.writes - before.0.writes) / minutes;
    figures.add(format!("{name}: writes at rest"), writes, Unit::PerMinute, Better::Lower, none);
    let reads = (after.0.reads - before.0.reads) / minutes;
    figures.add(format!("{name}: reads at rest, besides watches"), reads, Unit::PerMinute, Better::Lower, none);
    let used = (after.1 - before.1).as_secs_f64() / REST.as_secs_f64() * 100.0;
    figures.add(format!("{name}: processor at rest"), used, Unit::Percent, Better::Lower, None);
    let memory = controller.process.memory()?;
    figures.add(format!("{name}: memory"), memory.resident, Unit::MiB, Better::Lower, Some(Aim::AtMost(150.0)));
    Ok(())
}

/// Measures the processor time of a pod event without news: parsing, caches, indices.
async fn per_event(cluster: &Cluster, controller: &Controller, of: Layout, name: &str, figures: &mut Figures) -> Result<()> {
    const EVENTS: usize = 2_000;
    let names: Vec<_> = of.names().take(100).collect();
    let before = controller.process.processor_time()?;
    concurrently((0..EVENTS).collect(), |event: usize| {
        let (namespace, election) = names[event % names.len()].clone();
        async move {
            let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
            let touch = json!({ "metadata": { "annotations": { "bench.example/event": event.to_string() } } });
            pods.patch(&format!("{election}-{}", event % PODS), &PatchParams::default(), &Patch::Merge(touch)).await?;
            Ok(())
        }
    })
    .await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let each = (controller.process.processor_time()? - before).as_secs_f64() / EVENTS as f64 * 1e6;
    figures.add(format!("{name}: processor time for an event of a pod"), each, Unit::Microseconds, Better::Lower, None);
    Ok(())
}

/// Deletes a tenth of all leaders at once, and single leaders of another namespace before and meanwhile.
async fn storm(cluster: &Cluster, worlds: Worlds, figures: &mut Figures) -> Result<()> {
    let client = &cluster.client;
    let controller = Controller::start(cluster, &[]).await?;
    controller.wait_until_stable(worlds.elections()).await?;
    let (lone, many) = (worlds.hundred, worlds.thousand);
    let mut single = Leaders::of(client, &lone.namespace(0));
    let mut all = Leaders::of(client, &many.namespace(0));
    // Half of the single leaders before the storm, half meanwhile.
    let singles: Vec<_> = leaders(client, lone).await?.into_iter().collect();
    let (before, during) = singles.split_at(singles.len() / 2);
    let (mut calm, mut calm_floor) = (Vec::new(), Vec::new());
    for (id, leader) in before {
        calm_floor.push(three_writes(client, worlds.one).await?);
        calm.extend(single.replace(client, &HashMap::from([(id.clone(), leader.clone())])).await?);
    }
    let calm = Spread::of(&calm).ok_or("no failover")?;
    figures.add_times("one leader deleted, while nothing else happens: label", calm);

    let deleted = leaders(client, many).await?;
    let begun = Instant::now();
    let storm = all.replace(client, &deleted);
    let meanwhile = async {
        let mut waited = Vec::new();
        for (id, leader) in during {
            let at = begun.elapsed();
            let floor = three_writes(client, worlds.one).await?;
            let replaced = single.replace(client, &HashMap::from([(id.clone(), leader.clone())])).await?;
            waited.extend(replaced.into_iter().map(|replaced| (at, floor, replaced)));
        }
        Result::Ok(waited)
    };
    let storm = async { storm.await.map(|waited| (begun.elapsed(), waited)) };
    let ((ended, waited), meanwhile) = futures::future::try_join(storm, meanwhile).await?;
    let spread = Spread::of(&waited).ok_or("no storm")?;
    let number = waited.len();
    figures.add_times(format!("{number} leaders deleted at once: label"), spread);
    let last = ended.as_secs_f64();
    figures.add(
        format!("{number} leaders deleted at once: all have a successor after"),
        last,
        Unit::Seconds,
        Better::Lower,
        None,
    );
    let fair = ratio(spread.p99, spread.median);
    figures.add(format!("{number} leaders deleted at once: p99 to median"), fair, Unit::Ratio, Better::Lower, None);
    let meanwhile = meanwhile.into_iter().filter(|(at, ..)| *at < ended);
    let (floor, during): (Vec<Duration>, Vec<Duration>) = meanwhile.map(|(_, floor, waited)| (floor, waited)).unzip();
    let during = Spread::of(&during).ok_or("no failover during the storm")?;
    let floors = (Spread::of(&calm_floor).ok_or("no floor")?, Spread::of(&floor).ok_or("no floor")?);
    figures.add_times("one leader deleted in another namespace meanwhile: label", during);
    figures.add_times("three writes by a plain client, while nothing else happens", floors.0);
    figures.add_times("three writes by a plain client meanwhile", floors.1);
    let slower = ratio(during.median, calm.median);
    let aim = Some(Aim::AtMost(3.0));
    figures.add("one leader deleted meanwhile, to one while nothing else happens", slower, Unit::Ratio, Better::Lower, aim);
    let given = ratio(floors.1.median, floors.0.median);
    figures.add("three writes meanwhile, to three while nothing else happens", given, Unit::Ratio, Better::Neither, None);
    Ok(())
}

const UNRELATED: &str = "bench-unrelated";

/// Measures the cost of pods that belong to no Election, 99 for each that does.
async fn unrelated_pods(cluster: &Cluster, worlds: Worlds, figures: &mut Figures) -> Result<()> {
    let number = worlds.hundred.elections() * PODS * 99;
    let few = worlds.hundred.namespace(0);
    let without = Controller::start(cluster, &[&few]).await?;
    without.wait_until_stable(worlds.hundred.elections()).await?;
    let before = without.process.memory()?.resident;
    drop(without);
    world::create_unrelated_pods(&cluster.client, UNRELATED, number).await?;
    let with = Controller::start(cluster, &[&few, UNRELATED]).await?;
    with.wait_until_stable(worlds.hundred.elections()).await?;
    let name = format!("{number} pods of which 1 % belong to Elections");
    let ready = with.ready_after.as_secs_f64();
    figures.add(format!("{name}: ready after"), ready, Unit::Seconds, Better::Lower, None);
    let memory = with.process.memory()?;
    figures.add(format!("{name}: memory"), memory.resident, Unit::MiB, Better::Lower, None);
    figures.add(format!("{name}: memory at its peak"), memory.peak, Unit::MiB, Better::Lower, None);
    let each = (memory.resident - before) * 1024.0 * 1024.0 / number as f64;
    figures.add("memory for a pod that belongs to none", each, Unit::Bytes, Better::Lower, None);
    Ok(())
}
