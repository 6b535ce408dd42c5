//! The command: its start, and its end.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};

use super::descendants::{signal_descendants, signal_group};
use super::lock::RunLock;
use super::message::{CommandConfig, FailureKind};
use super::options::CommandStatus;

/// A command that was started, and whatever it has started.
#[derive(Debug)]
pub(super) struct Running {
    group: Pid,
    /// How the command's own process ended.
    status: Option<CommandStatus>,
    /// Held by the command and its descendants, too.
    _lock: RunLock,
}

/// What the children of the watchdog do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaped {
    /// Some live.
    Alive,
    /// None is left, so that there are no descendants at all: the watchdog adopts orphans.
    Gone,
}

impl Running {
    /// Starts the command in a process group of its own.
    ///
    /// # Errors
    /// For people: which command, and what went wrong.
    pub fn start(
        config: &CommandConfig,
        lock: RunLock,
        stdin: Option<&OwnedFd>,
        identity: &str,
        term: Option<u64>,
    ) -> Result<Self, (String, FailureKind)> {
        let argv = config.argv();
        let Some((program, arguments)) = argv.split_first() else {
            return Err(("there is no command to run: name one after --".into(), FailureKind::Other));
        };
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).env("PODIUM_NAME", identity).env_remove("PODIUM_TERM");
        if let Some(term) = term {
            command.env("PODIUM_TERM", term.to_string());
        }
        let spawned = lock.inherited(|| {
            let stdin = stdin.map(OwnedFd::try_clone).transpose()?;
            command.stdin(stdin.map_or_else(Stdio::null, Stdio::from)).spawn()
        });
        match spawned {
            Ok(child) => Ok(Self { group: Pid::from_child(&child), status: None, _lock: lock }),
            Err(error) => {
                let why = match error.kind() {
                    ErrorKind::NotFound => FailureKind::CommandNotFound,
                    _ => FailureKind::CommandNotExecutable,
                };
                Err((format!("the command {} cannot be run: {error}", program.display()), why))
            }
        }
    }

    pub fn pid(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// How the command's own process ended; `None`: it lives.
    pub fn status(&self) -> Option<CommandStatus> {
        self.status
    }

    /// Asks the process group to end. A process that is stopped is continued, so that it can.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    /// Asks what has left the process group to end.
    pub fn terminate_others(&self) {
        signal_descendants(Signal::TERM, Some(self.group));
    }

    /// Ends all that descends from the command. What is starting just now is missed, so this is to be done again until
    /// nothing is left.
    pub fn kill(&self) {
        // First, because it does not need /proc.
        self.signal(Signal::KILL);
        signal_descendants(Signal::KILL, None);
    }

    /// Sends the signal to the process group.
    pub fn signal(&self, signal: Signal) {
        signal_group(self.group, signal);
    }

    /// Collects children that have ended, orphans as well.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn reap(&mut self) -> io::Result<Reaped> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.group => self.status = as_ended(status),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Reaped::Alive),
                Err(rustix::io::Errno::CHILD) => return Ok(Reaped::Gone),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn as_ended(status: WaitStatus) -> Option<CommandStatus> {
    let code = status.exit_status().map(CommandStatus::Code);
    code.or_else(|| status.terminating_signal().map(CommandStatus::Signal))
}
