//! Conditions of a pod as reported, and since when the controller counts each as unchanged.
//!
//! Clocks of two machines may differ, so a delay starts at the reported time only if that time is plausible. It is not if it
//! is missing, if it did not advance although the condition changed, or if it is later than the controller's first
//! observation of this state. Then the delay starts at that observation. So no delay exceeds its setting, counted from the
//! observation, and none is void for a change that the controller observed. Each observation reads the wall clock once. The
//! monotonic clock measures ages, so later jumps of the wall clock do not move them.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::compact::Texts;
use crate::controller::options::WallClock;

/// The two clocks of this machine.
#[derive(Clone)]
pub struct Clocks {
    wall: WallClock,
    began: Instant,
}

impl Clocks {
    /// The monotonic clock, and this wall clock.
    pub fn new(wall: WallClock) -> Self {
        Self { wall, began: Instant::now() }
    }

    /// Returns the time on both.
    pub fn now(&self) -> Moment {
        let monotonic = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        Moment { wall: (self.wall)().as_microsecond(), monotonic }
    }
}

impl fmt::Debug for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clocks").field("began", &self.began).finish_non_exhaustive()
    }
}

/// A moment on both clocks, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    wall: i64,
    monotonic: i64,
}

/// A condition as a decision sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its status is True.
    pub holds: bool,
    /// Age of this status, as the controller counts it.
    pub unchanged_for: SignedDuration,
    /// `lastTransitionTime`, if it can be read.
    pub transitioned: Option<Timestamp>,
}

/// All conditions of a pod.
#[derive(Clone, PartialEq, Eq)]
pub struct Conditions {
    types: Texts,
    states: Box<[State]>,
    /// First observation of the pod. A condition that it lacks counts as not true since then.
    first: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    holds: bool,
    /// `lastTransitionTime`, or [`MISSING`].
    reported: i64,
    /// Start of this status, on the monotonic clock.
    since: i64,
}

/// Earlier than any reported time.
const MISSING: i64 = i64::MIN;

/// Lost conditions are remembered while a pod has fewer than this.
const MOST: usize = 32;

impl Conditions {
    /// Returns conditions that are not observed yet. `conditions`: by type, the status and `lastTransitionTime`.
    pub fn reported(conditions: &BTreeMap<String, (bool, Option<Timestamp>)>) -> Self {
        let state = |(holds, time): &(bool, Option<Timestamp>)| State {
            holds: *holds,
            reported: time.map_or(MISSING, Timestamp::as_microsecond),
            since: 0,
        };
        let types = Texts::new(conditions.keys().map(String::as_str));
        Self { types, states: conditions.values().map(state).collect(), first: 0 }
    }

    /// Sets the start of each condition. `before`: the pod's conditions at the last observation.
    pub fn observe(&mut self, before: Option<&Self>, now: Moment) {
        let Some(before) = before else {
            self.first = now.monotonic;
            self.states.iter_mut().for_each(|state| state.since = state.start(now));
            return;
        };
        self.first = before.first;
        self.keep_lost(before);
        for (kind, state) in self.types.iter().zip(&mut self.states) {
            state.since = state.since(before.state(kind), now);
        }
    }

    /// The condition of this type.
    pub fn get(&self, kind: &str, now: Moment) -> Condition {
        let State { holds, reported, since } = self.state(kind);
        let unchanged_for = SignedDuration::from_micros(now.monotonic.saturating_sub(since).max(0));
        let transitioned = (reported != MISSING).then(|| Timestamp::from_microsecond(reported).ok()).flatten();
        Condition { holds, unchanged_for, transitioned }
    }

    fn state(&self, kind: &str) -> State {
        let found = self.types.iter().zip(&self.states).find(|(own, _)| *own == kind);
        found.map_or(State { holds: false, reported: MISSING, since: self.first }, |(_, state)| *state)
    }

    /// Keeps a lost condition as not true, with its reported time: if it returns with that time, the time did not advance.
    fn keep_lost(&mut self, before: &Self) {
        if self.types == before.types {
            return;
        }
        let mut all: BTreeMap<&str, State> = self.types.iter().zip(self.states.iter().copied()).collect();
        for (kind, state) in before.types.iter().zip(&before.states) {
            if all.len() < MOST {
                all.entry(kind).or_insert(State { holds: false, ..*state });
            }
        }
        if all.len() > self.states.len() {
            (self.types, self.states) = (Texts::new(all.keys().copied()), all.into_values().collect());
        }
    }
}

