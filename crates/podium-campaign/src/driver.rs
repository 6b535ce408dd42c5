//! The driver: carries out what the campaigner decides, one request at a time.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::action::{Action, LockResponse, Waits};
use super::campaigner::Campaigner;
use super::clock::{Clock, Moment};
use super::config::{CampaignConfig, InvalidConfig};
use super::leadership::{Leadership, LeadershipState};
use super::lock::{Lock, LockError};
use super::record::LeaderElectionRecord;

/// The campaign is over for good: the lock belongs to an Election, whose leader the controller elects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{lock} belongs to the Election {election}: its leader is not for campaigners to elect")]
pub struct Claimed {
    /// What was campaigned for.
    pub lock: String,
    /// The Election, by its name, or by its UID where the name is not told.
    pub election: String,
}

/// What a request was answered, when it was sent, and what it was to write.
struct Answered<O> {
    answer: Result<LockResponse<O>, LockError>,
    asked: Moment,
    wrote: Option<LeaderElectionRecord>,
}

/// How often a leader was to renew, since its process began: once for each request that was to keep the lead.
#[derive(Debug, Default)]
pub struct Renewals {
    /// It was renewed.
    pub succeeded: AtomicU64,
    /// It was not: refused, not answered, or the lock could not even be read after that.
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
    trouble: Option<String>,
    /// The last trouble is one that a person has to mend.
    denied: bool,
    has_twin: bool,
    is_succeeded: bool,
    /// Until then the API server wants to be left alone.
    held_off: Moment,
}

impl<L: Lock> Campaign<L> {
    /// A campaign that has not begun. Times are those of the machine's clocks.
    ///
    /// # Errors
    /// CampaignConfig that do not work: the field, and the remedy.
    pub fn new(lock: L, settings: CampaignConfig) -> Result<Self, InvalidConfig> {
        Self::with_clock(lock, settings, Clock::machine())
    }

    /// The same on other clocks.
    ///
    /// # Errors
    /// CampaignConfig that do not work: the field, and the remedy.
    pub fn with_clock(lock: L, settings: CampaignConfig, clock: Clock) -> Result<Self, InvalidConfig> {
        settings.validate()?;
        let state = watch::Sender::new(LeadershipState::default());
        Ok(Self {
            lock,
            clock,
            campaigner: Campaigner::new(settings, L::TICK),
            state,
            renewals: Arc::default(),
            trouble: None,
            denied: false,
            has_twin: false,
            is_succeeded: false,
            held_off: Moment::START,
        })
    }

    /// Tells those who listen to this sender. Somebody else goes on to tell them when an Election has claimed the lock: a lead
    /// that the Election left to this process is not interrupted meanwhile.
    pub fn publish_to(self, state: watch::Sender<LeadershipState>) -> Self {
        Self { state, is_succeeded: true, ..self }
    }

    /// Counts renewals here.
    pub fn count_renewals(self, renewals: Arc<Renewals>) -> Self {
        Self { renewals, ..self }
    }

    /// Tells who leads, now and while the campaign runs.
    pub fn leadership(&self) -> Leadership {
        Leadership::new(self.state.subscribe(), self.clock.clone())
    }

    /// Campaigns, leads, and campaigns again when leadership was lost, until `stop` completes; then releases the lock, if it
    /// is held. Everything that the leader does has to have ended when `stop` completes: somebody else leads right after.
    ///
    /// # Errors
    /// [`Claimed`]. Everything else is waited out, and told by [`Leadership::trouble`].
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Claimed> {
        let mut stop = pin!(stop);
        let mut stopped = false;
        let mut changes = self.lock.changes().fuse();
        loop {
            if !stopped && stop.as_mut().now_or_never().is_some() {
                self.resign(&mut stopped);
            }
            self.publish();
            let now = self.clock.moment();
            match self.held_off(self.campaigner.next(now, self.clock.wall()), now, stopped) {
                Action::Finish => break,
                Action::Wait(until) => tokio::select! {
                    () = &mut stop, if !stopped => self.resign(&mut stopped),
                    Some(seen) = changes.next() => self.campaigner.heard(seen, self.clock.moment()),
                    () = sleep(until - now) => {}
                },
                // A read that is not waited for does no harm.
                Action::Get => tokio::select! {
                    () = &mut stop, if !stopped => self.resign(&mut stopped),
                    answered = self.request(Action::Get, now) => self.take(answered),
                },
                // A write may be applied whether its answer is waited for or not, so it is.
                write => {
                    let answered = self.request(write, now).await;
                    self.take(answered);
                }
            }
        }
        match self.campaigner.claimed_by() {
            Some(election) => Err(Claimed { lock: self.lock.describe(), election: election.into() }),
            None => Ok(()),
        }
    }

