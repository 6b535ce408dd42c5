//! Creates the objects of a run, before any fault.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client, ResourceExt};
use podium_test_support::waiting::{eventually, eventually_within};
use serde_json::json;

use crate::figures::Figures;
use crate::world::{Group, NAMESPACE, Settings, World};

/// Kubeconfig of the cluster whose components may be killed.
const VARIABLE: &str = "PODIUM_CHAOS_KUBECONFIG";

/// Returns the cluster's kubeconfig and state directory.
///
/// # Panics
/// If the variable is not set: a test that cannot run must not pass.
pub fn cluster() -> (Kubeconfig, PathBuf) {
    let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    let path = PathBuf::from(path.unwrap_or_else(|| panic!("no cluster to torment: run `make chaos`")));
    let kubeconfig = Kubeconfig::read_from(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (kubeconfig, path.parent().expect("a file").into())
}

/// Elections, untyped.
pub fn elections(client: &Client) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("podium.dev", "v1beta1", "Election"));
    Api::namespaced_with(client.clone(), NAMESPACE, &kind)
}

impl World {
    /// Creates the namespace and the CRD, but no pods or Elections.
    pub async fn create(settings: Settings, client: Client, directory: PathBuf) -> Self {
        let groups = (0..settings.groups).map(Group::new).collect();
        let nodes: Api<Node> = Api::all(client.clone());
        let nodes = nodes.list_metadata(&ListParams::default()).await.expect("nodes can be listed").items;
        let nodes: Vec<String> = nodes.iter().map(ResourceExt::name_any).collect();
        assert!(!nodes.is_empty(), "the cluster has fake nodes");
        let world = Self { settings, groups, client, figures: Figures::new(&directory), directory, nodes };
        world.install().await;
        let namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } })).expect("a namespace");
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        namespaces.create(&PostParams::default(), &namespace).await.expect("a new namespace");
        eventually("the namespace has its ServiceAccount", async || {
            world.api::<ServiceAccount>().get("default").await.map(drop).map_err(|error| error.to_string())
        })
        .await;
        world
    }

    async fn install(&self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/elections.podium.dev.yaml");
        let text = std::fs::read_to_string(path).expect("the definition");
        let definition: CustomResourceDefinition = serde_yaml::from_str(&text).expect("a definition");
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        definitions.create(&PostParams::default(), &definition).await.expect("the API server takes the definition");
        let elections = elections(&self.client);
        eventually("Elections are served", async || {
            elections.list_metadata(&ListParams::default()).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Creates all pods and Elections.
    pub async fn populate(&self) {
        let pods = self.groups.iter().flat_map(Group::pods);
        let created = stream::iter(pods).map(|name| async move { self.create_pod(&name).await }).buffer_unordered(16);
        created.for_each(|created| async { created.expect("the pod is created") }).await;
        let elections = &elections(&self.client);
        let all = self.groups.iter().flat_map(|group| group.elections.iter().map(move |election| (group, election)));
        let created = stream::iter(all).map(|(group, election)| async move {
            let object = json!({
                "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": { "name": election.election },
                "spec": { "selector": { "matchLabels": { "app": group.name } }, "label": { "key": election.key } },
            });
            // Right after the CRD is installed, an API server may need a moment.
            eventually("the Election is created", async || {
                let object = serde_json::from_value(object.clone()).expect("an object");
                elections.create(&PostParams::default(), &object).await.map(drop).map_err(|error| error.to_string())
            })
            .await;
        });
        created.buffer_unordered(16).collect::<()>().await;
    }

    /// Creates a pod of a group on one of the fake nodes.
    pub async fn create_pod(&self, name: &str) -> kube::Result<()> {
        let group = crate::world::group_of(name);
        let node = &self.nodes[name.bytes().map(usize::from).sum::<usize>() % self.nodes.len()];
        let pod = json!({ "metadata": { "name": name, "labels": { "app": group } }, "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": "app", "image": "app" }],
        }});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        self.api::<Pod>().create(&PostParams::default(), &pod).await.map(drop)
    }

    /// Makes a pod Ready or NotReady, as a kubelet would.
    pub async fn set_ready(&self, name: &str, ready: bool) -> kube::Result<()> {
        let now = k8s_openapi::jiff::Timestamp::now().as_second();
        let now = k8s_openapi::jiff::Timestamp::from_second(now).expect("a time").to_string();
        let status = if ready { "True" } else { "False" };
        let condition = json!({ "type": "Ready", "status": status, "lastTransitionTime": now });
        let mut status = json!({ "conditions": [condition] });
        if ready {
            // The fake node sees the same faults: it may not have started the pod, and starts none that others changed.
            status["phase"] = "Running".into();
        }
        let patch = kube::api::Patch::Strategic(json!({ "status": status }));
        self.api::<Pod>().patch_status(name, &<_>::default(), &patch).await.map(drop)
    }

    /// Repairs what the churn left: every pod exists and is eligible.
    pub async fn heal(&self) {
        eventually_within(Duration::from_secs(120), "all pods may lead again", async || {
            let pods = self.api::<Pod>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let mut missing = Vec::new();
            for name in self.groups.iter().flat_map(Group::pods) {
                let pod = pods.items.iter().find(|pod| pod.name_any() == name);
                if pod.is_some_and(crate::world::is_eligible) {
                    continue;
                }
                let done = match pod {
                    None => self.create_pod(&name).await,
                    Some(pod) if pod.metadata.deletion_timestamp.is_some() => {
                        self.api::<Pod>().delete(&name, &DeleteParams::default().grace_period(0)).await.map(drop)
                    }
                    Some(_) => self.set_ready(&name, true).await,
                };
                missing.push((name, done.err().map(|error| error.to_string())));
            }
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
        })
        .await;
    }
}
