//! Compares the object that a write returned with the request.
//!
//! Mutating admission may change a write and still report success. Parts that it restored or dropped were not written.

use std::fmt::Display;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::core::ObjectMeta;
use podium_campaign::is_election;
use serde_json::Value;

use super::observe::cached::{CachedElection, CachedLease, CachedPod, Named, Object};
use super::server::{ApiServer, Refusal, Write};
use crate::api::{DEGRADED, READY, STALLED, names};

/// Content of a write, to compare with the returned object.
#[derive(Debug)]
enum Asked {
    Lease(Box<Lease>),
    Pod(Value),
    Status(Value),
    Nothing,
}

/// Writes, and compares the returned object with the request. Returns the object in any case, because the server has it.
pub async fn write<S: ApiServer>(server: &S, namespace: &str, write: Write) -> (Option<Named>, Result<(), Refusal>) {
    let asked = Asked::by(&write);
    match server.write(namespace, write).await {
        Ok(None) => (None, Ok(())),
        Ok(Some(shown)) => {
            let differs = asked.differences(&shown);
            let answer = if differs.is_empty() { Ok(()) } else { Err(altered(&shown, &differs)) };
            (Some(shown), answer)
        }
        Err(refusal) => (None, Err(refusal)),
    }
}

fn altered(shown: &Named, differs: &[String]) -> Refusal {
    Refusal::Altered(format!(
        "the write to {} {} was changed on its way ({}): exempt Podium from the mutating admission policy or webhook that does this",
        shown.object.kind().plural(),
        shown.name,
        differs.join("; "),
    ))
}

impl Asked {
    fn by(write: &Write) -> Self {
        match write {
            Write::CreateLease(lease) | Write::ReplaceLease(lease) => Self::Lease(Box::new(lease.clone())),
            Write::PatchPod { name: _, patch } => Self::Pod(patch["metadata"].clone()),
            Write::PatchStatus { name: _, patch } => Self::Status(patch["status"].clone()),
            Write::CreateEvent(_) => Self::Nothing,
        }
    }

    /// Returns how the object differs from the request, in words.
    fn differences(&self, shown: &Named) -> Vec<String> {
        match (self, &shown.object) {
            (Self::Lease(asked), Object::Lease(shown)) => lease(asked, shown),
            (Self::Pod(asked), Object::Pod(shown)) => pod(asked, shown),
            (Self::Status(asked), Object::Election(shown)) => status(asked, shown),
            // The client parses a response as the kind of its request.
            _ => Vec::new(),
        }
    }
}

/// Compares one part. `None`: they are equal.
fn part<T: PartialEq + Display>(what: impl Display, asked: Option<T>, shown: Option<T>) -> Option<String> {
    let text = |value: &Option<T>| value.as_ref().map_or_else(|| "absent".into(), |value| format!("{value:.80}"));
    (asked != shown).then(|| format!("{what} is {} instead of {}", text(&shown), text(&asked)))
}

fn pod(asked: &Value, shown: &CachedPod) -> Vec<String> {
    let entries =
        |part: &str| asked[part].as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.as_str()));
    let labels = entries("labels").filter_map(|(key, value)| {
        let what = format!("label {key}");
        part(what, value, shown.labels.get(&key))
    });
    let cost = shown.cost.as_deref();
    let annotations = entries("annotations").filter_map(|(key, value)| {
        let shown = match key.strip_prefix(names::CLAIM_PREFIX) {
            Some(election) => shown.claims.get(election),
            None => cost.and_then(|cost| cost.annotations().into_iter().find(|(name, _)| *name == key)?.1),
        };
        part(format!("annotation {key}"), value, shown)
    });
    labels.chain(annotations).collect()
}

fn lease(asked: &Lease, shown: &CachedLease) -> Vec<String> {
    let shown = &*shown.object;
    let annotation = |object: &Lease, name: &str| object.metadata.annotations.as_ref()?.get(name).cloned();
    let all = [
        names::HOLDER,
        names::TERM,
        names::UNFENCED,
        names::INCARNATION,
        names::CAUSE,
        names::REASON,
        names::CHECKSUM,
        names::ALLOW_ADOPTION_BY,
        names::ELECTOR,
    ];
    let annotations = all.into_iter().filter_map(|name| {
        let what = format!("annotation {name}");
        part(what, annotation(asked, name), annotation(shown, name))
    });
    let owner = |metadata: &ObjectMeta| {
        let owners = metadata.owner_references.iter().flatten();
        owners.filter(|owner| is_election(owner)).map(|owner| format!("{}/{}", owner.name, owner.uid)).next()
    };
    annotations
        .chain(part("the owning Election", owner(&asked.metadata), owner(&shown.metadata)))
        .chain(spec(asked.spec.as_ref(), shown.spec.as_ref()))
        .collect()
}

fn spec(asked: Option<&LeaseSpec>, shown: Option<&LeaseSpec>) -> Vec<String> {
    let (none, empty) = (LeaseSpec::default(), String::new());
    let (asked, shown) = (asked.unwrap_or(&none), shown.unwrap_or(&none));
    let holder = |spec: &LeaseSpec| Some(spec.holder_identity.as_ref().unwrap_or(&empty).clone());
    let renewed = |spec: &LeaseSpec| spec.renew_time.as_ref().map(|time| time.0);
    let acquired = |spec: &LeaseSpec| spec.acquire_time.as_ref().map(|time| time.0);
    let parts = [
        part("holderIdentity", holder(asked), holder(shown)),
        part("leaseDurationSeconds", asked.lease_duration_seconds, shown.lease_duration_seconds),
        part("leaseTransitions", asked.lease_transitions, shown.lease_transitions),
        part("acquireTime", acquired(asked), acquired(shown)),
        part("renewTime", renewed(asked), renewed(shown)),
    ];
    parts.into_iter().flatten().collect()
}

/// Compares the parts of a status that report the leader. A CRD of another version may lack the others.
fn status(asked: &Value, shown: &CachedElection) -> Vec<String> {
    let shown = &shown.status;
    let text = |field: &str| asked[field].as_str().map(str::to_owned);
    let mut parts = vec![
        part("status.leader", text("leader"), shown.leader.clone()),
        part("status.leaderUID", text("leaderUID"), shown.leader_uid.clone()),
        part("status.term", asked["term"].as_i64(), shown.term),
    ];
    let conditions = || asked["conditions"].as_array().into_iter().flatten();
    for kind in [READY, DEGRADED, STALLED] {
        let shown = shown.condition(kind).map(|shown| format!("{} ({})", shown.status, shown.reason));
        let asked = conditions().find(|condition| condition["type"] == kind).map(|condition| {
            let word = |part: &str| condition[part].as_str().unwrap_or_default();
            format!("{} ({})", word("status"), word("reason"))
        });
        parts.push(part(format!("condition {kind}"), asked, shown));
    }
    parts.into_iter().flatten().collect()
}
