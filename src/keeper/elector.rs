//! The elector's side: tells the keeper of the lead, and outlives a keeper that dies.

use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::time::Duration;

use futures::future::join;
use rustix::process::{Pid, Signal};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::connection::{Connection, PATIENCE, error};
use super::duty::{CommandStatus, Duty, Finished, KeeperError};
use super::family::{adopt_orphans, signal_descendants, signal_group};
use super::file::StatusFile;
use super::message::{FromKeeper, ToKeeper, until};
use super::reaper::Reaper;
use super::signals::Forwarded;
use super::timer::now;
use crate::campaign::{Lead, Leadership};

/// Keeps the file, and runs the command, while this process leads, in a keeper that ends both in time whatever becomes of
/// this process. Until `stop` completes, the command has ended by itself, or it was stopped because leadership was lost and
/// is not to be started again. When it returns, the file is gone and nothing of the command lives; when it is dropped, both
/// come true soon after.
///
/// `stop` is not the end of the lead: the command has its time to terminate while leadership is renewed. Only after this has
/// returned is the lock to be released.
///
/// With a command, this process passes SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and SIGWINCH on to it, becomes a subreaper, collects
/// all its children that end, and kills all its descendants if a keeper dies. So it has to be a process that has no other
/// children. As process 1 it collects its children also without a command.
///
/// # Errors
/// The keeper does not start, the file cannot be written or removed, or the command cannot be run.
pub async fn keep(duty: Duty, leadership: Leadership, stop: impl Future<Output = ()>) -> Result<Finished, KeeperError> {
    let start = |source| KeeperError::Start { program: duty.program.display().to_string(), source };
    let has_command = duty.command.is_some();
    if has_command {
        adopt_orphans().map_err(start)?;
    }
    let is_first = std::process::id() == 1;
    let _reaper = (has_command || is_first).then(Reaper::start).transpose().map_err(start)?;
    let signals = if has_command { Forwarded::listen().map_err(start)? } else { Forwarded::default() };
    let mut stop = pin!(stop);
    let mut elector = Elector { duty, leadership, signals, turn: 0, is_over: false, is_stopped: false };
    loop {
        let connection = Connection::open(&elector.duty).await?;
        if let Some(finished) = elector.serve(connection, stop.as_mut()).await? {
            return Ok(finished);
        }
    }
}

struct Elector {
    duty: Duty,
    leadership: Leadership,
    signals: Forwarded,
    /// Counts the runs of the command.
    turn: u64,
    /// The campaign is over: nothing is learnt any more.
    is_over: bool,
    /// `stop` has completed.
    is_stopped: bool,
}

/// Where this keeper is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Leading { term: Option<u64> },
    Withdrawing { term: Option<u64>, patience: Instant },
}

/// What is going on with one keeper.
struct Serving {
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
    Told(Option<FromKeeper>),
    Lead(Option<Lead>),
    Stop,
    Signal(i32),
    Impatience,
}

/// The keeper is of no use any more.
struct Died;

