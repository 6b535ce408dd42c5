//! The keeper's own process: does what the schedule says.
//!
//! No runtime, no client: it has to be small, and to need nothing but the kernel to do its duty. One thread, and another for
//! the status file.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};

use super::channel::Channel;
use super::command::{Reaped, Running};
use super::duty::CommandStatus;
use super::family;
use super::file::StatusFile;
use super::files::{Done, Files, Job};
use super::lock::RunLock;
use super::message::{FromKeeper, Orders, ToKeeper, Why, moment};
use super::schedule::{Limits, Schedule, Step};
use super::timer::{Timer, now};
use crate::log_once::LogOnce;

/// Signals that the keeper survives: they are meant for the elector, and reach the keeper, for example, when somebody
/// signals all processes of a service. The command starts with the kernel's defaults.
const IGNORED: [i32; 8] = [SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2];

/// Runs as the keeper of the process at the other end of the standard input, a socket, until that one is gone.
///
/// # Errors
/// The standard input is no such socket, or the kernel lacks what is needed.
pub fn run() -> io::Result<()> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    for signal in IGNORED {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let (children, told) = UnixStream::pair()?;
    children.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(SIGCHLD, told.try_clone()?)?;
    family::adopt_orphans()?;
    let mut channel = Channel::new(socket);
    let Some(orders) = first_message(&mut channel)? else { return Ok(()) };
    match Keeper::new(channel, children, told, orders) {
        Ok(keeper) => keeper.run(),
        Err(Failed { channel, sentence }) => channel.tell(&FromKeeper::Failed { sentence, why: Why::File }),
    }
}

