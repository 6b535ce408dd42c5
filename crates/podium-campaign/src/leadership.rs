//! The leader at this moment.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;

use super::clock::{Clock, Moment};

/// The last observation of a lock, by a campaign or a follower.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeadershipState {
    /// The holder, and when it expires.
    pub holder: Option<(String, Moment)>,
    /// When the last read or write succeeded.
    pub confirmed: Option<Moment>,
    /// The end of the lead of this process.
    pub leads_until: Option<Moment>,
    /// The term of the leader, if known.
    pub term: Option<u64>,
    /// When the term began, by the leader's clock.
    pub since: Option<Timestamp>,
    /// The error of the last read or write, with its remedy.
    pub problem: Option<String>,
    /// The API server denies a request that the campaign needs, until a person acts.
    pub denied: bool,
    /// The reason to wait, other than that another process leads.
    pub waits_for: Option<String>,
}

/// The holder of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its identity.
    pub identity: String,
    /// The age of the information.
    pub age: Duration,
    /// It has not renewed in time, so it has stopped leading.
    pub expired: bool,
}

/// The lead of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// Its end, unless it is renewed. [`Moment::NEVER`]: until another leader is elected.
    pub until: Moment,
    /// The term, a fencing token: larger than that of every earlier leader. `None`: the lock's revisions are no integers.
    pub term: Option<u64>,
}

/// Returns the leader. Each call reads the clock, so a process that was paused, or whose campaign starves, never claims to lead beyond
/// its deadline.
#[derive(Clone, Debug)]
pub struct Leadership {
    state: watch::Receiver<LeadershipState>,
    clock: Clock,
}

impl Leadership {
    /// Returns the leadership that another component publishes on this channel.
    pub fn new(state: watch::Receiver<LeadershipState>, clock: Clock) -> Self {
        Self { state, clock }
    }

    /// Returns whether this process leads at this moment.
    pub fn leads(&self) -> bool {
        self.remaining().is_some()
    }

    /// Returns the time until the lead ends, unless it is renewed. `None`: this process does not lead.
    pub fn remaining(&self) -> Option<Duration> {
        self.lead().map(|lead| lead.until - self.clock.moment())
    }

    /// Returns the lead at this moment. `None`: this process does not lead.
    pub fn lead(&self) -> Option<Lead> {
        let (leads_until, term) = {
            let state = self.state.borrow();
            (state.leads_until, state.term)
        };
        let now = self.clock.moment();
        leads_until.filter(|until| now < *until).map(|until| Lead { until, term })
    }

    /// Returns the last observation and the present moment.
    pub fn snapshot(&self) -> (LeadershipState, Moment) {
        let state = self.state.borrow().clone();
        // In this order: otherwise an observation could count longer than it may.
        (state, self.clock.moment())
    }

    /// Returns the term of the leader. `None`: there is no leader, or only the leader knows its term.
    pub fn term(&self) -> Option<u64> {
        self.state.borrow().term
    }

    /// Returns when the term began, by the clock of the process that began it.
    pub fn since(&self) -> Option<Timestamp> {
        self.state.borrow().since
    }

    /// Returns the holder. `None`: the lock is free, or was not read yet.
    pub fn holder(&self) -> Option<Holder> {
        let LeadershipState { holder, confirmed, .. } = self.state.borrow().clone();
        let (identity, counts_until) = holder?;
        let now = self.clock.moment();
        Some(Holder { identity, age: now - confirmed?, expired: now >= counts_until })
    }

    /// Returns the problem of the campaign, with its remedy.
    pub fn problem(&self) -> Option<String> {
        self.state.borrow().problem.clone()
    }

    /// Returns whether the API server denies a request that the campaign needs, until a person acts.
    pub fn is_denied(&self) -> bool {
        self.state.borrow().denied
    }

    /// Waits for a change: another holder, a renewal, a problem. `false`: the campaign is over.
    pub async fn changed(&mut self) -> bool {
        self.state.changed().await.is_ok()
    }

    /// Waits until this process leads. `false`: the campaign is over.
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

    /// Waits until this process does not lead.
    pub async fn lost(&mut self) {
        loop {
            self.state.mark_unchanged();
            let Some(left) = self.remaining() else { return };
            tokio::select! {
                changed = self.state.changed() => {
                    if changed.is_err() {
                        // The campaign is over, and the lead lasts until its deadline.
                        sleep(left).await;
                    }
                }
                () = sleep(left) => {}
            }
        }
    }

    /// Runs this future while this process leads, and drops it when the lead ends: at the latest when it would next be polled after the
    /// deadline. `None`: it was dropped.
    ///
    /// This does not stop work that blocks its thread, or that runs elsewhere: such work must check [`Leadership::leads`].
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut follower = self.clone();
        let (mut lost, mut work) = (pin!(follower.lost()), pin!(work));
        poll_fn(|context| {
            // The clock first: timers do not count the time that the machine is suspended.
            if !self.leads() || lost.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
        .await
    }
}
