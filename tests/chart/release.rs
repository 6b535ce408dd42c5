//! A release of the chart, and the controller that its Deployment would run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::tools::{apply, errors, eventually, get, helm, kubeconfig, kubectl, kubectl_output, objects, path, text};

/// A release of the chart, in a namespace of the same name.
pub struct Release {
    name: String,
    /// Directory of its files.
    pub folder: PathBuf,
}

/// A `podium` process with the ServiceAccount of a release, killed on drop.
pub struct Controller {
    child: Child,
    log: PathBuf,
}

impl Release {
    /// Installs the chart with these additional arguments, and waits until it is deployed.
    pub fn install(name: &str, chart: &Path, arguments: &[&str]) -> Self {
        let release = Self { name: name.into(), folder: crate::tools::folder(name) };
        release.helm("install", chart, &[&["--create-namespace"], arguments].concat());
        release
    }

    /// Upgrades the release.
    pub fn upgrade(&self, chart: &Path, arguments: &[&str]) {
        self.helm("upgrade", chart, arguments);
    }

    fn helm(&self, verb: &str, chart: &Path, arguments: &[&str]) {
        let chart = chart.to_str().expect("UTF-8");
        let common = [verb, &self.name, chart, "--namespace", &self.name, "--wait", "--timeout=60s"];
        text(&helm(&[&common, arguments].concat()));
    }

    /// Uninstalls the release, and returns the output of helm.
    pub fn uninstall(&self) -> String {
        text(&helm(&["uninstall", &self.name, "--namespace", &self.name, "--wait", "--timeout=60s"]))
    }

    /// The objects of the release as helm rendered them, including hooks.
    pub fn manifests(&self) -> Vec<Value> {
        let get = |part: &str| text(&helm(&["get", part, &self.name, "--namespace", &self.name]));
        objects(&(get("manifest") + "\n---\n" + &get("hooks")))
    }

    /// The container of the object of this kind: `Deployment` or `Pod`.
    fn container(&self, kind: &str) -> Value {
        let manifests = self.manifests();
        let object = manifests.iter().find(|object| object["kind"] == kind).expect("the object is rendered");
        let spec = if kind == "Pod" { &object["spec"] } else { &object["spec"]["template"]["spec"] };
        assert_eq!(spec["serviceAccountName"], self.name);
        spec["containers"][0].clone()
    }

    /// A kubeconfig with a token of the release's ServiceAccount.
    fn service_account(&self) -> PathBuf {
        let token = kubectl_output(&["create", "token", &self.name, "--namespace", &self.name]);
        let admin = kubectl_output(&["config", "view", "--raw", "--minify", "--flatten", "--output=json"]);
        let mut config: Value = serde_json::from_str(&admin).expect("a kubeconfig");
        config["users"][0]["user"] = json!({ "token": token.trim() });
        let path = self.folder.join("service-account.kubeconfig");
        fs::write(&path, config.to_string()).expect("a writable directory");
        path
    }

    /// `podium` with the arguments and environment of a container.
    fn command(&self, container: &Value) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podium"));
        let arguments = container["args"].as_array().expect("arguments").iter();
        let arguments = arguments.map(|argument| argument.as_str().expect("a string"));
        // The controllers of all releases run on one machine and would share the port.
        command.args(arguments.filter(|argument| !argument.starts_with("--http=")));
        command.env_clear().env("KUBECONFIG", self.service_account()).stdin(Stdio::null());
        for variable in container["env"].as_array().into_iter().flatten() {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.namespace") => self.name.as_str(),
                Some("metadata.name") => "podium-0",
                _ => panic!("{variable}"),
            };
            command.env(variable["name"].as_str().expect("a name"), value);
        }
        command
    }

    /// Runs the controller as a pod of the Deployment would.
    pub fn run(&self) -> Controller {
        let path = self.folder.join("controller.log");
        let log = File::create(&path).expect("a writable directory");
        let mut command = self.command(&self.container("Deployment"));
        let child = command.stdout(log.try_clone().expect("a file")).stderr(log).spawn().expect("podium runs");
        let controller = Controller { child, log: path };
        controller.await_log("caches in sync, electing");
        controller
    }

    /// Runs the command of the `helm test` pod.
    pub fn test(&self) -> Output {
        self.command(&self.container("Pod")).output().expect("podium runs")
    }

    /// Returns whether the release's ServiceAccount has permission for a request.
    pub fn can(&self, request: &[&str]) -> bool {
        let account = format!("--as=system:serviceaccount:{0}:{0}", self.name);
        kubectl(&[&["auth", "can-i", "--quiet", &account], request].concat()).status.success()
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        // Leftovers of a failed test would fail the next one.
        let _ = helm(&["uninstall", &self.name, "--namespace", &self.name, "--ignore-not-found"]);
        let _ = kubectl(&["delete", "namespace", &self.name, "--ignore-not-found", "--timeout=60s"]);
        if std::thread::panicking() {
            println!("{}", fs::read_to_string(self.folder.join("controller.log")).unwrap_or_default());
        }
    }
}

impl Controller {
    /// Waits until the log contains this text.
    pub fn await_log(&self, text: &str) {
        eventually(&format!("the controller logs {text:?}"), || {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if log.contains(text) { Ok(()) } else { Err(log) }
        });
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // The process may have exited.
        let _ = self.child.kill();
        self.child.wait().expect("a child of this process");
    }
}

/// Creates a namespace with a pod and an Election that selects it.
pub fn populate(release: &Release, namespace: &str) {
    let metadata = |name: &str| json!({ "name": name, "namespace": namespace, "labels": { "app": "web" } });
    apply(&release.folder, &[json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } })]);
    apply(
        &release.folder,
        &[
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata("web-0"),
                "spec": { "serviceAccountName": "default", "containers": [{ "name": "app", "image": "app" }] } }),
            json!({ "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": metadata("web"),
                "spec": { "selector": { "matchLabels": { "app": "web" } } } }),
        ],
    );
}

/// Waits until the pod in this namespace is the leader.
pub fn await_leader(namespace: &str) {
    eventually("web-0 is the leader", || {
        let election = get(&["election", "web", "--namespace", namespace]).ok_or("no Election")?;
        if election["status"]["leader"] == "web-0" && is_labeled(namespace) { Ok(()) } else { Err(election.to_string()) }
    });
}

/// Returns whether the pod in this namespace has the label.
pub fn is_labeled(namespace: &str) -> bool {
    let pod = get(&["pod", "web-0", "--namespace", namespace]).expect("the pod exists");
    pod["metadata"]["labels"]["leader"] == "true"
}

/// Deletes namespaces and everything in them.
pub fn remove(namespaces: &[&str]) {
    kubectl_output(&[&["delete", "namespace", "--wait=false"], namespaces].concat());
}

/// Deletes the Election CRD, and waits until it is gone.
pub fn remove_crd() {
    kubectl_output(&["delete", "crd", "elections.podium.dev", "--ignore-not-found"]);
}

/// Runs `podium cleanup` as an administrator.
pub fn cleanup(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podium"));
    let output = command.arg("cleanup").args(arguments).env_clear().env("KUBECONFIG", kubeconfig()).output();
    let output = output.expect("podium runs");
    assert!(output.status.success(), "{}", errors(&output));
    text(&output)
}

/// Path of the chart.
pub fn chart() -> PathBuf {
    path("charts/podium")
}
