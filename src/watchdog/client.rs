//! The sidecar's side: tells the watchdog of the lead, and outlives a watchdog that dies.

use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::time::Duration;

use futures::future::join;
use podium_campaign::{Lead, Leadership, Moment};
use rustix::process::{Pid, Signal};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::connection::{Connection, PATIENCE, error};
use super::descendants::{adopt_orphans, signal_descendants, signal_group};
use super::file::StatusFile;
use super::message::{FromWatchdog, ToWatchdog, until};
use super::options::{CommandStatus, Finished, WatchdogError, WatchdogOptions};
use super::reaper::Reaper;
use super::signals::ForwardedSignals;

/// Keeps the file, and runs the command, while this process leads, in a watchdog that ends both in time whatever becomes of
/// this process. Until `stop` completes, the command has ended by itself, or it was stopped because leadership was lost and
/// is not to be started again. When it returns, the file is gone and nothing of the command lives; when it is dropped, both
/// come true soon after.
///
/// `stop` is not the end of the lead: the command has its time to terminate while leadership is renewed. Only after this has
/// returned is the lock to be released.
///
/// With a command, this process passes SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and SIGWINCH on to it, becomes a subreaper, collects
/// all its children that end, and kills all its descendants if a watchdog dies. So it has to be a process that has no other
/// children. As process 1 it collects its children also without a command.
///
/// # Errors
/// The watchdog does not start, the file cannot be written or removed, or the command cannot be run.
pub async fn supervise(
    options: WatchdogOptions,
    leadership: Leadership,
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
    let mut client = Client { options, leadership, signals, turn: 0, is_over: false, is_stopped: false };
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
    /// Counts the runs of the command.
    turn: u64,
    /// The campaign is over: nothing is learnt any more.
    is_over: bool,
    /// `stop` has completed.
    is_stopped: bool,
}

/// Where this watchdog is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Leading { term: Option<u64> },
    Withdrawing { term: Option<u64>, patience: Instant },
}

/// What is going on with one watchdog.
struct Session {
    connection: Connection,
    phase: Phase,
    /// The lead that it was told of last.
    told: Option<Lead>,
    /// The command's process group.
    command: Option<i32>,
    /// What to return when nothing is left.
    goal: Option<Finished>,
}

/// What there is to react to.
enum Event {
    Message(Option<FromWatchdog>),
    Lead(Option<Lead>),
    Stop,
    Signal(i32),
    Impatience,
}

/// The watchdog is of no use any more.
struct WatchdogDied;

