//! A lock that is one object of the API server.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{PostParams, WatchEvent, WatchParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::lock::{Failure, Lock};
use super::record::{Record, Seen, Version};
use crate::api::names;
use crate::connect::SILENCE;
use crate::retry_after;

/// The pauses after a watch, after one that failed, and after one for which the right is missing. Without any, everything works, a
/// little later.
const WATCH_AGAIN: Duration = Duration::from_secs(1);
const AFTER_FAILURE: Duration = Duration::from_secs(15);
const WITHOUT_RIGHT: Duration = Duration::from_secs(300);

/// Whom a record names that cannot be read. Somebody may lead: it is waited for, as for every holder.
pub(super) const UNREADABLE: &str = "(unreadable)";

/// A kind of object that can hold the record of a leader.
pub trait Keeps:
    Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
    + k8s_openapi::Resource<Scope = NamespaceResourceScope>
    + Clone
    + Default
    + fmt::Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// See [`Lock::TICK`].
    const TICK: Duration;

    /// The record that it holds; one without a holder if it holds none.
    fn record(&self) -> Record;

    /// Puts a record in the place of the one that it holds. Everything else stays.
    fn keep(&mut self, record: Record);

    /// The Election that claims it, if one does.
    fn claimed_by(&self) -> Option<String> {
        None
    }
}

/// One object of the API server as the lock.
///
/// Needs the rights to get, create and update it; with the right to watch it, too, a released lock is taken at once instead
/// of at the next look.
#[derive(Clone, Debug)]
pub struct ObjectLock<K> {
    api: Api<K>,
    /// The same to read from: what cannot be read is told from what is not there.
    reading: Api<DeserializeGuard<K>>,
    namespace: String,
    name: String,
    marks: BTreeMap<String, String>,
    /// Whether it was said that the marks are not kept.
    is_unmarked: Arc<AtomicBool>,
}

impl<K: Keeps> ObjectLock<K> {
    /// The object of this name. The client's own retries must be off: a retried write hides whether the first was applied.
    pub fn new(client: Client, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        let (namespace, name) = (namespace.into(), name.into());
        let (api, reading) = (Api::namespaced(client.clone(), &namespace), Api::namespaced(client, &namespace));
        Self { api, reading, namespace, name, marks: BTreeMap::new(), is_unmarked: Arc::default() }
    }

    /// Leaves this annotation on the object with every write.
    #[must_use]
    pub fn marked(mut self, annotation: impl Into<String>, value: impl Into<String>) -> Self {
        self.marks.insert(annotation.into(), value.into());
        self
    }

    fn fill(&self, mut object: K, record: Record) -> K {
        object.keep(record);
        object.meta_mut().managed_fields = None;
        if !self.marks.is_empty() {
            object.annotations_mut().extend(self.marks.clone());
        }
        object
    }

    /// What a write was answered. The marks are not part of the lock: without them it works, and they are written again with the
    /// next renewal.
    fn written(&self, object: K) -> Seen<K> {
        let missing = self.marks.iter().find(|(name, value)| object.annotations().get(*name) != Some(*value));
        if let Some((name, value)) = missing
            && !self.is_unmarked.swap(true, Ordering::Relaxed)
        {
            warn!(
                "the {} does not keep the annotation {name}: {value}: an admission policy or webhook removes it",
                self.describe()
            );
        }
        read(object)
    }

    /// What to do about an error.
    fn explain(&self, verb: &str, error: &kube::Error) -> Failure {
        let (Self { namespace, name, .. }, kind, plural) = (self, K::KIND, K::URL_PATH_SEGMENT);
        let kube::Error::Api(status) = error else {
            return Failure::Unknown(format!("cannot reach the API server: {error}"));
        };
        let message = status.message.clone();
        let absent = status.details.as_ref().map_or("", |details| details.kind.as_str());
        match status.code {
            404 if absent == plural => Failure::Conflict(message),
            404 if absent == "namespaces" => Failure::Denied(format!("there is no namespace {namespace}: create it")),
            409 => Failure::Conflict(message),
            401 => Failure::Denied(format!("the API server does not accept our credentials ({message}): renew them")),
            403 => Failure::Denied(format!(
                "missing right to {verb} the {kind} {namespace}/{name} ({message}): \
                 grant get, create and update on {plural} in namespace {namespace}"
            )),
            400 | 405 | 413 | 415 | 422 => Failure::Denied(format!("the API server refuses to {verb} it: {message}")),
            code => {
                let message = format!("the API server failed to {verb} it ({code}: {message})");
                match retry_after::of_status(status) {
                    Some(after) => Failure::Busy { message, after },
                    None => Failure::Unknown(message),
                }
            }
        }
    }
}

impl<K: Keeps> Lock for ObjectLock<K> {
    type Object = K;

    const TICK: Duration = K::TICK;

    fn describe(&self) -> String {
        format!("{} {}/{}", K::KIND, self.namespace, self.name)
    }

