//! The sidecar process that the tests pause, kill and partition.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use podium::watchdog::{CommandMonitor, CommandOptions, Finished, WatchdogOptions, command_monitor, supervise};
use podium_campaign::{Campaign, CampaignConfig, LeaderElectionRecord, Lock, LockError, LockState, ObjectVersion, Timing};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

/// The variable with the spec of the process.
pub const SPEC: &str = "WATCHDOG_TEST_SIDECAR";

/// The exit code after leadership was lost.
pub const LOST: i32 = 75;

/// The time that it leads without a renewal.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(4);
pub const LATENESS: Duration = Duration::from_secs(1);
pub const GRACE: Duration = Duration::from_secs(1);
pub const TERMINATION_GRACE: Duration = Duration::from_secs(20);

/// The spec of the process.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Spec {
    /// The directory of the faults: see [`Faults`].
    pub dir: PathBuf,
    pub file: Option<PathBuf>,
    pub argv: Vec<String>,
    pub restarts: bool,
    pub lock: String,
    /// A script that checks the command all the time, and its timeout. The files `phases` and `checks` have the results.
    pub check: Option<(String, Duration)>,
}

/// Runs the sidecar. Returns its exit code.
pub fn run(spec: &str) -> i32 {
    let Spec { dir, file, argv, restarts, lock, check } = serde_json::from_str(spec).unwrap();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let timing = Timing {
        lease_duration: Duration::from_secs(5),
        renew_deadline: RENEW_DEADLINE,
        retry_period: Duration::from_millis(300),
    };
    let config = CampaignConfig { timing, ..CampaignConfig::new("web-0") };
    let command = (!argv.is_empty()).then(|| CommandOptions {
        restarts,
        grace: GRACE,
        termination_grace: TERMINATION_GRACE,
        ..CommandOptions::new(argv.into_iter().map(Into::into), lock)
    });
    let program = env!("CARGO_BIN_EXE_podium").into();
    let options = WatchdogOptions { program, identity: "web-0".into(), file, command, lateness: LATENESS };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut terminated = signal(SignalKind::terminate()).unwrap();
        let campaign = Campaign::new(Memory::new(Faults { dir: dir.clone() }), config).unwrap();
        let leadership = campaign.leadership();
        let (_go_on, over) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(campaign.run(async { drop(over.await) }));
        let (monitor, reporter) = command_monitor();
        if let Some(check) = check {
            tokio::spawn(log_phases(monitor.clone(), dir.join("phases")));
            tokio::spawn(log_checks(monitor, check, dir.join("checks")));
        }
        let finished = supervise(options, leadership, reporter, async { while terminated.recv().await.is_none() {} }).await;
        fs::write(dir.join("finished"), format!("{finished:?}")).unwrap();
        match finished {
            Ok(Finished::Stopped) => 0,
            Ok(Finished::Ended(status)) => status.exit_code().into(),
            Ok(Finished::Lost) => LOST,
            Err(error) => {
                eprintln!("{error}");
                error.exit_code().into()
            }
        }
    })
}

fn append(path: &Path, line: &impl std::fmt::Debug) {
    let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "{line:?}").unwrap();
}

async fn log_phases(mut monitor: CommandMonitor, path: PathBuf) {
    loop {
        let state = monitor.state();
        append(&path, &state.phase);
        monitor.differs_from(state).await;
    }
}

async fn log_checks(monitor: CommandMonitor, (script, limit): (String, Duration), path: PathBuf) {
    loop {
        append(&path, &monitor.check(script.as_bytes(), limit).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Faults of the API server, switched by files in a directory: while `cut` exists, it does not respond; while `taken` exists, another
/// process holds the lock.
#[derive(Clone, Debug)]
struct Faults {
    dir: PathBuf,
}

impl Faults {
    fn is(&self, name: &str) -> bool {
        self.dir.join(name).exists()
    }
}

/// A lock in memory.
#[derive(Debug)]
struct Memory {
    faults: Faults,
    state: std::sync::Mutex<LockState<()>>,
}

impl Memory {
    fn new(faults: Faults) -> Self {
        let version = ObjectVersion { uid: "uid".into(), resource_version: "7".into() };
        let state =
            LockState { record: LeaderElectionRecord::default(), version, claimed_by: None, parts: Vec::new(), object: () };
        Self { faults, state: state.into() }
    }

    /// Returns the present state.
    async fn request(&self) -> LockState<()> {
        if self.faults.is("cut") {
            std::future::pending::<()>().await;
        }
        let mut state = self.state.lock().unwrap();
        if self.faults.is("taken") && state.record.holder != "other" {
            let record = LeaderElectionRecord {
                holder: "other".into(),
                lease_duration_seconds: Some(1),
                ..LeaderElectionRecord::default()
            };
            *state = next(&state, record);
        }
        state.clone()
    }
}

impl Lock for Memory {
    type Object = ();

    const TICK: Duration = Duration::from_micros(1);

    fn describe(&self) -> String {
        "lock in memory".into()
    }

    async fn get(&self) -> Result<Option<LockState<()>>, LockError> {
        Ok(Some(self.request().await))
    }

    async fn create(&self, _: LeaderElectionRecord) -> Result<LockState<()>, LockError> {
        Err(LockError::Conflict("it exists".into()))
    }

    async fn update(&self, guard: LockState<()>, record: LeaderElectionRecord) -> Result<LockState<()>, LockError> {
        let now = self.request().await;
        if now.version != guard.version || self.faults.is("taken") {
            return Err(LockError::Conflict("another version".into()));
        }
        let written = next(&now, record);
        *self.state.lock().unwrap() = written.clone();
        Ok(written)
    }
}

fn next(state: &LockState<()>, record: LeaderElectionRecord) -> LockState<()> {
    let revision: u64 = state.version.resource_version.parse().unwrap();
    let version = ObjectVersion { uid: state.version.uid.clone(), resource_version: (revision + 1).to_string() };
    LockState { record, version, ..state.clone() }
}
