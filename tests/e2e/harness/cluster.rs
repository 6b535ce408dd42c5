//! The clusters of the tests: configured ones, or ones that a test creates, but never the user's.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use podium::api::{Election, custom_resource_definition};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::chart;
use super::waiting::eventually;

/// The kubeconfig of the shared cluster.
const VARIABLE: &str = "PODIUM_KUBECONFIG";

/// A cluster, with an administrator's permissions.
#[derive(Clone)]
pub struct Cluster {
    pub kubeconfig: Kubeconfig,
    /// Kubeconfig of controllers: the chart's account, under its permissions and policies, or an administrator if the test
    /// created the cluster.
    pub controllers: Kubeconfig,
    /// Belongs to the runtime of one test.
    pub client: Client,
}

/// A cluster that one test created, removed on drop.
pub struct OwnCluster {
    pub cluster: Cluster,
    name: String,
    /// One at a time: each is an entire control plane.
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// The cluster in `PODIUM_KUBECONFIG`, with the CRD and the parts of the chart for the controllers' account.
    ///
    /// # Panics
    /// If the variable is not set: a test that cannot run must not pass.
    pub async fn shared() -> Self {
        static CONTROLLERS: OnceCell<Kubeconfig> = OnceCell::const_new();
        let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        let path =
            path.unwrap_or_else(|| panic!("no cluster to test on: run `make test`, or set {VARIABLE} to a kubeconfig file"));
        let mut cluster = Self::at(Path::new(&path)).await;
        let controllers = CONTROLLERS.get_or_init(async || {
            cluster.install(custom_resource_definition()).await;
            cluster.install_account().await
        });
        cluster.controllers = controllers.await.clone();
        cluster
    }

    async fn at(path: &Path) -> Self {
        let kubeconfig =
            Kubeconfig::read_from(path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
        Self { client: client(&kubeconfig).await, controllers: kubeconfig.clone(), kubeconfig }
    }

    /// Installs the account of the chart's controllers, its roles, and the policy on pods. (The policy on Leases names the
    /// namespace of the controllers' own Lease, so each test has its own.)
    async fn install_account(&self) -> Kubeconfig {
        let kinds = ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"];
        for object in chart::objects(chart::CLUSTER) {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            if kinds.iter().any(|kind| object["kind"] == *kind) || name == "podium-controller-pods" {
                self.apply(object).await;
            }
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), "podium");
        self.kubeconfig_of(&token(&accounts, "podium").await)
    }

    pub async fn delete(&self, object: Value) {
        let (api, object) = self.any(object);
        let name = object.metadata.name.expect("a name");
        api.delete(&name, &<_>::default()).await.unwrap_or_else(|error| panic!("{name} is not deleted: {error}"));
    }

    fn any(&self, object: Value) -> (Api<DynamicObject>, DynamicObject) {
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let kind = object.types.clone().expect("its kind");
        let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(kind).expect("a kind"));
        let api = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        (api, object)
    }

    pub async fn apply(&self, object: Value) {
        let (api, object) = self.any(object);
        let (name, how) = (object.metadata.name.clone().expect("a name"), PatchParams::apply("podium-e2e").force());
        api.patch(&name, &how, &Patch::Apply(&object))
            .await
            .unwrap_or_else(|error| panic!("{name} is not accepted: {error}"));
    }

    /// The kubeconfig of the owner of this token.
    pub fn kubeconfig_of(&self, token: &str) -> Kubeconfig {
        let mut kubeconfig = self.kubeconfig.clone();
        let user: AuthInfo = serde_json::from_value(json!({ "token": token })).expect("a user");
        kubeconfig.auth_infos[0].auth_info = Some(user);
        kubeconfig
    }

    /// Applies the CRD, and waits until Elections can be listed.
    pub async fn install(&self, definition: CustomResourceDefinition) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = definition.metadata.name.clone().unwrap_or_default();
        let how = PatchParams::apply("podium-e2e").force();
        definitions
            .patch(&name, &how, &Patch::Apply(definition))
            .await
            .expect("the API server takes the CustomResourceDefinition");
        eventually("the Election resource is established", async || {
            let found = definitions.get(&name).await.map_err(|error| error.to_string())?;
            let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
            let established =
                conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True");
            established.then_some(()).ok_or_else(|| format!("{conditions:?}"))
        })
        .await;
        let elections: Api<Election> = Api::all(self.client.clone());
        eventually("Elections are served", async || {
            elections.list_metadata(&<_>::default()).await.map(drop).map_err(|e| e.to_string())
        })
        .await;
    }
}

impl OwnCluster {
    /// Starts a cluster without the CRD.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts a cluster whose API server has these additional admission plugins.
    pub async fn start_with(plugins: &str) -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let name = format!("e2e-own-{}", std::process::id());
        let mut up = script("up", &name);
        up.env("PODIUM_ADMISSION_PLUGINS", plugins);
        let output = tokio::task::spawn_blocking(move || up.output()).await.expect("no panic").expect("cluster/up runs");
        assert!(output.status.success(), "cluster/up {name} failed: {}", String::from_utf8_lossy(&output.stderr));
        let path = String::from_utf8(output.stdout).expect("a path");
        Self { cluster: Cluster::at(Path::new(path.trim())).await, name, _turn: turn }
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        match script("down", &self.name).output() {
            Ok(output) if output.status.success() => {}
            failed => eprintln!("cluster/down {} failed: {failed:?}", self.name),
        }
    }
}

fn script(script: &str, name: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster").join(script));
    command.arg(name);
    command
}

/// A token of this account that outlives any test run.
pub async fn token(accounts: &Api<ServiceAccount>, name: &str) -> String {
    let spec = TokenRequestSpec { expiration_seconds: Some(24 * 60 * 60), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let token = accounts.create_token_request(name, &PostParams::default(), &request).await.expect("a token");
    token.status.expect("a token").token
}

/// A client of exactly this cluster.
pub async fn client(kubeconfig: &Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a usable kubeconfig")).expect("a usable kubeconfig")
}
