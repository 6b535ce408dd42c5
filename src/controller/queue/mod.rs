//! The work queue: what is due when, and how much of it is worked on at a time. One item at a time for each key; what is due is
//! given out by turns of its groups, and in each group the earliest first; deterministic order.
//!
//! A group is a namespace: where a thousand leaders of one are lost at once, another one's single leader does not wait for all
//! of them. Nor does it wait where every write in other namespaces hangs: [`Shares`] keeps places free.
//!
//! kube's own scheduler keeps its items in hash maps with random seeds; a simulation must replay to the byte, and an item that
//! fails needs its own growing delay.

mod shares;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::sync;

pub use shares::Shares;

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

/// What has taken longer waits for something that does not come, and holds no place any more. Its group begins less meanwhile, and
/// after the others. There may be so many times as many of them as there are places.
const SLOW: Duration = Duration::from_secs(2);
const SLOW_ONES: usize = 8;

/// A work queue of keys.
#[derive(Debug)]
pub struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<K> {
    /// What may be worked on at a time.
    places: Shares,
    /// What may be worked on beside it, because it takes too long.
    slow: Shares,
    /// What may be begun: all of these, and those that stand aside.
    room: Shares,
    /// Not due yet when it was looked at last. By due time, then by order of arrival.
    later: BTreeMap<(Instant, u64), K>,
    /// By group: what is due, in the same order.
    due: BTreeMap<String, BTreeMap<(Instant, u64), K>>,
    /// The groups of which something is due, in the order of their turns, and how many of each were given out in its turn.
    turns: VecDeque<(String, usize)>,
    waiting: HashMap<K, (Instant, u64)>,
    /// What was given out.
    running: BTreeMap<K, Stand>,
    /// What has a place, and since when.
    held: BTreeSet<(Instant, K)>,
    /// What stands aside and wants a place again.
    returning: VecDeque<(K, oneshot::Sender<()>)>,
    /// Asked for while running.
    again: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
    /// What is not given out before this time, whatever happens.
    held_off: HashMap<K, Instant>,
    arrivals: u64,
    closed: bool,
}

/// Where a piece of work stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// It has a place, since then.
    Place(Instant),
    /// It had one for too long.
    Slow,
    /// It waits for what many wait for together.
    Aside,
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
    /// The same, and nothing that happens meanwhile shortens the delay: the work itself may be what makes it happen.
    HeldOff,
    /// To be tried again at this time and not before, whatever happens.
    Later(Instant),
}

