//! The lock on one object of the API server.

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

use super::{Lock, LockError};
use crate::record::{LeaderElectionRecord, LockState, ObjectVersion};
use crate::retry_after;

/// The pauses after a watch, after one that failed, and after one that was denied. Without a watch the campaign works, a little
/// later.
const WATCH_AGAIN: Duration = Duration::from_secs(1);
const AFTER_FAILURE: Duration = Duration::from_secs(15);
const AFTER_DENIAL: Duration = Duration::from_secs(300);

/// The silence after which the connection of a watch counts as dead. The API server sends a bookmark once a minute.
const WATCH_TIMEOUT: Duration = Duration::from_secs(70);

/// How a kind of object holds a leader election record.
pub trait LockFormat: fmt::Debug + Clone + Send + Sync + 'static {
    /// The object.
    type Object: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + k8s_openapi::Resource<Scope = NamespaceResourceScope>
        + Clone
        + Default
        + fmt::Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static;

    /// See [`Lock::TICK`].
    const TICK: Duration;

    /// Returns the record that the object holds; one without a holder if it holds none.
    fn record(object: &Self::Object) -> LeaderElectionRecord;

    /// Replaces the record that the object holds. Everything else stays.
    fn set_record(object: &mut Self::Object, record: LeaderElectionRecord);

    /// Returns the Election that claims the object, if one does.
    fn claimed_by(_: &Self::Object) -> Option<String> {
        None
    }
}

/// One object of the API server as the lock.
///
/// Needs the permissions to get, create and update the object. With the permission to watch it, a released lock is acquired at
/// once, otherwise at the next read.
#[derive(Clone, Debug)]
pub struct ObjectLock<F: LockFormat> {
    api: Api<F::Object>,
    /// For reads, which tell an object that cannot be decoded from one that does not exist.
    reading: Api<DeserializeGuard<F::Object>>,
    namespace: String,
    name: String,
    field_manager: String,
    annotations: BTreeMap<String, String>,
    /// The warning about annotations that are not stored was logged.
    is_annotation_loss_logged: Arc<AtomicBool>,
}

impl<F: LockFormat> ObjectLock<F> {
    /// Returns the lock on the object of this name. The client must not retry: a retried write hides whether the first one was
    /// applied.
    pub fn new(client: Client, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        let (namespace, name) = (namespace.into(), name.into());
        Self {
            api: Api::namespaced(client.clone(), &namespace),
            reading: Api::namespaced(client, &namespace),
            namespace,
            name,
            field_manager: env!("CARGO_PKG_NAME").into(),
            annotations: BTreeMap::new(),
            is_annotation_loss_logged: Arc::default(),
        }
    }

    /// Sets the field manager of every write. Default: `podium-campaign`.
    #[must_use]
    pub fn field_manager(mut self, name: impl Into<String>) -> Self {
        self.field_manager = name.into();
        self
    }

