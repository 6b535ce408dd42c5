//! Faults of the control plane: its processes are killed, paused and restarted; `cluster/up` brings back what died.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use podium_test_support::random::Random;
use podium_test_support::waiting::eventually;
use tokio::time::{Instant, sleep};

use crate::world::World;

/// The kinds of faults. All of them occur before one is repeated.
const FAULTS: [(&str, &str, &str); 6] = [
    ("API server killed (SIGKILL)", "kube-apiserver", "KILL"),
    ("API server restarted (SIGTERM)", "kube-apiserver", "TERM"),
    ("API server paused (SIGSTOP)", "kube-apiserver", "STOP"),
    ("etcd killed (SIGKILL)", "etcd", "KILL"),
    ("etcd restarted (SIGTERM)", "etcd", "TERM"),
    ("etcd paused (SIGSTOP)", "etcd", "STOP"),
];

/// A cluster, by its state directory.
pub struct ControlPlane(PathBuf);

impl ControlPlane {
    pub fn new(state: &Path) -> Self {
        Self(state.into())
    }

    /// Injects faults until this time; everything runs at the end.
    pub async fn torment(self, world: &World, mut random: Random, until: Instant) {
        let mut turn: Vec<(&str, &str, &str)> = Vec::new();
        while Instant::now() < until {
            // Time for elections in between: a control plane that is always down breaks nothing.
            sleep(random.millis(4000, 10_000)).await;
            if turn.is_empty() {
                turn = FAULTS.into();
            }
            let chosen = random.between(0, turn.len() as u64);
            let (what, component, signal) = turn.swap_remove(usize::try_from(chosen).expect("a small number"));
            let down = random.millis(0, 3000);
            let pause = random.millis(2000, 9000);
            self.signal(component, signal);
            world.figures.count(what, component);
            if signal == "STOP" {
                sleep(pause).await;
                self.signal(component, "CONT");
                world.figures.note("goes on");
            } else {
                self.ends(component, signal).await;
                sleep(down).await;
                self.repair().await;
                world.figures.note("repaired");
            }
        }
        self.repair().await;
    }

    fn pid(&self, component: &str) -> u32 {
        let name = self.0.file_name().expect("a directory");
        let path = self.0.join(".kwok/clusters").join(name).join("pids").join(format!("{component}.pid"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().parse().expect("a PID")
    }

    fn signal(&self, component: &str, signal: &str) {
        let pid = self.pid(component);
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid.to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{signal} can be sent to {component}");
    }

    /// Waits until the process is gone; a zombie has no command line.
    async fn ends(&self, component: &str, signal: &str) {
        let path = format!("/proc/{}/cmdline", self.pid(component));
        let polite = Instant::now() + Duration::from_secs(10);
        eventually(&format!("{component} ends"), async || {
            let runs = fs::read(&path).is_ok_and(|line| !line.is_empty());
            // A shutdown that waits for watches to end is cut short.
            if runs && signal == "TERM" && Instant::now() > polite {
                self.signal(component, "KILL");
            }
            if runs { Err("it runs".into()) } else { Ok(()) }
        })
        .await;
    }

    /// Restarts the components that do not run.
    pub async fn repair(&self) {
        let name = self.0.file_name().expect("a directory");
        let mut up = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/up"));
        up.arg(name).env("PODIUM_CLUSTER_STATE", self.0.parent().expect("a directory"));
        let output = tokio::task::spawn_blocking(move || up.output()).await.expect("no panic").expect("cluster/up runs");
        assert!(output.status.success(), "cluster/up failed: {}", String::from_utf8_lossy(&output.stderr));
    }
}
