//! The API server, as far as the controller uses it: every write and every read of a pass goes through [`Server`], one
//! narrow interface, so that tests can stand between the two.

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::core::{DeserializeGuard, ObjectList, Status};
use kube::{Api, Client, CustomResourceExt, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::observe::cached::{self, Named, PodObject};
use super::observe::settings::Limits;
use super::queue::Outcome;
use crate::api::{Election, names};
use crate::ids::NotAnInteger;
use crate::retry_after;

/// How long one request may take. Whatever is not answered by then may still be applied.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A write. Each is guarded: the server refuses it unless the object is as it was decided on.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// POST of a blank Lease.
    CreateLease(Lease),
    /// PUT of a Lease with UID and resourceVersion.
    ReplaceLease(Lease),
    /// Merge PATCH of a pod's metadata, with UID and resourceVersion.
    PatchPod {
        /// The pod's name.
        name: String,
        /// The patch.
        patch: Value,
    },
    /// Merge PATCH of an Election's status, with UID and resourceVersion.
    PatchStatus {
        /// The Election's name.
        name: String,
        /// The patch.
        patch: Value,
    },
    /// POST of an Event.
    CreateEvent(Box<Event>),
}

/// A read, at the most recent revision. Never from a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// All pods of the namespace.
    Pods,
    /// One pod.
    Pod(String),
    /// One Lease.
    Lease(String),
    /// One Election.
    Election(String),
    /// All Elections of the namespace.
    Elections,
}

/// A request that was not answered with success, sorted by what to do next.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// The object is not as it was decided on: read it and decide again.
    #[error("the object changed meanwhile: {0}")]
    Outdated(String),
    /// There is no object of that name. `named`: the answer says so of the very object, not of something around it.
    #[error("not found: {message}")]
    NotFound {
        /// The server's words.
        message: String,
        /// Whether the answer names the object.
        named: bool,
    },
    /// No answer, or none that tells: a write may have been applied. Read again, later and later.
    #[error("no answer: {0}")]
    Unknown(String),
    /// The same, and the server has said when it wants to be asked again: not before.
    #[error("the API server has too much to do: {message}")]
    Busy {
        /// The server's words.
        message: String,
        /// How long it wants to be left alone.
        after: Duration,
    },
    /// The namespace is being deleted, or is gone: nothing is created in it any more, and soon there is nothing left to do. Or it is
    /// this controller that writes nothing any more.
    #[error("{0}")]
    Ending(String),
    /// A person has to mend it.
    #[error("{0}")]
    Denied(String),
    /// Answered with success, but the object is not as it was asked for: something on the way changes writes. A person has to
    /// mend it, and until then the write counts as not done.
    #[error("{0}")]
    Altered(String),
}

impl Refusal {
    /// When to try again: later and later, and not before the server wants it.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Busy { after, .. } => Outcome::Later(Instant::now() + *after),
            // Each attempt changes objects, and hears of it.
            Self::Altered(_) => Outcome::HeldOff,
            _ => Outcome::Failed,
        }
    }
}

impl From<NotAnInteger> for Refusal {
    fn from(error: NotAnInteger) -> Self {
        Self::Denied(error.to_string())
    }
}

/// What the controller asks of an API server.
pub trait Server: Send + Sync + 'static {
    /// Writes, and returns the object as the server has it now (Events have nothing to return).
    fn write(&self, namespace: &str, write: Write) -> impl Future<Output = Result<Option<Named>, Refusal>> + Send;

    /// Reads.
    fn read(&self, namespace: &str, read: Read) -> impl Future<Output = Result<Vec<Named>, Refusal>> + Send;

    /// Whether the Election resource itself is established and not about to be removed: only then does the absence of an
    /// Election mean that it was deleted.
    fn serves_elections(&self) -> impl Future<Output = Result<bool, Refusal>> + Send;

    /// Stands around every task of the controller. Nothing of it runs while this does not: there a test stops a controller
    /// as SIGSTOP does.
    fn around(&self, task: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> + Send + 'static {
        task
    }
}

/// A real API server.
#[derive(Clone)]
pub struct KubeServer {
    client: Client,
    limits: Limits,
    pages: Arc<Semaphore>,
}

/// How many objects are asked for at a time, where all of a namespace are. A page is held as the server sent it until it is
/// understood, some ten kilobytes for a pod; what is kept of it is a twentieth of that.
const PAGE: u32 = 500;

