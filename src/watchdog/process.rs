//! The process of the watchdog: carries out the steps of the schedule.
//!
//! It has no runtime and no client, so that it is small and depends on nothing but the kernel. It has one thread, and another one for
//! the status file.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use podium_campaign::Moment;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};

use super::channel::Channel;
use super::check::Checks;
use super::command::{Reaped, Running};
use super::descendants;
use super::file::StatusFile;
use super::file_worker::{FileDone, FileTask, FileWorker};
use super::lock::RunLock;
use super::message::{CheckRequest, CheckResult, Config, FailureKind, FromWatchdog, ToWatchdog, moment};
use super::options::CommandStatus;
use super::schedule::{Schedule, ScheduleOptions, Step};
use super::timer::Timer;

use crate::log_once::LogOnce;

/// Signals that the watchdog ignores: they are meant for the sidecar, and reach the watchdog if all processes of a service are signaled.
/// The command starts with the kernel's defaults.
const IGNORED: [i32; 8] = [SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2];

/// Runs the watchdog of the sidecar at the other end of the standard input, a socket, until the sidecar has exited.
///
/// # Errors
/// The standard input is no such socket, or the kernel lacks a feature.
pub fn run() -> io::Result<()> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    for signal in IGNORED {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let (children, wake) = UnixStream::pair()?;
    children.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(SIGCHLD, wake.try_clone()?)?;
    descendants::adopt_orphans()?;
    let mut channel = Channel::new(socket);
    let Some(config) = first_message(&mut channel)? else { return Ok(()) };
    match Watchdog::new(channel, children, wake, config) {
        Ok(watchdog) => watchdog.run(),
        Err(Failed { channel, message }) => channel.send(&FromWatchdog::Failed { message, kind: FailureKind::File }),
    }
}

/// Returns the config. `None`: the sidecar has closed the socket.
fn first_message(channel: &mut Channel) -> io::Result<Option<Config>> {
    loop {
        match channel.next() {
            Some(ToWatchdog::Configure(config)) => return Ok(Some(config)),
            Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "the first message is no config")),
            None => {}
        }
        wait_for(&mut [PollFd::new(channel, PollFlags::IN)])?;
        match channel.fill() {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            filled => filled?,
        }
    }
}

