//! The work queue: what is due when. One item at a time for each key; what is due is given out by turns of its groups, and in
//! each group the earliest first; deterministic order.
//!
//! A group is a namespace: where a thousand leaders of one are lost at once, another one's single leader does not wait for all
//! of them.
//!
//! kube's own scheduler keeps its items in hash maps with random seeds; a simulation must replay to the byte, and an item that
//! fails needs its own growing delay.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The first and the longest delay after failures.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(15));

/// What is given out by turns.
pub trait Grouped {
    /// The group that the key belongs to.
    fn group(&self) -> &str;
}

/// How many of a group are given out in one turn. Elections of one namespace that begin together share what they have to ask of
/// the server; one by one, each would ask for itself.
const TURN: usize = 16;

/// A work queue of keys.
#[derive(Debug)]
pub struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<K> {
    /// Not due yet when it was looked at last. By due time, then by order of arrival.
    later: BTreeMap<(Instant, u64), K>,
    /// By group: what is due, in the same order.
    due: BTreeMap<String, BTreeMap<(Instant, u64), K>>,
    /// The groups of which something is due, in the order of their turns.
    turns: VecDeque<String>,
    /// How many were given out in the present turn.
    given: usize,
    waiting: HashMap<K, (Instant, u64)>,
    running: BTreeSet<K>,
    /// Asked for while running.
    again: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
    arrivals: u64,
    closed: bool,
}

/// How a piece of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing more to do until somebody asks.
    Done,
    /// To be done again at this time.
    Again(Instant),
    /// To be tried again, each time after a longer while.
    Failed,
}

