//! The schedule of the watchdog. Pure: time and events are arguments, steps are results.
//!
//! Ends come before starts. Each step is decided from the clock, so that the right one follows a step that took long.

use std::time::Duration;

use podium_campaign::Moment;

/// The time before the deadline at which the file is removed. Timers fire late, never early. A process whose container has used up its
/// CPU time waits for up to one period of the kernel's bandwidth control, which is as long.
const FILE_MARGIN: Duration = Duration::from_millis(100);

/// The first and the longest pause between two SIGKILLs. Each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The interval of checks of the file without renewals. It may have been removed or changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The pause after a failed step.
const RETRY: Duration = Duration::from_millis(200);

/// The time for which a watchdog without a sidecar retries the removal of the file.
const PATIENCE: Duration = Duration::from_secs(10);

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Write the file.
    WriteFile,
    /// Remove the file.
    RemoveFile,
    /// Check that the file is unchanged.
    CheckFile,
    /// Start the command.
    Start,
    /// SIGTERM to the command's process group.
    Terminate,
    /// SIGKILL to all descendants.
    Kill,
    /// Report that file and command of the turn are gone.
    Withdrawn,
    /// Exit: file and command are gone, and so is the sidecar.
    Finish,
    /// Wait until this moment, or until an event.
    Wait(Option<Moment>),
}

/// The state of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Absent,
    Running,
    /// SIGTERM was sent.
    Stopping {
        kill_at: Moment,
    },
    /// SIGKILL is repeated, because there may be new descendants.
    Killing {
        again: Moment,
        pause: Duration,
    },
}

/// The state of the file. A task with the file may take forever if its volume hangs, so nothing else waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    Absent,
    /// It is being written, and may exist.
    Writing,
    Present,
    /// It is being checked.
    Checking,
    /// It exists, and was changed.
    Changed,
    /// It is being removed, and may exist.
    Removing,
}

/// The options of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScheduleOptions {
    pub file: bool,
    pub command: bool,
    pub lateness: Duration,
    pub grace: Duration,
}

/// The schedule.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    options: ScheduleOptions,
    /// The deadline of the lead. [`Moment::START`]: the pod does not lead.
    until: Moment,
    /// The last turn.
    turn: u64,
    /// Turns up to this one are over: nothing starts in them.
    over: u64,
    /// The turn of the last start of the command.
    began: u64,
    file: File,
    /// When the next check of the file is due.
    check_at: Moment,
    /// The next attempt with the file, after a failure.
    file_retry: Moment,
    start_retry: Moment,
    command: Command,
    /// This watchdog has stopped the command.
    is_stopped: bool,
    /// The grace of a withdrawal that is not confirmed yet.
    withdrawing: Option<Duration>,
    /// When the sidecar exited.
    abandoned: Option<Moment>,
}

impl Schedule {
    pub fn new(options: ScheduleOptions) -> Self {
        Self {
            options,
            until: Moment::START,
            turn: 0,
            over: 0,
            began: 0,
            file: File::Absent,
            check_at: Moment::START,
            file_retry: Moment::START,
            start_retry: Moment::START,
            command: Command::Absent,
            is_stopped: false,
            withdrawing: None,
            abandoned: None,
        }
    }

    /// Extends the lead until this moment.
    pub fn lead(&mut self, until: Moment, turn: u64) {
        self.until = self.until.max(until);
        self.turn = self.turn.max(turn);
        self.check_at = Moment::START;
    }

    /// Ends the turn.
    pub fn withdraw(&mut self, grace: Duration) {
        self.over = self.over.max(self.turn);
        self.withdrawing = Some(grace);
    }

    /// Shortens the grace of what is being ended. It ends nothing by itself.
    pub fn shorten_grace(&mut self, grace: Duration, now: Moment) {
        if let Some(before) = &mut self.withdrawing {
            *before = grace.min(*before);
        }
        if let Command::Stopping { kill_at } = &mut self.command {
            *kill_at = (*kill_at).min(now + grace);
        }
    }

    /// Ends everything, because the sidecar has exited.
    pub fn abandon(&mut self, now: Moment) {
        self.over = u64::MAX;
        self.abandoned.get_or_insert(now);
        self.withdrawing = None;
        if let Command::Stopping { kill_at } = &mut self.command {
            *kill_at = (*kill_at).min(now + self.options.grace);
        }
    }

    /// Records that the command was started.
    pub fn started(&mut self) {
        self.began = self.turn;
        self.command = Command::Running;
        self.is_stopped = false;
    }

    /// Records that the command's first process has ended. Its descendants have the rest of the grace, if any.
    pub fn main_ended(&mut self, now: Moment) {
        if self.command == Command::Running {
            self.command = Command::Killing { again: now, pause: FIRST_PAUSE };
        }
    }

    /// Records that no process of the command lives. Returns whether this watchdog had stopped it.
    pub fn gone(&mut self) -> bool {
        self.command = Command::Absent;
        self.is_stopped
    }

    /// Records that the file was written.
    pub fn file_written(&mut self, now: Moment) {
        self.file = File::Present;
        self.check_at = now + CHECK_INTERVAL;
    }

