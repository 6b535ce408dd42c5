//! Elections that follow a Lease: every change of their leader has its reason in what that Lease said since the term before.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use podium_test_support::server::Resource::{self, Leases};
use podium_test_support::server::{Revision, Verb};
use serde_json::{Value, json};

use crate::cluster::{Cluster, lock};
use crate::electors::LOCK;

/// Settings of an Election that follows the Lease.
pub fn settings() -> Value {
    json!({ "leaderFrom": { "lease": { "name": LOCK, "holder": "PodName" } } })
}

/// Makes this spec follow the Lease.
pub fn follow(spec: &mut Value) {
    spec["leaderFrom"] = settings()["leaderFrom"].clone();
    spec.as_object_mut().into_iter().for_each(|spec| {
        spec.remove("preferences");
        spec.remove("preemption");
    });
}

/// Returns whether the Election follows a Lease.
pub fn follows(election: &Value) -> bool {
    election["spec"]["leaderFrom"].is_object()
}

/// The pod that the followed Lease names now, to all who know everything.
pub fn named(cluster: &Cluster) -> Option<String> {
    let lease = cluster.all(Leases).remove(LOCK)?;
    let written = cluster.server().history().iter().rfind(|revision| is_followed(revision)).map(|revision| revision.at)?;
    let version = Version::of(&lease, 0, written);
    let is_alive = cluster.now().duration_since(written) < version.duration;
    version.pod().filter(|_| is_alive).map(str::to_owned)
}

fn is_followed(revision: &Revision) -> bool {
    revision.id.resource == Leases && revision.id.name == LOCK
}

/// A version of the followed Lease. It counts until the next one; a deletion makes none.
struct Version {
    holder: String,
    duration: SignedDuration,
    number: i64,
    written: Timestamp,
    deleted: bool,
    /// The number and time of the next version.
    next: Option<(i64, Timestamp)>,
}

impl Version {
    fn of(lease: &Value, number: i64, written: Timestamp) -> Self {
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        let seconds = lease["spec"]["leaseDurationSeconds"].as_i64().unwrap_or(15);
        Self { holder, duration: SignedDuration::from_secs(seconds), number, written, deleted: false, next: None }
    }

    /// The name of the pod in the identity.
    fn pod(&self) -> Option<&str> {
        self.holder.split('_').next().filter(|name| !name.is_empty())
    }

    /// Returns whether nobody renewed it for its duration, until this time at most. A controller may have missed the last
    /// versions of a deleted Lease.
    fn has_expired(&self, now: Timestamp) -> bool {
        let until = self.next.map_or(now, |(_, at)| at);
        self.deleted || until.duration_since(self.written) >= self.duration
    }
}

/// Changes of a leader that the followed Lease did not cause.
pub fn unfollowed(cluster: &Cluster) -> Vec<String> {
    let forged = lock(&cluster.notes).forged.clone();
    let server = cluster.server();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut versions: Vec<Version> = Vec::new();
    // By the name of the Lease: the term.
    let mut terms: BTreeMap<String, String> = BTreeMap::new();
    let mut found = Vec::new();
    for revision in server.history() {
        let Revision { number, id, verb, object, at, .. } = revision;
        if id.resource != Resource::Leases {
            continue;
        }
        let annotations = &object["metadata"]["annotations"];
        if is_followed(revision) {
            match versions.last_mut() {
                Some(last) if *verb == Verb::Deleted => last.deleted = true,
                Some(last) => last.next = Some((*number, *at)),
                None => {}
            }
            if *verb != Verb::Deleted {
                versions.push(Version::of(object, *number, *at));
            }
            continue;
        }
        let term = text(&annotations["podium.dev/term"]);
        let before = terms.insert(id.name.clone(), term.clone());
        let is_podiums = !forged.contains(number) && !server.altered.contains(number);
        if *verb == Verb::Deleted || before.as_ref() == Some(&term) || !is_podiums {
            continue;
        }
        // The term is the revision that it replaces.
        let replaced: i64 = term.parse().unwrap_or_default();
        let since: Vec<&Version> =
            versions.iter().filter(|version| version.next.is_none_or(|(next, _)| next > replaced)).collect();
        let holder = text(&annotations["podium.dev/holder"]);
        let pod = holder.split('/').next().filter(|name| !name.is_empty());
        let is_caused = match annotations["podium.dev/cause"].as_str().unwrap_or_default() {
            "holder_changed" if pod.is_some() => since.iter().any(|version| version.pod() == pod),
            "lease_released" => since.iter().any(|version| version.holder.is_empty()),
            "lease_expired" => {
                let was_absent = versions.first().is_none_or(|first| first.number > replaced);
                was_absent || since.iter().any(|version| version.has_expired(*at))
            }
            _ => true,
        };
        if !is_caused {
            let last = since.last().map(|version| (version.number, &version.holder));
            found.push(format!(
                "revision {number}: {} of {holder:?} since {replaced}, and the followed Lease was {last:?}",
                annotations["podium.dev/cause"]
            ));
        }
    }
    found
}