impl Client {
    /// With one watchdog. `None`: it died, and another one has to go on.
    async fn serve(
        &mut self,
        connection: Connection,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Finished>, WatchdogError> {
        let mut session = Session { connection, phase: Phase::Idle, told: None, command: None, goal: None };
        loop {
            let patience = match session.phase {
                Phase::Withdrawing { patience, .. } => Some(patience),
                _ => None,
            };
            let event = tokio::select! {
                biased;
                told = session.connection.hear() => Event::Message(told),
                () = stop.as_mut(), if !self.is_stopped => Event::Stop,
                lead = news(&mut self.leadership, &mut self.is_over, session.told) => Event::Lead(lead),
                signal = self.signals.next() => Event::Signal(signal),
                () = wait_until(patience) => Event::Impatience,
            };
            let reacted = match event {
                Event::Message(Some(FromWatchdog::Failed { sentence, why })) => {
                    session.connection.close().await;
                    return Err(error(sentence, why));
                }
                Event::Message(Some(FromWatchdog::Withdrawn)) => {
                    if let Some(finished) = session.goal {
                        session.connection.close().await;
                        return Ok(Some(finished));
                    }
                    (session.phase, session.told) = (Phase::Idle, None);
                    Ok(())
                }
                Event::Message(Some(message)) => self.hear(&mut session, message).await,
                Event::Lead(lead) => self.learn(&mut session, lead).await,
                Event::Stop => {
                    self.is_stopped = true;
                    let grace = self.options.command.as_ref().map_or(Duration::ZERO, |command| command.termination_grace);
                    // What is already on its way to an end comes to that one.
                    let goal = session.goal.unwrap_or(Finished::Stopped);
                    session.finish(goal, grace, grace + PATIENCE).await
                }
                Event::Signal(number) => session.tell(&ToWatchdog::Signal(number)).await,
                Event::Message(None) | Event::Impatience => Err(WatchdogDied),
            };
            if let Err(WatchdogDied) = reacted {
                return self.clean_up(session).await;
            }
        }
    }

    async fn hear(&mut self, session: &mut Session, message: FromWatchdog) -> Result<(), WatchdogDied> {
        match message {
            FromWatchdog::Started { pid } => {
                info!("the command runs as process {pid}");
                session.command = Some(pid);
            }
            FromWatchdog::Ended { status, stopped } => {
                session.command = None;
                return self.ended(session, status, stopped).await;
            }
            FromWatchdog::Trouble(sentence) => warn!("{sentence}"),
            FromWatchdog::Ready | FromWatchdog::Withdrawn | FromWatchdog::Failed { .. } => {
                debug!("the watchdog repeats itself")
            }
        }
        Ok(())
    }

    async fn ended(&mut self, session: &mut Session, status: CommandStatus, stopped: bool) -> Result<(), WatchdogDied> {
        info!("the command has ended: {status:?}");
        let restarts = self.options.command.as_ref().is_some_and(|command| command.restarts);
        let finished = match session.goal {
            Some(Finished::Stopped) => Finished::Ended(status),
            Some(goal) => goal,
            None if !stopped => Finished::Ended(status),
            None if !restarts => Finished::Lost,
            None => {
                // It was not renewed in time. As soon as it is, the command begins anew.
                if let Phase::Leading { .. } = session.phase {
                    self.turn += 1;
                    session.told = None;
                }
                return Ok(());
            }
        };
        session.finish(finished, Duration::ZERO, PATIENCE).await
    }

    /// Passes on what was learnt about the lead.
    async fn learn(&mut self, session: &mut Session, lead: Option<Lead>) -> Result<(), WatchdogDied> {
        let before = std::mem::replace(&mut session.told, lead);
        match (session.phase, lead) {
            (Phase::Idle, Some(lead)) => {
                self.turn += 1;
                session.phase = Phase::Leading { term: lead.term };
                self.warn_if_lead_is_short();
                session.lead(lead, self.turn).await
            }
            // While the command has its time to end, too.
            (Phase::Leading { term } | Phase::Withdrawing { term, .. }, Some(lead)) if lead.term == term => {
                session.lead(lead, self.turn).await
            }
            (Phase::Leading { .. }, _) => {
                let grace = self.options.command.as_ref().map_or(Duration::ZERO, |command| command.grace);
                // By the deadline the watchdog has ended everything without being asked.
                let left = before.map_or(Duration::ZERO, |before| before.until - Moment::now());
                session.withdraw(grace, grace.min(left) + self.options.lateness.max(Duration::from_secs(1))).await
            }
            // It may have had the longer time of one that is terminated, while it still led.
            (Phase::Withdrawing { .. }, _) => {
                let grace = self.options.command.as_ref().map_or(Duration::ZERO, |command| command.grace);
                session.shorten_grace(grace, grace + self.options.lateness.max(Duration::from_secs(1))).await
            }
            (Phase::Idle, None) => Ok(()),
        }
    }

    /// Warns if a lead is so short that the command will not be started.
    fn warn_if_lead_is_short(&self) {
        let WatchdogOptions { command: Some(command), lateness, .. } = &self.options else { return };
        let needed = command.grace + *lateness;
        let left = self.leadership.left().filter(|left| *left <= needed && self.turn == 1);
        if let Some(left) = left {
            warn!(
                "the lead lasts {left:?} without a renewal, and the command has to be stopped {needed:?} before its end: \
                 it is not started; use a longer renew deadline or a shorter grace"
            );
        }
    }

    /// Removes the file. One on a volume that hangs is not waited for.
    async fn remove_file(&self) -> Result<(), WatchdogError> {
        let Some(path) = self.options.file.clone() else { return Ok(()) };
        let identity = self.options.identity.clone();
        let removing = tokio::task::spawn_blocking(move || {
            let file = StatusFile::new(&path, &identity)?;
            file.remove().map_err(|error| file.explain("removed", &error))
        });
        match timeout(PATIENCE, removing).await {
            Ok(Ok(removed)) => removed.map_err(WatchdogError::File),
            Ok(Err(error)) => Err(WatchdogError::Failed(format!("failed to remove the status file: {error}"))),
            Err(_) => Err(WatchdogError::File("the status file cannot be removed: its volume does not answer".into())),
        }
    }

    /// After the death of a watchdog: does at once what it would have done.
    async fn clean_up(&mut self, mut session: Session) -> Result<Option<Finished>, WatchdogError> {
        warn!("the watchdog has died: ending what it kept");
        session.connection.end(self.options.lateness.max(Duration::from_secs(1))).await;
        let has_command = self.options.command.is_some();
        let killed = async {
            if has_command {
                kill_all(session.command.and_then(Pid::from_raw)).await;
            }
        };
        // In this order: the first signals are sent before anything is done with the file, and neither waits for the other.
        let ((), removed) = join(killed, self.remove_file()).await;
        // Only now: nothing of the command may live when this ends, whatever becomes of the file.
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
                // A machine that lets no watchdog live is not made better by starting them without a pause.
                sleep(Duration::from_millis(200)).await;
                None
            }
        })
    }
}

