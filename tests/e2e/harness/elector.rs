//! client-go's own example of leader election, as a peer.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kube::config::Kubeconfig;

use super::waiting::eventually;

/// A running elector: a Lease for 60 s, renewed every 5 s, released on SIGTERM. It is killed when this is dropped.
pub struct Elector {
    child: Child,
    log: PathBuf,
}

impl Elector {
    /// Starts one that campaigns as `identity` for this Lease. What it prints goes to `<directory>/<identity>.log`.
    pub fn start(directory: &Path, kubeconfig: &Kubeconfig, namespace: &str, lease: &str, identity: &str) -> Self {
        let path = |extension: &str| directory.join(format!("{identity}.{extension}"));
        fs::write(path("kubeconfig"), serde_json::to_string(kubeconfig).expect("a kubeconfig"))
            .expect("a writable directory");
        let log = File::create(path("log")).expect("a writable directory");
        let child = Command::new(binaries().join("leader-election"))
            .args(["-id", identity, "-lease-lock-name", lease, "-lease-lock-namespace", namespace, "-v", "4"])
            .arg("-kubeconfig")
            .arg(path("kubeconfig"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("client-go's example runs");
        Self { child, log: path("log") }
    }

    /// Waits until it has said these words so often.
    pub async fn says(&self, words: &str, times: usize) {
        eventually(&format!("client-go says {words:?} {times} times"), async || {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if log.matches(words).count() >= times { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// Waits until it leads.
    pub async fn leads(&self) {
        self.says("Successfully acquired lease", 1).await;
    }

    /// SIGTERM: it releases the Lease.
    pub async fn terminate(mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIGTERM can be sent");
        eventually("client-go's example ends on SIGTERM", async || {
            self.child.try_wait().expect("our own child").ok_or_else(|| "it runs".into())
        })
        .await;
    }
}

impl Drop for Elector {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().expect("our own child");
    }
}

/// Where the binaries of the local cluster are.
pub fn binaries() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/build");
    let output = Command::new(script).output().expect("cluster/build runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
}
