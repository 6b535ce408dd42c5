//! The command: start, signals and end.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};

use super::descendants::{signal_descendants, signal_group};
use super::lock::RunLock;
use super::message::{CommandConfig, FailureKind};
use super::options::CommandStatus;

/// A running command, with its descendants.
#[derive(Debug)]
pub(super) struct Running {
    group: Pid,
    /// How the first process of the command ended.
    status: Option<CommandStatus>,
    /// The command and its descendants hold it, too.
    lock: RunLock,
}

/// The children of the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaped {
    /// At least one lives.
    Alive,
    /// None is left. There are no other descendants, because the watchdog adopts orphans.
    Gone,
}

impl Running {
    /// Starts the command in a process group of its own.
    ///
    /// # Errors
    /// A message that names the command.
    pub fn start(
        config: &CommandConfig,
        lock: RunLock,
        stdin: Option<&OwnedFd>,
        identity: &str,
        term: Option<u64>,
    ) -> Result<Self, (String, FailureKind)> {
        let argv = config.argv();
        let Some((program, arguments)) = argv.split_first() else {
            return Err(("the command must not be empty: name it after --".into(), FailureKind::Other));
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
            Ok(child) => Ok(Self { group: Pid::from_child(&child), status: None, lock }),
            Err(error) => {
                let kind = match error.kind() {
                    ErrorKind::NotFound => FailureKind::CommandNotFound,
                    _ => FailureKind::CommandNotExecutable,
                };
                Err((format!("the command {} cannot be run: {error}", program.display()), kind))
            }
        }
    }

    pub fn pid(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// Returns how the first process of the command ended; `None`: it lives.
    pub fn status(&self) -> Option<CommandStatus> {
        self.status
    }

    /// Sends SIGTERM to the process group, and SIGCONT, so that stopped processes can end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    /// Sends SIGTERM to the descendants outside the process group.
    pub fn terminate_others(&self) {
        signal_descendants(Signal::TERM, Some(self.group));
    }

    /// Sends SIGKILL to all descendants. It misses processes that are just starting, so it must be repeated until none is left.
    pub fn kill(&self) {
        // First, because this does not need /proc.
        self.signal(Signal::KILL);
        signal_descendants(Signal::KILL, None);
    }

    /// Sends the signal to the process group.
    pub fn signal(&self, signal: Signal) {
        signal_group(self.group, signal);
    }

    /// Starts another process of the command, which inherits its lock.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_beside(&self, command: &mut Command) -> io::Result<Pid> {
        let child = self.lock.inherited(|| command.spawn())?;
        Ok(Pid::from_child(&child))
    }

    /// Reaps children, including adopted orphans. Reports those that are not the first process of the command.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn reap(&mut self, mut reaped: impl FnMut(Pid, Option<CommandStatus>)) -> io::Result<Reaped> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.group => self.status = exit_status(status),
                Ok(Some((pid, status))) => reaped(pid, exit_status(status)),
                Ok(None) => return Ok(Reaped::Alive),
                Err(rustix::io::Errno::CHILD) => return Ok(Reaped::Gone),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn exit_status(status: WaitStatus) -> Option<CommandStatus> {
    let code = status.exit_status().map(CommandStatus::Code);
    code.or_else(|| status.terminating_signal().map(CommandStatus::Signal))
}
