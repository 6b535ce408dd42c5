//! The order of everything that is under way, step by step: which request arrives next, which answer, which event of a watch,
//! and what happens meanwhile.
//!
//! In directed worlds nothing takes time by chance. Everything that is under way waits in a lane until it is its turn, and
//! lanes have priorities: one of low priority stands still while all the others go on, as a paused controller, a lagging watch
//! or a write that is held up in the network does. A few times in a world a lane gets another priority. Few such changes find
//! most of what depends on an order (Burckhardt and others, "A randomized scheduler with probabilistic guarantees of finding
//! bugs", 2010).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use tokio::sync::oneshot;

use crate::cluster::lock;
use crate::random::Random;
use crate::server::Resource;

/// What comes one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// What people, pods and controllers do by themselves.
    Happens(Actor),
    /// Requests of this controller for objects of this kind that only read.
    Reads(usize, Resource),
    /// Its other requests.
    Writes(usize, Resource),
    /// Its requests that it was told to have failed, and that arrive nevertheless.
    Abandoned(usize),
    /// Answers to its requests.
    Answers(usize, Resource),
    /// Events of its watches.
    Events(usize, Resource),
}

/// Who does something by himself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// Whoever runs the pods.
    Workload,
    /// Whoever owns the Election.
    People,
    /// Whatever ends controllers and their connections.
    Fate,
}

/// The lanes of a world.
#[derive(Default)]
pub struct Schedule(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: BTreeMap<Lane, VecDeque<oneshot::Sender<()>>>,
    priorities: BTreeMap<Lane, u64>,
    /// Nobody waits any more.
    open: bool,
}

impl Schedule {
    /// Waits for the turn. Returns whether there was one to wait for.
    pub async fn turn(&self, lane: Lane) -> bool {
        let turn = {
            let mut state = lock(&self.0);
            if state.open {
                return false;
            }
            let (sender, turn) = oneshot::channel();
            state.waiting.entry(lane).or_default().push_back(sender);
            turn
        };
        turn.await.is_ok()
    }

    /// Lets everybody go, from now on at once, or makes them wait again.
    pub fn open(&self, open: bool) {
        let mut state = lock(&self.0);
        state.open = open;
        if open {
            for sender in std::mem::take(&mut state.waiting).into_values().flatten() {
                let _ = sender.send(());
            }
        }
    }

    /// The lane whose turn it is, among those where something waits and these others. With `chance`, in so many of a thousand
    /// cases any of them.
    pub fn next(&self, others: &[Lane], chance: u64, random: &mut Random) -> Option<Lane> {
        let mut state = lock(&self.0);
        state.waiting.retain(|_, waiting| !waiting.is_empty());
        let mut lanes: Vec<Lane> = state.waiting.keys().chain(others).copied().collect();
        lanes.sort_unstable();
        for lane in &lanes {
            state.priorities.entry(*lane).or_insert_with(|| random.between(1, 1 << 32));
        }
        if random.permille(chance) {
            return random.pick(&lanes).copied();
        }
        lanes.into_iter().max_by_key(|lane| state.priorities.get(lane))
    }

    /// Lets the first in this lane go.
    pub fn go(&self, lane: Lane) {
        let first = lock(&self.0).waiting.get_mut(&lane).and_then(VecDeque::pop_front);
        first.map(|sender| sender.send(()));
    }

    /// Gives this lane another priority.
    pub fn redraw(&self, lane: Lane, random: &mut Random) {
        lock(&self.0).priorities.insert(lane, random.between(1, 1 << 32));
    }

    /// Gives one lane another priority, most often the lowest of all.
    pub fn change(&self, random: &mut Random) {
        let mut state = lock(&self.0);
        let lanes: Vec<Lane> = state.priorities.keys().copied().collect();
        let Some(lane) = random.pick(&lanes).copied() else { return };
        let lowest = state.priorities.values().min().copied().unwrap_or(1);
        let priority = if random.permille(700) { lowest.saturating_sub(1) } else { random.between(1, 1 << 32) };
        state.priorities.insert(lane, priority);
    }
}