    async fn get(&self) -> Result<Option<Seen<K>>, Failure> {
        // Not `get_opt`, which takes every 404 for an absence.
        match self.reading.get(&self.name).await {
            Ok(object) => Ok(Some(read(readable(object)))),
            Err(error) => match self.explain("get", &error) {
                Failure::Conflict(_) => Ok(None),
                failure => Err(failure),
            },
        }
    }

    async fn create(&self, record: Record) -> Result<Seen<K>, Failure> {
        let mut object = self.fill(K::default(), record);
        object.meta_mut().name = Some(self.name.clone());
        let answer = self.api.create(&post(), &object).await;
        answer.map(|object| self.written(object)).map_err(|error| self.explain("create", &error))
    }

    async fn update(&self, seen: Seen<K>, record: Record) -> Result<Seen<K>, Failure> {
        let Seen { version: Version { uid, resource_version }, object, .. } = seen;
        let mut object = self.fill(object, record);
        // Both: the API server makes a PUT of a deleted Lease a creation unless it carries the UID.
        object.meta_mut().uid = Some(uid);
        object.meta_mut().resource_version = Some(resource_version);
        let answer = self.api.replace(&self.name, &post(), &object).await;
        answer.map(|object| self.written(object)).map_err(|error| self.explain("update", &error))
    }

    fn changes(&self) -> BoxStream<'static, Option<Seen<K>>> {
        let only = WatchParams::default().fields(&format!("metadata.name={}", self.name));
        let start = (self.reading.clone(), only, Duration::ZERO, self.describe());
        // Without a revision to begin with, the first event is the object as it is.
        let watches = stream::unfold(start, |(api, only, pause, what)| async move {
            sleep(pause).await;
            match api.watch(&only, "0").await {
                Ok(watch) => Some((until_silent(watch.boxed(), what.clone()), (api, only, WATCH_AGAIN, what))),
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    // Few need to hear it: looking from time to time goes on.
                    debug!(
                        "missing right to watch the {what} ({}): that it was released shows at the next look",
                        status.message
                    );
                    Some((stream::empty().boxed(), (api, only, WITHOUT_RIGHT, what)))
                }
                Err(error) => {
                    let pause = retry_after::of(&error).unwrap_or_default().max(AFTER_FAILURE);
                    Some((stream::empty().boxed(), (api, only, pause, what)))
                }
            }
        });
        let events = watches.flatten().filter_map(|event| async {
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => Some(Some(read(readable(object)))),
                Ok(WatchEvent::Deleted(_)) => Some(None),
                // After an error the watch ends, and another one begins.
                Ok(WatchEvent::Bookmark(_) | WatchEvent::Error(_)) | Err(_) => None,
            }
        });
        events.boxed()
    }
}

/// Ends a watch whose connection is dead. Reads go on beside it, so that nothing depends on how soon.
fn until_silent<T: Send + 'static>(watch: BoxStream<'static, T>, what: String) -> BoxStream<'static, T> {
    let events = stream::unfold((watch, what), |(mut watch, what)| async move {
        match timeout(SILENCE, watch.next()).await {
            Ok(event) => event.map(|event| (event, (watch, what))),
            Err(_) => {
                let seconds = SILENCE.as_secs();
                warn!(
                    "the watch of the {what} is silent: no event or bookmark for {seconds} s; watching on another connection"
                );
                None
            }
        }
    });
    events.boxed()
}

fn post() -> PostParams {
    PostParams { field_manager: Some(names::MANAGER.into()), ..PostParams::default() }
}

/// The object, or where it cannot be read, for example because of a time beyond all calendars, one that somebody holds: it is waited
/// for, and then replaced.
fn readable<K: Keeps>(guard: DeserializeGuard<K>) -> K {
    guard.0.unwrap_or_else(|invalid| {
        let mut object = K::default();
        *object.meta_mut() = invalid.metadata;
        object.keep(Record { holder: UNREADABLE.into(), ..Record::default() });
        object
    })
}

/// What an object says.
fn read<K: Keeps>(object: K) -> Seen<K> {
    Seen {
        record: object.record(),
        version: Version {
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
        },
        claimed_by: object.claimed_by(),
        parts: Vec::new(),
        object,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::Lease;
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::scripted::{Script, event, server};

    #[tokio::test(start_paused = true)]
    async fn silent_watch_is_replaced_within_75_s() {
        let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "web", "namespace": "a", "uid": "u", "resourceVersion": "7" } });
        let bookmark = event("BOOKMARK", &json!({ "kind": "Lease", "metadata": { "resourceVersion": "7" } }));
        let bookmarks = Script::silent([(60, bookmark.clone()), (60, bookmark)]);
        let (client, asked) = server([bookmarks, Script::silent([(0, event("ADDED", &lease))])]);
        let began = Instant::now();
        let mut changes = ObjectLock::<Lease>::new(client, "a", "web").changes();
        assert!(changes.next().await.is_some_and(|seen| seen.is_some()));
        // Two bookmarks, and then nothing.
        assert!(began.elapsed() > Duration::from_secs(120) && began.elapsed() < Duration::from_secs(195), "{began:?}");
        assert_eq!(asked.lock().unwrap().len(), 2);
    }
}
