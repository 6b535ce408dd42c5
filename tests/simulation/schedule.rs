//! The order of everything that is under way, step by step: which request arrives next, which answer, which event of a watch,
//! and what happens meanwhile.
//!
//! In directed worlds nothing takes time by chance. Everything that is under way waits in a lane until it is its turn. The lanes
//! of one controller belong together, and such groups have priorities: one of low priority stands still while the others go on,
//! as a paused controller does. A few times in a world a group gets another priority. Few such changes find most of what depends
//! on an order (Burckhardt and others, "A randomized scheduler with probabilistic guarantees of finding bugs", 2010). Besides,
//! single lanes can stand still: a watch that lags, a write that is held up in the network.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

use podium_test_support::random::Random;
use podium_test_support::server::Resource;
use tokio::sync::oneshot;

use crate::cluster::lock;

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

/// What has a priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Actor(Actor),
    Controller(usize),
    /// What a controller has forgotten.
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

/// The lanes of a world.
#[derive(Default)]
pub struct Schedule(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: BTreeMap<Lane, VecDeque<oneshot::Sender<()>>>,
    priorities: BTreeMap<Group, u64>,
    /// Lanes that stand still while there is anything else to do.
    still: BTreeSet<Lane>,
    /// Whose events go without waiting until the next step.
    burst: Option<Burst>,
    /// Nobody waits any more.
    open: bool,
}

enum Burst {
    /// So many in this lane.
    Lane(Lane, u64),
    /// Those of this controller, except what stands still.
    Controller(usize),
}

impl State {
    /// Whether nobody has to wait in this lane at present.
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

    /// What stands still of one controller moves again.
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
    /// Waits for the turn. Returns whether there was one to wait for.
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

    /// Draws all priorities anew. These lanes stand still until nothing else is left to do, or until a change frees them, and
    /// this controller until it goes on after a pause.
    pub fn begin(&self, still: BTreeSet<Lane>, paused: Option<usize>) {
        let mut state = lock(&self.0);
        state.priorities = paused.map(|number| (Group::Controller(number), 1)).into_iter().collect();
        state.still = still;
    }

    /// The lane whose turn it is, among those where something waits and these others. In so many of a thousand cases, `chance`,
    /// priorities do not count.
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

    /// Lets the first in this lane go, and up to so many that come after it until the next step: nobody has time to think
    /// between the events of a burst.
    pub fn go(&self, lane: Lane, after: u64) {
        let mut state = lock(&self.0);
        state.burst = Some(Burst::Lane(lane, after));
        state.release(lane);
    }

    /// Gives the group of this lane another priority.
    pub fn redraw(&self, lane: Lane, random: &mut Random) {
        lock(&self.0).priorities.insert(lane.group(), State::draw(random));
    }

    /// Lets what stands still of a controller move again; or lets a group stand back; or lets the controller that stands back farthest go on
    /// before all others, most often with all that its watches have for it at once, as after a pause.
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
