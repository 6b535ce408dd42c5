//! The scripts of `cluster/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A cluster by `cluster/up`.
#[derive(Clone)]
pub struct Cluster {
    /// Directory of the clusters' states.
    pub states: PathBuf,
    pub name: String,
}

impl Cluster {
    /// The cluster of this kubeconfig, which is in its state directory.
    pub fn of(kubeconfig: &Path) -> Self {
        let state = kubeconfig.parent().expect("a file");
        let name = state.file_name().expect("a directory").to_string_lossy().into_owned();
        Self { states: state.parent().expect("a directory").into(), name }
    }

    pub fn state(&self) -> PathBuf {
        self.states.join(&self.name)
    }

    /// Returns a command that runs a script on this cluster.
    pub fn script(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster").join(script));
        command.args(arguments).env("PODIUM_CLUSTER_STATE", &self.states);
        command
    }

    /// Runs `cluster/node` with these arguments, and returns its output.
    pub async fn node(&self, arguments: &[&str]) -> String {
        succeed(self.script("node", &[&["--cluster", &self.name], arguments].concat())).await
    }

    /// Returns whether `cluster/node` with these arguments succeeds.
    pub async fn try_node(&self, arguments: &[&str]) -> bool {
        finish(self.script("node", &[&["--cluster", &self.name], arguments].concat())).await.status.success()
    }
}

/// Runs a command, and returns its output.
pub async fn succeed(command: Command) -> String {
    let what = format!("{command:?}");
    let output = finish(command).await;
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command until it exits.
pub async fn finish(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("the command runs")
}
