//! Processes that elect one among themselves, side by side: Podium's sidecar and client-go in programs that people run.
//!
//! Each stands for a pod.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kube::config::Kubeconfig;
use serde_json::json;

use super::Result;
use super::process::{PODIUM, Process, command};

/// What elects, and with which durations: how long the others wait for a leader, how long it leads without an answer, and how often
/// it renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Podium that follows: whoever else elects, on a Lease. No elector.
    Follow,
    /// Podium in the place of SupportTools' elector, with the right to watch its Lease.
    Sidecar,
    /// The same without that right, which the old one did not need.
    Looking,
    /// Podium as fast as it can be set.
    SidecarTuned,
    /// Podium in the place of the contrib elector, which has no Leases: an annotation of Endpoints.
    Contrib,
    /// client-go at its defaults, which are those of Kubernetes' own components: three kube-schedulers for a scheduler name that no
    /// pod has.
    ClientGo,
    /// The same as fast as client-go's validation lets it be; a Lease lasts whole seconds.
    ClientGoTuned,
    /// client-go's example program. Its durations are fixed.
    Example,
}

impl Subject {
    /// What it is called in the figures.
    pub fn title(self) -> &'static str {
        match self {
            Self::Follow => "Podium's sidecar that follows an Election",
            Self::Sidecar => "Podium's sidecar, 15/10/2 s",
            Self::Looking => "Podium's sidecar without the right to watch, 15/10/2 s",
            Self::SidecarTuned => "Podium's sidecar, 1/0.5/0.25 s",
            Self::Contrib => "Podium's sidecar on Endpoints, 10/5/2.5 s",
            Self::ClientGo => "client-go (kube-scheduler), 15/10/2 s",
            Self::ClientGoTuned => "client-go (kube-scheduler), 1/0.8/0.2 s",
            Self::Example => "client-go's example, 60/15/5 s",
        }
    }

    /// How often its leader renews, if there is one.
    pub fn retry_period(self) -> Duration {
        Duration::from_millis(match self {
            Self::Follow | Self::Sidecar | Self::Looking | Self::ClientGo => 2_000,
            Self::SidecarTuned => 250,
            Self::Contrib => 2_500,
            Self::ClientGoTuned => 200,
            Self::Example => 5_000,
        })
    }

    /// The command for an elector of this name on this lock. Files that it needs are written into `directory`.
    fn command(self, identity: &str, namespace: &str, lock: &str, directory: &Path, kubeconfig: &Path) -> Result<Command> {
        let mut command = match self {
            Self::Example => command(binaries()?.join("leader-election")),
            Self::ClientGo | Self::ClientGoTuned => command(binaries()?.join("kube-scheduler")),
            _ => command(PODIUM),
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
            Self::Sidecar | Self::Looking => {
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

/// kube-scheduler says these things in a file.
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
    // Each has a kubeconfig of its own, and so a file.
    let path = kubeconfig.with_extension("scheduler");
    std::fs::write(&path, configuration.to_string())?;
    command.arg("--config").arg(path).args(["--secure-port=0", "-v=4"]);
    Ok(())
}

/// An elector that runs. Killed on drop.
pub struct Elector {
    pub process: Process,
    log: PathBuf,
}

impl Elector {
    /// Starts one of this name on this lock. What it says, and the files that it needs, are in `directory`.
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

    /// Whether it says that it knows who leads, and so takes part.
    pub fn knows_a_leader(&self) -> Result<bool> {
        let said = std::fs::read_to_string(&self.log)?;
        let podium = said.split("the leader leader=\"").skip(1).any(|name| !name.starts_with('"'));
        // client-go's words, in its fourth degree of detail: of those that stand by, and of the one that leads.
        Ok(podium || said.contains("held by") || said.contains("uccessfully acquired lease"))
    }
}

/// Where the binaries of the local cluster are.
fn binaries() -> Result<PathBuf> {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/build")).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
