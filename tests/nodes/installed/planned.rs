//! A client in the cluster while the leader changes by plan, beside a leader that is deleted.
//!
//! `RUNS=40 tests/nodes/run installed::planned` measures the gap on an idle machine.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use podium::api::Election;
use serde_json::json;

use crate::harness::leads::{Change, Leads, judge, now};
use crate::harness::poller::{Poller, gap};
use crate::harness::runs::{runs, summary};
use crate::harness::{World, eventually, world};

/// Number of last answers that must come from the leader: half a second.
const ANSWERS: usize = 50;

#[tokio::test]
async fn service_follows_a_planned_switchover_and_a_deletion() {
    world(async |world| {
        world.install_podium().await;
        let leads = world.record_leads().await;
        let url = world.led_service().await;
        let mut pollers = Vec::new();
        for node in ["real-1", "real-2"] {
            pollers.push(world.poll(&format!("client-{node}"), node, &url).await);
        }
        let (mut switchovers, mut deletions) = (Vec::new(), Vec::new());
        for _ in 0..runs(2) {
            switchovers.push(change(world, &leads, &mut pollers, async |leader| switch_over(world, leader).await).await);
            deletions.push(
                change(world, &leads, &mut pollers, async |leader| {
                    world.api::<Pod>().delete(leader, &DeleteParams::default()).await.expect("it is deleted");
                })
                .await,
            );
        }
        for (what, changes) in [("planned switchover", switchovers), ("the leader is deleted", deletions)] {
            let of = |value: fn(&(f64, Change)) -> f64| summary(changes.iter().map(value).collect());
            println!(
                "FIGURE {what}: the longest time without an answer {}; label after {}; while nothing happens, the longest \
                 time without an answer {}; 0 wrong answers",
                of(|(_, change)| change.gap),
                of(|(_, change)| change.label),
                of(|(calm, _)| *calm),
            );
        }
    })
    .await;
}

/// Changes the leader like this. Returns the effects on that client which they affected more, and its longest time without an
/// answer before.
async fn change(world: &World, leads: &Leads, pollers: &mut [Poller<'_>], end: impl AsyncFn(&str)) -> (f64, Change) {
    world.all_ready("app=web", 3).await;
    let former = leads.leader("somebody", |_| true).await;
    for poller in pollers.iter_mut() {
        poller.forget();
    }
    for poller in pollers.iter() {
        poller.lately(ANSWERS, &format!("come from {former}"), |answer| answer.from.as_ref() == Ok(&former)).await;
    }
    let began = now();
    end(&former).await;
    let next = leads.leader("another", |pod| pod != former).await;
    let all = leads.all();
    let [.., _, _] = all[..] else { panic!("there are two leaders: {all:?}") };
    let mut worst: Option<(f64, Change)> = None;
    for poller in pollers.iter() {
        let answers = poller.lately(ANSWERS, &format!("come from {next}"), |answer| answer.from.as_ref() == Ok(&next)).await;
        let change = judge(&answers, &all[all.len() - 2..], began);
        let before: Vec<_> = answers.into_iter().filter(|answer| answer.known < began).collect();
        if worst.as_ref().is_none_or(|(_, worst)| worst.gap < change.gap) {
            worst = Some((gap(&before), change));
        }
    }
    worst.expect("there are clients")
}

/// Requests a switchover from the leader, once the status names it.
async fn switch_over(world: &World, leader: &str) {
    let elections = world.api::<Election>();
    let term = eventually(&format!("the status names {leader}"), async || {
        let status = elections.get("web").await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        let term = status.term.filter(|_| status.leader.as_deref() == Some(leader));
        term.ok_or_else(|| format!("{status:?}"))
    })
    .await;
    let request = json!({ "metadata": { "annotations": { "podium.dev/switchover-term": term.to_string() } } });
    elections.patch("web", &PatchParams::default(), &Patch::Merge(request)).await.expect("the Election is annotated");
}
