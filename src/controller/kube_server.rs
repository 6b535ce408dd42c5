//! The API server behind a kube client.

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
use tokio::sync::{Semaphore, SemaphorePermit};

use super::limits::Limits;
use super::observe::cached::{self, Named, PodObject};
use super::server::{ApiServer, Read, Refusal, Write};
use crate::api::{Election, names};
use crate::ids::NotAnInteger;
use crate::retry_after;

/// Timeout of a request. A write without a response may still be applied.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The API server behind a client.
#[derive(Clone)]
pub struct KubeServer {
    client: Client,
    limits: Limits,
    pages: Arc<Semaphore>,
}

/// Objects in one page of a list. A page is in memory as the server sent it, some ten kilobytes for a pod, until it is parsed.
/// The caches keep a twentieth of that.
const PAGE: u32 = 500;

/// Pages in memory at a time. One for each worker would cost hundreds of megabytes in a large cluster.
const PAGES: usize = 4;

/// Time for the response to a page to start before another page is requested, too.
const PATIENCE: Duration = Duration::from_secs(1);

impl KubeServer {
    /// Returns the server behind `client`, whose own retries must be off: a retried write hides whether the first was applied.
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

    /// Lists all objects of a namespace at the revision of the first page.
    async fn list<K>(
        &self,
        resource: &'static str,
        namespace: &str,
        keep: impl Fn(K) -> Result<Named, NotAnInteger>,
    ) -> Result<Vec<Named>, Refusal>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        // Without a resourceVersion, so the server reads the most recent state and not its cache.
        let mut page = ListParams::default().limit(PAGE);
        let mut kept = Vec::new();
        loop {
            let (list, permit) = self.page::<K>((resource, ""), namespace, &page).await?;
            for object in list.items {
                kept.push(keep(object)?);
            }
            drop(permit);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(kept),
            }
        }
    }

    /// Reads one page, and returns it with the permit to have it in memory. Another namespace may have the permit while the
    /// response has not started.
    async fn page<K>(
        &self,
        object: ObjectName<'_>,
        namespace: &str,
        page: &ListParams,
    ) -> Result<(ObjectList<K>, SemaphorePermit<'_>), Refusal>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned,
    {
        let request = kube::core::Request::new(K::url_path(&(), Some(namespace))).list(page);
        let request = request.map_err(|error| Refusal::Unknown(error.to_string()))?;
        let permit = self.permit().await?;
        let mut sent = pin!(within(object, self.client.send(request.map(Body::from))));
        let (response, permit) = match tokio::time::timeout(PATIENCE, &mut sent).await {
            Ok(response) => (response?, permit),
            Err(_) => {
                drop(permit);
                (sent.await?, self.permit().await?)
            }
        };
        let list = within(object, async {
            let code = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            if code.is_success() {
                return serde_json::from_slice(&body).map_err(kube::Error::SerdeError);
            }
            let status = serde_json::from_slice(&body)
                .unwrap_or_else(|_| Status::failure(&String::from_utf8_lossy(&body), "").with_code(code.as_u16()));
            Err(kube::Error::Api(status.boxed()))
        });
        Ok((list.await?, permit))
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.pages.acquire().await.map_err(|_| Refusal::Unknown("shutting down".into()))
    }
}

impl ApiServer for KubeServer {
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

// Resources as errors of the API server name them.
const PODS: &str = "pods";
const LEASES: &str = "leases";
const ELECTIONS: &str = "elections";

/// Awaits the response, up to [`TIMEOUT`]. `object`: its object, as an error would name it.
async fn within<T>(object: ObjectName<'_>, request: impl Future<Output = kube::Result<T>>) -> Result<T, Refusal> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(response) => response.map_err(|error| classify(object, error)),
        Err(_) => Err(Refusal::Unknown(format!("no response from the API server within {} s", TIMEOUT.as_secs()))),
    }
}

/// Resource, in the plural, and name of an object.
type ObjectName<'a> = (&'static str, &'a str);

fn classify((resource, name): ObjectName<'_>, error: kube::Error) -> Refusal {
    let after = retry_after::of(&error);
    let kube::Error::Api(status) = error else { return Refusal::Unknown(error.to_string()) };
    let message = status.message.clone();
    if let Some(after) = after {
        return Refusal::Busy { message, after };
    }
    match status.code {
        // 410: the revision of a list expired. None of these has an effect.
        409 | 410 => Refusal::Outdated(message),
        404 if is_about_namespace(&status) => Refusal::Ending(message),
        404 => Refusal::NotFound {
            message,
            named: status.details.is_some_and(|details| details.kind == resource && details.name == name),
        },
        403 if is_ending(&status) => Refusal::Ending(message),
        403 if message.contains(OWNED) => Refusal::Denied(format!(
            "{message}: grant the controller's ServiceAccount the verb delete on {resource}, as the chart does. This API server requires it to change an owner"
        )),
        400 | 401 | 403 | 405 | 413 | 415 | 422 => Refusal::Denied(message),
        _ => Refusal::Unknown(message),
    }
}

/// Message of the admission plugin OwnerReferencesPermissionEnforcement, which names no verb.
const OWNED: &str = "cannot set an ownerRef on a resource you can't delete";

/// Returns whether the namespace does not exist.
fn is_about_namespace(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// Returns whether the namespace is terminating.
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
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::limits::LabelKeys;

    fn limits() -> Limits {
        Limits { label_keys: LabelKeys::new(["leader".into()]), own_lease: None }
    }

    #[tokio::test(start_paused = true)]
    async fn lists_share_the_pages_in_memory_and_are_complete() {
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
                // The response starts at once and is slow.
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
        // The timeout does not include the wait for a permit.
        for response in join_all((0..20).map(|_| server.read("default", Read::Pods))).await {
            let names: Vec<String> = response.expect("each list completes").into_iter().map(|pod| pod.name).collect();
            assert_eq!(names, ["a", "b"]);
        }
        assert_eq!((most.load(Ordering::SeqCst), now.load(Ordering::SeqCst)), (PAGES, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_lists_do_not_delay_other_namespaces() {
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
            let began = tokio::time::Instant::now();
            server.read("default", Read::Pods).await.expect("a response");
            began.elapsed()
        };
        let (hanging, took) = futures::future::join(hanging, other).await;
        assert!(took <= 3 * PATIENCE, "{took:?}");
        assert!(hanging.iter().all(|response| matches!(response, Err(Refusal::Unknown(_)))), "{hanging:?}");
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