/// How many pages are read at a time. With as many as there are workers, a large cluster would cost hundreds of megabytes.
const PAGES: usize = 4;

/// How long the answer to a page may take to begin before another one is asked for, too.
const PATIENCE: Duration = Duration::from_secs(1);

impl KubeServer {
    /// The server behind `client`, whose own retries must be off: a retried write hides whether the first was applied.
    pub fn new(client: Client, limits: Limits) -> Self {
        Self { client, limits, pages: Arc::new(Semaphore::new(PAGES)) }
    }

    fn pods(&self, namespace: &str) -> Api<PodObject> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn leases(&self, namespace: &str) -> Api<Lease> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn elections(&self, namespace: &str) -> Api<DeserializeGuard<Election>> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn election(&self, object: DeserializeGuard<Election>) -> Result<Named, NotAnInteger> {
        cached::election(object, &self.limits)
    }

    /// All objects of a namespace, as they were when the first page was read.
    async fn list<K>(
        &self,
        resource: &'static str,
        namespace: &str,
        keep: impl Fn(K) -> Result<Named, NotAnInteger>,
    ) -> Result<Vec<Named>, Refusal>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        // No resourceVersion: the most recent state, not that of a cache of the server.
        let mut page = ListParams::default().limit(PAGE);
        let mut kept = Vec::new();
        loop {
            let (list, turn) = self.page::<K>((resource, ""), namespace, &page).await?;
            for object in list.items {
                kept.push(keep(object)?);
            }
            drop(turn);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(kept),
            }
        }
    }

    /// One page, and the turn to have it in memory. A server that lets us wait has sent nothing yet: meanwhile the turn is another
    /// namespace's.
    async fn page<K>(
        &self,
        about: About<'_>,
        namespace: &str,
        page: &ListParams,
    ) -> Result<(ObjectList<K>, SemaphorePermit<'_>), Refusal>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned,
    {
        let request = kube::core::Request::new(K::url_path(&(), Some(namespace))).list(page);
        let request = request.map_err(|error| Refusal::Unknown(error.to_string()))?;
        let turn = self.turn().await?;
        let mut sent = pin!(within(about, self.client.send(request.map(Body::from))));
        let (response, turn) = match tokio::time::timeout(PATIENCE, &mut sent).await {
            Ok(response) => (response?, turn),
            Err(_) => {
                drop(turn);
                (sent.await?, self.turn().await?)
            }
        };
        let list = within(about, async {
            let code = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            if code.is_success() {
                return serde_json::from_slice(&body).map_err(kube::Error::SerdeError);
            }
            let status = serde_json::from_slice(&body)
                .unwrap_or_else(|_| Status::failure(&String::from_utf8_lossy(&body), "").with_code(code.as_u16()));
            Err(kube::Error::Api(status.boxed()))
        });
        Ok((list.await?, turn))
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.pages.acquire().await.map_err(|_| Refusal::Unknown("the end is near".into()))
    }
}

impl Server for KubeServer {
    async fn write(&self, namespace: &str, write: Write) -> Result<Option<Named>, Refusal> {
        let create = PostParams { field_manager: Some(names::MANAGER.into()), ..PostParams::default() };
        let change = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
        Ok(Some(match write {
            Write::CreateLease(lease) => {
                let name = lease.metadata.name.as_deref().unwrap_or_default();
                let created = within((LEASES, name), self.leases(namespace).create(&create, &lease)).await?;
                cached::lease(DeserializeGuard(Ok(created)))?
            }
            Write::ReplaceLease(lease) => {
                let name = lease.metadata.name.as_deref().unwrap_or_default();
                let replaced = within((LEASES, name), self.leases(namespace).replace(name, &create, &lease)).await?;
                cached::lease(DeserializeGuard(Ok(replaced)))?
            }
            Write::PatchPod { name, patch } => {
                let (pods, patch) = (self.pods(namespace), Patch::Merge(patch));
                cached::pod(within((PODS, &name), pods.patch(&name, &change, &patch)).await?)?
            }
            Write::PatchStatus { name, patch } => {
                let (elections, patch) = (self.elections(namespace), Patch::Merge(patch));
                self.election(within((ELECTIONS, &name), elections.patch_status(&name, &change, &patch)).await?)?
            }
            Write::CreateEvent(event) => {
                let name = event.metadata.name.as_deref().unwrap_or_default();
                let events = Api::<Event>::namespaced(self.client.clone(), namespace);
                within(("events", name), events.create(&create, &*event)).await?;
                return Ok(None);
            }
        }))
    }

