//! What must hold of a world: the promises at every revision, and at the end rest, the right leader, and silence.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::checker::{Kind, Revision, violations};
use crate::cluster::{Cluster, lock};
use crate::server::Resource::{Elections, Leases, Pods};
use crate::server::{Resource, Verb};
use crate::user::lease_name;

/// What of the promises is broken in the history.
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
        Some(Revision {
            version: revision.number,
            kind,
            name: revision.id.name.clone(),
            uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
            labels: strings(&metadata["labels"]),
            annotations: strings(&metadata["annotations"]),
            gone: revision.verb == Verb::Deleted,
        })
    });
    let history: Vec<Revision> = revisions.collect();
    violations(&history, &notes.watched, &notes.forged)
}

/// What is not as it should be once nothing happens any more.
pub fn unrest(cluster: &Cluster) -> Vec<String> {
    let (elections, leases, pods) = (cluster.all(Elections), cluster.all(Leases), cluster.all(Pods));
    let mut found = Vec::new();
    for (name, election) in elections.iter().filter(|(_, election)| !election["metadata"]["deletionTimestamp"].is_string()) {
        let end = End { name, election, lease: leases.get(&lease_name(election)), pods: &pods, elections: &elections };
        if let Err(what) = end.judge() {
            found.push(format!("{name} does not come to rest: {what}"));
        }
    }
    found
}

/// Labels that an Election that is gone has left. Only where nobody forges labels.
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

/// One Election as it is in the end.
struct End<'a> {
    name: &'a str,
    election: &'a Value,
    lease: Option<&'a Value>,
    pods: &'a BTreeMap<String, Value>,
    elections: &'a BTreeMap<String, Value>,
}

impl End<'_> {
    fn judge(&self) -> Result<(), String> {
        let status = &self.election["status"];
        if status["observedGeneration"] != self.election["metadata"]["generation"] {
            return Err(format!("the status speaks of another generation: {status}"));
        }
        let holder = self.annotation("podium.dev/holder");
        let term = self.annotation("podium.dev/term");
        // What needs a person is said, and what it allows is more than this test wants to know.
        if self.condition("Stalled") == "True" {
            let reason = &self.reason("Stalled");
            let known = ["LabelConflict", "OverlappingElections"].contains(&reason.as_str());
            return known.then_some(()).ok_or_else(|| format!("it is stalled: {status}"));
        }
        let labelled: Vec<&String> =
            self.pods.iter().filter(|(_, pod)| self.is_labelled(pod)).map(|(name, _)| name).collect();
        let eligible: Vec<&String> =
            self.pods.iter().filter(|(_, pod)| self.is_eligible(pod)).map(|(name, _)| name).collect();
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
            let held = self.election["spec"]["whenNoCandidate"] == "Hold" && eligible.is_empty();
            let fits = eligible.contains(&leader) || held && self.matches(pod) && pod["status"]["phase"] == "Running";
            return (agreed && fits).then_some(()).ok_or_else(seen);
        }
        // Nobody. A Lease that says so, or none that was ever filled.
        let vacant = labelled.is_empty() && eligible.is_empty() && holder.is_none() && status["leader"].is_null();
        vacant.then_some(()).ok_or_else(seen)
    }

    fn annotation(&self, name: &str) -> Option<String> {
        self.lease?["metadata"]["annotations"][name].as_str().map(str::to_owned)
    }

    fn find(&self, kind: &str) -> &Value {
        let conditions = self.election["status"]["conditions"].as_array();
        conditions.into_iter().flatten().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
    }

    fn condition(&self, kind: &str) -> &str {
        self.find(kind)["status"].as_str().unwrap_or_default()
    }

    fn reason(&self, kind: &str) -> String {
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

    /// Whether the pod has the label as this Election's: what another one with the same key matches is that one's, unless
    /// the Lease says otherwise.
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

    fn is_eligible(&self, pod: &Value) -> bool {
        let (key, value) = self.label();
        let label = &pod["metadata"]["labels"][key];
        self.matches(pod)
            && pod["status"]["phase"] == "Running"
            && pod["status"]["conditions"][0]["status"] == "True"
            && !pod["metadata"]["deletionTimestamp"].is_string()
            && pod["metadata"]["annotations"]["podium.dev/candidate"] != "false"
            && (label.is_null() || label == value)
    }
}

/// Whether the Election's selector matches the pod. The people here use `matchLabels` only.
fn matches(election: &Value, pod: &Value) -> bool {
    let wanted = election["spec"]["selector"]["matchLabels"].as_object();
    wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value))
}
