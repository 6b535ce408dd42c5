//! The order of all messages in flight, step by step: the next request, response or watch event to arrive, or an event in
//! between.
//!
//! In directed worlds nothing takes random time. Every message waits in a lane for its turn. The lanes of one controller
//! form a group, and groups have priorities: a low-priority group stalls while the others proceed, like a paused controller.
//! A few times in a world a group gets another priority. Few such changes find most bugs that depend on an order (Burckhardt
//! and others, "A randomized scheduler with probabilistic guarantees of finding bugs", 2010). Single lanes can stall as
//! well: a lagging watch, or a write delayed by the network.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

use podium_test_support::random::Random;
use podium_test_support::server::Resource;
use tokio::sync::oneshot;

use crate::cluster::lock;

/// A sequence of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Spontaneous events of users, pods and controllers.
    Happens(Actor),
    /// This controller's reads of a kind.
    Reads(usize, Resource),
    /// Its writes.
    Writes(usize, Resource),
    /// Its requests that arrive although it got an error.
    Abandoned(usize),
    /// Responses to its requests.
    Answers(usize, Resource),
    /// Events of its watches.
    Events(usize, Resource),
}

/// A source of spontaneous events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// Runs the pods.
    Workload,
    /// Users, who own the Election.
    People,
    /// Ends controllers and their connections.
    Fate,
}

/// A group of lanes with a priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Actor(Actor),
    Controller(usize),
    /// Abandoned requests of a controller.
    Abandoned(usize),
}

impl Lane {
    fn group(self) -> Group {
        match self {
            Self::Happens(actor) => Group::Actor(actor),
            Self::Abandoned(number) => Group::Abandoned(number),
            Self::Reads(number, _) | Self::Writes(number, _) | Self::Answers(number, _) | Self::Events(number, _) => {
                Group::Controller(number)
            }
        }
    }
}

#[derive(Default)]
pub struct Schedule(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: BTreeMap<Lane, VecDeque<oneshot::Sender<()>>>,
    priorities: BTreeMap<Group, u64>,
    /// Lanes that stall while any other lane can proceed.
    still: BTreeSet<Lane>,
    /// Events released without waiting until the next step.
    burst: Option<Burst>,
    /// All lanes are open: none waits.
    open: bool,
}

enum Burst {
    /// This many in a lane.
    Lane(Lane, u64),
    /// All of this controller, except stalled lanes.
    Controller(usize),
}

impl State {
    /// Returns whether a message in this lane need not wait.
    fn is_free(&mut self, lane: Lane) -> bool {
        match &mut self.burst {
            Some(Burst::Lane(free, left @ 1..)) if *free == lane => {
                *left -= 1;
                true
            }
            Some(Burst::Controller(free)) => {
                matches!(lane, Lane::Events(number, _) if number == *free) && !self.still.contains(&lane)
            }
            _ => false,
        }
    }

    fn release(&mut self, lane: Lane) {
        let first = self.waiting.get_mut(&lane).and_then(VecDeque::pop_front);
        first.map(|sender| sender.send(()));
    }

    /// Releases the stalled lanes of one group.
    fn free(&mut self, random: &mut Random) {
        let groups: Vec<Group> = self.still.iter().map(|lane| lane.group()).collect();
        if let Some(group) = random.pick(&groups) {
            self.still.retain(|lane| lane.group() != *group);
        }
    }

    fn go_on(&mut self, at_once: bool) {
        let controllers = self.priorities.iter().filter_map(|(group, priority)| match group {
            Group::Controller(number) => Some((*priority, *number)),
            _ => None,
        });
        let Some((_, number)) = controllers.min() else { return };
        let highest = self.priorities.values().max().copied().unwrap_or_default();
        self.priorities.insert(Group::Controller(number), highest + 1);
        if !at_once {
            return;
        }
        self.burst = Some(Burst::Controller(number));
        let lanes: Vec<Lane> = self.waiting.keys().copied().collect();
        for lane in lanes {
            if self.is_free(lane) {
                self.release(lane);
            }
        }
    }

    fn draw(random: &mut Random) -> u64 {
        random.between(1 << 16, 1 << 32)
    }
}

impl Schedule {
    /// Waits for the turn. Returns false while all lanes are open.
    pub async fn turn(&self, lane: Lane) -> bool {
        let turn = {
            let mut state = lock(&self.0);
            if state.open {
                return false;
            }
            if state.is_free(lane) {
                return true;
            }
            let (sender, turn) = oneshot::channel();
            state.waiting.entry(lane).or_default().push_back(sender);
            turn
        };
        turn.await.is_ok()
    }

    /// Releases all lanes until further notice, or makes them wait again.
    pub fn open(&self, open: bool) {
        let mut state = lock(&self.0);
        state.open = open;
        if open {
            for sender in std::mem::take(&mut state.waiting).into_values().flatten() {
                let _ = sender.send(());
            }
        }
    }

    /// Redraws all priorities. These lanes stall until no other step is left or a change releases them, and this controller
    /// until it resumes after a pause.
    pub fn begin(&self, still: BTreeSet<Lane>, paused: Option<usize>) {
        let mut state = lock(&self.0);
        state.priorities = paused.map(|number| (Group::Controller(number), 1)).into_iter().collect();
        state.still = still;
    }

    /// Draws the next lane among those with messages and `others`. Ignores priorities in `chance` of a thousand cases.
    pub fn next(&self, others: &[Lane], chance: u64, random: &mut Random) -> Option<Lane> {
        let mut state = lock(&self.0);
        state.burst = None;
        state.waiting.retain(|_, waiting| !waiting.is_empty());
        let mut lanes: Vec<Lane> = state.waiting.keys().chain(others).copied().collect();
        let moving = lanes.iter().any(|lane| !state.still.contains(lane));
        lanes.retain(|lane| !moving || !state.still.contains(lane));
        lanes.sort_unstable();
        for lane in &lanes {
            let late = matches!(lane, Lane::Abandoned(_));
            let priority = || if late { random.between(1, 1 << 16) } else { State::draw(random) };
            state.priorities.entry(lane.group()).or_insert_with(priority);
        }
        if !random.permille(chance) {
            let highest = lanes.iter().map(|lane| state.priorities[&lane.group()]).max();
            lanes.retain(|lane| Some(state.priorities[&lane.group()]) == highest);
        }
        random.pick(&lanes).copied()
    }

    /// Releases the first message of this lane, and up to `after` more until the next step: no reaction is possible within a
    /// burst.
    pub fn go(&self, lane: Lane, after: u64) {
        let mut state = lock(&self.0);
        state.burst = Some(Burst::Lane(lane, after));
        state.release(lane);
    }

    /// Redraws the priority of this lane's group.
    pub fn redraw(&self, lane: Lane, random: &mut Random) {
        lock(&self.0).priorities.insert(lane.group(), State::draw(random));
    }

    /// Releases the stalled lanes of a group; or lowers a group's priority; or raises the lowest controller above all
    /// others, usually with all its pending watch events at once, as after a pause.
    pub fn change(&self, random: &mut Random) {
        let mut state = lock(&self.0);
        match random.between(0, 100) {
            0..15 => state.free(random),
            15..45 => {
                let groups: Vec<Group> = state.priorities.keys().copied().collect();
                if let Some(group) = random.pick(&groups) {
                    state.priorities.insert(*group, random.between(1, 1 << 16));
                }
            }
            _ => state.go_on(random.permille(700)),
        }
    }
}
