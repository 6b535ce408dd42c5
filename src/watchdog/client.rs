//! The sidecar's side: reports the lead to the watchdog, and replaces a watchdog that dies.

use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::time::Duration;

use futures::future::join;
use podium_campaign::{Lead, Leadership, Moment};
use rustix::process::{Pid, Signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::connection::{Connection, TIMEOUT, error};
use super::descendants::{adopt_orphans, signal_descendants, signal_group};
use super::file::StatusFile;
use super::message::{CheckRequest, CheckResult, FromWatchdog, ToWatchdog, until};
use super::monitor::{CheckCall, CommandPhase, CommandReporter, CommandState};
use super::options::{CommandStatus, Finished, WatchdogError, WatchdogOptions};
use super::reaper::Reaper;
use super::signals::ForwardedSignals;

/// Writes the status file and runs the command while this process leads, in a watchdog that ends both in time whatever happens to
/// this process. Returns when `stop` completes, when the command has ended, or when it was stopped because leadership was lost and
/// must not be started again. On return the file is removed and no process of the command lives; if the future is dropped, that
/// holds soon after.
///
/// `stop` does not end the lead: the command terminates while leadership is renewed. The caller must release the lock only after the
/// return.
///
/// With a command, this process forwards SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and SIGWINCH to it, becomes a subreaper, reaps all its
/// children, and kills all its descendants if a watchdog dies. So it must have no other children. As process 1 it reaps its
/// children also without a command.
///
/// # Errors
/// The watchdog does not start, the file cannot be written or removed, or the command cannot be run.
pub async fn supervise(
    options: WatchdogOptions,
    leadership: Leadership,
    reporter: CommandReporter,
    stop: impl Future<Output = ()>,
) -> Result<Finished, WatchdogError> {
    let start = |source| WatchdogError::Start { program: options.program.display().to_string(), source };
    let has_command = options.command.is_some();
    if has_command {
        adopt_orphans().map_err(start)?;
    }
    let is_first = std::process::id() == 1;
    let _reaper = (has_command || is_first).then(Reaper::start).transpose().map_err(start)?;
    let signals = if has_command { ForwardedSignals::listen().map_err(start)? } else { ForwardedSignals::default() };
    let mut stop = pin!(stop);
    let mut client =
        Client { options, leadership, signals, reporter, turn: 0, checks: 0, is_over: false, is_stopped: false };
    loop {
        let connection = Connection::open(&client.options).await?;
        if let Some(finished) = client.serve(connection, stop.as_mut()).await? {
            return Ok(finished);
        }
    }
}

struct Client {
    options: WatchdogOptions,
    leadership: Leadership,
    signals: ForwardedSignals,
    reporter: CommandReporter,
    /// The number of the command's run.
    turn: u64,
    /// The number of checks of the command.
    checks: u64,
    /// The campaign is over, so leadership no longer changes.
    is_over: bool,
    /// `stop` has completed.
    is_stopped: bool,
}

/// The phase of a watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Leading { term: Option<u64> },
    Withdrawing { term: Option<u64>, patience: Instant },
}

/// The session with one watchdog.
struct Session {
    connection: Connection,
    phase: Phase,
    /// The lead that was reported last.
    reported: Option<Lead>,
    /// The command's process group.
    command: Option<i32>,
    /// The watchdog stops the command.
    is_stopping: bool,
    /// The number of the check that the watchdog runs, and who waits for its result.
    check: Option<(u64, oneshot::Sender<Result<(), String>>)>,
    /// The result, once file and command are gone.
    goal: Option<Finished>,
}

/// An event.
enum Event {
    Message(Option<FromWatchdog>),
    Lead(Option<Lead>),
    Stop,
    Signal(i32),
    Check(CheckCall),
    Timeout,
}

/// The watchdog has exited, or hangs.
struct WatchdogDied;

