//! The command as the rest of the sidecar observes it: its phase, and checks of its readiness.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// The additional time in which a watchdog must report the result of a check.
const PATIENCE: Duration = Duration::from_secs(1);

/// The phase of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommandPhase {
    /// No command runs, and none is about to.
    #[default]
    Absent,
    /// The watchdog was told to start it.
    Starting,
    /// Its first process was started.
    Running,
    /// It is being stopped, or it has ended and so does this process.
    Stopping,
}

/// The phase of a command, in one of its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandState {
    /// The phase.
    pub phase: CommandPhase,
    /// The number of the run.
    pub run: u64,
}

/// Observes the command of a [`supervise`](super::supervise).
#[derive(Clone, Debug)]
pub struct CommandMonitor {
    state: watch::Receiver<CommandState>,
    checks: mpsc::Sender<CheckCall>,
}

/// The end of a [`CommandMonitor`] that [`supervise`](super::supervise) takes.
#[derive(Debug)]
pub struct CommandReporter {
    state: watch::Sender<CommandState>,
    checks: mpsc::Receiver<CheckCall>,
}

/// A check that was asked for.
#[derive(Debug)]
pub(crate) struct CheckCall {
    /// The script for `sh -c`.
    pub script: Vec<u8>,
    /// The time after which it has failed.
    pub timeout: Duration,
    /// Takes the result.
    pub answer: oneshot::Sender<Result<(), String>>,
}

/// Returns both ends.
pub fn command_monitor() -> (CommandMonitor, CommandReporter) {
    let (sender, state) = watch::channel(CommandState::default());
    let (checks, calls) = mpsc::channel(1);
    (CommandMonitor { state, checks }, CommandReporter { state: sender, checks: calls })
}

impl CommandMonitor {
    /// Returns the state at this moment.
    pub fn state(&self) -> CommandState {
        *self.state.borrow()
    }

    /// Waits for another state than this one. Never completes once the supervision is over.
    pub async fn differs_from(&mut self, state: CommandState) {
        if self.state.wait_for(|now| *now != state).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Runs a script with `sh -c` beside the command, in the watchdog, which kills its process group after `limit` and when the
    /// command ends. The output is discarded.
    ///
    /// # Errors
    /// The cause of the failure: the script does not exit with 0 in time.
    pub async fn check(&self, script: &[u8], limit: Duration) -> Result<(), String> {
        let (answer, result) = oneshot::channel();
        let call = CheckCall { script: script.to_vec(), timeout: limit, answer };
        let answered = async {
            self.checks.send(call).await.ok()?;
            result.await.ok()
        };
        match timeout(limit + PATIENCE, answered).await {
            Ok(Some(result)) => result,
            Ok(None) => Err("the watchdog has died".into()),
            Err(_) => Err("the watchdog does not answer".into()),
        }
    }
}

impl CommandReporter {
    /// Publishes the state.
    pub(crate) fn report(&self, state: CommandState) {
        self.state.send_if_modified(|before| std::mem::replace(before, state) != state);
    }

    /// Returns the next check. `None`: nobody observes the command. Cancel safe.
    pub(crate) async fn next_check(&mut self) -> Option<CheckCall> {
        self.checks.recv().await
    }
}
