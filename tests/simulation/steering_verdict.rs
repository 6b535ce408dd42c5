//! Requirements on planned changes of the leader: each was requested, none comes twice, and none that is due is missing.

use std::collections::{BTreeMap, BTreeSet};

use podium_test_support::server::{Resource, Revision, Verb};
use serde_json::Value;

use crate::cluster::{Cluster, lock};
use crate::verdict::{End, selects};

/// The annotation of a Lease with the cause of its term.
const CAUSE: &str = "podium.dev/cause";

/// The annotation of an Election that requests a switchover.
const REQUEST: &str = "podium.dev/switchover-term";

/// Switchovers that no user requested, or that ended a term a second time.
pub fn unrequested(cluster: &Cluster) -> Vec<String> {
    let notes = lock(&cluster.notes).clone();
    let server = cluster.server();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // By the name of the Lease.
    let mut requested: BTreeSet<(String, String)> = BTreeSet::new();
    let mut ended = BTreeSet::new();
    let mut terms: BTreeMap<String, String> = BTreeMap::new();
    let mut found = Vec::new();
    for Revision { number, id, verb, object, .. } in server.history() {
        let annotations = &object["metadata"]["annotations"];
        match id.resource {
            Resource::Elections => {
                let leases = notes.watched.iter().filter(|watched| watched.election == id.name);
                requested.extend(leases.map(|watched| (watched.lease.clone(), text(&annotations[REQUEST]))));
            }
            Resource::Leases if *verb == Verb::Deleted => drop(terms.remove(&id.name)),
            Resource::Leases => {
                let term = text(&annotations["podium.dev/term"]);
                let before = terms.insert(id.name.clone(), term.clone()).unwrap_or_default();
                let is_podiums = !notes.forged.contains(number) && !server.altered.contains(number);
                if annotations[CAUSE] != "switchover" || term == before || !is_podiums {
                    continue;
                }
                let request = (id.name.clone(), before.clone());
                if !requested.contains(&request) {
                    found.push(format!("revision {number}: nobody requested the switchover from term {before}"));
                }
                if !ended.insert(request) {
                    found.push(format!("revision {number}: a second switchover from term {before}"));
                }
            }
            _ => {}
        }
    }
    found
}

impl End<'_> {
    /// Every planned change of the leader that is due was carried out. One that cannot be is reported.
    pub fn judge_steering(&self, leader: &String, eligible: &[&String]) -> Result<(), String> {
        let is_pending = self.condition("Degraded") == "True" && self.reason("Degraded") == "SwitchoverPending";
        if is_pending && self.overlaps() {
            // The reason hides that of the overlap, whose consequences are beyond this test.
            return Ok(());
        }
        let annotations = &self.election["metadata"]["annotations"];
        let others = || eligible.iter().filter(|pod| **pod != leader);
        let drains = |pod: &&&String| self.is_on_draining_node(pod);
        let is_requested =
            annotations[REQUEST].as_str().is_some_and(|term| Some(term) == self.annotation("podium.dev/term").as_deref());
        let to = annotations["podium.dev/switchover-to"].as_str().filter(|to| !to.is_empty());
        let due = if is_requested && to != Some(leader) {
            let may_lead = |pod: &&&String| !drains(pod) || drains(&&leader);
            if others().filter(may_lead).any(|pod| to.is_none_or(|to| to == **pod)) {
                return Err(format!("the switchover of {leader} to {to:?} was not carried out: {annotations}"));
            }
            true
        } else {
            let due = drains(&&leader);
            if due && others().any(|pod| !drains(&pod)) {
                return Err(format!("the node of {leader} drains, and it did not hand over"));
            }
            due
        };
        if due != is_pending {
            return Err(format!(
                "a switchover is {}due: {annotations}, {}",
                if due { "" } else { "not " },
                self.election["status"]
            ));
        }
        let preempts = self.election["spec"]["preemption"]["policy"] == "PreferHigher";
        let outranks = |pod: &&&String| preempts && self.score(pod) > self.score(leader) && !drains(pod);
        match others().find(outranks) {
            Some(pod) => Err(format!("{pod} did not preempt {leader}")),
            None => Ok(()),
        }
    }

    /// Returns whether the node of the pod drains and the Election cares.
    fn is_on_draining_node(&self, pod: &str) -> bool {
        let node = self.pods[pod]["spec"]["nodeName"].as_str().unwrap_or_default();
        let spec = &self.nodes[node]["spec"];
        let mut taints = spec["taints"].as_array().into_iter().flatten();
        let tainted = taints.any(|taint| taint["effect"] != "PreferNoSchedule");
        self.election["spec"]["whenNodeDrains"] == "Switchover" && (spec["unschedulable"] == true || tainted)
    }

    /// The priority of the pod, and the weights of the preferences that select it.
    fn score(&self, pod: &str) -> i64 {
        let pod = &self.pods[pod];
        let priority = pod["metadata"]["annotations"]["podium.dev/priority"].as_str();
        let preferences = self.election["spec"]["preferences"].as_array().into_iter().flatten();
        let weights = preferences.filter(|preference| selects(&preference["selector"], pod));
        let weights: i64 = weights.filter_map(|preference| preference["weight"].as_i64()).sum();
        weights + priority.and_then(|priority| priority.parse::<i64>().ok()).unwrap_or_default()
    }
}