impl Elector {
    /// With one keeper. `None`: it died, and another one has to go on.
    async fn serve(
        &mut self,
        connection: Connection,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Finished>, KeeperError> {
        let mut serving = Serving { connection, phase: Phase::Idle, told: None, command: None, goal: None };
        loop {
            let patience = match serving.phase {
                Phase::Withdrawing { patience, .. } => Some(patience),
                _ => None,
            };
            let event = tokio::select! {
                biased;
                told = serving.connection.hear() => Event::Told(told),
                () = stop.as_mut(), if !self.is_stopped => Event::Stop,
                lead = news(&mut self.leadership, &mut self.is_over, serving.told) => Event::Lead(lead),
                signal = self.signals.next() => Event::Signal(signal),
                () = wait_until(patience) => Event::Impatience,
            };
            let reacted = match event {
                Event::Told(Some(FromKeeper::Failed { sentence, why })) => {
                    serving.connection.close().await;
                    return Err(error(sentence, why));
                }
                Event::Told(Some(FromKeeper::Withdrawn)) => {
                    if let Some(finished) = serving.goal {
                        serving.connection.close().await;
                        return Ok(Some(finished));
                    }
                    (serving.phase, serving.told) = (Phase::Idle, None);
                    Ok(())
                }
                Event::Told(Some(message)) => self.hear(&mut serving, message).await,
                Event::Lead(lead) => self.learn(&mut serving, lead).await,
                Event::Stop => {
                    self.is_stopped = true;
                    let grace = self.duty.command.as_ref().map_or(Duration::ZERO, |command| command.termination_grace);
                    // What is already on its way to an end comes to that one.
                    let goal = serving.goal.unwrap_or(Finished::Stopped);
                    serving.finish(goal, grace, grace + PATIENCE).await
                }
                Event::Signal(number) => serving.tell(&ToKeeper::Signal(number)).await,
                Event::Told(None) | Event::Impatience => Err(Died),
            };
            if let Err(Died) = reacted {
                return self.clean_up(serving).await;
            }
        }
    }

    async fn hear(&mut self, serving: &mut Serving, message: FromKeeper) -> Result<(), Died> {
        match message {
            FromKeeper::Started { pid } => {
                info!("the command runs as process {pid}");
                serving.command = Some(pid);
            }
            FromKeeper::Ended { status, stopped } => {
                serving.command = None;
                return self.ended(serving, status, stopped).await;
            }
            FromKeeper::Trouble(sentence) => warn!("{sentence}"),
            FromKeeper::Ready | FromKeeper::Withdrawn | FromKeeper::Failed { .. } => debug!("the keeper repeats itself"),
        }
        Ok(())
    }

    async fn ended(&mut self, serving: &mut Serving, status: CommandStatus, stopped: bool) -> Result<(), Died> {
        info!("the command has ended: {status:?}");
        let restarts = self.duty.command.as_ref().is_some_and(|command| command.restarts);
        let finished = match serving.goal {
            Some(Finished::Stopped) => Finished::Ended(status),
            Some(goal) => goal,
            None if !stopped => Finished::Ended(status),
            None if !restarts => Finished::Lost,
            None => {
                // It was not renewed in time. As soon as it is, the command begins anew.
                if let Phase::Leading { .. } = serving.phase {
                    self.turn += 1;
                    serving.told = None;
                }
                return Ok(());
            }
        };
        serving.finish(finished, Duration::ZERO, PATIENCE).await
    }

    /// Passes on what was learnt about the lead.
    async fn learn(&mut self, serving: &mut Serving, lead: Option<Lead>) -> Result<(), Died> {
        let before = std::mem::replace(&mut serving.told, lead);
        match (serving.phase, lead) {
            (Phase::Idle, Some(lead)) => {
                self.turn += 1;
                serving.phase = Phase::Leading { term: lead.term };
                self.look_at_length();
                serving.lead(lead, self.turn).await
            }
            // While the command has its time to end, too.
            (Phase::Leading { term } | Phase::Withdrawing { term, .. }, Some(lead)) if lead.term == term => {
                serving.lead(lead, self.turn).await
            }
            (Phase::Leading { .. }, _) => {
                let grace = self.duty.command.as_ref().map_or(Duration::ZERO, |command| command.grace);
                // By the deadline the keeper has ended everything without being asked.
                let left = before.map_or(Duration::ZERO, |before| before.until - now());
                serving.withdraw(grace, grace.min(left) + self.duty.lateness.max(Duration::from_secs(1))).await
            }
            // It may have had the longer time of one that is terminated, while it still led.
            (Phase::Withdrawing { .. }, _) => {
                let grace = self.duty.command.as_ref().map_or(Duration::ZERO, |command| command.grace);
                serving.hurry(grace, grace + self.duty.lateness.max(Duration::from_secs(1))).await
            }
            (Phase::Idle, None) => Ok(()),
        }
    }

    /// Warns if a lead is so short that the command will not be started.
    fn look_at_length(&self) {
        let Duty { command: Some(command), lateness, .. } = &self.duty else { return };
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
    async fn hide_file(&self) -> Result<(), KeeperError> {
        let Some(path) = self.duty.file.clone() else { return Ok(()) };
        let identity = self.duty.identity.clone();
        let hiding = tokio::task::spawn_blocking(move || {
            let file = StatusFile::new(&path, &identity)?;
            file.hide().map_err(|error| file.explain("removed", &error))
        });
        match timeout(PATIENCE, hiding).await {
            Ok(Ok(hidden)) => hidden.map_err(KeeperError::File),
            Ok(Err(error)) => Err(KeeperError::Failed(format!("failed to remove the status file: {error}"))),
            Err(_) => Err(KeeperError::File("the status file cannot be removed: its volume does not answer".into())),
        }
    }

    /// After the death of a keeper: does at once what it would have done.
    async fn clean_up(&mut self, mut serving: Serving) -> Result<Option<Finished>, KeeperError> {
        warn!("the keeper has died: ending what it kept");
        serving.connection.end(self.duty.lateness.max(Duration::from_secs(1))).await;
        let has_command = self.duty.command.is_some();
        let killed = async {
            if has_command {
                kill_all(serving.command.and_then(Pid::from_raw)).await;
            }
        };
        // In this order: the first signals are sent before anything is done with the file, and neither waits for the other.
        let ((), hidden) = join(killed, self.hide_file()).await;
        // Only now: nothing of the command may live when this ends, whatever becomes of the file.
        hidden?;
        drop(serving.connection);
        let restarts = self.duty.command.as_ref().is_none_or(|command| command.restarts);
        let killed = Finished::Ended(CommandStatus::Signal(Signal::KILL.as_raw()));
        Ok(match (serving.goal, serving.command) {
            (Some(Finished::Stopped), Some(_)) => Some(killed),
            (Some(goal), _) => Some(goal),
            (None, Some(_)) if !restarts && matches!(serving.phase, Phase::Withdrawing { .. }) => Some(Finished::Lost),
            (None, Some(_)) if !restarts => Some(killed),
            (None, _) => {
                // A machine that lets no keeper live is not made better by starting them without a pause.
                sleep(Duration::from_millis(200)).await;
                None
            }
        })
    }
}

impl Serving {
    async fn tell(&mut self, message: &ToKeeper) -> Result<(), Died> {
        if self.connection.tell(message).await { Ok(()) } else { Err(Died) }
    }

    async fn lead(&mut self, lead: Lead, turn: u64) -> Result<(), Died> {
        self.tell(&ToKeeper::Lead { until: until(lead.until), term: lead.term, turn }).await
    }

    /// Ends everything, and then returns this.
    async fn finish(&mut self, finished: Finished, grace: Duration, patience: Duration) -> Result<(), Died> {
        self.goal = Some(finished);
        self.withdraw(grace, patience).await
    }

    /// Ends everything that this keeper keeps, unless that is being done. If it takes longer, the keeper is as good as dead.
    async fn withdraw(&mut self, grace: Duration, patience: Duration) -> Result<(), Died> {
        let term = match self.phase {
            Phase::Withdrawing { .. } => return Ok(()),
            Phase::Leading { term } => term,
            Phase::Idle => None,
        };
        let patience = Instant::now() + patience;
        self.phase = Phase::Withdrawing { term, patience };
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.tell(&ToKeeper::Withdraw { grace }).await
    }

    /// What is being ended has no more time than this.
    async fn hurry(&mut self, grace: Duration, longest: Duration) -> Result<(), Died> {
        if let Phase::Withdrawing { patience, .. } = &mut self.phase {
            *patience = (*patience).min(Instant::now() + longest);
        }
        self.tell(&ToKeeper::Hurry { grace: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) }).await
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