impl Client {
    /// Runs a session. `None`: the watchdog died, and another one must continue.
    async fn serve(
        &mut self,
        connection: Connection,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Finished>, WatchdogError> {
        let mut session = Session::new(connection);
        loop {
            self.reporter.report(CommandState { phase: session.command_phase(), run: self.turn });
            let patience = match session.phase {
                Phase::Withdrawing { patience, .. } => Some(patience),
                _ => None,
            };
            let event = tokio::select! {
                biased;
                message = session.connection.receive() => Event::Message(message),
                () = stop.as_mut(), if !self.is_stopped => Event::Stop,
                lead = lead_change(&mut self.leadership, &mut self.is_over, session.reported) => Event::Lead(lead),
                signal = self.signals.next() => Event::Signal(signal),
                Some(check) = self.reporter.next_check() => Event::Check(check),
                () = wait_until(patience) => Event::Timeout,
            };
            let result = match event {
                Event::Message(Some(FromWatchdog::Failed { message, kind })) => {
                    session.connection.close().await;
                    return Err(error(message, kind));
                }
                Event::Message(Some(FromWatchdog::Withdrawn)) => {
                    if let Some(finished) = session.goal {
                        session.connection.close().await;
                        return Ok(Some(finished));
                    }
                    (session.phase, session.reported) = (Phase::Idle, None);
                    Ok(())
                }
                Event::Message(Some(message)) => self.on_message(&mut session, message).await,
                Event::Lead(lead) => self.on_lead(&mut session, lead).await,
                Event::Stop => {
                    self.is_stopped = true;
                    let grace = self.options.command.as_ref().map_or(Duration::ZERO, |command| command.termination_grace);
                    // An end that has begun keeps its result.
                    let goal = session.goal.unwrap_or(Finished::Stopped);
                    session.finish(goal, grace, grace + TIMEOUT).await
                }
                Event::Signal(number) => session.send(&ToWatchdog::Signal(number)).await,
                Event::Check(CheckCall { script, timeout, answer }) => {
                    self.checks += 1;
                    session.check = Some((self.checks, answer));
                    let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                    session.send(&ToWatchdog::Check(CheckRequest { number: self.checks, script, timeout })).await
                }
                Event::Message(None) | Event::Timeout => Err(WatchdogDied),
            };
            if let Err(WatchdogDied) = result {
                return self.clean_up(session).await;
            }
        }
    }

    async fn on_message(&mut self, session: &mut Session, message: FromWatchdog) -> Result<(), WatchdogDied> {
        match message {
            FromWatchdog::Started { pid } => {
                info!("the command runs as process {pid}");
                (session.command, session.is_stopping) = (Some(pid), false);
            }
            FromWatchdog::Stopping => session.is_stopping = true,
            FromWatchdog::Checked(CheckResult { number, result }) => {
                if let Some((_, answer)) = session.check.take_if(|(asked, _)| *asked == number) {
                    // Fails if the caller has stopped waiting.
                    let _ = answer.send(result);
                }
            }
            FromWatchdog::Ended { status, stopped } => {
                session.command = None;
                return self.on_command_end(session, status, stopped).await;
            }
            FromWatchdog::Problem(message) => warn!("{message}"),
            FromWatchdog::Ready | FromWatchdog::Withdrawn | FromWatchdog::Failed { .. } => {
                debug!("the watchdog repeated a message")
            }
        }
        Ok(())
    }

    async fn on_command_end(
        &mut self,
        session: &mut Session,
        status: CommandStatus,
        stopped: bool,
    ) -> Result<(), WatchdogDied> {
        info!("the command has ended: {status:?}");
        let restarts = self.options.command.as_ref().is_some_and(|command| command.restarts);
        let finished = match session.goal {
            Some(Finished::Stopped) => Finished::Ended(status),
            Some(goal) => goal,
            None if !stopped => Finished::Ended(status),
            None if !restarts => Finished::Lost,
            None => {
                // Leadership was not renewed in time. The command starts again with the next renewal.
                if let Phase::Leading { .. } = session.phase {
                    self.turn += 1;
                    session.reported = None;
                }
                return Ok(());
            }
        };
        session.finish(finished, Duration::ZERO, TIMEOUT).await
    }

    /// Reports a change of the lead to the watchdog.
    async fn on_lead(&mut self, session: &mut Session, lead: Option<Lead>) -> Result<(), WatchdogDied> {
        let before = std::mem::replace(&mut session.reported, lead);
        match (session.phase, lead) {
            (Phase::Idle, Some(lead)) => {
                self.turn += 1;
                session.phase = Phase::Leading { term: lead.term };
                self.warn_if_lead_is_short();
                session.lead(lead, self.turn).await
            }
            // Also while the command terminates.
            (Phase::Leading { term } | Phase::Withdrawing { term, .. }, Some(lead)) if lead.term == term => {
                session.lead(lead, self.turn).await
            }
            (Phase::Leading { .. }, _) => {
                let grace = self.options.command.as_ref().map_or(Duration::ZERO, |command| command.grace);
                // By the deadline the watchdog ends everything by itself.
                let left = before.map_or(Duration::ZERO, |before| before.until - Moment::now());
                session.withdraw(grace, grace.min(left) + self.options.lateness.max(Duration::from_secs(1))).await
            }
            // The command may have had the longer termination grace, while this process led.
            (Phase::Withdrawing { .. }, _) => {
                let grace = self.options.command.as_ref().map_or(Duration::ZERO, |command| command.grace);
                session.shorten_grace(grace, grace + self.options.lateness.max(Duration::from_secs(1))).await
            }
            (Phase::Idle, None) => Ok(()),
        }
    }

    /// Warns if the lead is too short to start the command.
    fn warn_if_lead_is_short(&self) {
        let WatchdogOptions { command: Some(command), lateness, .. } = &self.options else { return };
        let needed = command.grace + *lateness;
        let left = self.leadership.remaining().filter(|left| *left <= needed && self.turn == 1);
        if let Some(left) = left {
            warn!(
                "the command is not started: it must be stopped {needed:?} before the end of the lead, which lasts {left:?} without \
                 a renewal; use a longer renew deadline or a shorter grace"
            );
        }
    }

    /// Removes the file. Does not wait for a volume that hangs.
    async fn remove_file(&self) -> Result<(), WatchdogError> {
        let Some(path) = self.options.file.clone() else { return Ok(()) };
        let identity = self.options.identity.clone();
        let removing = tokio::task::spawn_blocking(move || {
            let file = StatusFile::new(&path, &identity)?;
            file.remove().map_err(|error| file.explain("removed", &error))
        });
        match timeout(TIMEOUT, removing).await {
            Ok(Ok(removed)) => removed.map_err(WatchdogError::File),
            Ok(Err(error)) => Err(WatchdogError::Failed(format!("failed to remove the status file: {error}"))),
            Err(_) => Err(WatchdogError::File("the status file cannot be removed: its volume does not answer".into())),
        }
    }

    /// Ends file and command after the death of a watchdog.
    async fn clean_up(&mut self, mut session: Session) -> Result<Option<Finished>, WatchdogError> {
        warn!("the watchdog has died: ending status file and command");
        self.reporter.report(CommandState { phase: CommandPhase::Stopping, run: self.turn });
        session.connection.end(self.options.lateness.max(Duration::from_secs(1))).await;
        let has_command = self.options.command.is_some();
        let killed = async {
            if has_command {
                kill_all(session.command.and_then(Pid::from_raw)).await;
            }
        };
        // In this order: the first signals precede the removal of the file, and neither waits for the other.
        let ((), removed) = join(killed, self.remove_file()).await;
        // Not earlier: no process of the command may live on return, even if the file cannot be removed.
        removed?;
        drop(session.connection);
        let restarts = self.options.command.as_ref().is_none_or(|command| command.restarts);
        let killed = Finished::Ended(CommandStatus::Signal(Signal::KILL.as_raw()));
        Ok(match (session.goal, session.command) {
            (Some(Finished::Stopped), Some(_)) => Some(killed),
            (Some(goal), _) => Some(goal),
            (None, Some(_)) if !restarts && matches!(session.phase, Phase::Withdrawing { .. }) => Some(Finished::Lost),
            (None, Some(_)) if !restarts => Some(killed),
            (None, _) => {
                // A pause before the next watchdog, in case each one dies.
                sleep(Duration::from_millis(200)).await;
                None
            }
        })
    }
}

impl Session {
    fn new(connection: Connection) -> Self {
        let (is_stopping, check) = (false, None);
        Self { connection, phase: Phase::Idle, reported: None, command: None, is_stopping, check, goal: None }
    }

