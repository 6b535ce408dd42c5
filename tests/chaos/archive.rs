//! An API server of the test's own on the same etcd. The faults do not touch it.
//!
//! It has no watch cache. An API server with one answers a watch from before its own start with 410, although etcd still has
//! the revisions in between; a client that lists again misses them. This one reads them from etcd.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use podium_test_support::waiting::eventually_within;
use serde_json::Value;

/// The server, killed on drop and by `cluster/down --all`. It looks like a cluster of its own, because a repair of the other
/// cluster kills whatever is started from that one's directory.
pub struct Archive {
    child: Child,
    pub client: Client,
}

impl Archive {
    /// Starts it next to the API server of the cluster with this state directory, and waits until it responds.
    pub async fn start(state: &Path, kubeconfig: &Kubeconfig, log: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let log = File::create(log).expect("a writable directory");
        let mut arguments = arguments(state);
        arguments.retain(|argument| !argument.starts_with("--secure-port="));
        arguments.push(format!("--secure-port={port}"));
        arguments.push("--watch-cache=false".into());
        let own = state.with_file_name("archive");
        let _ = fs::remove_dir_all(&own);
        fs::create_dir(&own).expect("a writable directory");
        symlink(fs::canonicalize(state.join("bin")).expect("the binaries"), own.join("bin")).expect("a writable directory");
        let child = Command::new(own.join("bin/kube-apiserver"))
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("kube-apiserver runs");
        let mut kubeconfig = kubeconfig.clone();
        let cluster = kubeconfig.clusters[0].cluster.as_mut().expect("a cluster");
        cluster.server = Some(format!("https://127.0.0.1:{port}"));
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a kubeconfig");
        config.default_retry = false;
        let archive = Self { child, client: Client::try_from(config).expect("a kubeconfig") };
        let nodes: Api<Node> = Api::all(archive.client.clone());
        eventually_within(Duration::from_secs(60), "the test's own API server answers", async || {
            nodes.list_metadata(&ListParams::default()).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
        archive
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The arguments of the cluster's API server.
fn arguments(state: &Path) -> Vec<String> {
    let name = state.file_name().expect("a directory");
    let path = state.join(".kwok/clusters").join(name).join("kwok.yaml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
    // kwokctl's own configuration; more documents may follow.
    let first = text.split("\n---").next().unwrap_or_default();
    let config: Value = serde_yaml::from_str(first).expect("YAML");
    let components = config["components"].as_array().expect("components");
    let server = components.iter().find(|component| component["name"] == "kube-apiserver").expect("an API server");
    let arguments = server["args"].as_array().expect("arguments").iter();
    arguments.map(|argument| argument.as_str().expect("a string").to_owned()).collect()
}
