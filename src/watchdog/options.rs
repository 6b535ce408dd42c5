//! The options of the watchdog, and how a command ends.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The status file and the command of a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogOptions {
    /// The program of the watchdog, started as `<program> watchdog`: usually `/proc/self/exe`.
    pub program: PathBuf,
    /// The content of the status file, and `PODIUM_NAME` of the command.
    pub identity: String,
    /// The status file. In a directory: the file `leader`.
    pub file: Option<PathBuf>,
    /// The command.
    pub command: Option<CommandOptions>,
    /// The lateness of the machine that is allowed for: the watchdog kills the command so much before the deadline of the lead.
    pub lateness: Duration,
}

impl WatchdogOptions {
    /// The default lateness: 1 s.
    pub const LATENESS: Duration = Duration::from_secs(1);
}

/// Options of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOptions {
    /// The program, which is searched in `PATH` unless it has a slash, and its arguments.
    pub argv: Vec<OsString>,
    /// Starts the command again when this process leads again after it lost leadership.
    pub restarts: bool,
    /// The name of the lock that prevents two commands at once in one network namespace. Unique per pod.
    pub lock: String,
    /// The time between SIGTERM and SIGKILL when leadership is lost or not renewed in time.
    pub grace: Duration,
    /// The time between SIGTERM and SIGKILL when this process terminates. It renews its leadership in that time.
    pub termination_grace: Duration,
}

impl CommandOptions {
    /// Returns a command that is not started again, with a grace of 3 s, and 25 s when this process terminates.
    pub fn new(argv: impl IntoIterator<Item = OsString>, lock: impl Into<String>) -> Self {
        let seconds = Duration::from_secs;
        let (grace, termination_grace) = (seconds(3), seconds(25));
        Self { argv: argv.into_iter().collect(), restarts: false, lock: lock.into(), grace, termination_grace }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandStatus {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl CommandStatus {
    /// Returns the exit code for the caller: the code of the command, or 128 plus the signal, like a shell.
    pub fn exit_code(self) -> u8 {
        let code = match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        };
        u8::try_from(code).unwrap_or(u8::MAX)
    }
}

/// How the supervision ended. In each case the file is removed, and no process of the command lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// This process was stopped while no command ran.
    Stopped,
    /// The command ended, by itself or because this process was stopped.
    Ended(CommandStatus),
    /// The command was stopped because leadership was lost or not renewed in time, and must not be started again.
    Lost,
}

/// An error of the watchdog.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// The watchdog does not start.
    #[error("failed to start the watchdog, {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// The status file cannot be written or removed. Names the path and the remedy.
    #[error("{0}")]
    File(String),
    /// The command does not exist. Names it.
    #[error("{0}")]
    CommandNotFound(String),
    /// The command cannot be executed. Names it.
    #[error("{0}")]
    CommandNotExecutable(String),
    /// Any other error.
    #[error("{0}")]
    Failed(String),
}

impl WatchdogError {
    /// Returns the exit code for the caller: 127 if the command does not exist, 126 if it cannot be executed, like a shell; otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::CommandNotFound(_) => 127,
            Self::CommandNotExecutable(_) => 126,
            Self::Start { .. } | Self::File(_) | Self::Failed(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_shells() {
        assert_eq!(CommandStatus::Code(0).exit_code(), 0);
        assert_eq!(CommandStatus::Code(255).exit_code(), 255);
        assert_eq!(CommandStatus::Signal(15).exit_code(), 143);
        assert_eq!(WatchdogError::CommandNotFound(String::new()).exit_code(), 127);
        assert_eq!(WatchdogError::CommandNotExecutable(String::new()).exit_code(), 126);
        assert_eq!(WatchdogError::File(String::new()).exit_code(), 1);
    }
}