    async fn read(&self, namespace: &str, read: Read) -> Result<Vec<Named>, Refusal> {
        Ok(match read {
            Read::Pods => self.list(PODS, namespace, cached::pod).await?,
            Read::Pod(name) => vec![cached::pod(within((PODS, &name), self.pods(namespace).get(&name)).await?)?],
            Read::Lease(name) => {
                let leases = Api::<DeserializeGuard<Lease>>::namespaced(self.client.clone(), namespace);
                vec![cached::lease(within((LEASES, &name), leases.get(&name)).await?)?]
            }
            Read::Elections => self.list(ELECTIONS, namespace, |election| self.election(election)).await?,
            Read::Election(name) => {
                vec![self.election(within((ELECTIONS, &name), self.elections(namespace).get(&name)).await?)?]
            }
        })
    }

    async fn serves_elections(&self) -> Result<bool, Refusal> {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = Election::crd_name();
        let definition = within(("customresourcedefinitions", name), definitions.get(name)).await?;
        let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
        let holds = |kind: &str| conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True");
        Ok(holds("Established") && !holds("Terminating") && definition.metadata.deletion_timestamp.is_none())
    }
}

// What the server calls the resources where it names an object in an error.
const PODS: &str = "pods";
const LEASES: &str = "leases";
const ELECTIONS: &str = "elections";

/// Waits for the answer, for so long. `about`: what the request is about, as an error would name it.
async fn within<T>(about: About<'_>, request: impl Future<Output = kube::Result<T>>) -> Result<T, Refusal> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| classify(about, error)),
        Err(_) => Err(Refusal::Unknown(format!("the API server did not answer within {} s", TIMEOUT.as_secs()))),
    }
}

/// The resource, in the plural, and the name of an object.
type About<'a> = (&'static str, &'a str);

fn classify((resource, name): About<'_>, error: kube::Error) -> Refusal {
    let after = retry_after::of(&error);
    let kube::Error::Api(status) = error else { return Refusal::Unknown(error.to_string()) };
    let message = status.message.clone();
    if let Some(after) = after {
        return Refusal::Busy { message, after };
    }
    match status.code {
        // 410: a list that took too long. All of these leave things as they were.
        409 | 410 => Refusal::Outdated(message),
        404 if about_namespace(&status) => Refusal::Ending(message),
        404 => Refusal::NotFound {
            message,
            named: status.details.is_some_and(|details| details.kind == resource && details.name == name),
        },
        403 if is_ending(&status) => Refusal::Ending(message),
        403 if message.contains(OWNED) => Refusal::Denied(format!(
            "{message}: grant the controller's account the verb delete on {resource}, as the chart does; this API server asks for it where an owner changes"
        )),
        400 | 401 | 403 | 405 | 413 | 415 | 422 => Refusal::Denied(message),
        _ => Refusal::Unknown(message),
    }
}

/// What the admission plugin OwnerReferencesPermissionEnforcement says, which names no verb.
const OWNED: &str = "cannot set an ownerRef on a resource you can't delete";

