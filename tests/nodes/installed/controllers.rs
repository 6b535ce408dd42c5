//! The controllers under load.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use podium::api::Election;
use serde_json::json;
use tokio::sync::watch;

use crate::harness::install::NAMESPACE;
use crate::harness::leads::now;
use crate::harness::waiting::eventually_within;
use crate::harness::{World, alone, eventually};

/// Number of Elections that continuously lose their leaders.
const ELECTIONS: usize = 20;

#[tokio::test]
async fn failovers_continue_when_the_active_controller_is_killed_under_load() {
    under_load("the active controller's process is killed", async |world, active| {
        world.signal(active, "SIGKILL").await;
    })
    .await;
}

#[tokio::test]
async fn failovers_continue_when_the_active_controller_is_force_deleted_under_load() {
    under_load("the active controller is deleted by force", async |world, active| {
        delete(world, active, DeleteParams::default().grace_period(0)).await;
    })
    .await;
}

#[tokio::test]
async fn failovers_continue_when_the_active_controller_is_deleted_under_load() {
    under_load("the active controller is deleted", async |world, active| {
        delete(world, active, DeleteParams::default()).await;
    })
    .await;
}

async fn delete(world: &World, pod: &Pod, how: DeleteParams) {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
    pods.delete(&pod.name_any(), &how).await.expect("the controller is deleted");
}

/// A leader change: its duration in milliseconds, and its start.
#[derive(Clone, Copy, Debug)]
struct Took {
    asked: f64,
    milliseconds: f64,
}

async fn under_load(cause: &str, end: impl AsyncFn(&World, &Pod)) {
    alone(async |world: &World| {
        world.install_podium().await;
        let names: Vec<String> = (0..ELECTIONS).map(|number| format!("load-{number}")).collect();
        join_all(names.iter().map(|name| populate(world, name))).await;
        let (stop, stopped) = watch::channel(false);
        let load = join_all(names.iter().map(|name| churn(world, name, stopped.clone())));
        let story = async {
            let calm = now();
            eventually("leaders change", async || changes(world, &names, calm).await).await;
            let active = world.active_controller().await;
            let killed = now();
            end(world, &active).await;
            eventually_within(Duration::from_secs(90), "leaders change again", async || {
                changes(world, &names, killed).await
            })
            .await;
            stop.send(true).expect("somebody listens");
            killed
        };
        let (took, killed) = tokio::join!(load, story);
        let took: Vec<Took> = took.into_iter().flatten().collect();
        let (before, after): (Vec<Took>, Vec<Took>) = took.iter().partition(|one| one.asked + one.milliseconds < killed);
        let worst = |all: &[Took]| all.iter().map(|one| one.milliseconds).fold(f64::NAN, f64::max);
        assert!(!before.is_empty() && !after.is_empty(), "{took:?}");
        println!(
            "FIGURE {cause}: {} changes of leaders before, the longest {:.0} ms; the longest of {} then {:.0} ms",
            before.len(),
            worst(&before),
            after.len(),
            worst(&after),
        );
        world.all_controllers_ready().await;
    })
    .await;
}

/// Creates two pods on the fake node, and their Election.
async fn populate(world: &World, name: &str) {
    for number in 0..2 {
        world
            .create::<Pod>(json!({ "metadata": { "name": format!("{name}-{number}"), "labels": { "app": name } }, "spec": {
                "nodeSelector": { "type": "kwok" },
                "tolerations": [{ "key": "kwok.x-k8s.io/node", "operator": "Exists" }],
                "terminationGracePeriodSeconds": 0,
                "containers": [{ "name": "app", "image": "app" }],
            }}))
            .await;
    }
    for number in 0..2 {
        world.pod_is(&format!("{name}-{number}"), "True").await;
    }
    world.elect(name, json!({ "matchLabels": { "app": name } })).await;
}

/// Repeatedly makes the leader NotReady and waits for the next one, until stopped after a complete change.
async fn churn(world: &World, name: &str, stop: watch::Receiver<bool>) -> Vec<Took> {
    let mut took = Vec::new();
    let mut leader = leader_but(world, name, "").await;
    while !*stop.borrow() {
        let asked = now();
        set_ready(world, &leader, false).await;
        let next = leader_but(world, name, &leader).await;
        took.push(Took { asked, milliseconds: now() - asked });
        set_ready(world, &leader, true).await;
        leader = next;
    }
    took
}

/// Waits until another pod is labeled.
async fn leader_but(world: &World, name: &str, former: &str) -> String {
    let labeled = kube::api::ListParams::default().labels(&format!("app={name},leader=true"));
    eventually_within(Duration::from_secs(90), "the next one leads", async || {
        let pods = world.api::<Pod>().list_metadata(&labeled).await.map_err(|error| error.to_string())?;
        let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        assert!(names.len() <= 1, "{names:?} are labeled at once");
        names.into_iter().find(|name| name != former).ok_or_else(|| format!("{former} leads, or nobody"))
    })
    .await
}

async fn set_ready(world: &World, pod: &str, ready: bool) {
    let status = if ready { "True" } else { "False" };
    let condition = json!({ "type": "Ready", "status": status });
    let patch = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
    world.api::<Pod>().patch_status(pod, &PatchParams::default(), &patch).await.expect("the status is patched");
}

/// Returns an error unless every Election has had a new leader since then.
async fn changes(world: &World, names: &[String], since: f64) -> Result<(), String> {
    let elections = world.api::<Election>().list(&<_>::default()).await.map_err(|error| error.to_string())?;
    let began: BTreeMap<String, f64> = elections
        .iter()
        .filter_map(|election| {
            let since = election.status.as_ref()?.acquire_time.clone()?;
            Some((election.name_any(), since.0.as_millisecond() as f64))
        })
        .collect();
    // Times in the API are whole seconds.
    let late: Vec<_> = names.iter().filter(|name| began.get(*name).is_none_or(|began| *began <= since + 1000.0)).collect();
    if late.is_empty() { Ok(()) } else { Err(format!("not {late:?}")) }
}
