//! One test: its own namespace on the shared cluster.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};

use futures::FutureExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, LogParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use podium_test_support::namespace;
use tokio::sync::RwLock;

use super::cluster::Cluster;

/// The kubeconfig of the cluster.
const VARIABLE: &str = "PODIUM_NODES_KUBECONFIG";

/// Most tests run concurrently, but a failure of a node affects all.
static TURN: RwLock<()> = RwLock::const_new(());

pub struct World {
    pub cluster: Cluster,
    /// An administrator.
    pub client: Client,
    /// The same, as a file.
    pub kubeconfig: PathBuf,
    pub namespace: String,
}

/// Runs `test` in a new namespace, concurrently with others.
pub async fn world(test: impl AsyncFnOnce(&World)) {
    let _turn = TURN.read().await;
    run(test).await;
}

/// Runs `test` in a new namespace, with exclusive use of all nodes. Repairs them afterwards.
pub async fn alone(test: impl AsyncFnOnce(&World)) {
    let _turn = TURN.write().await;
    run(async |world: &World| {
        let outcome = AssertUnwindSafe(test(world)).catch_unwind().await;
        world.restore_nodes().await;
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    })
    .await;
}

async fn run(test: impl AsyncFnOnce(&World)) {
    let world = World::new().await;
    let outcome = AssertUnwindSafe(test(&world)).catch_unwind().await;
    if outcome.is_err() {
        world.print().await;
    }
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let _ = namespaces.delete(&world.namespace, &DeleteParams::background()).await;
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
}

impl World {
    /// # Panics
    /// If the variable is not set: a test that cannot run must not pass.
    async fn new() -> Self {
        let kubeconfig = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        let kubeconfig = PathBuf::from(kubeconfig.unwrap_or_else(|| panic!("no cluster to test on: run `make nodes`")));
        let client = client(&kubeconfig).await;
        let namespace = namespace::create(&client).await;
        Self { cluster: Cluster::of(&kubeconfig), client, kubeconfig, namespace }
    }

    /// The objects of one kind in the test's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The same world in another namespace.
    pub fn at(&self, namespace: &str) -> Self {
        let (cluster, client) = (self.cluster.clone(), self.client.clone());
        Self { cluster, client, kubeconfig: self.kubeconfig.clone(), namespace: namespace.into() }
    }

    /// Waits for this status of the node's condition `Ready`: `True`, `False` or `Unknown`.
    pub async fn node_is(&self, node: &str, ready: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        // Kubernetes declares a node lost after 50 s.
        let patience = std::time::Duration::from_secs(90);
        super::waiting::eventually_within(patience, &format!("{node} is Ready={ready}"), async || {
            let node = nodes.get(node).await.map_err(|error| error.to_string())?;
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let found = conditions.iter().find(|condition| condition.type_ == "Ready");
            if found.is_some_and(|found| found.status == ready) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }

    /// Waits until both nodes have renewed their Leases twice, so that a controller has observed them for 10 s at least.
    pub async fn nodes_send_heartbeats(&self) {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        let mut seen = BTreeSet::new();
        super::eventually("both nodes have renewed their Leases twice", async || {
            for node in ["real-1", "real-2"] {
                let lease = leases.get_metadata(node).await.map_err(|error| error.to_string())?;
                seen.insert((node, lease.resource_version()));
            }
            let renewals = |node: &str| seen.iter().filter(|(of, _)| *of == node).count() - 1;
            if renewals("real-1") >= 2 && renewals("real-2") >= 2 { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }

    /// The log of the pod's only container.
    pub async fn log(&self, pod: &str) -> String {
        self.log_since(pod, None).await
    }

    /// The lines of the pod's only container since then.
    pub async fn log_since(&self, pod: &str, since: Option<Timestamp>) -> String {
        let how = LogParams { since_time: since, ..LogParams::default() };
        self.api::<Pod>().logs(pod, &how).await.unwrap_or_else(|error| panic!("no log of {pod}: {error}"))
    }

    async fn restore_nodes(&self) {
        for node in ["real-1", "real-2"] {
            self.cluster.node(&["start", node]).await;
            self.cluster.node(&["thaw", node]).await;
            self.cluster.node(&["heal", node]).await;
        }
        for node in ["real-1", "real-2"] {
            self.node_is(node, "True").await;
        }
        self.kubectl(&["uncordon", "real-1", "real-2"]).await;
    }

    /// Prints details of a failed test.
    async fn print(&self) {
        for pod in self.api::<Pod>().list(&ListParams::default()).await.into_iter().flatten() {
            let name = pod.name_any();
            let status = serde_json::to_string(&pod.status).unwrap_or_default();
            let log = self.api::<Pod>().logs(&name, &LogParams { tail_lines: Some(40), ..LogParams::default() }).await;
            println!("--- pod {name}: {status}\n{}", log.unwrap_or_else(|error| error.to_string()));
        }
        for event in self.api::<Event>().list(&ListParams::default()).await.into_iter().flatten() {
            let object = event.involved_object.name.unwrap_or_default();
            println!("event: {object}: {}", event.message.unwrap_or_default());
        }
    }
}

/// A client of exactly this cluster.
pub async fn client(kubeconfig: &Path) -> Client {
    let found = Kubeconfig::read_from(kubeconfig).unwrap_or_else(|error| panic!("{}: {error}", kubeconfig.display()));
    let config = Config::from_custom_kubeconfig(found, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a usable kubeconfig")).expect("a usable kubeconfig")
}
