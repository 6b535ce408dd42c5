//! What is to be kept, and how it ends.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is to be kept while this process leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogOptions {
    /// The program that is started as `<program> watchdog`: `/proc/self/exe`, if that is Podium.
    pub program: PathBuf,
    /// Who this is: the content of the status file, and `PODIUM_NAME` of the command.
    pub identity: String,
    /// The status file, which exists while this process leads. If it is a directory: the file `leader` in it.
    pub file: Option<PathBuf>,
    /// The command that runs while this process leads.
    pub command: Option<CommandOptions>,
    /// How late the machine may be with what is due at a time: the command is killed so much before the deadline of the lead.
    pub lateness: Duration,
}

impl WatchdogOptions {
    /// How late the machine may be, if nothing else is known: 1 s.
    pub const LATENESS: Duration = Duration::from_secs(1);
}

/// A command, and how it is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOptions {
    /// The program, which is looked for in `PATH` if it has no slash, and its arguments.
    pub argv: Vec<OsString>,
    /// Whether it is started again when leadership comes back after it was stopped because leadership was lost.
    pub restarts: bool,
    /// What no two commands run under at once in one network namespace: unlike any other pod's name for it.
    pub lock: String,
    /// How long it has, after SIGTERM, to end when leadership is lost or not renewed in time. SIGTERM comes so much before
    /// SIGKILL.
    pub grace: Duration,
    /// How long it has, after SIGTERM, when this process is told to stop. Leadership is renewed meanwhile.
    pub termination_grace: Duration,
}

impl CommandOptions {
    /// A command that is not started again, with 3 s to end when leadership is lost, and 25 s when this process is to stop.
    pub fn new(argv: impl IntoIterator<Item = OsString>, lock: impl Into<String>) -> Self {
        let seconds = Duration::from_secs;
        let (grace, termination_grace) = (seconds(3), seconds(25));
        Self { argv: argv.into_iter().collect(), restarts: false, lock: lock.into(), grace, termination_grace }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandStatus {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl CommandStatus {
    /// What a process that stands for the command exits with: the command's code, or 128 and the signal, as shells do.
    pub fn exit_code(self) -> u8 {
        let code = match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        };
        u8::try_from(code).unwrap_or(u8::MAX)
    }
}

/// Why nothing is kept any more. Whatever it is: the file is gone, and nothing of the command lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It was told to stop, while no command ran.
    Stopped,
    /// The command ended: by itself, or because it was told to stop.
    Ended(CommandStatus),
    /// The command was stopped because leadership was lost, or not renewed in time, and is not to be started again.
    Lost,
}

/// Why nothing can be kept.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// The watchdog does not run at all.
    #[error("failed to start the watchdog, {program}: {source}")]
    Start {
        /// What was started.
        program: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The status file cannot be written, or not removed. Names the path and the remedy.
    #[error("{0}")]
    File(String),
    /// There is no such command. Names it.
    #[error("{0}")]
    CommandNotFound(String),
    /// The command cannot be executed. Names it.
    #[error("{0}")]
    CommandNotExecutable(String),
    /// Anything else that the watchdog failed at.
    #[error("{0}")]
    Failed(String),
}

impl WatchdogError {
    /// What a process that stands for the command exits with: 127 if there is no such command, 126 if it cannot be executed,
    /// as shells do; else 1.
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
