//! Who leads, at this very moment.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;

use super::clock::{Clock, Moment};

/// What whoever watches a lock has last learnt: a campaign, or one who only follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeadershipState {
    /// Whom the lock names, and until when that counts.
    pub holder: Option<(String, Moment)>,
    /// When the server last said so.
    pub confirmed: Option<Moment>,
    /// Until when this process leads.
    pub leads_until: Option<Moment>,
    /// The term of the leader, where it is known.
    pub term: Option<u64>,
    /// When the leader's term began, by the leader's clock.
    pub since: Option<Timestamp>,
    /// Why nothing is known, or nothing can be written.
    pub trouble: Option<String>,
    /// The API server denies what the campaign needs, and will until a person acts.
    pub denied: bool,
    /// What has to happen before this process can lead, if it is not that somebody else leads.
    pub waits_for: Option<String>,
}

/// Whom the lock names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its identity.
    pub identity: String,
    /// How old the server's word about it is.
    pub age: Duration,
    /// Whether it was last seen renewing too long ago: it must have stopped leading.
    pub expired: bool,
}

/// To be the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// Until when, if nothing is renewed. [`Moment::NEVER`]: until somebody else is elected.
    pub until: Moment,
    /// The term, a fencing token: it is larger than that of every leader before. `None`: the lock has no revisions that are
    /// integers.
    pub term: Option<u64>,
}

/// Tells who leads. Every answer is made from the clock when it is asked for: a process that was paused, or whose campaign
/// starves, never claims leadership beyond its deadline.
#[derive(Clone, Debug)]
pub struct Leadership {
    state: watch::Receiver<LeadershipState>,
    clock: Clock,
}

impl Leadership {
    /// Returns the leadership that this channel describes, by this clock.
    pub fn new(state: watch::Receiver<LeadershipState>, clock: Clock) -> Self {
        Self { state, clock }
    }

    /// Whether this campaigner leads at this moment.
    pub fn leads(&self) -> bool {
        self.left().is_some()
    }

    /// For how long it leads still, if nothing is renewed. `None`: it does not lead.
    pub fn left(&self) -> Option<Duration> {
        self.lead().map(|lead| lead.until - self.clock.moment())
    }

    /// Its lead at this moment. `None`: it does not lead.
    pub fn lead(&self) -> Option<Lead> {
        let (leads_until, term) = {
            let state = self.state.borrow();
            (state.leads_until, state.term)
        };
        let now = self.clock.moment();
        leads_until.filter(|until| now < *until).map(|until| Lead { until, term })
    }

    /// All that is known, and the moment at which it is looked at.
    pub fn look(&self) -> (LeadershipState, Moment) {
        let state = self.state.borrow().clone();
        // In this order: what was learnt does not count longer because the clock was read before.
        (state, self.clock.moment())
    }

    /// The term of the leader. `None`: nobody leads, or the leader is somebody else who alone knows it.
    pub fn term(&self) -> Option<u64> {
        self.state.borrow().term
    }

    /// When the leader's term began, by the clock of whoever began it.
    pub fn since(&self) -> Option<Timestamp> {
        self.state.borrow().since
    }

    /// Whom the lock names. `None`: nobody, or the lock was not read yet.
    pub fn holder(&self) -> Option<Holder> {
        let LeadershipState { holder, confirmed, .. } = self.state.borrow().clone();
        let (identity, counts_until) = holder?;
        let now = self.clock.moment();
        Some(Holder { identity, age: now - confirmed?, expired: now >= counts_until })
    }

    /// Why the campaign does not get on, if it does not: in one sentence, with what to do.
    pub fn trouble(&self) -> Option<String> {
        self.state.borrow().trouble.clone()
    }

    /// Whether the API server denies what the campaign needs, so that it cannot get on before a person acts.
    pub fn is_denied(&self) -> bool {
        self.state.borrow().denied
    }

    /// Waits until something is learnt anew: another holder, a renewal, a trouble. `false`: the campaign is over.
    pub async fn changed(&mut self) -> bool {
        self.state.changed().await.is_ok()
    }

    /// Waits until this campaigner leads. `false`: the campaign is over, and it never will.
    pub async fn gained(&mut self) -> bool {
        loop {
            self.state.mark_unchanged();
            if self.leads() {
                return true;
            }
            if !self.changed().await {
                return self.leads();
            }
        }
    }

    /// Waits until this campaigner does not lead.
    pub async fn lost(&mut self) {
        loop {
            self.state.mark_unchanged();
            let Some(left) = self.left() else { return };
            tokio::select! {
                learnt = self.state.changed() => {
                    if learnt.is_err() {
                        // Nobody renews any more, and what was won stays won until its deadline.
                        sleep(left).await;
                    }
                }
                () = sleep(left) => {}
            }
        }
    }

    /// Does this work as long as this campaigner leads, and drops it when it does not: at the latest the next time that it
    /// would be polled after the deadline. `None`: it was dropped.
    ///
    /// Work that blocks its thread, or that goes on elsewhere, is not stopped: let it ask [`Leadership::leads`].
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut follower = self.clone();
        let (mut lost, mut work) = (pin!(follower.lost()), pin!(work));
        poll_fn(|context| {
            // By the clock first: timers stand still while the machine is suspended.
            if !self.leads() || lost.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
        .await
    }
}
