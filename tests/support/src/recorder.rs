//! Gapless recording of what an API server commits: every revision of every object of a kind.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PartialObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{Instant, sleep};

/// Name of the objects by which [`end`] ends a record.
pub const END: &str = "end-of-record";

/// Longest outage of the API server that a record survives.
const OUTAGE: Duration = Duration::from_secs(300);

/// Pause before a rejected watch request is repeated.
const PAUSE: Duration = Duration::from_millis(50);

/// The event of a revision, as the watch reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// The revision created the object.
    Added,
    /// The revision changed the object.
    Modified,
    /// The revision deleted the object.
    Deleted,
}

/// Events of a watch, as kube returns them.
pub type Events<K> = BoxStream<'static, kube::Result<WatchEvent<K>>>;

/// Returns the current revision, after which [`follow`] may begin.
///
/// # Panics
/// If the API server does not list the objects. With `empty`, also if there are any.
pub async fn position<K: Clone + Debug + DeserializeOwned>(api: &Api<K>, parameters: &ListParams, empty: bool) -> String {
    let list = api.list_metadata(parameters).await.expect("the objects can be listed");
    assert!(!empty || list.items.is_empty(), "the record must begin before the first object");
    list.metadata.resource_version.expect("a list has a resourceVersion")
}

/// Passes the metadata of every revision after `from` to `take`. Returns as [`follow`] does.
pub async fn follow_metadata<K>(
    api: Api<K>,
    parameters: WatchParams,
    from: String,
    take: impl FnMut(PartialObjectMeta<K>, EventType),
) -> String
where
    K: Clone + Debug + DeserializeOwned + 'static,
    PartialObjectMeta<K>: ResourceExt,
{
    let watch = |from: String| {
        let (api, parameters) = (api.clone(), parameters.clone());
        async move { Ok(api.watch_metadata(&parameters, &from).await?.boxed()) }
    };
    follow(watch, from, take).await
}

/// Passes every revision after `from` to `take`. A watch that ends is continued after the last revision that it delivered.
/// Returns the API server's message when it no longer has the next revision: the record would have a gap.
///
/// # Panics
/// If the API server accepts no watch for five minutes.
pub async fn follow<K: ResourceExt, W: Future<Output = kube::Result<Events<K>>>>(
    watch: impl Fn(String) -> W,
    mut from: String,
    mut take: impl FnMut(K, EventType),
) -> String {
    loop {
        let deadline = Instant::now() + OUTAGE;
        // Not by `eventually_within`: the future of its closure is not Send.
        let mut events = loop {
            match watch(from.clone()).await {
                Ok(events) => break events,
                Err(error) => assert!(Instant::now() < deadline, "the API server accepts no watch for {OUTAGE:?}: {error}"),
            }
            sleep(PAUSE).await;
        };
        while let Some(Ok(event)) = events.next().await {
            let (object, event) = match event {
                WatchEvent::Added(object) => (object, EventType::Added),
                WatchEvent::Modified(object) => (object, EventType::Modified),
                WatchEvent::Deleted(object) => (object, EventType::Deleted),
                WatchEvent::Bookmark(bookmark) => {
                    from = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(status) if status.code == 410 => {
                    return format!("revisions after {from} are no longer available: {}", status.message);
                }
                // The API server is in trouble. The next watch continues after `from`.
                WatchEvent::Error(_) => break,
            };
            from = object.resource_version().expect("an object has a resourceVersion");
            take(object, event);
        }
    }
}

/// Creates a pod and a Lease named [`END`]. A record that contains both is complete up to this call.
///
/// # Panics
/// If the API server rejects one of them.
pub async fn end(client: &Client, namespace: &str) {
    let metadata = json!({ "name": END });
    // A gate keeps the pod from being scheduled and changed.
    let pod = json!({ "metadata": metadata, "spec": {
        "schedulingGates": [{ "name": "podium.dev/never" }],
        "containers": [{ "name": "none", "image": "none" }],
    }});
    create::<Pod>(client, namespace, pod).await;
    create::<Lease>(client, namespace, json!({ "metadata": metadata })).await;
}

async fn create<K>(client: &Client, namespace: &str, object: serde_json::Value)
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned + serde::Serialize,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let object = serde_json::from_value(object).expect("a valid object");
    api.create(&PostParams::default(), &object).await.expect("the API server creates the last object");
}