    /// Adds an annotation that every write leaves on the object.
    #[must_use]
    pub fn annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(name.into(), value.into());
        self
    }

    fn fill(&self, mut object: F::Object, record: LeaderElectionRecord) -> F::Object {
        F::set_record(&mut object, record);
        object.meta_mut().managed_fields = None;
        if !self.annotations.is_empty() {
            object.annotations_mut().extend(self.annotations.clone());
        }
        object
    }

    fn post(&self) -> PostParams {
        PostParams { field_manager: Some(self.field_manager.clone()), ..PostParams::default() }
    }

    /// Returns what the server stored. The lock works without the annotations, and the next renewal writes them again.
    fn stored(&self, object: F::Object) -> LockState<F::Object> {
        let missing = self.annotations.iter().find(|(name, value)| object.annotations().get(*name) != Some(*value));
        if let Some((name, value)) = missing
            && !self.is_annotation_loss_logged.swap(true, Ordering::Relaxed)
        {
            warn!(
                "the {} does not keep the annotation {name}: {value}: an admission policy or webhook removes it",
                self.describe()
            );
        }
        state::<F>(object)
    }

    /// Classifies an error by what to do about it.
    fn explain(&self, verb: &str, error: &kube::Error) -> LockError {
        let (kind, plural) =
            (<F::Object as k8s_openapi::Resource>::KIND, <F::Object as k8s_openapi::Resource>::URL_PATH_SEGMENT);
        let Self { namespace, name, .. } = self;
        let kube::Error::Api(status) = error else {
            return LockError::Unknown(format!("cannot reach the API server: {error}"));
        };
        let message = status.message.clone();
        let absent = status.details.as_ref().map_or("", |details| details.kind.as_str());
        match status.code {
            404 if absent == plural => LockError::Conflict(message),
            404 if absent == "namespaces" => LockError::Denied(format!("namespace {namespace} does not exist: create it")),
            409 => LockError::Conflict(message),
            401 => LockError::Denied(format!("the API server rejects the credentials ({message}): renew them")),
            403 => LockError::Denied(format!(
                "missing permission to {verb} the {kind} {namespace}/{name} ({message}): \
                 grant get, create and update on {plural} in namespace {namespace}"
            )),
            400 | 405 | 413 | 415 | 422 => {
                LockError::Denied(format!("the API server rejects the {verb} request: {message}"))
            }
            code => {
                let message = format!("the {verb} request failed ({code}: {message})");
                match retry_after::of_status(status) {
                    Some(after) => LockError::Busy { message, after },
                    None => LockError::Unknown(message),
                }
            }
        }
    }
}

impl<F: LockFormat> Lock for ObjectLock<F> {
    type Object = F::Object;

    const TICK: Duration = F::TICK;

    fn describe(&self) -> String {
        format!("{} {}/{}", <F::Object as k8s_openapi::Resource>::KIND, self.namespace, self.name)
    }

    async fn get(&self) -> Result<Option<LockState<F::Object>>, LockError> {
        // Not `get_opt`, which takes every 404 for an absent object.
        match self.reading.get(&self.name).await {
            Ok(object) => Ok(Some(state::<F>(decoded::<F>(object)))),
            Err(error) => match self.explain("get", &error) {
                LockError::Conflict(_) => Ok(None),
                error => Err(error),
            },
        }
    }

    async fn create(&self, record: LeaderElectionRecord) -> Result<LockState<F::Object>, LockError> {
        let mut object = self.fill(F::Object::default(), record);
        object.meta_mut().name = Some(self.name.clone());
        let created = self.api.create(&self.post(), &object).await;
        created.map(|object| self.stored(object)).map_err(|error| self.explain("create", &error))
    }

    async fn update(
        &self,
        observed: LockState<F::Object>,
        record: LeaderElectionRecord,
    ) -> Result<LockState<F::Object>, LockError> {
        let LockState { version: ObjectVersion { uid, resource_version }, object, .. } = observed;
        let mut object = self.fill(object, record);
        // Both: without the UID the API server turns a PUT on a deleted Lease into a creation.
        object.meta_mut().uid = Some(uid);
        object.meta_mut().resource_version = Some(resource_version);
        let replaced = self.api.replace(&self.name, &self.post(), &object).await;
        replaced.map(|object| self.stored(object)).map_err(|error| self.explain("update", &error))
    }

