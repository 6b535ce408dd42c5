//! Liveness: from any state, the remaining steps, without faults, must lead to a leader if a pod is eligible. Then no planned
//! change of the leader is due: a request, a drain and a higher priority were carried out, and led to no further changes.
//!
//! Their order must not matter. Each state gets one of several schedules, by its hash.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::protocol::{Action, Protocol};
use crate::world::*;

/// Maximum number of remaining steps.
const STEPS: usize = 500;

/// The order of the remaining steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Only the first controller. Its watches deliver at once, and late writes are lost.
    Alone,
    /// Only the first controller. Its watches deliver a change only when no other step is left.
    AloneLate,
    /// All controllers in turn, with late writes between their steps.
    Turns,
    /// The same with late watches.
    TurnsLate,
    /// Any step of any controller, from a seed.
    Random(u64),
}

impl Schedule {
    /// The schedule of this state.
    pub fn of(world: &World) -> Self {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        let hash = hasher.finish();
        [Self::Alone, Self::AloneLate, Self::Turns, Self::TurnsLate, Self::Random(hash | 1)][(hash % 5) as usize]
    }

    fn is_late(self) -> bool {
        matches!(self, Self::AloneLate | Self::TurnsLate)
    }
}

impl Protocol {
    /// Returns whether the world settles correctly.
    pub fn settles(&self, world: &World) -> bool {
        self.settles_by(world, Schedule::of(world), &mut |_, _| {})
    }

    /// Returns whether it does in this schedule. `tell` receives every step.
    pub fn settles_by(&self, world: &World, schedule: Schedule, tell: &mut dyn FnMut(&World, Action)) -> bool {
        let mut world = world.clone();
        world.left = Budget { elect: 9, lapse: 1, renew_followed: 9, ..Budget::default() };
        // No world needs as many elections: the leader keeps changing.
        if matches!(schedule, Schedule::Alone | Schedule::AloneLate) {
            world.controllers.truncate(1);
        }
        if schedule == Schedule::Alone {
            world.late.clear();
        }
        let mut random = if let Schedule::Random(seed) = schedule { seed } else { 0 };
        for turn in 0..STEPS {
            let mut steps = self.rest(&world, schedule, turn);
            if random > 0 && !steps.is_empty() {
                // xorshift64
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let first = random % steps.len() as u64;
                steps.rotate_left(usize::try_from(first).unwrap_or_default());
            }
            let before = world.clone();
            let Some(step) = steps.into_iter().find(|step| self.goes_on(&mut world, *step)) else {
                return world.left.elect > 0 && self.is_right(&world);
            };
            tell(&before, step);
            world.renumber();
        }
        false
    }

    /// Possible steps in the order of the schedule.
    fn rest(&self, world: &World, schedule: Schedule, turn: usize) -> Vec<Action> {
        let count = world.controllers.len();
        let mut rest = Vec::new();
        for number in (0..count).map(|number| (number + turn) % count) {
            let mut steps = Vec::new();
            self.controller(world, number, &mut steps);
            if schedule.is_late() {
                steps.reverse();
            }
            rest.extend(steps.into_iter().map(|step| Action::Controller(number, step)));
        }
        let late = (!world.late.is_empty()).then_some(Action::Deliver(0));
        // Some arrive between other steps, at the latest when no other step is left.
        if turn % 7 == 6 {
            rest.splice(0..0, late);
        } else {
            rest.extend(late);
        }
        rest.extend(world.followed_passes());
        rest
    }

    /// Returns whether the step changes anything.
    fn goes_on(&self, world: &mut World, action: Action) -> bool {
        match action {
            Action::Controller(number, step) => self.step(world, number, step).is_some(),
            action => {
                self.happens(world, action);
                true
            }
        }
    }

    fn is_right(&self, world: &World) -> bool {
        let Some(election) = world.election else { return true };
        let labeled: Vec<Pod> = world.pods.into_iter().flatten().filter(|pod| pod.label).collect();
        let Some(Lease { content, incarnation, .. }) = world.lease else { return election.suspend };
        let candidates = || world.pods.iter().flatten().filter(|pod| election.matches(pod));
        match content {
            _ if election.suspend => labeled.len() <= 1,
            // Only the holder of a campaign can consent: without that pod, a person must act.
            Content::Campaign(holder) if !candidates().any(|pod| pod.uid == holder) => labeled.is_empty(),
            Content::Campaign(_) => labeled.is_empty() && !candidates().any(|pod| pod.ready),
            _ if incarnation != election.uid => false,
            Content::Term(Record { holder: Some(holder), term, .. }) => {
                let right =
                    |pod: &Pod| pod.uid == holder && pod.term == term && world.may_lead(pod) && election.matches(pod);
                labeled.iter().all(right) && labeled.len() == 1 && !is_handover_due(world, &election, &labeled[0], term)
            }
            Content::Term(Record { holder: None, .. }) | Content::Blank(_) => {
                labeled.is_empty() && !candidates().any(|pod| world.may_lead(pod))
            }
            Content::Damaged(_) => false,
        }
    }
}

/// Returns whether a planned change of this leader is due, with all delays elapsed.
fn is_handover_due(world: &World, election: &Election, leader: &Pod, term: Rev) -> bool {
    let is_other = |pod: &&Pod| pod.uid != leader.uid && pod.ready && election.matches(pod);
    let others = || world.pods.iter().flatten().filter(is_other);
    let elsewhere = || others().filter(|pod| !drains(world.draining, pod));
    let is_target = |pod: &Pod| election.to.is_none_or(|to| to == name(pod.uid));
    let leaves = drains(world.draining, leader);
    let requested = election.request == term && if leaves { others().any(is_target) } else { elsewhere().any(is_target) };
    let drained = leaves && elsewhere().next().is_some();
    let outranked = elsewhere().any(|pod| pod.preferred && !leader.preferred);
    requested || drained || outranked
}
