//! One recorder for many namespaces: the current state and every revision, without polling.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, ListParams, ObjectMeta, WatchParams};
use kube::{Api, Client, ResourceExt};
use podium::api::{Election, ElectionStatus};
use podium_test_support::checker::{Kind, Revision};
use podium_test_support::recorder::{EventType, follow, follow_metadata, position};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Observations of one namespace.
#[derive(Debug, Default)]
pub struct View {
    /// Current pods by name.
    pub pods: BTreeMap<String, Revision>,
    pub leases: BTreeMap<String, Revision>,
    pub elections: BTreeMap<String, Seen>,
    /// Every revision of a pod or Lease, in order for each kind.
    pub history: Vec<Revision>,
    /// Every revision of an Election, likewise.
    pub statuses: Vec<Seen>,
    /// All observed revisions.
    pub versions: BTreeSet<i64>,
}

/// One revision of an Election.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `metadata.resourceVersion`
    pub version: i64,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.name`
    pub name: String,
    /// The status is of the current generation.
    pub current: bool,
    pub status: ElectionStatus,
}

type Views = Arc<Mutex<HashMap<String, watch::Sender<View>>>>;

/// Watches the cluster, and records selected namespaces.
pub struct Observer {
    views: Views,
    _watches: JoinSet<()>,
}

impl Observer {
    pub async fn start(client: &Client) -> Self {
        let views = Views::default();
        let mut watches = JoinSet::new();
        let one = ListParams::default().limit(1);
        let pods: Api<Pod> = Api::all(client.clone());
        let from = position(&pods, &one, false).await;
        let into = views.clone();
        let watch = follow_metadata(pods, WatchParams::default(), from, move |object, event| {
            update(&into, object, |view, object| take(view, Kind::Pod, object.metadata, event));
        });
        watches.spawn(must_go_on(watch));
        let leases: Api<Lease> = Api::all(client.clone());
        let from = position(&leases, &one, false).await;
        let into = views.clone();
        let watch = follow_metadata(leases, WatchParams::default(), from, move |object, event| {
            update(&into, object, |view, object| take(view, Kind::Lease, object.metadata, event));
        });
        watches.spawn(must_go_on(watch));
        // Other tests create Elections that do not fit the type.
        let elections: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::erase::<Election>(&()));
        let from = position(&elections, &one, false).await;
        let into = views.clone();
        watches.spawn(async move {
            let objects = |from: String| {
                let elections = elections.clone();
                async move { Ok(elections.watch(&WatchParams::default(), &from).await?.boxed()) }
            };
            let watch = follow(objects, from, move |object, event| {
                update(&into, object, |view, object| take_election(view, object, event));
            });
            must_go_on(watch).await;
        });
        Self { views, _watches: watches }
    }

    /// Starts to record the namespace.
    pub fn view(&self, namespace: &str) -> watch::Receiver<View> {
        let view = watch::Sender::new(View::default());
        let seen = view.subscribe();
        self.views.lock().expect("no panic").insert(namespace.into(), view);
        seen
    }

    pub fn forget(&self, namespace: &str) {
        self.views.lock().expect("no panic").remove(namespace);
    }
}

/// # Panics
/// If the watch ends, because the record then has a gap.
async fn must_go_on(watch: impl Future<Output = String>) {
    panic!("{}", watch.await);
}

/// Updates the view of the object's namespace, if a test uses it.
fn update<K: ResourceExt>(views: &Views, object: K, take: impl FnOnce(&mut View, K)) {
    let namespace = object.namespace().unwrap_or_default();
    if let Some(view) = views.lock().expect("no panic").get(&namespace) {
        view.send_modify(|view| take(view, object));
    }
}

fn take(view: &mut View, kind: Kind, metadata: ObjectMeta, event: EventType) {
    let gone = event == EventType::Deleted;
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

fn take_election(view: &mut View, object: DynamicObject, event: EventType) {
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
    if event == EventType::Deleted {
        view.elections.remove(&seen.name);
    } else {
        view.elections.insert(seen.name.clone(), seen.clone());
        view.statuses.push(seen);
    }
}
