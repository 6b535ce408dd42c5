//! The users: they create and delete Elections, and tamper with Podium's labels and Leases.

use std::sync::Arc;
use std::time::Duration;

use podium_test_support::checker::Watched;
use podium_test_support::random::Random;
use podium_test_support::server::Resource::{Elections, Leases, Pods};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::cluster::{Cluster, lock};
use crate::followed_verdict::{self, follows};
use crate::steering;

/// Caller in the history.
const WHO: &str = "user";

/// Parameters of the users.
#[derive(Clone, Debug)]
pub struct People {
    /// Names of their Elections.
    pub elections: Vec<String>,
    /// Elections may select the same pods with the same label.
    pub overlap: bool,
    /// Followers have a label, too.
    pub followers: bool,
    /// Edits of Leases, per thousand checks.
    pub leases: u64,
    /// Edits of Elections.
    pub specs: u64,
    /// Removed or forged labels and terms.
    pub forges: u64,
    /// Switchovers, and changes of preferences and preemption.
    pub steers: u64,
    /// Maximum pause between two actions, in milliseconds.
    pub pause: u64,
    /// The first Election follows the Lease on which the pods elect.
    pub follow: bool,
}

/// Runs until it is calm.
pub async fn run(cluster: Arc<Cluster>, people: People, mut random: Random, calm: impl Fn() -> bool) {
    for index in 0..people.elections.len() {
        create(&cluster, &people, index, &mut random);
    }
    while !calm() {
        sleep(random.millis(10, people.pause)).await;
        let index = usize::try_from(random.between(0, people.elections.len() as u64)).unwrap_or_default();
        let name = &people.elections[index];
        let Some(election) = cluster.all(Elections).remove(name) else {
            create(&cluster, &people, index, &mut random);
            continue;
        };
        if random.permille(people.leases) {
            touch_lease(&cluster, &lease_name(&election), &mut random);
        }
        if random.permille(people.specs) {
            touch_election(&cluster, name, &election, &mut random);
        }
        if random.permille(people.steers) {
            match random.between(0, 10) {
                0..=5 => steering::request_switchover(&cluster, WHO, name, &mut random),
                6 | 7 if !follows(&election) => steering::tune(&cluster, WHO, name, &mut random),
                _ => steering::drain(&cluster, WHO, &mut random),
            }
        }
        if random.permille(people.forges) {
            touch_pods(&cluster, &election, &mut random);
        }
    }
    sleep(Duration::from_millis(500)).await;
    for index in 0..people.elections.len() {
        // Settings that prevent an election are repaired at the end.
        if cluster.all(Elections).get(&people.elections[index]).is_none_or(|election| election["spec"]["suspend"] == true) {
            create(&cluster, &people, index, &mut random);
            let body = json!({ "metadata": { "finalizers": null }, "spec": { "suspend": false } });
            cluster.ask(WHO, "PATCH", (Elections, &people.elections[index]), body);
        }
    }
}

/// The name of the Election's Lease.
pub fn lease_name(election: &Value) -> String {
    let name = election["spec"]["leaseName"].as_str().or_else(|| election["metadata"]["name"].as_str());
    name.unwrap_or_default().to_owned()
}

fn create(cluster: &Cluster, people: &People, index: usize, random: &mut Random) {
    let name = &people.elections[index];
    // Without overlap, the first two have different apps, and others different keys.
    let app = if index == 1 && !people.overlap { "db" } else { "web" };
    let key = if index > 1 && !people.overlap { format!("e{index}.example/leader") } else { "leader".into() };
    let key = if random.permille(60) { format!("other{index}.example/leader") } else { key };
    let mut spec = json!({
        "selector": { "matchLabels": { "app": app } },
        "label": { "key": key, "value": "true", "followerValue": people.followers.then_some("false") },
        "whenNoneEligible": if random.permille(300) { "Retain" } else { "Release" },
        "failoverDelaySeconds": if random.permille(200) { random.between(1, 8) } else { 0 },
        "minReadySeconds": if random.permille(200) { random.between(1, 8) } else { 0 },
    });
    if people.steers > 0 {
        spec.as_object_mut().into_iter().for_each(|spec| spec.extend(steered(random)));
    }
    if index == 0 && people.follow {
        followed_verdict::follow(&mut spec);
    }
    if index == 2 {
        spec["leaseName"] = format!("{name}-lease").into();
    }
    let finalizers = if random.permille(80) { json!(["example.com/wait"]) } else { Value::Null };
    let body = json!({ "metadata": { "name": name, "finalizers": finalizers }, "spec": spec });
    let lease = spec["leaseName"].as_str().unwrap_or(name).to_owned();
    let watched = Watched { election: name.clone(), key, value: "true".into(), lease };
    if cluster.ask(WHO, "POST", (Elections, name), body).is_some() {
        let mut notes = lock(&cluster.notes);
        if !notes.watched.contains(&watched) {
            notes.watched.push(watched);
        }
    }
}

