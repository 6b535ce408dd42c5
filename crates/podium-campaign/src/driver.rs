//! The driver: carries out the actions of the campaigner, one request at a time.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::action::{Action, LockResponse, WaitReason};
use super::campaigner::Campaigner;
use super::clock::{Clock, Moment};
use super::config::{CampaignConfig, InvalidConfig};
use super::leadership::{Leadership, LeadershipState};
use super::lock::{Lock, LockError};
use super::nomination::{Nomination, Nominations};
use super::record::LeaderElectionRecord;

/// Completes when the nomination changes.
async fn changed(nominations: &mut Option<Nominations>) {
    match nominations {
        Some(nominations) => nominations.changed().await,
        None => std::future::pending().await,
    }
}

/// The campaign is over: an Election has claimed the lock, and the controller elects its leader.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{lock} belongs to the Election {election}, whose controller elects the leader")]
pub struct Claimed {
    /// Kind, namespace and name of the lock.
    pub lock: String,
    /// The name of the Election, or its UID if the name is unknown.
    pub election: String,
}

/// A request that was answered or timed out.
struct Completed<O> {
    answer: Result<LockResponse<O>, LockError>,
    asked: Moment,
    wrote: Option<LeaderElectionRecord>,
}

/// Renewals by this process while it led: one for each request that was to keep the lead.
#[derive(Debug, Default)]
pub struct Renewals {
    /// Renewals that succeeded.
    pub succeeded: AtomicU64,
    /// Renewals that failed: rejected or not answered, and reads after that which failed.
    pub failed: AtomicU64,
}

/// A campaign for one lock. See the [module](super).
#[derive(Debug)]
pub struct Campaign<L: Lock> {
    lock: L,
    clock: Clock,
    campaigner: Campaigner<L::Object>,
    state: watch::Sender<LeadershipState>,
    renewals: Arc<Renewals>,
    nominations: Option<Nominations>,
    problem: Option<String>,
    /// The last problem needs a person.
    denied: bool,
    has_duplicate: bool,
    is_succeeded: bool,
    /// The end of the pause that the API server asked for.
    paused_until: Moment,
}