impl Session {
    async fn tell(&mut self, message: &ToWatchdog) -> Result<(), WatchdogDied> {
        if self.connection.tell(message).await { Ok(()) } else { Err(WatchdogDied) }
    }

    async fn lead(&mut self, lead: Lead, turn: u64) -> Result<(), WatchdogDied> {
        self.tell(&ToWatchdog::Lead { until: until(lead.until), term: lead.term, turn }).await
    }

    /// Ends everything, and then returns this.
    async fn finish(&mut self, finished: Finished, grace: Duration, patience: Duration) -> Result<(), WatchdogDied> {
        self.goal = Some(finished);
        self.withdraw(grace, patience).await
    }

    /// Ends everything that this watchdog keeps, unless that is being done. If it takes longer, the watchdog is as good as dead.
    async fn withdraw(&mut self, grace: Duration, patience: Duration) -> Result<(), WatchdogDied> {
        let term = match self.phase {
            Phase::Withdrawing { .. } => return Ok(()),
            Phase::Leading { term } => term,
            Phase::Idle => None,
        };
        let patience = Instant::now() + patience;
        self.phase = Phase::Withdrawing { term, patience };
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.tell(&ToWatchdog::Withdraw { grace }).await
    }

    /// What is being ended has no more time than this.
    async fn shorten_grace(&mut self, grace: Duration, longest: Duration) -> Result<(), WatchdogDied> {
        if let Phase::Withdrawing { patience, .. } = &mut self.phase {
            *patience = (*patience).min(Instant::now() + longest);
        }
        self.tell(&ToWatchdog::ShortenGrace { grace: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) }).await
    }
}

/// Waits until the lead is another one than was told.
async fn news(leadership: &mut Leadership, is_over: &mut bool, told: Option<Lead>) -> Option<Lead> {
    loop {
        let lead = leadership.lead();
        if lead != told {
            return lead;
        }
        let left = leadership.left();
        tokio::select! {
            learnt = leadership.changed(), if !*is_over => *is_over = !learnt,
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

/// Kills the process group and all descendants of this process, and waits until none lives.
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