impl<K: Clone + Ord + std::hash::Hash + Grouped> Queue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            later: BTreeMap::new(),
            due: BTreeMap::new(),
            turns: VecDeque::new(),
            given: 0,
            waiting: HashMap::new(),
            running: BTreeSet::new(),
            again: HashMap::new(),
            failures: HashMap::new(),
            arrivals: 0,
            closed: false,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Asks for work on `key` at this time, or earlier if it is already due earlier.
    pub fn add(&self, key: K, at: Instant) {
        self.lock().add(key, at);
        self.changed.notify_one();
    }

    /// The next key that is due, and the time at which it became due; waits for one. `None`: the queue is closed.
    pub async fn next(&self) -> Option<(K, Instant)> {
        loop {
            let changed = self.changed.notified();
            let first = {
                let mut state = self.lock();
                if state.closed {
                    return None;
                }
                state.sort(Instant::now());
                if let Some(taken) = state.take() {
                    if !state.turns.is_empty() || !state.later.is_empty() {
                        self.changed.notify_one();
                    }
                    return Some(taken);
                }
                state.later.first_key_value().map(|(&(at, _), _)| at)
            };
            match first {
                // Biased, here as elsewhere: chance would make a simulation another one each time.
                Some(at) => tokio::select! { biased; () = changed => {}, () = sleep_until(at) => {} },
                None => changed.await,
            }
        }
    }

    /// How many keys are due, and not given out yet.
    pub fn depth(&self) -> usize {
        let now = Instant::now();
        let state = self.lock();
        state.due.values().map(BTreeMap::len).sum::<usize>() + state.later.range(..=(now, u64::MAX)).count()
    }

    /// Reports the end of the work that [`Queue::next`] gave out.
    pub fn finish(&self, key: K, outcome: Outcome) {
        let mut state = self.lock();
        state.running.remove(&key);
        let again = state.again.remove(&key);
        let failures = match outcome {
            Outcome::Failed => state.failures.get(&key).map_or(1, |failures| failures.saturating_add(1)),
            Outcome::Done | Outcome::Again(_) => 0,
        };
        let own = match outcome {
            Outcome::Done => None,
            Outcome::Again(at) => Some(at),
            Outcome::Failed => Some(Instant::now() + backoff(failures)),
        };
        if failures == 0 {
            state.failures.remove(&key);
        } else {
            state.failures.insert(key.clone(), failures);
        }
        // After a failure the delay holds, whatever happened meanwhile.
        let at = if failures > 0 { own } else { again.into_iter().chain(own).min() };
        if let Some(at) = at {
            state.add(key, at);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Gives out again what is due, after [`Queue::close`], also what was given out and not finished.
    pub fn open(&self) {
        let mut state = self.lock();
        state.closed = false;
        let now = Instant::now();
        for key in std::mem::take(&mut state.running) {
            state.again.remove(&key);
            state.add(key, now);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Gives out nothing more. What is added is kept.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // The state is whole between any two statements that can panic: there are none.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Ord + std::hash::Hash + Grouped> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Ord + std::hash::Hash + Grouped> State<K> {
    fn add(&mut self, key: K, at: Instant) {
        if self.running.contains(&key) {
            let again = self.again.entry(key).or_insert(at);
            *again = at.min(*again);
            return;
        }
        if let Some(place) = self.waiting.get(&key).copied() {
            // One that is not among the later ones is due already.
            if place.0 <= at || self.later.remove(&place).is_none() {
                return;
            }
        }
        self.arrivals += 1;
        let place = (at, self.arrivals);
        self.waiting.insert(key.clone(), place);
        self.later.insert(place, key);
    }

    /// Puts what is due by now to its group.
    fn sort(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            let (place, key) = entry.remove_entry();
            let group = key.group();
            if !self.due.contains_key(group) {
                self.turns.push_back(group.to_owned());
                self.due.insert(group.to_owned(), BTreeMap::new());
            }
            if let Some(due) = self.due.get_mut(group) {
                due.insert(place, key);
            }
        }
    }

    /// Takes the earliest of the group whose turn it is.
    fn take(&mut self) -> Option<(K, Instant)> {
        let group = self.turns.front()?.clone();
        let due = self.due.get_mut(&group)?;
        let ((at, _), key) = due.pop_first()?;
        self.given += 1;
        if due.is_empty() {
            self.due.remove(&group);
            self.turns.pop_front();
            self.given = 0;
        } else if self.given == TURN {
            self.turns.rotate_left(1);
            self.given = 0;
        }
        self.waiting.remove(&key);
        self.running.insert(key.clone());
        Some((key, at))
    }
}

fn backoff(failures: u32) -> Duration {
    let (first, longest) = BACKOFF;
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Grouped for &str {
        /// `group/name`; without a group all are of the same one.
        fn group(&self) -> &str {
            self.split_once('/').map_or("", |(group, _)| group)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn groups_take_turns_and_in_each_the_earliest_comes_first() {
        let queue = Queue::new();
        let start = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        let storm: Vec<&str> = (100..100 + 2 * TURN).map(|number| &*format!("storm/{number}").leak()).collect();
        for key in &storm {
            queue.add(*key, start);
        }
        let mut given = Vec::new();
        given.extend(queue.next().await.map(|(key, _)| key));
        queue.add("other/2", Instant::now());
        queue.add("other/1", start);
        queue.add("third/later", Instant::now() + Duration::from_secs(1));
        for _ in 0..2 * TURN + 2 {
            given.extend(queue.next().await.map(|(key, _)| key));
        }
        let others = ["other/1", "other/2"];
        let expected = [&storm[..TURN], &others, &storm[TURN..], &["third/later"]].concat();
        assert_eq!(given, expected);
        for key in given {
            queue.finish(key, Outcome::Done);
        }
        assert_eq!(queue.depth(), 0);
        let state = queue.lock();
        assert!(state.due.is_empty() && state.turns.is_empty() && state.waiting.is_empty(), "{state:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_stays_so_when_it_is_asked_for_again() {
        let queue = Queue::new();
        let start = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        for key in ["a", "b"] {
            queue.add(key, Instant::now());
        }
        queue.next().await;
        queue.add("b", start);
        assert_eq!(queue.depth(), 1);
        assert_eq!(queue.next().await.map(|(key, _)| key), Some("b"));
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_given_out_once_at_its_earliest_time() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.add("a", start + Duration::from_secs(9));
        queue.add("a", start + Duration::from_secs(2));
        queue.add("b", start + Duration::from_secs(5));
        assert_eq!(queue.next().await, Some(("a", start + Duration::from_secs(2))));
        assert_eq!(queue.next().await, Some(("b", start + Duration::from_secs(5))));
        assert_eq!(Instant::now(), start + Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_while_it_runs_runs_again_afterwards() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.add("a", start);
        queue.next().await;
        queue.add("a", start);
        let waiting = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(waiting.is_err(), "one at a time");
        queue.finish("a", Outcome::Done);
        assert_eq!(queue.next().await.map(|(key, _)| key), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_and_longer_up_to_a_bound() {
        let queue = Queue::new();
        queue.add("a", Instant::now());
        let mut waits = Vec::new();
        for _ in 0..12 {
            let before = Instant::now();
            queue.next().await;
            waits.push(Instant::now() - before);
            queue.finish("a", Outcome::Failed);
        }
        assert!(waits.is_sorted());
        assert!(waits[1] < Duration::from_millis(60) && waits[11] < Duration::from_secs(16), "{waits:?}");
        queue.next().await;
        queue.finish("a", Outcome::Again(Instant::now()));
        let before = Instant::now();
        queue.next().await;
        assert_eq!(Instant::now(), before, "success forgets the failures");
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_was_closed_and_is_opened_gives_out_what_was_added_and_what_was_not_finished() {
        let queue = Queue::new();
        queue.add("a", Instant::now());
        queue.next().await;
        queue.add("b", Instant::now());
        queue.close();
        queue.add("c", Instant::now());
        assert_eq!(queue.next().await, None);
        queue.open();
        let mut given = Vec::new();
        for _ in 0..3 {
            let next = tokio::time::timeout(Duration::from_secs(1), queue.next()).await.expect("there is more");
            given.extend(next.map(|(key, _)| key));
        }
        given.sort_unstable();
        assert_eq!(given, ["a", "b", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn as_deep_as_what_is_due_and_not_given_out() {
        let queue = Queue::new();
        let now = Instant::now();
        for key in ["a", "b"] {
            queue.add(key, now);
        }
        queue.add("later", now + Duration::from_secs(5));
        assert_eq!(queue.depth(), 2);
        queue.next().await;
        assert_eq!(queue.depth(), 1);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(queue.depth(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_queue_ends_its_waiters() {
        let queue: Queue<&str> = Queue::new();
        let (next, ()) = tokio::join!(queue.next(), async { queue.close() });
        assert_eq!(next, None);
    }
}
