//! A sidecar: the process that the tests pause, kill and cut off.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use podium::watchdog::{CommandOptions, Finished, WatchdogOptions, supervise};
use podium_campaign::{Campaign, CampaignConfig, LeaderElectionRecord, Lock, LockError, LockState, ObjectVersion, Timing};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

/// The variable that says what the process is to do.
pub const SPEC: &str = "WATCHDOG_TEST_SIDECAR";

/// What it exits with when leadership was lost.
pub const LOST: i32 = 75;

/// It leads for so long without a renewal.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(4);
pub const LATENESS: Duration = Duration::from_secs(1);
pub const GRACE: Duration = Duration::from_secs(1);
pub const TERMINATION_GRACE: Duration = Duration::from_secs(20);

/// What the process is to do.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Spec {
    /// Where the lock is told what to do: see [`Weather`].
    pub dir: PathBuf,
    pub file: Option<PathBuf>,
    pub argv: Vec<String>,
    pub restarts: bool,
    pub lock: String,
}

/// Leads as far as the lock lets it. Returns the exit code.
pub fn run(spec: &str) -> i32 {
    let Spec { dir, file, argv, restarts, lock } = serde_json::from_str(spec).unwrap();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let timing = Timing {
        lease_duration: Duration::from_secs(5),
        renew_deadline: RENEW_DEADLINE,
        retry_period: Duration::from_millis(300),
    };
    let settings = CampaignConfig { timing, ..CampaignConfig::new("web-0") };
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
        let campaign = Campaign::new(Memory::new(Weather { dir: dir.clone() }), settings).unwrap();
        let leadership = campaign.leadership();
        let (_go_on, over) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(campaign.run(async { drop(over.await) }));
        let finished = supervise(options, leadership, async { while terminated.recv().await.is_none() {} }).await;
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

/// What the API server does, as files in a directory say: while there is `cut`, it does not answer; while there is `taken`,
/// somebody else holds the lock.
#[derive(Clone, Debug)]
struct Weather {
    dir: PathBuf,
}

impl Weather {
    fn is(&self, name: &str) -> bool {
        self.dir.join(name).exists()
    }
}

/// A lock in memory.
#[derive(Debug)]
struct Memory {
    weather: Weather,
    seen: std::sync::Mutex<LockState<()>>,
}

impl Memory {
    fn new(weather: Weather) -> Self {
        let version = ObjectVersion { uid: "uid".into(), resource_version: "7".into() };
        let seen =
            LockState { record: LeaderElectionRecord::default(), version, claimed_by: None, parts: Vec::new(), object: () };
        Self { weather, seen: seen.into() }
    }

    /// What it says now.
    async fn request(&self) -> LockState<()> {
        if self.weather.is("cut") {
            std::future::pending::<()>().await;
        }
        let mut seen = self.seen.lock().unwrap();
        if self.weather.is("taken") && seen.record.holder != "other" {
            let record = LeaderElectionRecord {
                holder: "other".into(),
                lease_duration_seconds: Some(1),
                ..LeaderElectionRecord::default()
            };
            *seen = next(&seen, record);
        }
        seen.clone()
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
        Err(LockError::Conflict("it is there".into()))
    }

    async fn update(&self, guard: LockState<()>, record: LeaderElectionRecord) -> Result<LockState<()>, LockError> {
        let now = self.request().await;
        if now.version != guard.version || self.weather.is("taken") {
            return Err(LockError::Conflict("another version".into()));
        }
        let written = next(&now, record);
        *self.seen.lock().unwrap() = written.clone();
        Ok(written)
    }
}

fn next(seen: &LockState<()>, record: LeaderElectionRecord) -> LockState<()> {
    let revision: u64 = seen.version.resource_version.parse().unwrap();
    let version = ObjectVersion { uid: seen.version.uid.clone(), resource_version: (revision + 1).to_string() };
    LockState { record, version, ..seen.clone() }
}
