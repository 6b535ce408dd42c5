//! Podium as users install it: with the chart, and the image of these sources.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use podium::api::Election;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::World;
use super::cluster::succeed;
use super::pods::condition;

/// Path of Podium's image, as an archive.
const IMAGE: &str = "PODIUM_NODES_IMAGE";

/// Namespace of the controllers.
pub const NAMESPACE: &str = "podium";

/// Name of the image on the nodes.
pub const TAG: &str = "localhost/podium:test";

/// Chart values for the image, which no registry has, and for the permissions that some fields of an Election need.
const VALUES: [&str; 2] =
    ["--set", "image.repository=localhost/podium,image.tag=test,rbac.watchNodes=true,rbac.watchNodeLeases=true"];

impl World {
    /// Installs Podium once for all tests, in a namespace with the restricted profile.
    pub async fn install_podium(&self) {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        INSTALLED.get_or_init(|| self.install()).await;
    }

    async fn install(&self) {
        let image = std::env::var_os(IMAGE).filter(|path| !path.is_empty());
        let image = PathBuf::from(image.unwrap_or_else(|| panic!("no image to run: run `make nodes`")));
        self.cluster.node(&["load", image.to_str().expect("a path")]).await;
        let restricted = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": NAMESPACE,
            "labels": { "pod-security.kubernetes.io/enforce": "restricted" },
        }});
        self.apply(&restricted.to_string()).await;
        let arguments = ["upgrade", "--install", "podium", chart(), "--namespace", NAMESPACE, "--wait", "--timeout", "120s"];
        self.helm(&[&arguments, &VALUES[..]].concat()).await;
    }

    /// Runs helm without the user's configuration, and returns its output.
    pub async fn helm(&self, arguments: &[&str]) -> String {
        let state = self.cluster.state();
        let mut helm = Command::new(state.join("bin/helm"));
        helm.args(arguments).env_clear().env("HOME", state.join("helm")).env("KUBECONFIG", &self.kubeconfig);
        succeed(helm).await
    }

    /// Grants a sidecar's permissions to an account of the test's namespace, with the chart.
    pub async fn allow_sidecar(&self, account: &str, election: &str, mode: &str) {
        let value = |key: &str, value: &str| format!("sidecars[0].{key}={value}");
        let values = [
            value("namespace", &self.namespace),
            value("serviceAccount", account),
            value("election", election),
            value("mode", mode),
        ];
        let set = values.join(",");
        let arguments = ["template", "podium", chart(), "--namespace", NAMESPACE, "--set", &set];
        let roles = self.helm(&[&arguments[..], &["--show-only", "templates/sidecars.yaml"]].concat()).await;
        self.apply(&roles).await;
    }

    pub async fn apply(&self, manifests: &str) {
        let file = self.cluster.state().join(format!("{}.yaml", self.namespace));
        std::fs::write(&file, manifests).expect("a writable directory");
        self.kubectl(&["apply", "--filename", file.to_str().expect("a path")]).await;
    }

    /// Runs `kubectl` in the test's namespace, and returns its output.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let all = [&["--cluster", &self.cluster.name, "--namespace", &self.namespace], arguments].concat();
        succeed(self.cluster.script("kubectl", &all)).await
    }

    pub async fn controllers(&self) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let labels = ListParams::default().labels("app.kubernetes.io/name=podium,app.kubernetes.io/component=controller");
        pods.list(&labels).await.expect("pods can be listed").items
    }

    /// Waits for two controllers that are Ready.
    pub async fn all_controllers_ready(&self) {
        super::eventually("two controllers are Ready", async || {
            let pods = self.controllers().await;
            let ready = pods.iter().filter(|pod| condition(pod, "Ready") == "True").count();
            if (pods.len(), ready) == (2, 2) { Ok(()) } else { Err(format!("{ready} of {}", pods.len())) }
        })
        .await;
    }

    pub async fn elect(&self, name: &str, selector: Value) {
        let election = json!({ "metadata": { "name": name }, "spec": { "selector": selector } });
        self.create::<Election>(election).await;
    }

    /// Creates an Election of the pods labeled `app: web`, with additional spec fields.
    pub async fn elect_web(&self, name: &str, mut fields: Value) {
        fields["selector"] = json!({ "matchLabels": { "app": "web" } });
        self.create::<Election>(json!({ "metadata": { "name": name }, "spec": fields })).await;
    }

    /// Creates three web servers with a leader, and a Service of the leader. Returns its URL.
    pub async fn led_service(&self) -> String {
        self.led_service_with(json!({})).await
    }

    /// Like [`Self::led_service`], with additional spec fields of the Election.
    pub async fn led_service_with(&self, fields: Value) -> String {
        self.deploy_web(3).await;
        self.elect_web("web", fields).await;
        self.service("leader", json!({ "app": "web", "leader": "true" })).await
    }

    /// The pod of the active controller, by its Lease.
    pub async fn active_controller(&self) -> Pod {
        super::eventually("a controller is active", async || {
            let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(self.client.clone(), NAMESPACE);
            let leases = leases.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            let holders: Vec<String> =
                leases.iter().filter_map(|lease| lease.spec.as_ref()?.holder_identity.clone()).collect();
            let pods = self.controllers().await;
            let holds = |pod: &Pod| holders.iter().any(|holder| holder.starts_with(&format!("{}_", pod.name_any())));
            let found = pods.iter().find(|pod| holds(pod) && condition(pod, "Ready") == "True");
            found.cloned().ok_or_else(|| format!("{holders:?}"))
        })
        .await
    }
}

pub fn chart() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/charts/podium")
}

/// Reads an example.
pub fn example(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
