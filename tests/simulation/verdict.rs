//! Requirements on a world: the guarantees at every revision, and finally rest, the right leader, and no writes.

use std::collections::{BTreeMap, BTreeSet};

use podium_test_support::checker::{self, Kind, violations};
use podium_test_support::server::Resource::{Elections, Leases, Nodes, Pods};
use podium_test_support::server::{Resource, Revision, Verb};
use serde_json::Value;

use crate::cluster::{Cluster, lock};
use crate::controller::OWN_LEASE;
use crate::followed_verdict::{self, follows};
use crate::user::lease_name;

/// Prefix of a claim's annotation, before the Election's name.
const CLAIM: &str = "term.podium.dev/";

/// Violations of the guarantees in the history.
pub fn broken(cluster: &Cluster) -> Vec<String> {
    let notes = lock(&cluster.notes).clone();
    let server = cluster.server();
    let strings = |map: &Value| -> BTreeMap<String, String> {
        let entries = map.as_object().into_iter().flatten();
        entries.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
    };
    let revisions = server.history().iter().filter_map(|revision| {
        let kind = match revision.id.resource {
            Resource::Pods => Kind::Pod,
            Resource::Leases => Kind::Lease,
            _ => return None,
        };
        let metadata = &revision.object["metadata"];
        Some(checker::Revision {
            version: revision.number,
            kind,
            name: revision.id.name.clone(),
            uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
            labels: strings(&metadata["labels"]),
            annotations: strings(&metadata["annotations"]),
            gone: revision.verb == Verb::Deleted,
            altered: server.altered.contains(&revision.number),
        })
    });
    let history: Vec<checker::Revision> = revisions.collect();
    violations(&history, &notes.watched, &notes.forged)
}

/// Deviations from the expected state at rest.
pub fn unrest(cluster: &Cluster) -> Vec<String> {
    let (elections, leases, pods) = (cluster.all(Elections), cluster.all(Leases), cluster.all(Pods));
    let nodes = cluster.all(Nodes);
    let named = followed_verdict::named(cluster);
    let mut found = Vec::new();
    for (name, election) in elections.iter().filter(|(_, election)| !election["metadata"]["deletionTimestamp"].is_string()) {
        let end = End {
            name,
            election,
            lease: leases.get(&lease_name(election)),
            pods: &pods,
            nodes: &nodes,
            elections: &elections,
            named: named.clone(),
        };
        if let Err(what) = end.judge() {
            found.push(format!("{name} does not come to rest: {what}"));
        }
    }
    found
}

/// Elections that report a contested label.
pub fn contested(cluster: &Cluster) -> Vec<String> {
    let elections = cluster.all(Elections);
    let contested = elections.iter().filter(|(_, election)| condition(election, "Degraded")["reason"] == "LabelContested");
    contested.map(|(name, _)| format!("{name} is contested although nobody changes a label")).collect()
}

/// A status is Ready for a leader only after its label with that term.
pub fn unconfirmed(cluster: &Cluster) -> Vec<String> {
    let server = cluster.server();
    // By UID: labels and claims that a pod had at the same time, as `key=value` and `election/term`.
    let mut confirmed: BTreeSet<(String, String, String)> = BTreeSet::new();
    let mut found = Vec::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for Revision { number, id, object, .. } in server.history() {
        let metadata = &object["metadata"];
        match id.resource {
            Resource::Pods => {
                let claims = metadata["annotations"].as_object().into_iter().flatten();
                for (claim, term) in claims.filter(|(key, _)| key.starts_with(CLAIM)) {
                    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
                        let label = format!("{key}={}", text(value));
                        confirmed.insert((text(&metadata["uid"]), label, format!("{claim}={}", text(term))));
                    }
                }
            }
            Resource::Elections => {
                let (label, status) = (&object["spec"]["label"], &object["status"]);
                let label = format!("{}={}", text(&label["key"]), text(&label["value"]));
                let claim = format!("{CLAIM}{}={}", id.name, status["term"]);
                let ready = ["LeaderElected", "LeaderRetained"]
                    .contains(&condition(object, "Ready")["reason"].as_str().unwrap_or_default())
                    && condition(object, "Ready")["status"] == "True";
                // A status altered by admission is not Podium's.
                let written = !server.altered.contains(number);
                if ready && written && !confirmed.contains(&(text(&status["leaderUID"]), label, claim)) {
                    found.push(format!(
                        "revision {number}: {} is Ready, and {} was never labeled with {}",
                        id.name, status["leader"], status["term"]
                    ));
                }
            }
            _ => {}
        }
    }
    found
}