impl State {
    fn since(&self, before: Self, now: Moment) -> i64 {
        if self.holds != before.holds {
            return if self.reported > before.reported { self.start(now) } else { now.monotonic };
        }
        // While the status is unchanged, its start only moves back. Otherwise a time that each update renews would keep a
        // delay from ending.
        if self.reported == before.reported { before.since } else { before.since.min(self.start(now)) }
    }

    /// Returns the reported time on the monotonic clock, at most now.
    fn start(&self, now: Moment) -> i64 {
        let age = if self.reported == MISSING { 0 } else { now.wall.saturating_sub(self.reported).max(0) };
        now.monotonic.saturating_sub(age)
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.types.iter().zip(&self.states)).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    /// A version that arrives after so many seconds, in which the wall clock may jump.
    #[derive(Clone, Copy, Debug)]
    struct Version {
        after: i64,
        jump: i64,
        holds: Option<bool>,
        reported: Option<i64>,
    }

    fn version() -> impl Strategy<Value = Version> {
        let jump = prop_oneof![3 => Just(0), 1 => prop::sample::select(vec![-1_000, -7, 7, 1_000])];
        let reported = prop_oneof![1 => Just(None), 5 => (0..60_i64).prop_map(Some)];
        (0..9_i64, jump, prop_oneof![1 => Just(None), 9 => any::<bool>().prop_map(Some)], reported)
            .prop_map(|(after, jump, holds, reported)| Version { after, jump, holds, reported })
    }

    fn conditions(version: Version) -> Conditions {
        let time = version.reported.map(|second| Timestamp::from_second(second).unwrap());
        let ready = version.holds.map(|holds| ("Ready".to_owned(), (holds, time)));
        Conditions::reported(&ready.into_iter().collect())
    }

    proptest! {
        /// For any report and any jump of the wall clock: a condition is never younger than the controller's observation of
        /// it. After an observed change it is as old as a plausible report says, else new.
        #[test]
        fn a_condition_is_as_old_as_reported_or_as_observed(versions in prop::collection::vec(version(), 1..9)) {
            let mut now = Moment { wall: 30 * SECOND, monotonic: 0 };
            let mut known: Option<Conditions> = None;
            let (mut holds, mut observed, mut last) = (false, 0, None);
            for version in versions {
                now.monotonic += version.after * SECOND;
                now.wall += (version.after + version.jump) * SECOND;
                let mut arrived = conditions(version);
                arrived.observe(known.as_ref(), now);
                let condition = arrived.get("Ready", now);
                prop_assert_eq!(condition.holds, version.holds == Some(true));
                let first = known.is_none();
                if first || condition.holds != holds {
                    (holds, observed) = (condition.holds, now.monotonic);
                    let reported = version.reported.filter(|_| version.holds.is_some());
                    let moved = first || reported > last;
                    let age = reported.filter(|_| moved).map_or(0, |reported| (now.wall - reported * SECOND).max(0));
                    prop_assert_eq!(condition.unchanged_for, SignedDuration::from_micros(age));
                }
                let seen_for = SignedDuration::from_micros(now.monotonic - observed);
                prop_assert!(condition.unchanged_for >= seen_for, "{:?} of {seen_for:?}", condition.unchanged_for);
                if version.holds.is_some() {
                    last = version.reported;
                }
                known = Some(arrived);
            }
        }

        /// Another observation of the same conditions changes nothing: the pod is equal for every Election.
        #[test]
        fn the_same_conditions_are_the_same_whenever_they_are_observed(before in version(), version in version()) {
            let at = |second: i64| Moment { wall: second * SECOND, monotonic: second * SECOND };
            let mut first = conditions(before);
            first.observe(None, at(0));
            let mut second = conditions(version);
            second.observe(Some(&first), at(5));
            let mut third = conditions(version);
            third.observe(Some(&second), at(9));
            prop_assert!(second == third, "{second:?} {third:?}");
        }
    }

    #[test]
    fn conditions_that_are_lost_are_not_remembered_without_end() {
        let now = Moment { wall: 0, monotonic: 0 };
        let mut known = Conditions::reported(&BTreeMap::new());
        known.observe(None, now);
        for number in 0..100 {
            let mut next = Conditions::reported(&[(format!("c{number}"), (true, None))].into());
            next.observe(Some(&known), now);
            assert!(next.states.len() <= MOST && next.get(&format!("c{number}"), now).holds);
            known = next;
        }
    }
}
