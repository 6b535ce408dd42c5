//! What the watchdog has to do, and when. Pure: time and news come in, steps go out.
//!
//! What ends comes before what begins, and what is due is decided from the clock at each step, so that a step that took long
//! is followed by the right one.

use std::time::Duration;

use podium_campaign::Moment;

/// The file goes so much before the deadline. A timer fires late, never early, and a process whose container is out of CPU
/// time waits for up to one period of the kernel's bandwidth control, which is so long.
const FILE_MARGIN: Duration = Duration::from_millis(100);

/// The pause before the first repetition of SIGKILL. Each later one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often the file is looked at where no renewal comes: somebody may have removed or changed it.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// How long a step that failed is not tried again.
const RETRY: Duration = Duration::from_millis(200);

/// How long a watchdog without a sidecar tries to remove a file that cannot be removed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Write the file.
    WriteFile,
    /// Remove the file.
    RemoveFile,
    /// CheckFile whether the file is as it was written.
    CheckFile,
    /// Start the command.
    Start,
    /// SIGTERM to the command's process group.
    Terminate,
    /// SIGKILL to everything that descends from the command.
    Kill,
    /// Tell that nothing is left of the turn.
    Withdrawn,
    /// End: nothing is left, and there is no sidecar.
    Finish,
    /// Nothing until this moment, or until something is heard.
    Wait(Option<Moment>),
}

/// Where the command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Absent,
    Running,
    /// SIGTERM was sent.
    Stopping {
        kill_at: Moment,
    },
    /// SIGKILL is sent again and again: there may be new descendants.
    Killing {
        again: Moment,
        pause: Duration,
    },
}

/// Where the file is. Whatever is done with it may take long, or for ever, where its volume hangs: nothing else waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    Absent,
    /// It is being written. It may be there.
    Writing,
    Present,
    /// It is being looked at.
    Checking,
    /// It is there, but not as it was written.
    Changed,
    /// It is being removed. It may be there.
    Removing,
}

/// What is kept, and how it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScheduleOptions {
    pub file: bool,
    pub command: bool,
    pub lateness: Duration,
    pub grace: Duration,
}

/// The state of the watchdog.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    options: ScheduleOptions,
    /// The deadline of the lead. [`Moment::START`]: does not lead.
    until: Moment,
    /// The turn that was named last.
    turn: u64,
    /// Nothing begins any more in turns up to this one.
    over: u64,
    /// The turn whose command was started last.
    began: u64,
    file: File,
    /// When the file is to be looked at.
    check_at: Moment,
    /// The file is not touched again before this moment.
    file_retry: Moment,
    start_retry: Moment,
    command: Command,
    /// The command was told to stop by this watchdog.
    is_stopped: bool,
    /// The withdrawal that is to be confirmed: how long the command has.
    withdrawing: Option<Duration>,
    /// Since when there is no sidecar.
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

    /// The lead lasts until then.
    pub fn lead(&mut self, until: Moment, turn: u64) {
        self.until = self.until.max(until);
        self.turn = self.turn.max(turn);
        self.check_at = Moment::START;
    }

    /// The turn is over.
    pub fn withdraw(&mut self, grace: Duration) {
        self.over = self.over.max(self.turn);
        self.withdrawing = Some(grace);
    }

    /// What is being ended has no more time than this. Nothing else is ended by it.
    pub fn shorten_grace(&mut self, grace: Duration, now: Moment) {
        if let Some(before) = &mut self.withdrawing {
            *before = grace.min(*before);
        }
        if let Command::Stopping { kill_at } = &mut self.command {
            *kill_at = (*kill_at).min(now + grace);
        }
    }

    /// The sidecar is gone.
    pub fn abandon(&mut self, now: Moment) {
        self.over = u64::MAX;
        self.abandoned.get_or_insert(now);
        self.withdrawing = None;
        if let Command::Stopping { kill_at } = &mut self.command {
            *kill_at = (*kill_at).min(now + self.options.grace);
        }
    }

    /// The command was started.
    pub fn started(&mut self) {
        self.began = self.turn;
        self.command = Command::Running;
        self.is_stopped = false;
    }

    /// The command's own process has ended. What else it has started has the rest of the grace, if there is one.
    pub fn main_ended(&mut self, now: Moment) {
        if self.command == Command::Running {
            self.command = Command::Killing { again: now, pause: FIRST_PAUSE };
        }
    }

    /// Nothing of the command lives. Whether it had been told to stop.
    pub fn gone(&mut self) -> bool {
        self.command = Command::Absent;
        self.is_stopped
    }

    /// The file was written.
    pub fn file_written(&mut self, now: Moment) {
        self.file = File::Present;
        self.check_at = now + CHECK_INTERVAL;
    }

    /// The file was removed.
    pub fn file_removed(&mut self) {
        self.file = File::Absent;
    }

    /// The file was looked at.
    pub fn file_checked(&mut self, is_intact: bool, now: Moment) {
        self.file = if is_intact { File::Present } else { File::Changed };
        self.check_at = now + CHECK_INTERVAL;
    }

    /// The file could not be written, and is not there, or could not be removed.
    pub fn file_failed(&mut self, now: Moment) {
        self.file = match self.file {
            File::Writing => File::Absent,
            File::Removing => File::Changed,
            other => other,
        };
        self.file_retry = now + RETRY;
    }

    /// Somebody else's command lives still.
    pub fn start_failed(&mut self, now: Moment) {
        self.start_retry = now + RETRY;
    }

    /// The signals go to the command as long as it is not being killed.
    pub fn takes_signals(&self) -> bool {
        matches!(self.command, Command::Running | Command::Stopping { .. })
    }

    /// What to do now. SIGTERM and SIGKILL count as sent, and a withdrawal as confirmed; everything else is told.
    pub fn next(&mut self, now: Moment) -> Step {
        // Signals first: they take no time, and what is done with a file may.
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

    /// When something is due next, if nothing is heard.
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
            // Whatever is due is due when this is done.
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
