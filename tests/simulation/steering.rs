//! Users who steer: they request switchovers, prefer pods, and let pods preempt; and nodes that drain.

use podium_test_support::random::Random;
use podium_test_support::server::Resource::{Elections, Leases, Nodes, Pods};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::user::lease_name;

/// The nodes.
pub const NODES: [&str; 3] = ["node-0", "node-1", "node-2"];

/// Names of zones, which preferences select.
const ZONES: [&str; 2] = ["a", "b"];

/// Draws the node of a new pod.
pub fn node(random: &mut Random) -> &'static str {
    random.pick(&NODES).copied().unwrap_or_default()
}

/// Draws the zone of a new pod.
pub fn zone(random: &mut Random) -> &'static str {
    random.pick(&ZONES).copied().unwrap_or_default()
}

/// Creates the nodes.
pub fn create_nodes(cluster: &Cluster) {
    for name in NODES {
        cluster.ask("installer", "POST", (Nodes, name), json!({ "metadata": { "name": name }, "spec": {} }));
    }
}

/// Settings of an Election that steers.
pub fn settings(random: &mut Random) -> Value {
    json!({
        "preferences": preferences(random),
        "preemption": preemption(random),
        "tieBreak": tie_break(random),
        "whenNodeDrains": when_node_drains(random),
    })
}

fn preferences(random: &mut Random) -> Value {
    let prefers = |random: &mut Random| {
        let weight = i64::try_from(random.between(0, 6)).unwrap_or_default() - 2;
        json!({ "weight": weight, "selector": { "matchLabels": { "zone": zone(random) } } })
    };
    (0..random.between(0, 3)).map(|_| prefers(random)).collect()
}

fn preemption(random: &mut Random) -> Value {
    let policy = if random.permille(700) { "PreferHigher" } else { "Never" };
    json!({ "policy": policy, "delaySeconds": random.between(0, 5) })
}

fn tie_break(random: &mut Random) -> &'static str {
    if random.permille(500) { "Spread" } else { "LongestReady" }
}

fn when_node_drains(random: &mut Random) -> &'static str {
    if random.permille(700) { "Switchover" } else { "Ignore" }
}

/// Changes one of these settings.
pub fn tune(cluster: &Cluster, who: &str, election: &str, random: &mut Random) {
    let spec = match random.between(0, 5) {
        0 | 1 => json!({ "preemption": preemption(random) }),
        2 => json!({ "tieBreak": tie_break(random) }),
        3 => json!({ "whenNodeDrains": when_node_drains(random) }),
        _ => json!({ "preferences": preferences(random) }),
    };
    cluster.ask(who, "PATCH", (Elections, election), json!({ "spec": spec }));
}

/// Requests a switchover. Half of the requests are valid; the others have a wrong, stale or future term, or a pod that does not
/// exist or leads.
pub fn request_switchover(cluster: &Cluster, who: &str, election: &str, random: &mut Random) {
    let Some(object) = cluster.all(Elections).remove(election) else { return };
    let lease = cluster.all(Leases).remove(&lease_name(&object)).unwrap_or_default();
    let present = lease["metadata"]["annotations"]["podium.dev/term"].as_str().unwrap_or("1").to_owned();
    let term = match random.between(0, 12) {
        0..=6 => present,
        7 | 8 => object["status"]["term"].to_string(),
        // The next term, if nothing else is written to the Lease before.
        9 => lease["metadata"]["resourceVersion"].as_str().unwrap_or("2").to_owned(),
        10 => (cluster.server().revision() + 1_000).to_string(),
        _ => random.pick(&["", "0", "soon", "-1"]).copied().unwrap_or_default().to_owned(),
    };
    let pods: Vec<String> = cluster.all(Pods).into_keys().collect();
    let to = match random.between(0, 10) {
        0..=4 => Value::Null,
        5 => "absent".into(),
        6 => "".into(),
        _ => random.pick(&pods).map_or(Value::Null, |pod| pod.as_str().into()),
    };
    let term = if random.permille(50) { Value::Null } else { term.into() };
    let annotations = json!({ "podium.dev/switchover-term": term, "podium.dev/switchover-to": to });
    cluster.ask(who, "PATCH", (Elections, election), json!({ "metadata": { "annotations": annotations } }));
}

/// Raises or lowers the priority of a pod.
pub fn prioritize(cluster: &Cluster, who: &str, pod: &str, random: &mut Random) {
    let annotations = json!({ "podium.dev/priority": random.between(0, 4).to_string() });
    cluster.ask(who, "PATCH", (Pods, pod), json!({ "metadata": { "annotations": annotations } }));
}

/// Cordons or taints a node, or ends that. A taint that prefers other pods is no drain.
pub fn drain(cluster: &Cluster, who: &str, random: &mut Random) {
    let taint = |key: &str, effect: &str| json!({ "unschedulable": null, "taints": [{ "key": key, "effect": effect }] });
    let spec = match random.between(0, 8) {
        0..=2 => json!({ "unschedulable": null, "taints": null }),
        3 | 4 => json!({ "unschedulable": true }),
        5 => taint("karpenter.sh/disrupted", "NoSchedule"),
        6 => taint("node.cloudprovider.kubernetes.io/shutdown", "NoSchedule"),
        _ => taint("ToBeDeletedByClusterAutoscaler", "PreferNoSchedule"),
    };
    cluster.ask(who, "PATCH", (Nodes, node(random)), json!({ "spec": spec }));
}