impl<K: Clone + Ord + std::hash::Hash + Grouped> Queue<K> {
    /// A closed queue that will give out so many pieces of work at a time, and as many more as stand aside, up to `aside`.
    pub fn new(places: usize, aside: usize) -> Self {
        let slow = places * SLOW_ONES;
        let state = State {
            places: Shares::new(places),
            slow: Shares::new(slow),
            room: Shares::new(places + slow + aside),
            later: BTreeMap::new(),
            due: BTreeMap::new(),
            turns: VecDeque::new(),
            waiting: HashMap::new(),
            running: BTreeMap::new(),
            held: BTreeSet::new(),
            returning: VecDeque::new(),
            again: HashMap::new(),
            failures: HashMap::new(),
            held_off: HashMap::new(),
            arrivals: 0,
            closed: true,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Asks for work on `key` at this time, or earlier if it is already due earlier. Nothing, where the queue is closed.
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
                let now = Instant::now();
                state.sort(now);
                state.pass_over(now);
                if let Some(taken) = state.take(now) {
                    if !state.turns.is_empty() || !state.later.is_empty() {
                        self.changed.notify_one();
                    }
                    return Some(taken);
                }
                state.next_change(now)
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
        state.end(&key);
        let again = state.again.remove(&key);
        let failures = match outcome {
            Outcome::Failed | Outcome::HeldOff => state.failures.get(&key).map_or(1, |failures| failures.saturating_add(1)),
            // The API server itself says when: its word counts, and not how often it was asked.
            Outcome::Later(_) => state.failures.get(&key).copied().unwrap_or(0),
            Outcome::Done | Outcome::Again(_) => 0,
        };
        let own = match outcome {
            Outcome::Done => None,
            Outcome::Again(at) => Some(at),
            Outcome::Failed | Outcome::HeldOff => Some(Instant::now() + backoff(failures)),
            Outcome::Later(at) => Some(at),
        };
        if failures == 0 || state.closed {
            state.failures.remove(&key);
        } else {
            state.failures.insert(key.clone(), failures);
        }
        // After a failure the delay holds, whatever happened meanwhile.
        let holds = !matches!(outcome, Outcome::Done | Outcome::Again(_));
        if let (Outcome::HeldOff | Outcome::Later(_), Some(at), false) = (outcome, own, state.closed) {
            state.held_off.insert(key.clone(), at);
        }
        let at = if holds { own } else { again.into_iter().chain(own).min() };
        if let Some(at) = at {
            state.add(key, at);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Leaves the place of what was given out to others, until [`Queue::come_back`].
    pub fn stand_aside(&self, key: &K) {
        let mut state = self.lock();
        state.leave(key);
        if let Some(stand) = state.running.get_mut(key) {
            *stand = Stand::Aside;
        }
        state.let_back(Instant::now());
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for a place again. Those that come back go before those that begin.
    pub async fn come_back(&self, key: &K) {
        let let_back = {
            let mut state = self.lock();
            let (tell, let_back) = oneshot::channel();
            state.returning.push_back((key.clone(), tell));
            state.let_back(Instant::now());
            let_back
        };
        // Perhaps one that is slow has a place.
        self.changed.notify_one();
        // An error: the queue was opened anew, and nobody counts on this piece of work any more.
        let _ = let_back.await;
    }

    /// Gives out what is added from now on. What was given out before and has not ended counts no more.
    pub fn open(&self) {
        let mut state = self.lock();
        state.closed = false;
        // Those who wait learn that nobody counts on them.
        state.returning.clear();
        state.running.clear();
        state.held.clear();
        state.places.clear();
        state.slow.clear();
        state.room.clear();
    }

    /// Gives out nothing more, forgets what was to be given out, and keeps nothing that is added: on a replica that stands by for
    /// months, it would be everything that there ever was.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.later.clear();
        state.due.clear();
        state.turns.clear();
        state.waiting.clear();
        state.again.clear();
        state.failures.clear();
        drop(state);
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // The state is whole between any two statements that can panic: there are none.
        sync::lock(&self.state)
    }
}

impl<K: Clone + Ord + std::hash::Hash + Grouped> State<K> {
    fn add(&mut self, key: K, at: Instant) {
        if self.closed {
            return;
        }
        if self.running.contains_key(&key) {
            let again = self.again.entry(key).or_insert(at);
            *again = at.min(*again);
            return;
        }
        let at = self.held_off.get(&key).map_or(at, |until| at.max(*until));
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
                self.turns.push_back((group.to_owned(), 0));
                self.due.insert(group.to_owned(), BTreeMap::new());
            }
            if let Some(due) = self.due.get_mut(group) {
                due.insert(place, key);
            }
        }
    }

    /// When something may be given out that cannot be now, if nobody says anything until then.
    fn next_change(&self, now: Instant) -> Option<Instant> {
        let due = self.later.first_key_value().map(|(&(at, _), _)| at);
        let wanted = !self.turns.is_empty() || !self.returning.is_empty();
        let slow = self.held.iter().map(|(since, _)| *since + SLOW).find(|slow| *slow > now);
        due.into_iter().chain(slow.filter(|_| wanted)).min()
    }

    /// Whether a piece of work of this group may have a place.
    fn admits(&self, group: &str) -> bool {
        match self.slow.held(group) {
            0 => self.places.admits(group),
            slow => 4 * (slow + self.places.held(group)) < self.places.free(),
        }
    }

    /// Takes the earliest of the first group whose turn it is and that may have another place.
    fn take(&mut self, now: Instant) -> Option<(K, Instant)> {
        if self.places.free() == 0 {
            return None;
        }
        let may = |group: &str| self.admits(group) && self.room.admits(group);
        let hangs = |group: &str| self.slow.held(group) > 0;
        let turn = self.turns.iter().position(|(group, _)| !hangs(group) && may(group));
        let turn = turn.or_else(|| self.turns.iter().position(|(group, _)| may(group)))?;
        let (group, given) = self.turns.remove(turn)?;
        let due = self.due.get_mut(&group)?;
        let ((at, _), key) = due.pop_first()?;
        if due.is_empty() {
            self.due.remove(&group);
        } else if given + 1 == TURN {
            self.turns.push_back((group.clone(), 0));
        } else {
            self.turns.insert(turn, (group.clone(), given + 1));
        }
        self.room.take(&group);
        self.waiting.remove(&key);
        self.held_off.remove(&key);
        self.place(key.clone(), now);
        Some((key, at))
    }

    /// Gives a place.
    fn place(&mut self, key: K, now: Instant) {
        self.places.take(key.group());
        self.held.insert((now, key.clone()));
        self.running.insert(key, Stand::Place(now));
    }

    /// Takes the places of what takes too long.
    fn pass_over(&mut self, now: Instant) {
        let slow = self.held.iter().take_while(|(since, _)| *since + SLOW <= now).cloned();
        let slow: Vec<(Instant, K)> = slow.collect();
        for (since, key) in slow {
            if self.slow.admits(key.group()) {
                self.slow.take(key.group());
                self.places.give_back(key.group());
                self.held.remove(&(since, key.clone()));
                self.running.insert(key, Stand::Slow);
            }
        }
        self.let_back(now);
    }

    /// What was given out leaves its place, whichever it has.
    fn leave(&mut self, key: &K) {
        match self.running.get(key) {
            Some(Stand::Place(since)) => {
                self.held.remove(&(*since, key.clone()));
                self.places.give_back(key.group());
            }
            Some(Stand::Slow) => self.slow.give_back(key.group()),
            Some(Stand::Aside) | None => {}
        }
    }

    /// What was given out is done.
    fn end(&mut self, key: &K) {
        self.leave(key);
        if self.running.remove(key).is_some() {
            self.room.give_back(key.group());
        }
        self.let_back(Instant::now());
    }

    /// Gives places to what comes back, in that order. The last place is for what has not begun.
    fn let_back(&mut self, now: Instant) {
        for (key, tell) in std::mem::take(&mut self.returning) {
            if !self.running.contains_key(&key) {
                continue;
            }
            if self.places.free() < 2 || !self.admits(key.group()) {
                self.returning.push_back((key, tell));
                continue;
            }
            // Nobody waits any more where it was given up.
            if tell.send(()).is_ok() {
                self.place(key, now);
            }
        }
    }
}

fn backoff(failures: u32) -> Duration {
    let (first, longest) = BACKOFF;
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(longest)
}
