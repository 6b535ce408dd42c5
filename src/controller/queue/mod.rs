//! Work queue with a time for each key. It runs one piece of work per key at a time and limits how many run at once.
//!
//! Keys belong to groups, here namespaces. Due groups take turns, and within a group the earliest key comes first. So one
//! failed leader does not wait behind a thousand of another namespace. [`Shares`] keeps slots free while all writes in other
//! namespaces hang.
//!
//! The order is deterministic, so that simulations replay exactly: kube's own scheduler uses hash maps with random seeds. Each
//! failing key has a backoff of its own.

mod shares;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::key::Key;
use crate::sync;
use state::{Phase, State};

pub use shares::Shares;

/// The first and the longest backoff.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(15));

/// A key that belongs to a group.
pub trait Grouped {
    /// Returns the group, which takes turns with others.
    fn group(&self) -> &str;
}

impl Grouped for Key {
    fn group(&self) -> &str {
        &self.namespace
    }
}

/// Keys of a group in one turn. Elections of a namespace that start together share their requests to the API server.
const TURN: usize = 16;

/// Work that takes longer is slow and loses its slot, so that others can start. Its group starts less meanwhile, after the
/// other groups. There may be [`SLOW_PER_SLOT`] times as many slow pieces of work as slots.
const SLOW: Duration = Duration::from_secs(2);
const SLOW_PER_SLOT: usize = 8;

/// A work queue.
#[derive(Debug)]
pub struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

/// How a piece of work ended, and when it is due again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// When the key is added again.
    Done,
    /// At this time, or earlier if the key is added.
    Requeue(Instant),
    /// After an exponential backoff, or earlier if the key is added after the end.
    Backoff,
    /// After an exponential backoff, whatever is added: the work itself may cause the additions.
    StrictBackoff,
    /// At this time and not before, whatever is added.
    RetryAfter(Instant),
}

impl<K: Clone + Ord + std::hash::Hash + Grouped> Queue<K> {
    /// Returns a closed queue with so many slots. Up to `yielded` more pieces of work may run after they yielded their slots.
    pub fn new(slots: usize, yielded: usize) -> Self {
        Self { state: Mutex::new(State::new(slots, slots * SLOW_PER_SLOT, yielded)), changed: Notify::new() }
    }

    /// Adds the key at this time, or moves it there if it is due later. Does nothing while the queue is closed.
    pub fn add(&self, key: K, at: Instant) {
        self.lock().add(key, at);
        self.changed.notify_one();
    }

    /// Waits for the next due key, and returns it with the time at which it became due. `None`: the queue is closed.
    pub async fn next(&self) -> Option<(K, Instant)> {
        loop {
            let changed = self.changed.notified();
            let first = {
                let mut state = self.lock();
                if state.closed {
                    return None;
                }
                let now = Instant::now();
                state.sort(now);
                state.demote_slow(now);
                if let Some(taken) = state.take(now) {
                    if !state.turns.is_empty() || !state.scheduled.is_empty() {
                        self.changed.notify_one();
                    }
                    return Some(taken);
                }
                state.next_change(now)
            };
            match first {
                // Biased, so that a simulation replays.
                Some(at) => tokio::select! { biased; () = changed => {}, () = sleep_until(at) => {} },
                None => changed.await,
            }
        }
    }

    /// Returns the number of due keys that do not run yet.
    pub fn depth(&self) -> usize {
        let now = Instant::now();
        let state = self.lock();
        state.due.values().map(BTreeMap::len).sum::<usize>() + state.scheduled.range(..=(now, u64::MAX)).count()
    }

    /// Ends the work on a key that [`Queue::next`] returned.
    pub fn finish(&self, key: K, outcome: Outcome) {
        let mut state = self.lock();
        state.end(&key);
        let added = state.added_meanwhile.remove(&key);
        let failures = match outcome {
            Outcome::Backoff | Outcome::StrictBackoff => {
                state.failures.get(&key).map_or(1, |failures| failures.saturating_add(1))
            }
            // The API server set the delay, so this counts as no failure.
            Outcome::RetryAfter(_) => state.failures.get(&key).copied().unwrap_or(0),
            Outcome::Done | Outcome::Requeue(_) => 0,
        };
        let own = match outcome {
            Outcome::Done => None,
            Outcome::Requeue(at) | Outcome::RetryAfter(at) => Some(at),
            Outcome::Backoff | Outcome::StrictBackoff => Some(Instant::now() + backoff(failures)),
        };
        if failures == 0 || state.closed {
            state.failures.remove(&key);
        } else {
            state.failures.insert(key.clone(), failures);
        }
        if let (Outcome::StrictBackoff | Outcome::RetryAfter(_), Some(at), false) = (outcome, own, state.closed) {
            state.not_before.insert(key.clone(), at);
        }
        // Keys added during failed work do not shorten the delay.
        let succeeded = matches!(outcome, Outcome::Done | Outcome::Requeue(_));
        let at = if succeeded { added.into_iter().chain(own).min() } else { own };
        if let Some(at) = at {
            state.add(key, at);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Gives the slot of running work to others, until [`Queue::reclaim_slot`].
    pub fn yield_slot(&self, key: &K) {
        let mut state = self.lock();
        state.release(key);
        if let Some(phase) = state.running.get_mut(key) {
            *phase = Phase::Yielded;
        }
        state.grant_reclaims(Instant::now());
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for a slot again, before work that has not started.
    pub async fn reclaim_slot(&self, key: &K) {
        let granted = {
            let mut state = self.lock();
            let (grant, granted) = oneshot::channel();
            state.reclaiming.push_back((key.clone(), grant));
            state.grant_reclaims(Instant::now());
            granted
        };
        // A slow piece of work may hold a slot.
        self.changed.notify_one();
        // An error: the queue was closed and opened, and no longer counts this piece of work.
        let _ = granted.await;
    }

    /// Opens the queue. It no longer counts work that started before and still runs.
    pub fn open(&self) {
        let mut state = self.lock();
        state.closed = false;
        // Dropping the senders wakes the waiting work.
        state.reclaiming.clear();
        state.running.clear();
        state.in_slots.clear();
        state.slots.clear();
        state.slow.clear();
        state.total.clear();
    }

    /// Closes the queue and forgets all keys. A closed queue keeps nothing that is added: on a standby replica it would grow for
    /// months.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.scheduled.clear();
        state.due.clear();
        state.turns.clear();
        state.waiting.clear();
        state.added_meanwhile.clear();
        state.failures.clear();
        drop(state);
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        sync::lock(&self.state)
    }
}

/// Returns the backoff after so many failures in a row.
fn backoff(failures: u32) -> Duration {
    BACKOFF.0.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(BACKOFF.1)
}
