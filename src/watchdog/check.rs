//! Checks of the command's readiness: scripts that run beside the command.
//!
//! A check is a process of the command: it holds the command's lock, and ends with the command.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use podium_campaign::Moment;
use rustix::process::{Pid, Signal};

use super::command::Running;
use super::descendants::signal_group;
use super::message::{CheckRequest, CheckResult};
use super::options::CommandStatus;

/// The shell of checks.
const SHELL: &str = "sh";

/// The check that runs, if any.
#[derive(Debug, Default)]
pub(super) struct Checks {
    running: Option<Check>,
}

/// A running check.
#[derive(Debug)]
struct Check {
    number: u64,
    group: Pid,
    timeout: Duration,
    /// When it is killed. `None`: it was killed, and its result is reported.
    kill_at: Option<Moment>,
}

impl Checks {
    /// Starts a check beside the command. Returns the result if it cannot start.
    pub fn start(
        &mut self,
        request: CheckRequest,
        command: Option<&Running>,
        environment: &[(&str, String)],
        now: Moment,
    ) -> Option<CheckResult> {
        let CheckRequest { number, script, timeout } = request;
        let failed = |why: String| Some(CheckResult { number, result: Err(why) });
        let Some(command) = command else { return failed("the command does not run".into()) };
        if self.running.is_some() {
            return failed("the former ready command has not ended".into());
        }
        let mut shell = Command::new(SHELL);
        // Not the output of the command: its readers expect no other lines.
        let shell = shell.arg("-c").arg(OsString::from_vec(script)).process_group(0);
        let shell = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        shell.env_remove("PODIUM_TERM").envs(environment.iter().map(|(name, value)| (name, value)));
        match command.start_beside(shell) {
            Ok(group) => {
                let timeout = Duration::from_millis(timeout);
                self.running = Some(Check { number, group, timeout, kill_at: Some(now + timeout) });
                None
            }
            Err(error) => failed(format!("the ready command cannot be run by {SHELL}: {error}")),
        }
    }

    /// Returns when the check must be killed.
    pub fn deadline(&self) -> Option<Moment> {
        self.running.as_ref().and_then(|check| check.kill_at)
    }

    /// Kills a check that takes too long. Returns its result.
    pub fn expire(&mut self, now: Moment) -> Option<CheckResult> {
        let timeout = self.running.as_ref().filter(|check| check.kill_at.is_some_and(|at| now >= at))?.timeout;
        self.kill(format!("the ready command did not end within {timeout:?}"))
    }

    /// Kills the check. Returns its result, unless it was killed already.
    pub fn kill(&mut self, why: String) -> Option<CheckResult> {
        let check = self.running.as_mut()?;
        check.kill_at.take()?;
        signal_group(check.group, Signal::KILL);
        Some(CheckResult { number: check.number, result: Err(why) })
    }

    /// Records that this process was reaped. Returns the result of its check, if it has none yet.
    pub fn reaped(&mut self, pid: Pid, status: Option<CommandStatus>) -> Option<CheckResult> {
        let Check { number, group, kill_at, timeout: _ } = self.running.take_if(|check| check.group == pid)?;
        // Processes that it left behind.
        signal_group(group, Signal::KILL);
        kill_at?;
        let result = match status {
            Some(CommandStatus::Code(0)) => Ok(()),
            Some(CommandStatus::Code(code)) => Err(format!("the ready command exited with code {code}")),
            Some(CommandStatus::Signal(signal)) => Err(format!("signal {signal} ended the ready command")),
            None => Err("the ready command ended in an unknown way".into()),
        };
        Some(CheckResult { number, result })
    }
}
