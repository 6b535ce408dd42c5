//! `podium controller` as a process of its own, as users run it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use kube::config::Kubeconfig;

use crate::waiting::eventually;

/// How the names of the Leases begin by which replicas of the controller elect the active one.
pub const OWN_LEASE: &str = "podium-controller";

/// Arguments that make a controller serve HTTP on a free port.
pub const HTTP: &[&str] = &["--http", "127.0.0.1:0"];

/// A running controller. It is killed when this is dropped.
pub struct Controller {
    child: Child,
    log: PathBuf,
}

impl Controller {
    /// Starts `<program> controller` with these arguments, in an environment that holds nothing but the kubeconfig. Its output
    /// goes to `<directory>/<name>.log`.
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

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for a line that contains all of these words, and returns it.
    pub async fn says(&self, words: &[&str]) -> String {
        eventually(&format!("the controller says {words:?}"), async || {
            let log = self.log();
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned).ok_or(log)
        })
        .await
    }

    /// Waits until its caches are filled and it elects.
    pub async fn elects(&self) {
        self.says(&["electing"]).await;
    }

    /// Returns the address of its HTTP server, if it was started with [`HTTP`].
    pub async fn http(&self) -> SocketAddr {
        let line = self.says(&["serving HTTP address="]).await;
        let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("an address: {line}"))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().expect("our own child");
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.end().await
    }

    /// Waits until it ends by itself.
    pub async fn end(&mut self) -> ExitStatus {
        eventually("the controller ends", async || {
            self.child.try_wait().expect("our own child").ok_or_else(|| "it runs".into())
        })
        .await
    }

    /// Sends a signal, by its name without SIG.
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
