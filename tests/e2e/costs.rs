//! What a sidecar costs while nothing happens: figures for people, no assertions.
//!
//! `cargo test --test e2e -- --ignored --nocapture costs`. Processor and memory are those of the build that is tested.

use std::fs;
use std::time::Instant;

use kube::config::Kubeconfig;

use crate::harness::access::{CONTRIB, SUPPORTTOOLS};
use crate::harness::elector::Elector;
use crate::harness::proxy::Proxy;
use crate::harness::sidecar::{Call, Sidecar};
use crate::harness::{Scenario, scenario};
use crate::sidecars::renewals;

/// A process behind a proxy that counts its requests.
struct Counted {
    what: &'static str,
    proxy: Proxy,
    sidecar: Option<Sidecar>,
}

impl Counted {
    async fn start(what: &'static str, account: &Kubeconfig, call: impl Fn(&Kubeconfig) -> Call) -> Self {
        let proxy = Proxy::to(account).await;
        let sidecar = call(&proxy.kubeconfig()).start().await;
        Self { what, proxy, sidecar: Some(sidecar) }
    }
}

/// Resident memory in KiB, and processor time in hundredths of a second.
fn use_of(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which is in parentheses: the twelfth and the thirteenth field.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    (resident.unwrap_or_default(), ticks)
}

async fn start(world: &Scenario) -> Vec<Counted> {
    let endpoints = world.account_with("endpoints", &CONTRIB).await;
    let leases = world.account_with("leases", &SUPPORTTOOLS).await;
    let watching: [(&str, &str, &[&str]); 1] =
        [("coordination.k8s.io", "leases", &["get", "list", "watch", "create", "update"])];
    let watching = world.account_with("watching", &watching).await;
    let contrib = |name: &'static str| move |through: &Kubeconfig| world.contrib(name, through);
    let lease = |name: &'static str| move |through: &Kubeconfig| world.supporttools(name, through);
    let watch =
        |name: &'static str| move |through: &Kubeconfig| world.supporttools(name, through).variable("LEASE_NAME", "watched");
    let mut all = vec![
        Counted::start("Endpoints, 10/5/2.5 s: leader", &endpoints, contrib("pod-a")).await,
        Counted::start("Lease, 15/10/2 s: leader", &leases, lease("pod-a")).await,
        Counted::start("Lease with list and watch, 15/10/2 s: leader", &watching, watch("pod-a")).await,
    ];
    for leader in &all {
        leader.sidecar.as_ref().expect("it runs").names("pod-a").await;
    }
    all.push(Counted::start("Endpoints, 10/5/2.5 s: follower", &endpoints, contrib("pod-b")).await);
    all.push(Counted::start("Lease, 15/10/2 s: follower", &leases, lease("pod-b")).await);
    all.push(Counted::start("Lease with list and watch, 15/10/2 s: follower", &watching, watch("pod-b")).await);
    all.push(Counted::start("an Election's follower", &watching, |through| world.follower("web-1", through)).await);
    all
}

#[tokio::test]
#[ignore = "prints figures, asserts nothing"]
async fn what_each_kind_of_sidecar_asks_for_while_nothing_happens() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        let mut all = start(world).await;
        let mut electors = Vec::new();
        for (what, name, words) in [
            ("client-go's example, 60/15/5 s: leader", "go-1", "Successfully acquired lease"),
            ("client-go's example, 60/15/5 s: follower", "go-2", "New leader elected"),
        ] {
            let proxy = Proxy::to(&world.cluster.kubeconfig).await;
            let elector = Elector::start(&world.next_process().0, &proxy.kubeconfig(), &world.namespace, "go", name);
            elector.says(words, 1).await;
            electors.push(elector);
            all.push(Counted { what, proxy, sidecar: None });
        }
        renewals(world, 2).await;
        let before: Vec<_> = all.iter().map(|one| one.sidecar.as_ref().map(|sidecar| use_of(sidecar.pid()).1)).collect();
        all.iter().for_each(|one| drop(one.proxy.take()));
        let begin = Instant::now();
        for _ in 0..3 {
            renewals(world, 16).await;
        }
        let seconds = begin.elapsed().as_secs_f64();
        println!("in {seconds:.0} s:");
        for (one, before) in all.iter().zip(before) {
            let asked = one.proxy.take();
            let writes = asked.iter().filter(|asked| asked.method == "PUT").count();
            let each = asked.len() as f64 / seconds;
            print!("{:<50} {each:.2} requests/s, {:.1} writes/min", one.what, writes as f64 * 60.0 / seconds);
            if let Some((sidecar, before)) = one.sidecar.as_ref().zip(before) {
                let (resident, ticks) = use_of(sidecar.pid());
                print!(", {:.1} MiB resident, {} ms of processor time", resident as f64 / 1024.0, (ticks - before) * 10);
            }
            println!();
        }
    })
    .await;
}
