//! The controllers: three processes that are killed, paused for longer than their own lease, restarted.

use std::fs;
use std::sync::Arc;

use kube::config::Kubeconfig;
use podium_test_support::controller::Controller;
use podium_test_support::random::Random;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::world::World;

/// Duration of the controllers' own Lease, in seconds. A pause is longer.
const LEASE_SECONDS: u64 = 4;

/// The kinds of faults, each as often as it is listed here.
const FAULTS: [&str; 5] = [
    "controllers killed (SIGKILL)",
    "controllers killed (SIGKILL)",
    "controllers paused beyond their lease (SIGSTOP)",
    "controllers paused beyond their lease (SIGSTOP)",
    "controllers stopped (SIGTERM)",
];

/// One controller is active, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They elect one (leader election).
    One,
    /// `--leader-elect=false`
    All,
}

/// One of the three replicas, whichever process it currently is.
pub struct Slot {
    world: Arc<World>,
    kubeconfig: Kubeconfig,
    name: String,
    starts: u64,
    mode: watch::Receiver<Mode>,
    controller: Controller,
}

impl Slot {
    pub fn start(world: &Arc<World>, kubeconfig: &Kubeconfig, name: &str, mode: watch::Receiver<Mode>) -> Self {
        let controller = process(world, kubeconfig, &format!("{name}-0"), *mode.borrow());
        Self { world: world.clone(), kubeconfig: kubeconfig.clone(), name: name.into(), starts: 1, mode, controller }
    }

    /// Injects faults until this time; the controller runs at the end.
    pub async fn torment(mut self, mut random: Random, until: Instant) -> Self {
        self.mode.borrow_and_update();
        while Instant::now() < until {
            let (healthy, kind) = (random.millis(1000, 9000), *random.pick(&FAULTS).expect("there are faults"));
            let (pause, down) =
                (random.millis(1000 * (LEASE_SECONDS + 1), 1000 * (LEASE_SECONDS + 6)), random.millis(0, 2500));
            tokio::select! {
                () = sleep(healthy) => {
                    self.world.figures.count(kind, &self.name);
                    if kind.contains("paused") {
                        self.controller.signal("STOP");
                        sleep(pause).await;
                        self.controller.signal("CONT");
                        self.world.figures.note(&format!("{} goes on", self.name));
                        continue;
                    }
                    if kind.contains("stopped") {
                        assert!(self.controller.terminate().await.success(), "SIGTERM is a request, not a failure");
                    } else {
                        self.controller.kill();
                    }
                    sleep(down).await;
                }
                Ok(()) = self.mode.changed() => {
                    self.controller.kill();
                    self.world.figures.count("controllers killed (SIGKILL)", &self.name);
                }
            }
            self.world.figures.note(&format!("{} starts", self.name));
            let name = format!("{}-{}", self.name, self.starts);
            self.starts += 1;
            let mode = *self.mode.borrow_and_update();
            self.controller = process(&self.world, &self.kubeconfig, &name, mode);
        }
        self
    }
}

fn process(world: &World, kubeconfig: &Kubeconfig, name: &str, mode: Mode) -> Controller {
    let duration = format!("{LEASE_SECONDS}s");
    let arguments: &[&str] = match mode {
        Mode::All => &["--leader-elect=false"],
        Mode::One => &[
            "--leader-elect-lease-duration",
            &duration,
            "--leader-elect-renew-deadline",
            "3s",
            "--leader-elect-retry-period",
            "1s",
        ],
    };
    Controller::start(env!("CARGO_BIN_EXE_podium"), &world.directory, name, kubeconfig, arguments)
}

/// Lines of the controllers' logs that report an unexpected exit or a bug.
pub fn bugs(world: &World) -> Vec<String> {
    let files = fs::read_dir(&world.directory).expect("a directory").flatten().map(|file| file.path());
    let logs = files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("controller-")));
    let mut found = Vec::new();
    for path in logs.filter(|path| path.extension().is_some_and(|extension| extension == "log")) {
        let log = fs::read_to_string(&path).unwrap_or_default();
        let is_bug =
            |line: &&str| line.contains("panicked at") || line.contains("a bug in Podium") || line.starts_with("podium:");
        found.extend(log.lines().filter(is_bug).map(|line| format!("{}: {line}", path.display())));
    }
    found
}