/// One of the replicas with leader election is active, and stays so while the world is at rest.
pub fn inactive(cluster: &Cluster, settled: i64) -> Vec<String> {
    let server = cluster.server();
    let own = |revision: &&Revision| revision.id.resource == Resource::Leases && revision.id.name == OWN_LEASE;
    let renewals = server.history().iter().filter(own).filter(|revision| revision.number > settled);
    let holders: BTreeSet<String> = renewals.map(|revision| revision.object["spec"]["holderIdentity"].to_string()).collect();
    if holders.len() == 1 { Vec::new() } else { vec![format!("the active replica does not stay the same: {holders:?}")] }
}

/// Labels left by deleted Elections. Only if no user forges labels.
pub fn leftovers(cluster: &Cluster) -> Vec<String> {
    let (elections, pods) = (cluster.all(Elections), cluster.all(Pods));
    let watched = lock(&cluster.notes).watched.clone();
    let gone = watched.iter().filter(|watched| !elections.contains_key(&watched.election));
    let left = gone.flat_map(|watched| {
        let pods = pods.iter().filter(|(_, pod)| pod["metadata"]["labels"][&watched.key] == watched.value.as_str());
        pods.map(|(name, _)| format!("{name} keeps the label of {}, which is gone", watched.election))
    });
    left.collect()
}

/// The final state of an Election.
pub struct End<'a> {
    name: &'a str,
    pub election: &'a Value,
    lease: Option<&'a Value>,
    pub pods: &'a BTreeMap<String, Value>,
    pub nodes: &'a BTreeMap<String, Value>,
    elections: &'a BTreeMap<String, Value>,
    /// The pod that a followed Lease names.
    named: Option<String>,
}

