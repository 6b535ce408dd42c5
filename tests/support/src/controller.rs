//! `podium controller` as a process, as users run it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use kube::config::Kubeconfig;

use crate::waiting::eventually;

/// Prefix of the controllers' own Leases.
pub const OWN_LEASE: &str = "podium-controller";

/// Arguments for an HTTP server on a free port.
pub const HTTP: &[&str] = &["--http", "127.0.0.1:0"];

/// A running controller, killed on drop.
pub struct Controller {
    child: Child,
    log: PathBuf,
}

impl Controller {
    /// Starts `<program> controller` with these arguments, and only the kubeconfig in its environment. Its output goes to
    /// `<directory>/<name>.log`.
    pub fn start(program: &str, directory: &Path, name: &str, kubeconfig: &Kubeconfig, arguments: &[&str]) -> Self {
        let path = |extension: &str| directory.join(format!("{name}.{extension}"));
        fs::write(path("kubeconfig"), serde_json::to_string(kubeconfig).expect("a kubeconfig"))
            .expect("a writable directory");
        let log = File::create(path("log")).expect("a writable directory");
        let child = Command::new(program)
            .arg("controller")
            .args(arguments)
            .env_clear()
            .env("KUBECONFIG", path("kubeconfig"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("podium runs");
        Self { child, log: path("log") }
    }

    /// Its output so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for a log line with all of these words, and returns it.
    pub async fn says(&self, words: &[&str]) -> String {
        eventually(&format!("the controller says {words:?}"), async || {
            let log = self.log();
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned).ok_or(log)
        })
        .await
    }

    /// Waits until it is active, with synced caches.
    pub async fn elects(&self) {
        self.says(&["electing"]).await;
    }

    /// Returns the address of its HTTP server, if it was started with [`HTTP`].
    pub async fn http(&self) -> SocketAddr {
        let line = self.says(&["serving HTTP address="]).await;
        let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("an address: {line}"))
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        // It may have exited.
        let _ = self.child.kill();
        self.child.wait().expect("our own child");
    }

    /// Sends SIGTERM, and waits until it exits.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.end().await
    }

    /// Waits until it exits.
    pub async fn end(&mut self) -> ExitStatus {
        eventually("the controller ends", async || {
            self.child.try_wait().expect("our own child").ok_or_else(|| "it runs".into())
        })
        .await
    }

    /// Sends a signal, named without SIG.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} can be sent");
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.kill();
    }
}
