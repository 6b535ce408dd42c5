//! Electors of others: client-go's own example and a manager of controller-runtime, on a Lease, and an old one, on Endpoints.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kube::config::Kubeconfig;

use super::waiting::eventually;

/// A running elector, killed on drop.
pub struct Elector {
    child: Child,
    log: PathBuf,
}

impl Elector {
    /// Starts client-go's example as `identity` on this Lease: 60 s, renewed every 5 s, released on SIGTERM.
    pub fn start(directory: &Path, kubeconfig: &Kubeconfig, namespace: &str, lease: &str, identity: &str) -> Self {
        let arguments = ["-lease-lock-name", lease, "-lease-lock-namespace", namespace, "-v", "4"];
        Self::run("leader-election", directory, kubeconfig, identity, &arguments)
    }

    /// Starts a manager of controller-runtime on this Lease, with its defaults: 15 s, renewed every 2 s, until 10 s after the last
    /// renewal. Released on SIGTERM. An empty identity is that of controller-runtime: the machine's host name, `_` and a UUID.
    pub fn start_manager(directory: &Path, kubeconfig: &Kubeconfig, namespace: &str, lease: &str, identity: &str) -> Self {
        Self::run("manager-elector", directory, kubeconfig, identity, &["-lease", lease, "-namespace", namespace])
    }

    /// Starts the old elector on these Endpoints: 10 s, renewed every 2.5 s, never released.
    pub fn start_on_endpoints(
        directory: &Path,
        kubeconfig: &Kubeconfig,
        namespace: &str,
        election: &str,
        identity: &str,
    ) -> Self {
        let arguments = ["-election", election, "-namespace", namespace];
        Self::run("endpoints-elector", directory, kubeconfig, identity, &arguments)
    }

    /// Its output goes to `<directory>/<identity>.log`, or that of the program without an identity.
    fn run(program: &str, directory: &Path, kubeconfig: &Kubeconfig, identity: &str, arguments: &[&str]) -> Self {
        let name = if identity.is_empty() { program } else { identity };
        let path = |extension: &str| directory.join(format!("{name}.{extension}"));
        fs::write(path("kubeconfig"), serde_json::to_string(kubeconfig).expect("a kubeconfig"))
            .expect("a writable directory");
        let log = File::create(path("log")).expect("a writable directory");
        let child = Command::new(binaries().join(program))
            .args(["-id", identity])
            .args(arguments)
            .arg("-kubeconfig")
            .arg(path("kubeconfig"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("the elector runs");
        Self { child, log: path("log") }
    }

    /// Waits until its log has these words this often. (Versions differ in the case of first letters.)
    pub async fn says(&self, words: &str, times: usize) {
        eventually(&format!("client-go says {words:?} {times} times"), async || {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if log.matches(words).count() >= times { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// Waits until it leads.
    pub async fn leads(&self) {
        self.says("uccessfully acquired lease", 1).await;
    }

    /// Sends SIGTERM, on which it releases the Lease.
    pub async fn terminate(mut self) {
        self.signal("TERM");
        self.ends().await;
    }

    /// Waits until it exits.
    pub async fn ends(&mut self) {
        eventually("the elector ends", async || {
            self.child.try_wait().expect("our own child").ok_or_else(|| "it runs".into())
        })
        .await;
    }

    /// Sends a signal, named without SIG.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} can be sent");
    }
}

impl Drop for Elector {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.child.kill();
        self.child.wait().expect("our own child");
    }
}

/// Directory of the local cluster's binaries.
pub fn binaries() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/build");
    let output = Command::new(script).output().expect("cluster/build runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
}