    /// Campaigns until `stop` completes, and does `work` while it leads: begins it anew each time that leadership is gained,
    /// drops it when leadership is lost, and drops it before the lock is released. Work that completes is not begun again
    /// before leadership was lost and gained again.
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
            // Both are dropped by now.
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

    /// What is due, or to wait where the API server wants to be left alone. It costs at most the lead, which ends by itself; whoever
    /// is about to end releases the lock nevertheless, which spares the others a longer wait.
    fn held_off(&self, action: Action<L::Object>, now: Moment, stopped: bool) -> Action<L::Object> {
        match action {
            Action::Get | Action::Create(_) | Action::Update(..) if now < self.held_off && !stopped => {
                Action::Wait(self.held_off)
            }
            action => action,
        }
    }

    fn resign(&mut self, stopped: &mut bool) {
        *stopped = true;
        self.campaigner.resign(self.clock.moment());
    }

    /// One request.
    async fn request(&self, action: Action<L::Object>, asked: Moment) -> Answered<L::Object> {
        let patience = self.campaigner.patience(asked);
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
        let answer = answer.unwrap_or_else(|_| Err(LockError::Unknown("the API server did not answer in time".into())));
        Answered { answer, asked, wrote }
    }

    fn take(&mut self, Answered { answer, asked, wrote }: Answered<L::Object>) {
        let answer = answer.unwrap_or_else(|failure| self.fail(failure));
        let difference = match (&answer, &wrote) {
            (LockResponse::Written(seen), Some(record)) => seen.difference(record),
            _ => None,
        };
        if let Some(difference) = &difference {
            self.denied = true;
            self.complain(format!(
                "the API server stored something else than was written ({difference}): exempt this object from the admission \
                 policy or webhook that changes it"
            ));
        }
        if self.campaigner.leads(asked) {
            let count = match answer {
                LockResponse::Written(_) if difference.is_none() => Some(&self.renewals.succeeded),
                LockResponse::Written(_) | LockResponse::Refused | LockResponse::Unknown => Some(&self.renewals.failed),
                LockResponse::Read(_) => None,
            };
            count.map(|count| count.fetch_add(1, Ordering::Relaxed));
        }
        self.campaigner.answered(answer, asked, self.clock.moment(), wrote);
        self.look_for_twin();
        // A read alone mends nothing where it is the write that fails.
        if self.campaigner.gets_on() && self.trouble.take().is_some() {
            self.denied = false;
            info!("campaigning for the {} again", self.lock.describe());
        }
    }

    /// Says once that another process has the same identity.
    fn look_for_twin(&mut self) {
        if self.campaigner.has_twin() && !self.has_twin {
            warn!("{}", self.twin());
        }
        self.has_twin = self.campaigner.has_twin();
    }

    fn twin(&self) -> String {
        let (lock, identity) = (self.lock.describe(), self.campaigner.identity());
        format!("somebody else campaigns for the {lock} as {identity}, too: give each process an identity of its own")
    }

    fn waits_for(&self) -> Option<String> {
        let (lock, identity) = (self.lock.describe(), self.campaigner.identity());
        Some(match self.campaigner.waits(self.clock.moment())? {
            Waits::OwnName => format!(
                "the {lock} names {identity} already, and another process of this name may live: waiting until that has expired"
            ),
            Waits::Vanished => {
                format!("the {lock} was deleted or replaced, and its holder may lead: waiting for its duration")
            }
        })
    }

    fn fail(&mut self, failure: LockError) -> LockResponse<L::Object> {
        let (message, answer) = match failure {
            LockError::Conflict(message) => {
                debug!("{}: {message}", self.lock.describe());
                return LockResponse::Refused;
            }
            LockError::Denied(message) => {
                self.denied = true;
                (message, LockResponse::Refused)
            }
            LockError::Unknown(message) => (message, LockResponse::Unknown),
            LockError::Busy { message, after } => {
                self.held_off = self.clock.moment() + after;
                (message, LockResponse::Unknown)
            }
        };
        self.complain(message);
        answer
    }

    /// Logs each kind of trouble once, however often it is tried.
    fn complain(&mut self, message: String) {
        if self.trouble.as_ref() != Some(&message) {
            warn!("cannot campaign for the {}, trying again: {message}", self.lock.describe());
            self.trouble = Some(message);
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
            trouble: self.trouble.clone().or_else(|| self.has_twin.then(|| self.twin())),
            waits_for: self.waits_for(),
        };
        self.state.send_if_modified(|known| {
            let news = *known != state;
            *known = state;
            news
        });
    }
}
