//! The readiness of `podium run`. Pure: role, command, results of checks and time are arguments, the verdict is the result.
//!
//! A standby runs no command and is ready, so that it can be elected. The leader is ready while its command starts, then while its
//! check succeeds.

use std::time::Duration;

use podium_campaign::Moment;

use crate::watchdog::{CommandPhase, CommandState};

/// The role of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It does not lead, or does not know.
    Standby,
    /// It leads.
    Leader,
    /// It was told to exit, or its command has ended.
    ShuttingDown,
}

/// Whether the command is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No command runs, because this pod does not lead.
    Standby,
    /// The command starts, and no check has succeeded yet.
    Starting,
    /// The command is ready.
    Ready,
    /// The command is not ready.
    NotReady,
    /// The command is being stopped.
    Stopping,
}

/// The readiness at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether the command is ready.
    pub state: State,
    /// One line of text for a person.
    pub line: String,
}

impl Verdict {
    /// Returns whether the pod is ready.
    pub fn is_ready(&self) -> bool {
        match self.state {
            State::Standby | State::Starting | State::Ready => true,
            State::NotReady | State::Stopping => false,
        }
    }
}

/// Decides the readiness.
#[derive(Clone, Debug)]
pub(super) struct Readiness {
    /// The time after the start of the command in which it is ready without a successful check.
    startup_timeout: Duration,
    /// The command has a check. Without one it is ready while it runs.
    has_check: bool,
    command: CommandState,
    /// When the phase of the command began.
    since: Moment,
    /// A check has succeeded in this run.
    has_started: bool,
    /// The result of the last check in this run.
    last: Option<Result<(), String>>,
}

impl Readiness {
    /// Returns the readiness of a process without a command.
    pub fn new(startup_timeout: Duration, has_check: bool) -> Self {
        Self {
            startup_timeout,
            has_check,
            command: CommandState::default(),
            since: Moment::START,
            has_started: false,
            last: None,
        }
    }

    /// Stores the state of the command.
    pub fn observe(&mut self, command: CommandState, now: Moment) {
        if self.command == command {
            return;
        }
        if self.command.run != command.run {
            (self.has_started, self.last) = (false, None);
        }
        (self.command, self.since) = (command, now);
    }

    /// Stores the result of a check that began in this run of the command.
    pub fn checked(&mut self, run: u64, result: Result<(), String>) {
        if self.check_due() == Some(run) {
            self.has_started |= result.is_ok();
            self.last = Some(result);
        }
    }

    /// Returns the run of the command in which checks are due. `None`: the command does not run, or has no check.
    pub fn check_due(&self) -> Option<u64> {
        let CommandState { phase, run } = self.command;
        (self.has_check && phase == CommandPhase::Running).then_some(run)
    }

    /// Returns when the verdict changes without an event, unless it has.
    pub fn startup_ends(&self) -> Option<Moment> {
        let is_starting = match self.command.phase {
            CommandPhase::Starting => true,
            CommandPhase::Running => self.has_check && !self.has_started,
            CommandPhase::Absent | CommandPhase::Stopping => false,
        };
        is_starting.then(|| self.since + self.startup_timeout)
    }

    /// Returns the readiness at this moment.
    pub fn verdict(&self, role: Role, now: Moment) -> Verdict {
        let (state, line) = self.decide(role, now);
        Verdict { state, line }
    }

    fn decide(&self, role: Role, now: Moment) -> (State, String) {
        let stopping = || (State::Stopping, "stopping: the command is being stopped".into());
        match (role, self.command.phase) {
            (_, CommandPhase::Stopping) => stopping(),
            (Role::ShuttingDown, _) => (State::Stopping, "stopping: podium is shutting down".into()),
            // The lead has ended, and the watchdog has not reported the stop yet.
            (Role::Standby, CommandPhase::Running) => stopping(),
            (Role::Standby, CommandPhase::Absent | CommandPhase::Starting) => {
                (State::Standby, "standby: this pod does not lead, and runs no command".into())
            }
            (Role::Leader, CommandPhase::Absent) => (State::Starting, "leader: the command has not started yet".into()),
            (Role::Leader, CommandPhase::Starting) if self.is_within_startup(now) => {
                (State::Starting, "leader: the command has not started yet".into())
            }
            (Role::Leader, CommandPhase::Starting) => {
                let line = format!("leader: the command has not started within {:?}", self.startup_timeout);
                (State::NotReady, line)
            }
            (Role::Leader, CommandPhase::Running) => self.decide_running(now),
        }
    }

    fn decide_running(&self, now: Moment) -> (State, String) {
        let failure = self.last.as_ref().and_then(|last| last.as_ref().err());
        match failure {
            _ if !self.has_check => (State::Ready, "leader: the command runs".into()),
            None if self.has_started => (State::Ready, "leader: the command is ready".into()),
            Some(why) if self.has_started => (State::NotReady, format!("leader: the command is not ready: {why}")),
            failure => {
                let why = failure.map_or("no check has ended", String::as_str);
                if self.is_within_startup(now) {
                    (State::Starting, format!("leader: the command is starting: {why}"))
                } else {
                    let limit = self.startup_timeout;
                    (State::NotReady, format!("leader: the command was not ready within {limit:?} of its start: {why}"))
                }
            }
        }
    }

    fn is_within_startup(&self, now: Moment) -> bool {
        now < self.since + self.startup_timeout
    }
}

#[cfg(test)]
mod tables;
