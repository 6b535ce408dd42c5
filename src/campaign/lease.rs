//! A Lease as the lock, as client-go uses it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::time::sleep;

use super::lock::{Failure, Lock};
use super::record::{Record, Seen, Version};
use crate::api::names;
use crate::lease::object::is_election;

/// The pauses after a watch, and after one that was refused. Without any, everything works, a little later.
const WATCH_AGAIN: Duration = Duration::from_secs(1);
const AFTER_FAILURE: Duration = Duration::from_secs(15);

/// A watch that the server has not ended by then is taken for a dead connection.
const LONGEST_WATCH: Duration = Duration::from_secs(300);

/// A Lease as the lock.
///
/// Needs the rights to get, create and update it; with the right to watch it, too, a released lock is taken at once instead
/// of at the next look.
#[derive(Clone, Debug)]
pub struct LeaseLock {
    api: Api<Lease>,
    namespace: String,
    name: String,
    marks: BTreeMap<String, String>,
}

impl LeaseLock {
    /// The Lease of this name. The client's own retries must be off: a retried write hides whether the first was applied.
    pub fn new(client: Client, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        let (namespace, name) = (namespace.into(), name.into());
        Self { api: Api::namespaced(client, &namespace), namespace, name, marks: BTreeMap::new() }
    }

    /// Leaves this annotation on the Lease with every write.
    #[must_use]
    pub fn marked(mut self, annotation: impl Into<String>, value: impl Into<String>) -> Self {
        self.marks.insert(annotation.into(), value.into());
        self
    }

    fn fill(&self, mut object: Lease, record: Record) -> Lease {
        let Record { holder, lease_duration_seconds, acquire_time, renew_time, leader_transitions } = record;
        object.spec = Some(LeaseSpec {
            holder_identity: Some(holder),
            lease_duration_seconds,
            acquire_time: acquire_time.map(MicroTime),
            renew_time: renew_time.map(MicroTime),
            lease_transitions: leader_transitions,
            ..object.spec.unwrap_or_default()
        });
        object.metadata.managed_fields = None;
        if !self.marks.is_empty() {
            object.metadata.annotations.get_or_insert_default().extend(self.marks.clone());
        }
        object
    }

    /// What to do about an error.
    fn explain(&self, verb: &str, error: &kube::Error) -> Failure {
        let Self { namespace, name, .. } = self;
        let kube::Error::Api(status) = error else {
            return Failure::Unknown(format!("cannot reach the API server: {error}"));
        };
        let message = status.message.clone();
        let absent = status.details.as_ref().map_or("", |details| details.kind.as_str());
        match status.code {
            404 if absent == "leases" => Failure::Conflict(message),
            404 if absent == "namespaces" => Failure::Denied(format!("there is no namespace {namespace}: create it")),
            409 => Failure::Conflict(message),
            401 => Failure::Denied(format!("the API server does not accept our credentials ({message}): renew them")),
            403 => Failure::Denied(format!(
                "missing right to {verb} the Lease {namespace}/{name} ({message}): \
                 grant get, list, watch, create and update on leases in namespace {namespace}"
            )),
            400 | 405 | 413 | 415 | 422 => Failure::Denied(format!("the API server refuses to {verb} it: {message}")),
            code => Failure::Unknown(format!("the API server failed to {verb} it ({code}: {message})")),
        }
    }
}

impl Lock for LeaseLock {
    type Object = Lease;

    fn describe(&self) -> String {
        format!("Lease {}/{}", self.namespace, self.name)
    }

    async fn get(&self) -> Result<Option<Seen<Lease>>, Failure> {
        // Not `get_opt`, which takes every 404 for an absence.
        match self.api.get(&self.name).await {
            Ok(object) => Ok(Some(read(object))),
            Err(error) => match self.explain("get", &error) {
                Failure::Conflict(_) => Ok(None),
                failure => Err(failure),
            },
        }
    }

    async fn create(&self, record: Record) -> Result<Seen<Lease>, Failure> {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let object = self.fill(Lease { metadata, spec: None }, record);
        self.api.create(&post(), &object).await.map(read).map_err(|error| self.explain("create", &error))
    }

    async fn update(&self, seen: Seen<Lease>, record: Record) -> Result<Seen<Lease>, Failure> {
        let Seen { version: Version { uid, resource_version }, object, .. } = seen;
        let mut object = self.fill(object, record);
        // Both: the API server makes a PUT of a deleted Lease a creation unless it carries the UID.
        object.metadata.uid = Some(uid);
        object.metadata.resource_version = Some(resource_version);
        self.api.replace(&self.name, &post(), &object).await.map(read).map_err(|error| self.explain("update", &error))
    }

    fn changes(&self) -> BoxStream<'static, Option<Seen<Lease>>> {
        let only = WatchParams::default().fields(&format!("metadata.name={}", self.name));
        // Without a revision to begin with, the first event is the Lease as it is.
        let watches = stream::unfold((self.api.clone(), only, Duration::ZERO), |(api, only, pause)| async move {
            sleep(pause).await;
            // Most probably the right is missing. Nobody needs to hear of it: looking from time to time goes on.
            match api.watch(&only, "0").await {
                Ok(watch) => Some((watch.take_until(sleep(LONGEST_WATCH)).boxed(), (api, only, WATCH_AGAIN))),
                Err(_) => Some((stream::empty().boxed(), (api, only, AFTER_FAILURE))),
            }
        });
        let events = watches.flatten().filter_map(|event| async {
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => Some(Some(read(object))),
                Ok(WatchEvent::Deleted(_)) => Some(None),
                // After an error the watch ends, and another one begins.
                Ok(WatchEvent::Bookmark(_) | WatchEvent::Error(_)) | Err(_) => None,
            }
        });
        events.boxed()
    }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(names::MANAGER.into()), ..PostParams::default() }
}

/// What a Lease says.
fn read(object: Lease) -> Seen<Lease> {
    let spec = object.spec.clone().unwrap_or_default();
    let metadata = &object.metadata;
    let owner = metadata.owner_references.iter().flatten().find(|owner| is_election(owner)).map(|owner| owner.name.clone());
    let incarnation = metadata.annotations.as_ref().and_then(|annotations| annotations.get(names::INCARNATION));
    Seen {
        record: Record {
            holder: spec.holder_identity.unwrap_or_default(),
            lease_duration_seconds: spec.lease_duration_seconds,
            acquire_time: spec.acquire_time.map(|MicroTime(time)| time),
            renew_time: spec.renew_time.map(|MicroTime(time)| time),
            leader_transitions: spec.lease_transitions,
        },
        version: Version {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
        },
        claimed_by: owner.or_else(|| incarnation.map(|uid| format!("with the UID {uid}"))),
        object,
    }
}