fn steered(random: &mut Random) -> serde_json::Map<String, Value> {
    steering::settings(random).as_object().cloned().unwrap_or_default()
}

fn touch_lease(cluster: &Cluster, name: &str, random: &mut Random) {
    let before = cluster.server().revision();
    let patch = |body: Value| cluster.ask(WHO, "PATCH", (Leases, name), body);
    match random.between(0, 8) {
        0..=2 => cluster.ask(WHO, "DELETE", (Leases, name), Value::Null),
        3 => patch(json!({ "spec": { "holderIdentity": "somebody" } })),
        4 => patch(json!({ "spec": { "leaseDurationSeconds": 15 } })),
        5 => patch(json!({ "metadata": { "ownerReferences": null } })),
        6 => patch(json!({ "metadata": { "annotations": { "podium.dev/term": "twelve" } } })),
        _ => patch(json!({ "spec": null, "metadata": { "annotations": {
            "podium.dev/term": null, "podium.dev/holder": null, "podium.dev/unfenced": null, "podium.dev/reason": null,
        } } })),
    };
    let after = cluster.server().revision();
    lock(&cluster.notes).forged.extend(before + 1..=after);
}

fn touch_election(cluster: &Cluster, name: &str, election: &Value, random: &mut Random) {
    let patch = |body: Value| cluster.ask(WHO, "PATCH", (Elections, name), body);
    if election["metadata"]["deletionTimestamp"].is_string() {
        patch(json!({ "metadata": { "finalizers": null } }));
        return;
    }
    match random.between(0, 10) {
        0 | 1 => cluster.ask(WHO, "DELETE", (Elections, name), Value::Null),
        2 => patch(json!({ "spec": { "suspend": true } })),
        3 => patch(json!({ "spec": { "suspend": false } })),
        4 => patch(json!({ "spec": { "whenNoneEligible": if random.permille(500) { "Retain" } else { "Release" } } })),
        5 => patch(json!({ "spec": { "failoverDelaySeconds": random.between(0, 6) } })),
        6 => patch(json!({ "spec": { "minReadySeconds": random.between(0, 6) } })),
        7 => {
            let narrow = json!({ "matchLabels": { "pod-template-hash": "new" } });
            let wide = json!({ "matchLabels": { "pod-template-hash": null } });
            patch(json!({ "spec": { "selector": if random.permille(400) { narrow } else { wide } } }))
        }
        8 => cluster.ask_status(WHO, (Elections, name), json!({ "status": null })),
        _ => patch(json!({ "metadata": { "annotations": { "example.com/note": random.between(0, 99).to_string() } } })),
    };
}

fn touch_pods(cluster: &Cluster, election: &Value, random: &mut Random) {
    let name = election["metadata"]["name"].as_str().unwrap_or_default();
    let key = election["spec"]["label"]["key"].as_str().unwrap_or_default();
    let pods: Vec<(String, Value)> = cluster.all(Pods).into_iter().collect();
    let Some((pod, object)) = random.pick(&pods) else { return };
    let claim = format!("term.podium.dev/{name}");
    match random.between(0, 8) {
        0..=3 => drop(cluster.ask(WHO, "PATCH", (Pods, pod), json!({ "metadata": { "labels": { key: null } } }))),
        4 | 5 => cluster.forge(WHO, (Pods, pod), &json!({ "labels": { key: "true" } })),
        6 => {
            // A term that never existed, or one far above.
            let term = if random.permille(500) { "1".into() } else { (cluster.server().revision() + 1000).to_string() };
            if object["metadata"]["annotations"][&claim].is_null() || random.permille(200) {
                cluster.forge(WHO, (Pods, pod), &json!({ "annotations": { claim: term } }));
            }
        }
        _ => cluster.forge(WHO, (Pods, pod), &json!({ "labels": { key: "true" }, "annotations": { claim: "7" } })),
    }
}