impl End<'_> {
    fn judge(&self) -> Result<(), String> {
        let status = &self.election["status"];
        if status["observedGeneration"] != self.election["metadata"]["generation"] {
            return Err(format!("the status speaks of another generation: {status}"));
        }
        let holder = self.annotation("podium.dev/holder");
        let term = self.annotation("podium.dev/term");
        // A status that needs a person is reported, and its consequences are beyond this test. LabelContested stays for a
        // minute after the last change, and has no consequences.
        for kind in ["Stalled", "Degraded"] {
            let reason = &self.reason(kind);
            if self.condition(kind) == "True" && !["LabelContested", "SwitchoverPending"].contains(&reason.as_str()) {
                let known = ["LabelConflict", "OverlappingElections"].contains(&reason.as_str());
                return known.then_some(()).ok_or_else(|| format!("it is {kind}: {status}"));
            }
        }
        if let Some(value) = self.election["spec"]["label"]["followerValue"].as_str() {
            self.judge_followers(value)?;
        }
        let labelled: Vec<&String> =
            self.pods.iter().filter(|(_, pod)| self.is_labelled(pod)).map(|(name, _)| name).collect();
        let eligible: Vec<&String> =
            self.pods.iter().filter(|(name, pod)| self.may_lead(name, pod)).map(|(name, _)| name).collect();
        let seen = || format!("eligible {eligible:?}, labelled {labelled:?}, holder {holder:?}, term {term:?}, {status}");
        if let [leader] = labelled[..] {
            let pod = &self.pods[leader];
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
            let named = Some(format!("{leader}/{uid}"));
            let agreed = holder == named
                && term.as_deref() == self.claim(pod)
                && status["leader"] == leader.as_str()
                && status["leaderUID"] == uid
                && status["term"].as_i64() == term.as_ref().and_then(|term| term.parse().ok())
                && self.condition("Ready") == "True";
            let held = self.election["spec"]["whenNoneEligible"] == "Retain" && eligible.is_empty();
            let fits = eligible.contains(&leader) || held && self.matches(pod) && pod["status"]["phase"] == "Running";
            (agreed && fits).then_some(()).ok_or_else(seen)?;
            return if follows(self.election) { Ok(()) } else { self.judge_steering(leader, &eligible) };
        }
        // A vacancy: the Lease has no holder, or was never filled.
        let vacant = labelled.is_empty() && eligible.is_empty() && holder.is_none() && status["leader"].is_null();
        vacant.then_some(()).ok_or_else(seen)
    }

    /// Returns whether another Election with the same label key matches one of the pods.
    pub fn overlaps(&self) -> bool {
        let key = self.label().0;
        let others = self.elections.iter().filter(|(other, _)| **other != self.name);
        let rivals: Vec<&Value> =
            others.map(|(_, other)| other).filter(|other| other["spec"]["label"]["key"] == key).collect();
        self.pods.values().any(|pod| self.matches(pod) && rivals.iter().any(|rival| matches(rival, pod)))
    }

    /// Every eligible pod except the leader has the follower label, and no other pod has it.
    fn judge_followers(&self, value: &str) -> Result<(), String> {
        // A lost Lease is filled only when a pod is eligible, and only a term writes to followers.
        if self.annotation("podium.dev/term").is_none() {
            return Ok(());
        }
        let key = self.label().0;
        let holder = self.annotation("podium.dev/holder").unwrap_or_default();
        for (name, pod) in self.pods {
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
            let follows = self.is_eligible(pod) && !holder.ends_with(uid);
            let labeled = pod["metadata"]["labels"][key] == value;
            let going = pod["metadata"]["deletionTimestamp"].is_string();
            let ours = self.matches(pod) || self.claim(pod).is_some();
            let others = self.elections.iter().filter(|(other, _)| **other != self.name);
            let shared = others.into_iter().any(|(_, other)| other["spec"]["label"]["key"] == key && matches(other, pod));
            if ours && !shared && !going && follows != labeled {
                return Err(format!("{name} should {}be labeled as a follower", if follows { "" } else { "not " }));
            }
        }
        Ok(())
    }

    pub fn annotation(&self, name: &str) -> Option<String> {
        self.lease?["metadata"]["annotations"][name].as_str().map(str::to_owned)
    }

    fn find(&self, kind: &str) -> &Value {
        condition(self.election, kind)
    }

    pub fn condition(&self, kind: &str) -> &str {
        self.find(kind)["status"].as_str().unwrap_or_default()
    }

    pub fn reason(&self, kind: &str) -> String {
        self.find(kind)["reason"].as_str().unwrap_or_default().to_owned()
    }

    fn label(&self) -> (&str, &str) {
        let label = &self.election["spec"]["label"];
        (label["key"].as_str().unwrap_or_default(), label["value"].as_str().unwrap_or_default())
    }

    fn claim<'a>(&self, pod: &'a Value) -> Option<&'a str> {
        pod["metadata"]["annotations"][format!("term.podium.dev/{}", self.name)].as_str()
    }

    fn matches(&self, pod: &Value) -> bool {
        matches(self.election, pod)
    }

    /// Returns whether the label is this Election's: an overlapping Election with the same key owns its pods, unless the
    /// Lease says otherwise.
    fn is_labelled(&self, pod: &Value) -> bool {
        let (key, value) = self.label();
        let others = self
            .elections
            .iter()
            .any(|(name, other)| *name != self.name && other["spec"]["label"]["key"] == key && matches(other, pod));
        let claim = self.claim(pod);
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let own = self.annotation("podium.dev/holder").is_some_and(|holder| holder.ends_with(uid));
        pod["metadata"]["labels"][key] == value && (own || !others && (self.matches(pod) || claim.is_some()))
    }

    /// Returns whether the pod should lead if it is the only such pod.
    fn may_lead(&self, name: &str, pod: &Value) -> bool {
        if !follows(self.election) {
            return self.is_eligible(pod);
        }
        let has_ended = ["Failed", "Succeeded"].contains(&pod["status"]["phase"].as_str().unwrap_or_default());
        self.named.as_deref() == Some(name) && !has_ended && self.is_free(pod)
    }

    fn is_eligible(&self, pod: &Value) -> bool {
        self.is_free(pod)
            && pod["status"]["phase"] == "Running"
            && pod["status"]["conditions"][0]["status"] == "True"
            && !pod["metadata"]["deletionTimestamp"].is_string()
    }

    /// Returns whether the selector matches the pod, and neither users nor other clients withhold it.
    fn is_free(&self, pod: &Value) -> bool {
        let (key, value) = self.label();
        let label = &pod["metadata"]["labels"][key];
        self.matches(pod)
            && pod["metadata"]["annotations"]["podium.dev/candidate"] != "false"
            && (label.is_null() || label == value || *label == self.election["spec"]["label"]["followerValue"])
    }
}

fn condition<'a>(election: &'a Value, kind: &str) -> &'a Value {
    let conditions = election["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// Returns whether the selector matches the pod. Users here use only `matchLabels`.
fn matches(election: &Value, pod: &Value) -> bool {
    selects(&election["spec"]["selector"], pod)
}

/// Returns whether this selector matches the pod.
pub fn selects(selector: &Value, pod: &Value) -> bool {
    let wanted = selector["matchLabels"].as_object();
    wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value))
}