impl<L: Lock> Campaign<L> {
    /// Returns a campaign on the machine's clocks.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn new(lock: L, settings: CampaignConfig) -> Result<Self, InvalidConfig> {
        Self::with_clock(lock, settings, Clock::machine())
    }

    /// Returns a campaign on other clocks.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn with_clock(lock: L, settings: CampaignConfig, clock: Clock) -> Result<Self, InvalidConfig> {
        settings.validate()?;
        let state = watch::Sender::new(LeadershipState::default());
        Ok(Self {
            lock,
            clock,
            campaigner: Campaigner::new(settings, L::TICK),
            state,
            renewals: Arc::default(),
            nominations: None,
            problem: None,
            denied: false,
            has_duplicate: false,
            is_succeeded: false,
            paused_until: Moment::START,
        })
    }

    /// Publishes observations on this channel. The caller publishes there, too, once an Election has claimed the lock: if the Election
    /// keeps this process as its leader, the lead is not interrupted in between.
    pub fn publish_to(self, state: watch::Sender<LeadershipState>) -> Self {
        Self { state, is_succeeded: true, ..self }
    }

    /// Counts renewals in these counters.
    pub fn count_renewals(self, renewals: Arc<Renewals>) -> Self {
        Self { renewals, ..self }
    }

    /// Acquires the lock only while these nominate this process. See [`CampaignConfig::nominated`].
    pub fn nominated_by(self, nominations: Nominations) -> Self {
        Self { nominations: Some(nominations), ..self }
    }

    /// Returns the leadership, which follows the campaign.
    pub fn leadership(&self) -> Leadership {
        Leadership::new(self.state.subscribe(), self.clock.clone())
    }

    /// Campaigns, leads, and campaigns again after leadership was lost, until `stop` completes; then releases the lock. All work of the
    /// leader must have ended when `stop` completes, because another process may lead right after.
    ///
    /// # Errors
    /// [`Claimed`]. The campaign retries after all other errors, and reports them by [`Leadership::problem`].
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Claimed> {
        let mut stop = pin!(stop);
        let mut stopped = false;
        let mut changes = self.lock.changes().fuse();
        loop {
            if !stopped && stop.as_mut().now_or_never().is_some() {
                self.resign(&mut stopped);
            }
            self.follow_nomination();
            self.publish();
            let now = self.clock.moment();
            match self.or_pause(self.campaigner.next(now, self.clock.wall()), now, stopped) {
                Action::Finish => break,
                Action::Wait(until) => tokio::select! {
                    () = &mut stop, if !stopped => self.resign(&mut stopped),
                    Some(seen) = changes.next() => self.campaigner.on_change(seen, self.clock.moment()),
                    () = changed(&mut self.nominations) => {}
                    () = sleep(until - now) => {}
                },
                // A read can be dropped.
                Action::Get => tokio::select! {
                    () = &mut stop, if !stopped => self.resign(&mut stopped),
                    completed = self.request(Action::Get, now) => self.handle(completed),
                },
                // A write may be applied even if its response is not awaited, so it is awaited.
                write => {
                    let completed = self.request(write, now).await;
                    self.handle(completed);
                }
            }
        }
        match self.campaigner.claimed_by() {
            Some(election) => Err(Claimed { lock: self.lock.describe(), election: election.into() }),
            None => Ok(()),
        }
    }

    /// Campaigns until `stop` completes, and does `work` while it leads: starts it each time that leadership is gained, drops it when
    /// leadership is lost, and before the lock is released. Work that completes is started again only after leadership was lost and
    /// gained again.
    ///
    /// # Errors
    /// As [`Campaign::run`].
    pub async fn lead<F: Future<Output = ()>>(
        self,
        mut work: impl FnMut() -> F,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Claimed> {
        let mut leadership = self.leadership();
        let (stopped, dropped) = tokio::sync::oneshot::channel::<()>();
        let working = async move {
            let leading = async {
                while leadership.gained().await {
                    leadership.during(work()).await;
                    leadership.lost().await;
                }
                std::future::pending::<()>().await
            };
            tokio::select! {
                () = stop => {}
                () = leading => {}
            }
            // Both are dropped here.
            drop(stopped);
            std::future::pending::<()>().await
        };
        let campaign = self.run(async {
            // The sender is dropped, never used.
            let _ = dropped.await;
        });
        tokio::select! {
            ended = campaign => ended,
            () = working => Ok(()),
        }
    }

    /// Replaces a request by a wait during the pause that the API server asked for. That may cost the lead, which ends by itself. A
    /// release is sent anyway, because it spares the others a longer wait.
    fn or_pause(&self, action: Action<L::Object>, now: Moment, stopped: bool) -> Action<L::Object> {
        match action {
            Action::Get | Action::Create(_) | Action::Update(..) if now < self.paused_until && !stopped => {
                Action::Wait(self.paused_until)
            }
            action => action,
        }
    }

    /// Tells the campaigner the last nomination, and asks for another one if the lead waits for it.
    fn follow_nomination(&mut self) {
        let Some(nominations) = &mut self.nominations else { return };
        if let Some(Nomination { is_nominated, asked }) = *nominations.nomination.borrow_and_update() {
            self.campaigner.nominate(is_nominated, asked);
        }
        self.campaigner.set_works(*nominations.works.borrow_and_update());
        if self.campaigner.wants_nomination(self.clock.moment()) {
            nominations.wanted.notify_one();
        }
    }

    fn resign(&mut self, stopped: &mut bool) {
        *stopped = true;
        self.campaigner.resign(self.clock.moment());
    }

    /// Sends one request.
    async fn request(&self, action: Action<L::Object>, asked: Moment) -> Completed<L::Object> {
        let patience = self.campaigner.request_timeout(asked);
        let wrote = match &action {
            Action::Create(record) | Action::Update(_, record) => Some(record.clone()),
            _ => None,
        };
        let request = async {
            match action {
                Action::Create(record) => self.lock.create(record).await.map(LockResponse::Written),
                Action::Update(seen, record) => self.lock.update(*seen, record).await.map(LockResponse::Written),
                _ => self.lock.get().await.map(LockResponse::Read),
            }
        };
        let answer = timeout(patience, request).await;
        let answer = answer.unwrap_or_else(|_| Err(LockError::Unknown("the API server did not respond in time".into())));
        Completed { answer, asked, wrote }
    }

    fn handle(&mut self, Completed { answer, asked, wrote }: Completed<L::Object>) {
        let answer = answer.unwrap_or_else(|failure| self.classify(failure));
        let difference = match (&answer, &wrote) {
            (LockResponse::Written(seen), Some(record)) => seen.difference(record),
            _ => None,
        };
        if let Some(difference) = &difference {
            self.denied = true;
            self.warn_once(format!(
                "the API server stored an altered record ({difference}): exempt this object from the admission policy or webhook \
                 that alters it"
            ));
        }
        if self.campaigner.leads(asked) {
            let count = match answer {
                LockResponse::Written(_) if difference.is_none() => Some(&self.renewals.succeeded),
                LockResponse::Written(_) | LockResponse::Rejected | LockResponse::Unknown => Some(&self.renewals.failed),
                LockResponse::Read(_) => None,
            };
            count.map(|count| count.fetch_add(1, Ordering::Relaxed));
        }
        self.campaigner.on_response(answer, asked, self.clock.moment(), wrote);
        self.check_duplicate();
        // A successful read is no recovery while writes fail.
        if self.campaigner.is_unhindered() && self.problem.take().is_some() {
            self.denied = false;
            info!("campaigning for the {} again", self.lock.describe());
        }
    }

    /// Logs once that another process has the same identity.
    fn check_duplicate(&mut self) {
        if self.campaigner.has_duplicate() && !self.has_duplicate {
            warn!("{}", self.duplicate());
        }
        self.has_duplicate = self.campaigner.has_duplicate();
    }

    fn duplicate(&self) -> String {
        let (lock, identity) = (self.lock.describe(), self.campaigner.identity());
        format!("another process campaigns for the {lock} as {identity}: give each process its own identity")
    }

    fn waits_for(&self) -> Option<String> {
        let (lock, identity) = (self.lock.describe(), self.campaigner.identity());
        Some(match self.campaigner.wait_reason(self.clock.moment())? {
            WaitReason::OwnName => format!(
                "the {lock} already names {identity}, and another process of this name may live: waiting until it expires"
            ),
            WaitReason::Vanished => {
                format!("the {lock} was deleted or replaced, and its holder may lead: waiting for its lease duration")
            }
        })
    }

    fn classify(&mut self, failure: LockError) -> LockResponse<L::Object> {
        let (message, answer) = match failure {
            LockError::Conflict(message) => {
                debug!("{}: {message}", self.lock.describe());
                return LockResponse::Rejected;
            }
            LockError::Denied(message) => {
                self.denied = true;
                (message, LockResponse::Rejected)
            }
            LockError::Unknown(message) => (message, LockResponse::Unknown),
            LockError::Busy { message, after } => {
                self.paused_until = self.clock.moment() + after;
                (message, LockResponse::Unknown)
            }
        };
        self.warn_once(message);
        answer
    }

    /// Logs each problem once while it lasts.
    fn warn_once(&mut self, message: String) {
        if self.problem.as_ref() != Some(&message) {
            warn!("cannot campaign for the {}, retrying: {message}", self.lock.describe());
            self.problem = Some(message);
        }
    }

    fn publish(&self) {
        if self.is_succeeded && self.campaigner.is_adopted() {
            return;
        }
        let state = LeadershipState {
            holder: self.campaigner.holder().map(|(identity, until)| (identity.to_owned(), until)),
            confirmed: self.campaigner.confirmed(),
            leads_until: self.campaigner.leads_until(),
            term: self.campaigner.term(),
            since: self.campaigner.acquired(),
            denied: self.denied,
            problem: self.problem.clone().or_else(|| self.has_duplicate.then(|| self.duplicate())),
            waits_for: self.waits_for(),
        };
        self.state.send_if_modified(|known| {
            let is_new = *known != state;
            *known = state;
            is_new
        });
    }
}
