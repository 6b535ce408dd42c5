//! Electors as processes: Podium's sidecar, and client-go in widely used programs. Each process stands for a pod.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kube::config::Kubeconfig;
use serde_json::json;

use super::Result;
use super::process::{Process, command, podium};

/// An elector with its lease duration, renew deadline and retry period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Podium as a follower of an Election. It elects nothing.
    Follow,
    /// Podium as SupportTools' elector, with the permission to watch its Lease.
    Sidecar,
    /// The same without that permission, which the old elector did not need.
    Polling,
    /// Podium with its shortest durations.
    SidecarTuned,
    /// Podium as the contrib elector, which elects on an annotation of Endpoints.
    Contrib,
    /// client-go at its defaults, those of Kubernetes' own components: three kube-schedulers with a scheduler name that no pod has.
    ClientGo,
    /// The same with the shortest durations that client-go's validation permits. A Lease lasts whole seconds.
    ClientGoTuned,
    /// client-go's example program, whose durations are fixed.
    Example,
}

impl Subject {
    /// Returns the name in the figures.
    pub fn title(self) -> &'static str {
        match self {
            Self::Follow => "Podium's sidecar that follows an Election",
            Self::Sidecar => "Podium's sidecar, 15/10/2 s",
            Self::Polling => "Podium's sidecar without the right to watch, 15/10/2 s",
            Self::SidecarTuned => "Podium's sidecar, 1/0.5/0.25 s",
            Self::Contrib => "Podium's sidecar on Endpoints, 10/5/2.5 s",
            Self::ClientGo => "client-go (kube-scheduler), 15/10/2 s",
            Self::ClientGoTuned => "client-go (kube-scheduler), 1/0.8/0.2 s",
            Self::Example => "client-go's example, 60/15/5 s",
        }
    }

    /// Returns the leader's renewal period.
    pub fn retry_period(self) -> Duration {
        Duration::from_millis(match self {
            Self::Follow | Self::Sidecar | Self::Polling | Self::ClientGo => 2_000,
            Self::SidecarTuned => 250,
            Self::Contrib => 2_500,
            Self::ClientGoTuned => 200,
            Self::Example => 5_000,
        })
    }

    /// Returns the command of an elector with this name and lock. Writes its files into `directory`.
    fn command(self, identity: &str, namespace: &str, lock: &str, directory: &Path, kubeconfig: &Path) -> Result<Command> {
        let mut command = match self {
            Self::Example => command(binaries()?.join("leader-election")),
            Self::ClientGo | Self::ClientGoTuned => command(binaries()?.join("kube-scheduler")),
            _ => command(podium()),
        };
        match self {
            Self::Example => {
                command.args(["-id", identity, "-lease-lock-name", lock, "-lease-lock-namespace", namespace]);
                command.arg("-v=4").arg("-kubeconfig").arg(kubeconfig);
            }
            Self::ClientGo => scheduler(&mut command, ["15s", "10s", "2s"], namespace, lock, kubeconfig)?,
            Self::ClientGoTuned => {
                scheduler(&mut command, ["1s", "800ms", "200ms"], namespace, lock, kubeconfig)?;
            }
            Self::Sidecar | Self::Polling => {
                command.env("LEASE_NAME", lock).env("NAMESPACE", namespace).env("PODIUM_HTTP", "127.0.0.1:0");
                command.env("PODIUM_FILE", directory.join(identity));
            }
            Self::Follow => {
                command.args(["sidecar", "--http=127.0.0.1:0"]);
                command.args(["--election", lock, "--election-namespace", namespace]);
            }
            Self::SidecarTuned => {
                command.args(["sidecar", "--mode=campaign", "--lock=lease", "--ttl=1s", "--http=127.0.0.1:0"]);
                command.args(["--election", lock, "--election-namespace", namespace]);
            }
            Self::Contrib => {
                command.args(["--election", lock, "--election-namespace", namespace, "--http=127.0.0.1:0"]);
            }
        }
        command.env("KUBECONFIG", kubeconfig).env("POD_NAME", identity);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }
}

/// Adds the options of a kube-scheduler, which reads them from a file.
fn scheduler(
    command: &mut Command,
    [lease, renew, retry]: [&str; 3],
    namespace: &str,
    lock: &str,
    kubeconfig: &Path,
) -> Result<()> {
    let configuration = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "clientConnection": { "kubeconfig": kubeconfig },
        "leaderElection": {
            "leaderElect": true, "resourceNamespace": namespace, "resourceName": lock,
            "leaseDuration": lease, "renewDeadline": renew, "retryPeriod": retry,
        },
        "profiles": [{ "schedulerName": "bench" }],
    });
    // Each elector has its own kubeconfig, and so its own file.
    let path = kubeconfig.with_extension("scheduler");
    std::fs::write(&path, configuration.to_string())?;
    command.arg("--config").arg(path).args(["--secure-port=0", "-v=4"]);
    Ok(())
}

/// A running elector. Killed on drop.
pub struct Elector {
    pub process: Process,
    log: PathBuf,
}

impl Elector {
    /// Starts an elector with this name and lock. Its log and its files are in `directory`.
    pub fn start(
        subject: Subject,
        identity: &str,
        (namespace, lock): (&str, &str),
        directory: &Path,
        kubeconfig: &Kubeconfig,
    ) -> Result<Self> {
        let path = directory.join(format!("{identity}.kubeconfig"));
        std::fs::write(&path, serde_json::to_string(kubeconfig)?)?;
        let log = path.with_extension("log");
        let mut command = subject.command(identity, namespace, lock, directory, &path)?;
        Ok(Self { process: Process::spawn(command.stderr(File::create(&log)?))?, log })
    }

    /// Returns whether its log names a leader, so that it takes part.
    pub fn knows_a_leader(&self) -> Result<bool> {
        let log = std::fs::read_to_string(&self.log)?;
        let podium = log.split("the leader leader=\"").skip(1).any(|name| !name.starts_with('"'));
        // client-go's messages at verbosity 4, on standbys and on the leader.
        Ok(podium || log.contains("held by") || log.contains("uccessfully acquired lease"))
    }
}

/// Returns the directory of the local cluster's binaries.
fn binaries() -> Result<PathBuf> {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cluster/build")).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