/// The orders. `None`: the elector has changed its mind.
fn first_message(channel: &mut Channel) -> io::Result<Option<Orders>> {
    loop {
        match channel.next() {
            Some(ToKeeper::Duty(orders)) => return Ok(Some(orders)),
            Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "the first message is not its duty")),
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

struct Keeper {
    /// `None`: the elector is gone.
    channel: Option<Channel>,
    timer: Timer,
    /// Readable when a child has ended, or something is done with the file.
    children: UnixStream,
    stdin: Option<OwnedFd>,
    orders: Orders,
    schedule: Schedule,
    file: Option<(StatusFile, Files)>,
    running: Option<Running>,
    term: Option<u64>,
    logged: LogOnce,
}

struct Failed {
    channel: Channel,
    sentence: String,
}

impl Keeper {
    fn new(mut channel: Channel, children: UnixStream, wake: UnixStream, orders: Orders) -> Result<Self, Failed> {
        let prepared = || {
            let file = orders.file().map(|path| StatusFile::new(&path, &orders.identity)).transpose()?;
            let file = file.map(|file| {
                file.prepare()?;
                let files =
                    Files::start(file.clone(), wake).map_err(|error| format!("failed to start a thread: {error}"))?;
                Ok::<_, String>((file, files))
            });
            let file = file.transpose()?;
            let timer =
                Timer::new().map_err(|error| format!("the keeper needs a timer that the kernel refuses: {error}"))?;
            Ok((file, timer))
        };
        let (file, timer) = match prepared() {
            Ok(prepared) => prepared,
            Err(sentence) => return Err(Failed { channel, sentence }),
        };
        let limits = Limits {
            file: file.is_some(),
            command: orders.command.is_some(),
            lateness: orders.lateness(),
            grace: orders.command.as_ref().map_or(Duration::ZERO, |command| command.grace),
        };
        let stdin = channel.take_stdin();
        let schedule = Schedule::new(limits);
        Ok(Self {
            channel: Some(channel),
            timer,
            children,
            stdin,
            orders,
            schedule,
            file,
            running: None,
            term: None,
            logged: LogOnce::default(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        self.tell(&FromKeeper::Ready);
        loop {
            while let Some(message) = self.channel.as_mut().and_then(Channel::next) {
                self.hear(message);
            }
            while let Some(done) = self.file.as_ref().and_then(|(_, files)| files.done()) {
                self.changed(done);
            }
            // What has to end is armed first.
            self.timer.arm(self.schedule.alarm(now()))?;
            self.reap()?;
            loop {
                match self.schedule.next(now()) {
                    Step::Finish => return Ok(()),
                    Step::Wait(at) => break self.timer.arm(at)?,
                    step => self.act(step)?,
                }
            }
            self.listen()?;
        }
    }

    /// Waits for the elector, a child, or the time.
    fn listen(&mut self) -> io::Result<()> {
        let mut descriptors = vec![PollFd::new(&self.timer, PollFlags::IN), PollFd::new(&self.children, PollFlags::IN)];
        descriptors.extend(self.channel.as_ref().map(|channel| PollFd::new(channel, PollFlags::IN)));
        wait_for(&mut descriptors)?;
        // Whatever woke it, all is looked at: reading more often than needed does no harm. The timer is armed anew anyway.
        let mut bytes = [0; 64];
        while matches!(io::Read::read(&mut &self.children, &mut bytes), Ok(1..)) {}
        let Some(channel) = &mut self.channel else { return Ok(()) };
        if channel.fill().is_err() {
            self.abandon();
        }
        Ok(())
    }

    fn hear(&mut self, message: ToKeeper) {
        match message {
            ToKeeper::Lead { until, term, turn } => {
                self.schedule.lead(moment(until), turn);
                self.term = term;
            }
            ToKeeper::Withdraw { grace } => self.schedule.withdraw(Duration::from_millis(grace)),
            ToKeeper::Hurry { grace } => self.schedule.hurry(Duration::from_millis(grace), now()),
            ToKeeper::Signal(number) => {
                if let (Some(running), Some(signal)) = (&self.running, Signal::from_named_raw(number))
                    && self.schedule.takes_signals()
                {
                    running.signal(signal);
                }
            }
            // Once only. Whoever says this now is not the elector that it was.
            ToKeeper::Duty(_) => self.abandon(),
        }
    }

    fn act(&mut self, step: Step) -> io::Result<()> {
        match step {
            Step::Show => self.begin(Job::Show),
            Step::Hide => self.begin(Job::Hide),
            Step::Look => self.begin(Job::Look),
            Step::Start => return self.start(),
            Step::Terminate => self.running.iter().for_each(Running::terminate),
            Step::Kill => self.running.iter().for_each(Running::kill),
            Step::Withdrawn => self.tell(&FromKeeper::Withdrawn),
            Step::Wait(_) | Step::Finish => {}
        }
        Ok(())
    }

    fn begin(&self, job: Job) {
        if let Some((_, files)) = &self.file {
            files.begin(job);
        }
    }

    /// Something is done with the file.
    fn changed(&mut self, Done { job, result }: Done) {
        match (job, result) {
            (Job::Show, Ok(_)) => self.schedule.shown(now()),
            (Job::Hide, Ok(_)) => self.schedule.hidden(),
            (Job::Look, Ok(is_intact)) => self.schedule.looked(is_intact, now()),
            (job, Err(error)) => {
                self.schedule.file_failed(now());
                if let Some((file, _)) = &self.file {
                    self.complain(file.explain(if job == Job::Hide { "removed" } else { "written" }, &error));
                }
            }
        }
    }

    fn start(&mut self) -> io::Result<()> {
        let Some(orders) = &self.orders.command else { return Ok(()) };
        let lock = match RunLock::take(&orders.lock) {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                let sentence =
                    format!("a command of {} lives still: waiting for its end before it is started anew", orders.lock);
                self.schedule.start_failed(now());
                self.complain(sentence);
                return Ok(());
            }
            Err(error) => return self.fail(format!("failed to lock the command: {error}"), Why::Other),
        };
        match Running::start(orders, lock, self.stdin.as_ref(), &self.orders.identity, self.term) {
            Ok(running) => {
                self.schedule.started();
                self.tell(&FromKeeper::Started { pid: running.pid() });
                self.running = Some(running);
                Ok(())
            }
            Err((sentence, why)) => self.fail(sentence, why),
        }
    }

    /// Collects what has ended.
    fn reap(&mut self) -> io::Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let had_ended = running.status().is_some();
        let reaped = running.reap()?;
        if !had_ended && running.status().is_some() {
            self.schedule.main_ended(now());
            // They were not asked yet: they are not of the process group.
            running.terminate_others();
        }
        if reaped == Reaped::Gone {
            // Its own process is among those that are gone, whatever became of its status.
            let status = running.status().unwrap_or(CommandStatus::Signal(Signal::KILL.as_raw()));
            self.running = None;
            let stopped = self.schedule.gone();
            self.tell(&FromKeeper::Ended { status, stopped });
        }
        Ok(())
    }

    /// Nothing more can be done: tells why, and ends as if the elector were gone.
    fn fail(&mut self, sentence: String, why: Why) -> io::Result<()> {
        self.tell(&FromKeeper::Failed { sentence, why });
        self.abandon();
        Ok(())
    }

    fn complain(&mut self, sentence: String) {
        if self.logged.is_new(&sentence) {
            self.tell(&FromKeeper::Trouble(sentence));
        }
    }

    fn tell(&mut self, message: &FromKeeper) {
        if self.channel.as_ref().is_some_and(|channel| channel.tell(message).is_err()) {
            self.abandon();
        }
    }

    fn abandon(&mut self) {
        self.channel = None;
        self.schedule.abandon(now());
    }
}