    /// Records that the file was removed.
    pub fn file_removed(&mut self) {
        self.file = File::Absent;
    }

    /// Records a check of the file.
    pub fn file_checked(&mut self, is_intact: bool, now: Moment) {
        self.file = if is_intact { File::Present } else { File::Changed };
        self.check_at = now + CHECK_INTERVAL;
    }

    /// Records that the file could not be written, and does not exist, or could not be removed.
    pub fn file_failed(&mut self, now: Moment) {
        self.file = match self.file {
            File::Writing => File::Absent,
            File::Removing => File::Changed,
            other => other,
        };
        self.file_retry = now + RETRY;
    }

    /// Records that another command holds the lock.
    pub fn start_failed(&mut self, now: Moment) {
        self.start_retry = now + RETRY;
    }

    /// Returns whether signals are forwarded to the command.
    pub fn takes_signals(&self) -> bool {
        matches!(self.command, Command::Running | Command::Stopping { .. })
    }

    /// Returns the next step. SIGTERM, SIGKILL and the confirmation of a withdrawal count as done; the caller reports all other results.
    pub fn next(&mut self, now: Moment) -> Step {
        // Signals first: they take no time, tasks with the file may.
        match self.command {
            Command::Stopping { kill_at } if now >= kill_at.min(self.kill_at()) => return self.kill(now, FIRST_PAUSE),
            Command::Killing { again, pause } if now >= again => return self.kill(now, (pause * 2).min(LONGEST_PAUSE)),
            Command::Running if now >= self.stop_at() || self.is_over() => {
                let grace = self.withdrawing.unwrap_or(self.options.grace);
                self.command = Command::Stopping { kill_at: now + grace };
                self.is_stopped = true;
                return Step::Terminate;
            }
            _ => {}
        }
        if self.may_exist() && now >= self.file_retry && !self.wants_file(now) && !self.is_busy() {
            self.file = File::Removing;
            return Step::RemoveFile;
        }
        if self.command == Command::Absent && (!self.may_exist() || self.gives_up(now)) {
            if self.abandoned.is_some() {
                return Step::Finish;
            }
            if self.withdrawing.take().is_some() {
                self.until = Moment::START;
                return Step::Withdrawn;
            }
        }
        if now >= self.file_retry && self.wants_file(now) {
            match self.file {
                File::Absent | File::Changed => {
                    self.file = File::Writing;
                    return Step::WriteFile;
                }
                File::Present if now >= self.check_at => {
                    self.file = File::Checking;
                    return Step::CheckFile;
                }
                _ => {}
            }
        }
        if now >= self.start_retry && self.may_start(now) {
            return Step::Start;
        }
        Step::Wait(self.alarm(now))
    }

    fn kill(&mut self, now: Moment, pause: Duration) -> Step {
        self.command = Command::Killing { again: now + pause, pause };
        Step::Kill
    }

    /// Returns when the next step is due, without an event.
    pub fn alarm(&self, now: Moment) -> Option<Moment> {
        let command = match self.command {
            Command::Absent => self.may_start(now).then_some(self.start_retry),
            Command::Running => Some(self.stop_at()),
            Command::Stopping { kill_at } => Some(kill_at.min(self.kill_at())),
            Command::Killing { again, .. } => Some(again),
        };
        let remove = Some(if self.is_over() { self.file_retry } else { self.remove_at().max(self.file_retry) });
        let wants_file = self.wants_file(now);
        let file = match self.file {
            // The next task waits for this one.
            File::Writing | File::Checking | File::Removing => [None, None],
            File::Absent => [None, wants_file.then_some(self.file_retry)],
            File::Changed => [remove, wants_file.then_some(self.file_retry)],
            File::Present => [remove, wants_file.then_some(self.check_at.max(self.file_retry))],
        };
        let patience = self.abandoned.map(|since| since + PATIENCE);
        let all = [command, file[0], file[1], patience];
        all.into_iter().flatten().filter(|at| *at > now && *at != Moment::NEVER).min()
    }

    fn is_over(&self) -> bool {
        self.turn <= self.over
    }

    fn is_busy(&self) -> bool {
        matches!(self.file, File::Writing | File::Checking | File::Removing)
    }

    fn may_exist(&self) -> bool {
        self.file != File::Absent
    }

    fn wants_file(&self, now: Moment) -> bool {
        self.options.file && !self.is_over() && now < self.remove_at()
    }

    fn may_start(&self, now: Moment) -> bool {
        let is_new = self.turn > self.began && !self.is_over();
        self.options.command && self.command == Command::Absent && is_new && now < self.stop_at()
    }

    fn gives_up(&self, now: Moment) -> bool {
        self.abandoned.is_some_and(|since| now >= since + PATIENCE)
    }

    fn remove_at(&self) -> Moment {
        before(self.until, FILE_MARGIN)
    }

    fn stop_at(&self) -> Moment {
        before(self.kill_at(), self.options.grace)
    }

    fn kill_at(&self) -> Moment {
        before(self.until, self.options.lateness)
    }
}

fn before(moment: Moment, duration: Duration) -> Moment {
    if moment == Moment::NEVER { moment } else { Moment::after((moment - Moment::START).saturating_sub(duration)) }
}