fn wait_for(descriptors: &mut [PollFd<'_>]) -> io::Result<()> {
    match poll(descriptors, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

struct Watchdog {
    /// `None`: the sidecar has exited.
    channel: Option<Channel>,
    timer: Timer,
    /// Readable after a child has ended, or a task with the file.
    children: UnixStream,
    stdin: Option<OwnedFd>,
    config: Config,
    schedule: Schedule,
    file: Option<(StatusFile, FileWorker)>,
    running: Option<Running>,
    checks: Checks,
    term: Option<u64>,
    logged: LogOnce,
}

struct Failed {
    channel: Channel,
    message: String,
}

impl Watchdog {
    fn new(mut channel: Channel, children: UnixStream, wake: UnixStream, config: Config) -> Result<Self, Failed> {
        let prepared = || {
            let file = config.file().map(|path| StatusFile::new(&path, &config.identity)).transpose()?;
            let file = file.map(|file| {
                file.prepare()?;
                let files =
                    FileWorker::start(file.clone(), wake).map_err(|error| format!("failed to start a thread: {error}"))?;
                Ok::<_, String>((file, files))
            });
            let file = file.transpose()?;
            let timer = Timer::new().map_err(|error| format!("failed to create a timer: {error}"))?;
            Ok((file, timer))
        };
        let (file, timer) = match prepared() {
            Ok(prepared) => prepared,
            Err(message) => return Err(Failed { channel, message }),
        };
        let options = ScheduleOptions {
            file: file.is_some(),
            command: config.command.is_some(),
            lateness: config.lateness(),
            grace: config.command.as_ref().map_or(Duration::ZERO, |command| command.grace),
        };
        let stdin = channel.take_stdin();
        let schedule = Schedule::new(options);
        Ok(Self {
            channel: Some(channel),
            timer,
            children,
            stdin,
            config,
            schedule,
            file,
            running: None,
            checks: Checks::default(),
            term: None,
            logged: LogOnce::default(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        self.send(&FromWatchdog::Ready);
        loop {
            while let Some(message) = self.channel.as_mut().and_then(Channel::next) {
                self.on_message(message);
            }
            while let Some(done) = self.file.as_ref().and_then(|(_, files)| files.done()) {
                self.on_file_done(done);
            }
            // Before the steps: one of them may take long.
            self.arm(self.schedule.alarm(Moment::now()))?;
            self.reap()?;
            let expired = self.checks.expire(Moment::now());
            self.send_result(expired);
            loop {
                match self.schedule.next(Moment::now()) {
                    Step::Finish => return Ok(()),
                    Step::Wait(at) => break self.arm(at)?,
                    step => self.act(step)?,
                }
            }
            self.listen()?;
        }
    }

    /// Sets the timer to the next step or the end of a check.
    fn arm(&self, step: Option<Moment>) -> io::Result<()> {
        self.timer.arm(step.into_iter().chain(self.checks.deadline()).min())
    }

    /// Waits for the sidecar, a child, or the timer.
    fn listen(&mut self) -> io::Result<()> {
        let mut descriptors = vec![PollFd::new(&self.timer, PollFlags::IN), PollFd::new(&self.children, PollFlags::IN)];
        descriptors.extend(self.channel.as_ref().map(|channel| PollFd::new(channel, PollFlags::IN)));
        wait_for(&mut descriptors)?;
        // Reads all sources, whichever is ready. The timer is armed again anyway.
        let mut bytes = [0; 64];
        while matches!(io::Read::read(&mut &self.children, &mut bytes), Ok(1..)) {}
        let Some(channel) = &mut self.channel else { return Ok(()) };
        if channel.fill().is_err() {
            self.abandon();
        }
        Ok(())
    }

    fn on_message(&mut self, message: ToWatchdog) {
        match message {
            ToWatchdog::Lead { until, term, turn } => {
                self.schedule.lead(moment(until), turn);
                self.term = term;
            }
            ToWatchdog::Withdraw { grace } => self.schedule.withdraw(Duration::from_millis(grace)),
            ToWatchdog::ShortenGrace { grace } => self.schedule.shorten_grace(Duration::from_millis(grace), Moment::now()),
            ToWatchdog::Signal(number) => {
                if let (Some(running), Some(signal)) = (&self.running, Signal::from_named_raw(number))
                    && self.schedule.takes_signals()
                {
                    running.signal(signal);
                }
            }
            ToWatchdog::Check(request) => self.check(request),
            // Allowed only once.
            ToWatchdog::Configure(_) => self.abandon(),
        }
    }

    fn act(&mut self, step: Step) -> io::Result<()> {
        match step {
            Step::WriteFile => self.begin(FileTask::Write),
            Step::RemoveFile => self.begin(FileTask::Remove),
            Step::CheckFile => self.begin(FileTask::Check),
            Step::Start => return self.start(),
            Step::Terminate => {
                self.running.iter().for_each(Running::terminate);
                self.send(&FromWatchdog::Stopping);
                let killed = self.checks.kill("the command is being stopped".into());
                self.send_result(killed);
            }
            Step::Kill => self.running.iter().for_each(Running::kill),
            Step::Withdrawn => self.send(&FromWatchdog::Withdrawn),
            Step::Wait(_) | Step::Finish => {}
        }
        Ok(())
    }

    fn begin(&self, task: FileTask) {
        if let Some((_, files)) = &self.file {
            files.begin(task);
        }
    }

    /// Processes the result of a task with the file.
    fn on_file_done(&mut self, FileDone { task, result }: FileDone) {
        match (task, result) {
            (FileTask::Write, Ok(_)) => self.schedule.file_written(Moment::now()),
            (FileTask::Remove, Ok(_)) => self.schedule.file_removed(),
            (FileTask::Check, Ok(is_intact)) => self.schedule.file_checked(is_intact, Moment::now()),
            (task, Err(error)) => {
                self.schedule.file_failed(Moment::now());
                if let Some((file, _)) = &self.file {
                    self.report(file.explain(if task == FileTask::Remove { "removed" } else { "written" }, &error));
                }
            }
        }
    }

    fn start(&mut self) -> io::Result<()> {
        let Some(config) = &self.config.command else { return Ok(()) };
        let lock = match RunLock::acquire(&config.lock) {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                let message =
                    format!("a command of {} still runs: waiting until it has ended before the next start", config.lock);
                self.schedule.start_failed(Moment::now());
                self.report(message);
                return Ok(());
            }
            Err(error) => return self.fail(format!("failed to lock the command: {error}"), FailureKind::Other),
        };
        match Running::start(config, lock, self.stdin.as_ref(), &self.config.identity, self.term) {
            Ok(running) => {
                self.schedule.started();
                self.send(&FromWatchdog::Started { pid: running.pid() });
                self.running = Some(running);
                Ok(())
            }
            Err((message, kind)) => self.fail(message, kind),
        }
    }

    /// Reaps the children.
    fn reap(&mut self) -> io::Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let had_ended = running.status().is_some();
        let (checks, mut results) = (&mut self.checks, Vec::new());
        let reaped = running.reap(|pid, status| results.extend(checks.reaped(pid, status)))?;
        if !had_ended && running.status().is_some() {
            self.schedule.main_ended(Moment::now());
            // These are outside the process group, and have not received SIGTERM yet.
            running.terminate_others();
        }
        if reaped == Reaped::Gone {
            // The first process has ended, too, even if its status is unknown.
            let status = running.status().unwrap_or(CommandStatus::Signal(Signal::KILL.as_raw()));
            self.running = None;
            let stopped = self.schedule.gone();
            self.send(&FromWatchdog::Ended { status, stopped });
        }
        results.into_iter().for_each(|result| self.send_result(Some(result)));
        Ok(())
    }

    /// Starts a check of the command.
    fn check(&mut self, request: CheckRequest) {
        let running = self.running.as_ref().filter(|_| self.schedule.takes_signals());
        let mut environment = vec![("PODIUM_NAME", self.config.identity.clone())];
        environment.extend(self.term.map(|term| ("PODIUM_TERM", term.to_string())));
        let failed = self.checks.start(request, running, &environment, Moment::now());
        self.send_result(failed);
    }

    fn send_result(&mut self, result: Option<CheckResult>) {
        if let Some(result) = result {
            self.send(&FromWatchdog::Checked(result));
        }
    }

    /// Reports a failure, then ends as if the sidecar had exited.
    fn fail(&mut self, message: String, kind: FailureKind) -> io::Result<()> {
        self.send(&FromWatchdog::Failed { message, kind });
        self.abandon();
        Ok(())
    }

    fn report(&mut self, message: String) {
        if self.logged.is_new(&message) {
            self.send(&FromWatchdog::Problem(message));
        }
    }

    fn send(&mut self, message: &FromWatchdog) {
        if self.channel.as_ref().is_some_and(|channel| channel.send(message).is_err()) {
            self.abandon();
        }
    }

    fn abandon(&mut self) {
        self.channel = None;
        self.schedule.abandon(Moment::now());
    }
}
