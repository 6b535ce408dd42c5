//! Who leads, at this very moment.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::clock::Clock;
use super::moment::Moment;

/// What a campaign has last learnt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whom the lock names, and until when that counts.
    pub holder: Option<(String, Moment)>,
    /// When the server last said so.
    pub confirmed: Option<Moment>,
    /// Until when this campaigner leads.
    pub leads_until: Option<Moment>,
    /// Why nothing is known, or nothing can be written.
    pub trouble: Option<String>,
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

/// Tells who leads. Every answer is made from the clock when it is asked for: a process that was paused, or whose campaign
/// starves, never claims leadership beyond its deadline.
#[derive(Clone, Debug)]
pub struct Leadership {
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) clock: Clock,
}

impl Leadership {
    /// Whether this campaigner leads at this moment.
    pub fn leads(&self) -> bool {
        self.left().is_some()
    }

    /// For how long it leads still, if nothing is renewed. `None`: it does not lead.
    pub fn left(&self) -> Option<Duration> {
        let until = self.standing.borrow().leads_until;
        let now = self.clock.moment();
        until.filter(|until| now < *until).map(|until| until - now)
    }

    /// Whom the lock names. `None`: nobody, or the lock was not read yet.
    pub fn holder(&self) -> Option<Holder> {
        let Standing { holder, confirmed, .. } = self.standing.borrow().clone();
        let (identity, counts_until) = holder?;
        let now = self.clock.moment();
        Some(Holder { identity, age: now - confirmed?, expired: now >= counts_until })
    }

    /// Why the campaign does not get on, if it does not: in one sentence, with what to do.
    pub fn trouble(&self) -> Option<String> {
        self.standing.borrow().trouble.clone()
    }

    /// Waits until something is learnt anew: another holder, a renewal, a trouble. `false`: the campaign is over.
    pub async fn changed(&mut self) -> bool {
        self.standing.changed().await.is_ok()
    }

    /// Waits until this campaigner leads. `false`: the campaign is over, and it never will.
    pub async fn gained(&mut self) -> bool {
        loop {
            self.standing.mark_unchanged();
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
            self.standing.mark_unchanged();
            let Some(left) = self.left() else { return };
            tokio::select! {
                learnt = self.standing.changed() => {
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
