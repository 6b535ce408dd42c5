//! One recorder for many namespaces: what is there now, and every revision on the way, without asking again and again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, ListParams, ObjectMeta, WatchEvent, WatchParams};
use kube::{Api, Client};
use podium::api::{Election, ElectionStatus};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::checker::{Kind, Revision};

/// What was seen of one namespace.
#[derive(Debug, Default)]
pub struct View {
    /// The pods as they are now, by name.
    pub pods: BTreeMap<String, Revision>,
    /// The Leases.
    pub leases: BTreeMap<String, Revision>,
    /// The Elections.
    pub elections: BTreeMap<String, Seen>,
    /// Every revision of a pod or Lease. In order for each kind only.
    pub history: Vec<Revision>,
    /// Every revision of an Election, likewise.
    pub statuses: Vec<Seen>,
    /// The revisions that have been seen.
    pub versions: BTreeSet<i64>,
}

/// An Election as one revision left it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `metadata.resourceVersion`
    pub version: i64,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.name`
    pub name: String,
    /// Whether the status speaks of this very spec.
    pub current: bool,
    /// The status.
    pub status: ElectionStatus,
}

type Views = Arc<Mutex<HashMap<String, watch::Sender<View>>>>;

/// Watches the whole cluster; remembers the namespaces that it was asked for.
pub struct Observer {
    views: Views,
    _watches: JoinSet<()>,
}

impl Observer {
    /// Starts to watch.
    pub async fn start(client: &Client) -> Self {
        let views = Views::default();
        let mut watches = JoinSet::new();
        let pods: Api<Pod> = Api::all(client.clone());
        let from = position(pods.list_metadata(&ListParams::default().limit(1)).await);
        let metadata = async move |from: String| Ok(pods.watch_metadata(&WatchParams::default(), &from).await?.boxed());
        watches.spawn(follow(metadata, from, views.clone(), |view, object, gone| {
            take(view, Kind::Pod, object.metadata, gone);
        }));
        let leases: Api<Lease> = Api::all(client.clone());
        let from = position(leases.list_metadata(&ListParams::default().limit(1)).await);
        let metadata = async move |from: String| Ok(leases.watch_metadata(&WatchParams::default(), &from).await?.boxed());
        watches.spawn(follow(metadata, from, views.clone(), |view, object, gone| {
            take(view, Kind::Lease, object.metadata, gone);
        }));
        // Other tests make Elections that the type cannot hold.
        let elections: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::erase::<Election>(&()));
        let from = position(elections.list_metadata(&ListParams::default().limit(1)).await);
        let objects = async move |from: String| Ok(elections.watch(&WatchParams::default(), &from).await?.boxed());
        watches.spawn(follow(objects, from, views.clone(), take_election));
        Self { views, _watches: watches }
    }

    /// Remembers what happens in the namespace from now on.
    pub fn view(&self, namespace: &str) -> watch::Receiver<View> {
        let view = watch::Sender::new(View::default());
        let seen = view.subscribe();
        self.views.lock().expect("no panic").insert(namespace.into(), view);
        seen
    }

    /// Forgets the namespace.
    pub fn forget(&self, namespace: &str) {
        self.views.lock().expect("no panic").remove(namespace);
    }
}

fn position<T: Clone>(list: kube::Result<kube::core::ObjectList<T>>) -> String {
    list.expect("the cluster can be listed").metadata.resource_version.expect("a list has a resourceVersion")
}

/// Watches without a gap: a watch that ends is continued where it ended.
async fn follow<K, W>(start: W, mut from: String, views: Views, take: impl Fn(&mut View, K, bool))
where
    K: kube::ResourceExt + Clone + Debug + DeserializeOwned,
    W: AsyncFn(String) -> kube::Result<futures::stream::BoxStream<'static, kube::Result<WatchEvent<K>>>>,
{
    loop {
        let Ok(mut events) = start(from.clone()).await else {
            tokio::task::yield_now().await;
            continue;
        };
        while let Some(Ok(event)) = events.next().await {
            let (object, gone) = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                WatchEvent::Bookmark(bookmark) => {
                    from = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(error) => panic!("some revisions may be missing: {error:?}"),
            };
            from = object.resource_version().expect("an object has a resourceVersion");
            let namespace = object.namespace().unwrap_or_default();
            if let Some(view) = views.lock().expect("no panic").get(&namespace) {
                view.send_modify(|view| take(view, object, gone));
            }
        }
    }
}

fn take(view: &mut View, kind: Kind, metadata: ObjectMeta, gone: bool) {
    let revision = Revision::of(kind, metadata, gone);
    let objects = if kind == Kind::Pod { &mut view.pods } else { &mut view.leases };
    if gone {
        objects.remove(&revision.name);
    } else {
        objects.insert(revision.name.clone(), revision.clone());
    }
    view.versions.insert(revision.version);
    view.history.push(revision);
}

fn take_election(view: &mut View, object: DynamicObject, gone: bool) {
    let version = object.metadata.resource_version.as_ref().and_then(|version| version.parse().ok());
    let status = object.data.get("status").cloned().unwrap_or_default();
    let status: ElectionStatus = serde_json::from_value(status).unwrap_or_default();
    let seen = Seen {
        version: version.expect("resourceVersions are integers"),
        uid: object.metadata.uid.unwrap_or_default(),
        name: object.metadata.name.unwrap_or_default(),
        current: object.metadata.generation == Some(status.observed_generation),
        status,
    };
    view.versions.insert(seen.version);
    if gone {
        view.elections.remove(&seen.name);
    } else {
        view.elections.insert(seen.name.clone(), seen.clone());
        view.statuses.push(seen);
    }
}
