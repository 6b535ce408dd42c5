//! The state of a queue, behind its lock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Grouped, SLOW, Shares, TURN};

/// A place in the order of time, then of arrival.
type Place = (Instant, u64);

#[derive(Debug)]
pub(super) struct State<K> {
    /// Slots of running work.
    pub(super) slots: Shares,
    /// Running work that lost its slot because it is slow.
    pub(super) slow: Shares,
    /// All running work, also that which yielded its slot.
    pub(super) total: Shares,
    /// Keys that were not due when they were last looked at.
    pub(super) scheduled: BTreeMap<Place, K>,
    /// Due keys by group.
    pub(super) due: BTreeMap<String, BTreeMap<Place, K>>,
    /// Groups with due keys in the order of their turns, and how many keys each took in its turn.
    pub(super) turns: VecDeque<(String, usize)>,
    pub(super) waiting: HashMap<K, Place>,
    pub(super) running: BTreeMap<K, Phase>,
    /// Work in slots, by when it got its slot.
    pub(super) in_slots: BTreeSet<(Instant, K)>,
    /// Work that yielded its slot and wants one again.
    pub(super) reclaiming: VecDeque<(K, oneshot::Sender<()>)>,
    /// Keys that were added while they run.
    pub(super) added_meanwhile: HashMap<K, Instant>,
    pub(super) failures: HashMap<K, u32>,
    /// Earliest start of a key, whatever is added.
    pub(super) not_before: HashMap<K, Instant>,
    arrivals: u64,
    pub(super) closed: bool,
}

/// Resource that a running piece of work holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A slot, since then.
    Slot(Instant),
    /// None: it was slow.
    Slow,
    /// None: it yielded its slot.
    Yielded,
}

impl<K: Clone + Ord + std::hash::Hash + Grouped> State<K> {
    pub(super) fn new(slots: usize, slow: usize, yielded: usize) -> Self {
        Self {
            slots: Shares::new(slots),
            slow: Shares::new(slow),
            total: Shares::new(slots + slow + yielded),
            scheduled: BTreeMap::new(),
            due: BTreeMap::new(),
            turns: VecDeque::new(),
            waiting: HashMap::new(),
            running: BTreeMap::new(),
            in_slots: BTreeSet::new(),
            reclaiming: VecDeque::new(),
            added_meanwhile: HashMap::new(),
            failures: HashMap::new(),
            not_before: HashMap::new(),
            arrivals: 0,
            closed: true,
        }
    }

    pub(super) fn add(&mut self, key: K, at: Instant) {
        if self.closed {
            return;
        }
        if self.running.contains_key(&key) {
            let added = self.added_meanwhile.entry(key).or_insert(at);
            *added = at.min(*added);
            return;
        }
        let at = self.not_before.get(&key).map_or(at, |until| at.max(*until));
        if let Some(place) = self.waiting.get(&key).copied() {
            // A waiting key that is not scheduled is due already.
            if place.0 <= at || self.scheduled.remove(&place).is_none() {
                return;
            }
        }
        self.arrivals += 1;
        let place = (at, self.arrivals);
        self.waiting.insert(key.clone(), place);
        self.scheduled.insert(place, key);
    }

    /// Moves due keys to their groups.
    pub(super) fn sort(&mut self, now: Instant) {
        while let Some(entry) = self.scheduled.first_entry().filter(|entry| entry.key().0 <= now) {
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

    /// Returns when work may start that cannot start now, if nothing else happens until then.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let due = self.scheduled.first_key_value().map(|(&(at, _), _)| at);
        let wanted = !self.turns.is_empty() || !self.reclaiming.is_empty();
        let slow = self.in_slots.iter().map(|(since, _)| *since + SLOW).find(|slow| *slow > now);
        due.into_iter().chain(slow.filter(|_| wanted)).min()
    }

    /// Returns whether the group may have one more slot.
    fn admits(&self, group: &str) -> bool {
        match self.slow.held(group) {
            0 => self.slots.admits(group),
            slow => 4 * (slow + self.slots.held(group)) < self.slots.free(),
        }
    }

    /// Takes the earliest key of the first group that may have one more slot. Groups with slow work come last.
    pub(super) fn take(&mut self, now: Instant) -> Option<(K, Instant)> {
        if self.slots.free() == 0 {
            return None;
        }
        let may = |group: &str| self.admits(group) && self.total.admits(group);
        let is_slow = |group: &str| self.slow.held(group) > 0;
        let turn = self.turns.iter().position(|(group, _)| !is_slow(group) && may(group));
        let turn = turn.or_else(|| self.turns.iter().position(|(group, _)| may(group)))?;
        let (group, taken) = self.turns.remove(turn)?;
        let due = self.due.get_mut(&group)?;
        let ((at, _), key) = due.pop_first()?;
        if due.is_empty() {
            self.due.remove(&group);
        } else if taken + 1 == TURN {
            self.turns.push_back((group.clone(), 0));
        } else {
            self.turns.insert(turn, (group.clone(), taken + 1));
        }
        self.total.take(&group);
        self.waiting.remove(&key);
        self.not_before.remove(&key);
        self.grant(key.clone(), now);
        Some((key, at))
    }

    fn grant(&mut self, key: K, now: Instant) {
        self.slots.take(key.group());
        self.in_slots.insert((now, key.clone()));
        self.running.insert(key, Phase::Slot(now));
    }

    /// Takes the slots of slow work.
    pub(super) fn demote_slow(&mut self, now: Instant) {
        let slow = self.in_slots.iter().take_while(|(since, _)| *since + SLOW <= now).cloned();
        let slow: Vec<(Instant, K)> = slow.collect();
        for (since, key) in slow {
            if self.slow.admits(key.group()) {
                self.slow.take(key.group());
                self.slots.release(key.group());
                self.in_slots.remove(&(since, key.clone()));
                self.running.insert(key, Phase::Slow);
            }
        }
        self.grant_reclaims(now);
    }

    /// Releases what the running work holds.
    pub(super) fn release(&mut self, key: &K) {
        match self.running.get(key) {
            Some(Phase::Slot(since)) => {
                self.in_slots.remove(&(*since, key.clone()));
                self.slots.release(key.group());
            }
            Some(Phase::Slow) => self.slow.release(key.group()),
            Some(Phase::Yielded) | None => {}
        }
    }

    /// Ends running work.
    pub(super) fn end(&mut self, key: &K) {
        self.release(key);
        if self.running.remove(key).is_some() {
            self.total.release(key.group());
        }
        self.grant_reclaims(Instant::now());
    }

    /// Grants slots to work that reclaims one, in order. The last slot is for work that has not started.
    pub(super) fn grant_reclaims(&mut self, now: Instant) {
        for (key, grant) in std::mem::take(&mut self.reclaiming) {
            if !self.running.contains_key(&key) {
                continue;
            }
            if self.slots.free() < 2 || !self.admits(key.group()) {
                self.reclaiming.push_back((key, grant));
                continue;
            }
            // Fails where the work was dropped.
            if grant.send(()).is_ok() {
                self.grant(key, now);
            }
        }
    }
}