    fn changes(&self) -> BoxStream<'static, Option<LockState<F::Object>>> {
        let only = WatchParams::default().fields(&format!("metadata.name={}", self.name));
        let start = (self.reading.clone(), only, Duration::ZERO, self.describe());
        // Without a revision to start from, the first event is the present object.
        let watches = stream::unfold(start, |(api, only, pause, what)| async move {
            sleep(pause).await;
            match api.watch(&only, "0").await {
                Ok(watch) => Some((until_silent(watch.boxed(), what.clone()), (api, only, WATCH_AGAIN, what))),
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    // No warning: the campaign reads the lock at intervals.
                    debug!("missing permission to watch the {what} ({}): reading it at intervals", status.message);
                    Some((stream::empty().boxed(), (api, only, AFTER_DENIAL, what)))
                }
                Err(error) => {
                    let pause = retry_after::of(&error).unwrap_or_default().max(AFTER_FAILURE);
                    Some((stream::empty().boxed(), (api, only, pause, what)))
                }
            }
        });
        let events = watches.flatten().filter_map(|event| async {
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => Some(Some(state::<F>(decoded::<F>(object)))),
                Ok(WatchEvent::Deleted(_)) => Some(None),
                // After an error the watch ends, and another one begins.
                Ok(WatchEvent::Bookmark(_) | WatchEvent::Error(_)) | Err(_) => None,
            }
        });
        events.boxed()
    }
}

/// Ends a watch whose connection is dead.
fn until_silent<T: Send + 'static>(watch: BoxStream<'static, T>, what: String) -> BoxStream<'static, T> {
    let events = stream::unfold((watch, what), |(mut watch, what)| async move {
        match timeout(WATCH_TIMEOUT, watch.next()).await {
            Ok(event) => event.map(|event| (event, (watch, what))),
            Err(_) => {
                let seconds = WATCH_TIMEOUT.as_secs();
                warn!(
                    "the watch of the {what} is silent: no event or bookmark for {seconds} s; watching on another connection"
                );
                None
            }
        }
    });
    events.boxed()
}

/// Returns the object. One that cannot be decoded, for example because of a time beyond all calendars, counts as held: the
/// campaign waits for it to expire, then replaces it.
fn decoded<F: LockFormat>(guard: DeserializeGuard<F::Object>) -> F::Object {
    guard.0.unwrap_or_else(|invalid| {
        let mut object = F::Object::default();
        *object.meta_mut() = invalid.metadata;
        F::set_record(&mut object, LeaderElectionRecord::unreadable());
        object
    })
}

fn state<F: LockFormat>(object: F::Object) -> LockState<F::Object> {
    LockState {
        record: F::record(&object),
        version: ObjectVersion {
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
        },
        claimed_by: F::claimed_by(&object),
        parts: Vec::new(),
        object,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::AtomicU32;

    use bytes::Bytes;
    use futures::stream::StreamExt as _;
    use http::{Request, Response};
    use http_body_util::StreamBody;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::super::lease::LeaseLock;
    use super::*;

    /// Answers each watch with the events of its number, 60 s apart, and then with nothing more.
    fn server(watches: [Vec<Value>; 2]) -> (Client, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            let number = count.fetch_add(1, Ordering::Relaxed) as usize;
            let events = watches.get(number).cloned().unwrap_or_default();
            let events = stream::iter(events).then(|event| async move {
                sleep(Duration::from_secs(60)).await;
                Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(format!("{event}\n"))))
            });
            async move { Ok::<_, Infallible>(Response::new(StreamBody::new(events.chain(stream::pending())))) }
        });
        (Client::new(service, "a"), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn silent_watch_is_replaced_within_75_s() {
        let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "web", "namespace": "a", "uid": "u", "resourceVersion": "7" } });
        let bookmark = json!({ "type": "BOOKMARK", "object": { "kind": "Lease", "metadata": { "resourceVersion": "7" } } });
        let added = json!({ "type": "ADDED", "object": lease });
        let (client, asked) = server([vec![bookmark.clone(), bookmark], vec![added]]);
        let began = Instant::now();
        let mut changes = LeaseLock::new(client, "a", "web").changes();
        assert!(changes.next().await.is_some_and(|observed| observed.is_some()));
        // The last bookmark comes after 120 s, the event of the second watch 60 s after that watch began.
        let elapsed = began.elapsed();
        assert!(elapsed > Duration::from_secs(180) && elapsed < Duration::from_secs(255), "{elapsed:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