/// Whether it is the namespace that the server does not find.
fn about_namespace(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// Whether the server refuses because the namespace is being deleted.
fn is_ending(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use http_body_util::StreamBody;
    use hyper::body::{Bytes, Frame};
    use serde_json::json;

    use super::*;
    use crate::controller::observe::settings::LabelKeys;

    fn limits() -> Limits {
        Limits { label_keys: LabelKeys::new(["leader".into()]), own_lease: None }
    }

    #[tokio::test(start_paused = true)]
    async fn few_pages_are_read_at_a_time_and_every_list_gets_all_of_its_own() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, peak) = (now.clone(), most.clone());
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (now, most) = (counted.clone(), peak.clone());
            async move {
                let query = request.uri().query().unwrap_or_default();
                assert!(query.contains(&format!("limit={PAGE}")) && !query.contains("resourceVersion"), "{query}");
                let (pod, next) = if query.contains("continue=more") { ("b", "") } else { ("a", "more") };
                let pod = json!({ "metadata": { "name": pod, "uid": pod, "resourceVersion": "7" } });
                let list =
                    json!({ "apiVersion": "v1", "kind": "PodList", "metadata": { "continue": next }, "items": [pod] });
                // The answer begins at once, and takes its time.
                let body = futures::stream::once(async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(TIMEOUT / 2).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(list.to_string())))
                });
                Ok::<_, std::convert::Infallible>(http::Response::new(StreamBody::new(body)))
            }
        });
        let server = KubeServer::new(Client::new(service, "default"), limits());
        // Waiting for one's turn is not waiting for an answer.
        for answer in join_all((0..20).map(|_| server.read("default", Read::Pods))).await {
            let names: Vec<String> = answer.expect("every list is read").into_iter().map(|pod| pod.name).collect();
            assert_eq!(names, ["a", "b"]);
        }
        assert_eq!((most.load(Ordering::SeqCst), now.load(Ordering::SeqCst)), (PAGES, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn lists_that_are_not_answered_do_not_hold_up_those_of_other_namespaces() {
        let service = tower::service_fn(move |request: http::Request<Body>| async move {
            if request.uri().path().contains("hangs") {
                std::future::pending::<()>().await;
            }
            let list = r#"{"apiVersion":"v1","kind":"PodList","metadata":{},"items":[]}"#;
            Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(list.as_bytes().to_vec())))
        });
        let server = KubeServer::new(Client::new(service, "default"), limits());
        let namespaces: Vec<String> = (0..3 * PAGES).map(|number| format!("hangs-{number}")).collect();
        let hanging = join_all(namespaces.iter().map(|namespace| server.read(namespace, Read::Pods)));
        let other = async {
            let began = Instant::now();
            server.read("default", Read::Pods).await.expect("it is answered");
            began.elapsed()
        };
        let (hanging, took) = futures::future::join(hanging, other).await;
        assert!(took <= 3 * PATIENCE, "{took:?}");
        assert!(hanging.iter().all(|answer| matches!(answer, Err(Refusal::Unknown(_)))), "{hanging:?}");
    }

    fn refusal(code: u16, details: Value) -> Refusal {
        let status = json!({ "status": "Failure", "message": "no", "reason": "", "code": code, "details": details });
        classify((PODS, "web-0"), kube::Error::Api(serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn what_is_refused_because_the_namespace_goes_needs_nobody() {
        let cause =
            json!([{ "reason": "NamespaceTerminating", "message": "is being terminated", "field": "metadata.namespace" }]);
        let going = refusal(403, json!({ "kind": "leases", "name": "web", "causes": cause }));
        assert!(matches!(going, Refusal::Ending(_)), "{going:?}");
        let gone = refusal(404, json!({ "kind": "namespaces", "name": "default" }));
        assert!(matches!(gone, Refusal::Ending(_)), "{gone:?}");
        let missing_right = refusal(403, json!({ "kind": "leases", "name": "web" }));
        assert!(matches!(missing_right, Refusal::Denied(_)), "{missing_right:?}");
    }

    #[test]
    fn a_refusal_to_change_an_owner_names_the_verb() {
        let status = json!({ "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "leases.coordination.k8s.io \"web\" is forbidden: cannot set an ownerRef on a resource you can't delete: , <nil>" });
        let refusal = classify((LEASES, "web"), kube::Error::Api(serde_json::from_value(status).unwrap()));
        assert!(matches!(&refusal, Refusal::Denied(message) if message.contains("the verb delete on leases")), "{refusal}");
    }

    #[test]
    fn a_server_that_says_when_to_ask_again_is_not_asked_before() {
        for code in [429, 500, 503, 504] {
            let busy = refusal(code, json!({ "retryAfterSeconds": 7 }));
            assert!(matches!(busy, Refusal::Busy { after, .. } if after == Duration::from_secs(7)), "{busy:?}");
            assert!(matches!(refusal(code, json!({})), Refusal::Unknown(_)));
        }
    }

    #[test]
    fn an_object_is_gone_only_if_the_answer_names_this_very_object() {
        for (kind, name, expected) in [("pods", "web-0", true), ("pods", "web-1", false), ("leases", "web-0", false)] {
            let answer = refusal(404, json!({ "kind": kind, "name": name }));
            assert!(matches!(answer, Refusal::NotFound { named, .. } if named == expected), "{answer:?}");
        }
    }
}