    fn command_phase(&self) -> CommandPhase {
        match (self.phase, self.command) {
            (Phase::Idle, _) => CommandPhase::Absent,
            (Phase::Leading { .. }, None) => CommandPhase::Starting,
            (Phase::Leading { .. }, Some(_)) if !self.is_stopping => CommandPhase::Running,
            (Phase::Leading { .. } | Phase::Withdrawing { .. }, _) => CommandPhase::Stopping,
        }
    }

    async fn send(&mut self, message: &ToWatchdog) -> Result<(), WatchdogDied> {
        if self.connection.send(message).await { Ok(()) } else { Err(WatchdogDied) }
    }

    async fn lead(&mut self, lead: Lead, turn: u64) -> Result<(), WatchdogDied> {
        self.send(&ToWatchdog::Lead { until: until(lead.until), term: lead.term, turn }).await
    }

    /// Ends file and command, then the supervision with this result.
    async fn finish(&mut self, finished: Finished, grace: Duration, patience: Duration) -> Result<(), WatchdogDied> {
        self.goal = Some(finished);
        self.withdraw(grace, patience).await
    }

    /// Ends file and command, unless that has begun. A watchdog that takes longer than `patience` counts as dead.
    async fn withdraw(&mut self, grace: Duration, patience: Duration) -> Result<(), WatchdogDied> {
        let term = match self.phase {
            Phase::Withdrawing { .. } => return Ok(()),
            Phase::Leading { term } => term,
            Phase::Idle => None,
        };
        let patience = Instant::now() + patience;
        self.phase = Phase::Withdrawing { term, patience };
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.send(&ToWatchdog::Withdraw { grace }).await
    }

    /// Shortens the grace of what is being ended.
    async fn shorten_grace(&mut self, grace: Duration, longest: Duration) -> Result<(), WatchdogDied> {
        if let Phase::Withdrawing { patience, .. } = &mut self.phase {
            *patience = (*patience).min(Instant::now() + longest);
        }
        self.send(&ToWatchdog::ShortenGrace { grace: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) }).await
    }
}

/// Waits until the lead differs from the reported one.
async fn lead_change(leadership: &mut Leadership, is_over: &mut bool, reported: Option<Lead>) -> Option<Lead> {
    loop {
        let lead = leadership.lead();
        if lead != reported {
            return lead;
        }
        let left = leadership.remaining();
        tokio::select! {
            changed = leadership.changed(), if !*is_over => *is_over = !changed,
            () = async { match left { Some(left) => sleep(left).await, None => pending().await } } => {}
        }
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Kills the process group and all descendants of this process, until none lives.
async fn kill_all(group: Option<Pid>) {
    loop {
        if let Some(group) = group {
            signal_group(group, Signal::KILL);
        }
        if signal_descendants(Signal::KILL, None) == 0 {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
