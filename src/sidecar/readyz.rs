//! The readiness of this process at any moment, and the checks of its command.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join;
use podium_campaign::{Clock, Moment};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::readiness::{Readiness, Role, State, Verdict};
use super::ready_url::{ReadyUrl, UrlCheck};
use super::view::View;
use crate::sync;
use crate::watchdog::CommandMonitor;

/// How `/readyz` decides whether the command of a leader is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadinessOptions {
    /// The check of the command. `None`: it is ready while it runs.
    pub check: Option<ReadyCheck>,
    /// The time after the start of the command in which it is ready without a successful check.
    pub startup_timeout: Duration,
    /// The time between the beginnings of two checks.
    pub interval: Duration,
    /// The time after which a check has failed.
    pub timeout: Duration,
}

/// A check of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyCheck {
    /// The URL answers 200 to 399.
    Url(ReadyUrl),
    /// This script, run by `sh -c`, exits with 0.
    Command(Vec<u8>),
}

/// A check, with what it keeps from one time to the next.
enum Check {
    Url(UrlCheck),
    Command(Vec<u8>),
}

impl Check {
    fn new(check: ReadyCheck) -> Self {
        match check {
            ReadyCheck::Url(url) => Self::Url(UrlCheck::new(url)),
            ReadyCheck::Command(script) => Self::Command(script),
        }
    }

    async fn run(&mut self, monitor: &CommandMonitor, limit: Duration) -> Result<(), String> {
        match self {
            Self::Url(url) => match timeout(limit, url.run()).await {
                Ok(result) => result,
                Err(_) => Err(format!("no answer within {limit:?}")),
            },
            Self::Command(script) => monitor.check(script, limit).await,
        }
    }
}

/// Returns the readiness at any moment. It is computed on each call from the clock and the state of the command.
#[derive(Clone, Debug)]
pub(super) struct Readyz {
    readiness: Arc<Mutex<Readiness>>,
    monitor: CommandMonitor,
    view: View,
    clock: Clock,
    /// Notified of results of checks.
    checked: Arc<Notify>,
}

impl Readyz {
    /// Returns the readiness of the command that this monitor observes.
    pub fn new(options: &ReadinessOptions, monitor: CommandMonitor, view: View, clock: Clock) -> Self {
        let readiness = Readiness::new(options.startup_timeout, options.check.is_some());
        Self { readiness: Arc::new(Mutex::new(readiness)), monitor, view, clock, checked: Arc::default() }
    }

    /// Returns the readiness at this moment.
    pub fn verdict(&self) -> Verdict {
        self.up_to_date(|readiness, now| readiness.verdict(self.role(), now))
    }

    fn role(&self) -> Role {
        if self.view.is_withdrawn() {
            Role::ShuttingDown
        } else if self.view.leader().is_leader {
            Role::Leader
        } else {
            Role::Standby
        }
    }

    fn up_to_date<T>(&self, ask: impl FnOnce(&mut Readiness, Moment) -> T) -> T {
        let now = self.clock.moment();
        let mut readiness = sync::lock(&self.readiness);
        readiness.observe(self.monitor.state(), now);
        ask(&mut readiness, now)
    }

    /// Checks the command while it runs, and logs each change of its readiness.
    pub async fn run(self, options: ReadinessOptions) -> Infallible {
        join(self.clone().log_changes(), self.check_while_running(options)).await.0
    }

    /// Checks the command while it runs. At most one check runs at a time.
    async fn check_while_running(mut self, options: ReadinessOptions) -> Infallible {
        let ReadinessOptions { check, startup_timeout: _, interval, timeout: limit } = options;
        let Some(check) = check else { return std::future::pending().await };
        let mut check = Check::new(check);
        let mut monitor = self.monitor.clone();
        loop {
            let state = monitor.state();
            let Some(run) = self.up_to_date(|readiness, _| readiness.check_due()) else {
                monitor.differs_from(state).await;
                continue;
            };
            let begun = Instant::now();
            tokio::select! {
                result = check.run(&self.monitor, limit) => self.store(run, result),
                () = monitor.differs_from(state) => continue,
            }
            tokio::select! {
                () = sleep_until(begun + interval) => {}
                () = monitor.differs_from(state) => {}
            }
        }
    }

    fn store(&mut self, run: u64, result: Result<(), String>) {
        if let Err(why) = &result {
            debug!("the command is not ready: {why}");
        }
        self.up_to_date(|readiness, _| readiness.checked(run, result));
        self.checked.notify_one();
    }

