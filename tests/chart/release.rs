//! A release, and what its Deployment would run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::tools::{apply, errors, eventually, get, helm, kubeconfig, kubectl, objects, path, text, told_by_kubectl};

/// A release of the chart, in a namespace of the same name.
pub struct Release {
    name: String,
    /// Where its files go.
    pub folder: PathBuf,
}

/// `podium` with the account of a release. It is killed when this is dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Release {
    /// Installs the chart with these further arguments, and waits until it is deployed.
    pub fn install(name: &str, chart: &Path, arguments: &[&str]) -> Self {
        let release = Self { name: name.into(), folder: crate::tools::folder(name) };
        release.helm("install", chart, &[&["--create-namespace"], arguments].concat());
        release
    }

    /// Upgrades it.
    pub fn upgrade(&self, chart: &Path, arguments: &[&str]) {
        self.helm("upgrade", chart, arguments);
    }

    fn helm(&self, verb: &str, chart: &Path, arguments: &[&str]) {
        let chart = chart.to_str().expect("UTF-8");
        let own = [verb, &self.name, chart, "--namespace", &self.name, "--wait", "--timeout=60s"];
        text(&helm(&[&own, arguments].concat()));
    }

    /// Uninstalls it, and returns what helm says.
    pub fn uninstall(&self) -> String {
        text(&helm(&["uninstall", &self.name, "--namespace", &self.name, "--wait", "--timeout=60s"]))
    }

    /// Its objects, hooks included, as helm rendered them.
    pub fn manifests(&self) -> Vec<Value> {
        let printed = |what: &str| text(&helm(&["get", what, &self.name, "--namespace", &self.name]));
        objects(&(printed("manifest") + "\n---\n" + &printed("hooks")))
    }

    /// What the first container of this kind of object runs: `Deployment`, or `Pod`.
    fn container(&self, kind: &str) -> Value {
        let manifests = self.manifests();
        let object = manifests.iter().find(|object| object["kind"] == kind).expect("it is rendered");
        let spec = if kind == "Pod" { &object["spec"] } else { &object["spec"]["template"]["spec"] };
        assert_eq!(spec["serviceAccountName"], self.name);
        spec["containers"][0].clone()
    }

    /// The kubeconfig of its account.
    fn account(&self) -> PathBuf {
        let token = told_by_kubectl(&["create", "token", &self.name, "--namespace", &self.name]);
        let admin = told_by_kubectl(&["config", "view", "--raw", "--minify", "--flatten", "--output=json"]);
        let mut config: Value = serde_json::from_str(&admin).expect("a kubeconfig");
        config["users"][0]["user"] = json!({ "token": token.trim() });
        let path = self.folder.join("account.kubeconfig");
        fs::write(&path, config.to_string()).expect("a writable directory");
        path
    }

    /// `podium` with the arguments and the environment that a container would have.
    fn command(&self, container: &Value) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podium"));
        let arguments = container["args"].as_array().expect("arguments").iter();
        let arguments = arguments.map(|argument| argument.as_str().expect("a string"));
        // Its port belongs to its pod, and here all of them are on one machine.
        command.args(arguments.filter(|argument| !argument.starts_with("--http=")));
        command.env_clear().env("KUBECONFIG", self.account()).stdin(Stdio::null());
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

    /// Runs what a pod of the Deployment would run, until it is dropped.
    pub fn run(&self) -> Running {
        let path = self.folder.join("controller.log");
        let log = File::create(&path).expect("a writable directory");
        let mut command = self.command(&self.container("Deployment"));
        let child = command.stdout(log.try_clone().expect("a file")).stderr(log).spawn().expect("podium runs");
        let running = Running { child, log: path };
        running.says("caches in sync, electing");
        running
    }

    /// Runs what its `helm test` would run.
    pub fn test(&self) -> Output {
        self.command(&self.container("Pod")).output().expect("podium runs")
    }

    /// Whether its account may do this.
    pub fn may(&self, what: &[&str]) -> bool {
        let account = format!("--as=system:serviceaccount:{0}:{0}", self.name);
        kubectl(&[&["auth", "can-i", "--quiet", &account], what].concat()).status.success()
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        // Whatever a failed test left would fail the next one.
        let _ = helm(&["uninstall", &self.name, "--namespace", &self.name, "--ignore-not-found"]);
        let _ = kubectl(&["delete", "namespace", &self.name, "--ignore-not-found", "--timeout=60s"]);
        if std::thread::panicking() {
            println!("{}", fs::read_to_string(self.folder.join("controller.log")).unwrap_or_default());
        }
    }
}

impl Running {
    /// Waits until it says this.
    pub fn says(&self, words: &str) {
        eventually(&format!("the controller says {words:?}"), || {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if log.contains(words) { Ok(()) } else { Err(log) }
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().expect("our own child");
    }
}

/// Creates a namespace with a pod and an Election of it.
pub fn populate(release: &Release, namespace: &str) {
    let metadata = |name: &str| json!({ "name": name, "namespace": namespace, "labels": { "app": "web" } });
    apply(&release.folder, &[json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } })]);
    apply(
        &release.folder,
        &[
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata("web-0"),
                "spec": { "serviceAccountName": "default", "containers": [{ "name": "app", "image": "app" }] } }),
            json!({ "apiVersion": "podium.dev/v1", "kind": "Election", "metadata": metadata("web"),
                "spec": { "selector": { "matchLabels": { "app": "web" } } } }),
        ],
    );
}

/// Waits until the pod in this namespace leads.
pub fn led(namespace: &str) {
    eventually("web-0 leads", || {
        let election = get(&["election", "web", "--namespace", namespace]).ok_or("there is no Election")?;
        if election["status"]["leader"] == "web-0" && is_labelled(namespace) { Ok(()) } else { Err(election.to_string()) }
    });
}

/// Whether the pod in this namespace carries the label.
pub fn is_labelled(namespace: &str) -> bool {
    let pod = get(&["pod", "web-0", "--namespace", namespace]).expect("the pod is there");
    pod["metadata"]["labels"]["leader"] == "true"
}

/// Deletes namespaces with all that is in them.
pub fn remove(namespaces: &[&str]) {
    told_by_kubectl(&[&["delete", "namespace", "--wait=false"], namespaces].concat());
}

/// Deletes the Election resource, and waits until it is gone.
pub fn remove_resource() {
    told_by_kubectl(&["delete", "crd", "elections.podium.dev", "--ignore-not-found"]);
}

/// Takes the labels away as an administrator does.
pub fn sweep(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podium"));
    let output = command.arg("sweep").args(arguments).env_clear().env("KUBECONFIG", kubeconfig()).output();
    let output = output.expect("podium runs");
    assert!(output.status.success(), "{}", errors(&output));
    text(&output)
}

/// The chart of the checkout.
pub fn chart() -> PathBuf {
    path("charts/podium")
}