    async fn log_changes(mut self) -> Infallible {
        let mut logged = State::Standby;
        loop {
            let command = self.monitor.state();
            let Verdict { state, line } = self.verdict();
            if state != logged {
                match state {
                    State::NotReady => warn!("/readyz answers 503: {line}"),
                    State::Stopping => info!("/readyz answers 503: {line}"),
                    State::Standby | State::Starting | State::Ready => info!("/readyz answers 200: {line}"),
                }
                logged = state;
            }
            let ends =
                self.up_to_date(|readiness, now| readiness.startup_ends().filter(|end| *end > now).map(|end| end - now));
            let startup_ends = async {
                match ends {
                    Some(left) => sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.checked.notified() => {}
                () = self.monitor.differs_from(command) => {}
                () = self.view.changed() => {}
                () = startup_ends => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use hyper::StatusCode;
    use podium_campaign::{Leadership, LeadershipState};
    use tokio::sync::watch;

    use super::*;
    use crate::http::{Server, text};
    use crate::watchdog::{CommandPhase, CommandReporter, CommandState, command_monitor};

    const LIMIT: Duration = Duration::from_secs(30);

    /// The readiness of a leader whose command runs, with this check every 5 ms.
    fn leader(check: ReadyCheck) -> (Readyz, CommandReporter, tokio::task::JoinSet<()>) {
        let state = LeadershipState { leads_until: Some(Moment::NEVER), ..LeadershipState::default() };
        let view = View::new("web-0", Leadership::new(watch::channel(state).1, Clock::machine()), None);
        let (monitor, reporter) = command_monitor();
        let interval = Duration::from_millis(5);
        let options = ReadinessOptions { check: Some(check), startup_timeout: LIMIT * 10, interval, timeout: LIMIT };
        let readyz = Readyz::new(&options, monitor, view, Clock::machine());
        let (running, mut tasks) = (readyz.clone(), tokio::task::JoinSet::new());
        tasks.spawn(async move { match running.run(options).await {} });
        (readyz, reporter, tasks)
    }

    async fn becomes(readyz: &Readyz, state: State) -> Verdict {
        let reached = async {
            loop {
                let verdict = readyz.verdict();
                if verdict.state == state {
                    return verdict;
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LIMIT, reached).await.unwrap_or_else(|_| panic!("{state:?}, not {:?}", readyz.verdict()))
    }

    fn phase(phase: CommandPhase) -> CommandState {
        CommandState { phase, run: 1 }
    }

    #[tokio::test]
    async fn readiness_follows_the_answers_of_the_command() {
        let code = Arc::new(AtomicU16::new(500));
        let server = Server::bind("localhost:0").await.unwrap();
        let url = format!("http://localhost:{}/healthz", server.address().port());
        let (readyz, reporter, mut tasks) = leader(ReadyCheck::Url(url.parse().unwrap()));
        let answered = code.clone();
        tasks.spawn(async move {
            let answer = move |_, _| {
                let code = StatusCode::from_u16(answered.load(Ordering::SeqCst)).unwrap();
                async move { text(code, "") }
            };
            match server.serve(answer).await {}
        });
        assert_eq!(readyz.verdict().line, "leader: the command has not started yet");
        reporter.report(phase(CommandPhase::Running));
        assert_eq!(becomes(&readyz, State::Starting).await.line, "leader: the command is starting: no check has ended");
        for (next, state) in [(200, State::Ready), (404, State::NotReady), (302, State::Ready)] {
            code.store(next, Ordering::SeqCst);
            becomes(&readyz, state).await;
        }
        reporter.report(phase(CommandPhase::Stopping));
        assert_eq!(readyz.verdict().state, State::Stopping);
        reporter.report(phase(CommandPhase::Absent));
        readyz.view.withdraw();
        assert_eq!(readyz.verdict().line, "stopping: podium is shutting down");
    }

    #[tokio::test]
    async fn next_check_waits_for_the_end_of_the_one_before() {
        let (readyz, mut reporter, _tasks) = leader(ReadyCheck::Command(b"check".to_vec()));
        reporter.report(phase(CommandPhase::Running));
        let first = reporter.next_check().await.unwrap();
        assert_eq!((first.script.as_slice(), first.timeout), (&b"check"[..], LIMIT));
        let early = timeout(Duration::from_millis(50), reporter.next_check()).await;
        assert!(early.is_err(), "ten intervals, and no second check: {early:?}");
        first.answer.send(Ok(())).unwrap();
        becomes(&readyz, State::Ready).await;
        reporter.next_check().await.unwrap().answer.send(Err("no luck".into())).unwrap();
        assert_eq!(becomes(&readyz, State::NotReady).await.line, "leader: the command is not ready: no luck");
        // A check of a command that is being stopped is given up.
        let mut last = reporter.next_check().await.unwrap();
        reporter.report(phase(CommandPhase::Stopping));
        timeout(LIMIT, last.answer.closed()).await.unwrap();
    }
}
