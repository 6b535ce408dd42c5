//! The campaigner: from observations to the next request. Pure: time and responses are arguments, requests are results.
//!
//! Safety rests on two rules:
//! * A holder counts its deadline from *before* it sent the renewal that succeeded. The others count the longer lease duration from
//!   when the response that showed this renewal had *arrived*. So the holder has stopped first, whatever lies in between.
//! * Every write is a compare-and-swap, so an expired record is still the same when it is replaced.

mod state;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::action::{Action, LockResponse};
use super::clock::Moment;
use super::config::{CampaignConfig, JITTER};
use super::record::{LeaderElectionRecord, LockState};

/// The maximum number of remembered writes whose outcome is unknown. A forgotten one that is applied later counts as the write of
/// another process, for which this campaigner waits.
const MAX_OWN_RECORDS: usize = 16;

/// The longest pause after a write that admission altered, unless the retry period is longer. Each write makes a revision that all
/// watchers receive.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The longest lease duration of another nominated holder that this one waits for. A longer one is an edit.
const LONGEST_DURATION: Duration = Duration::from_secs(600);

/// The number of records of this identity, written by another process, that prove a duplicate identity. The first one may be a late
/// write of a former process.
const DUPLICATE_RECORDS: u32 = 2;

/// Campaigns for a lock.
#[derive(Clone, Debug)]
pub struct Campaigner<O> {
    config: CampaignConfig,
    observed: Option<LockState<O>>,
    /// When the observed record was new.
    unchanged_since: Moment,
    /// When the last read or write succeeded.
    confirmed: Option<Moment>,
    /// The observation may be stale: the next request is a read.
    stale: bool,
    /// The outcome of a write is unknown, and the lock was not read since.
    has_unknown_write: bool,
    /// Consecutive failures.
    failures: u32,
    /// No request before this moment.
    pause_until: Moment,
    /// When to read again, without a change.
    read_at: Moment,
    /// The observed lock was deleted or replaced: its holder may lead until this moment.
    not_before: Moment,
    /// The end of the lead, by the last successful renewal.
    leads_until: Option<Moment>,
    /// The end of a lead that begins when the nomination is read again.
    would_lead_until: Option<Moment>,
    /// When the last read was sent that showed the nomination. `None`: this process is not nominated.
    nominated: Option<Moment>,
    /// When this process acquired the lock.
    acquired_at: Moment,
    /// Its work may go on after the lead, so the lock is not released yet.
    works: bool,
    /// The holder of the first observation, if its process has ended.
    ended_holder: Option<String>,
    /// The records of this identity that no other process wrote: that of the first observation, which a former process wrote, and
    /// those that this one has written, or may have written.
    own_records: Vec<LeaderElectionRecord>,
    /// The consecutive observations of this identity that are not among `own_records`, after the first one.
    foreign_records: u32,
    /// Consecutive writes that were altered.
    altered_writes: u32,
    /// The term of the present or last lead.
    term: Option<u64>,
    tick: Duration,
    /// The campaign ends: the attempt to release stops at this moment.
    resigning: Option<Moment>,
    released: bool,
    /// The Election that claims the lock.
    claimed_by: Option<String>,
    random: u64,
}

impl<O: Clone> Campaigner<O> {
    /// Returns a campaigner that has observed nothing. The config is valid. For `tick` see [`Lock::TICK`](super::Lock::TICK).
    pub fn new(config: CampaignConfig, tick: Duration) -> Self {
        // Differs between identities, and is the same in each run.
        let mut hasher = DefaultHasher::new();
        config.identity.hash(&mut hasher);
        Self {
            config,
            observed: None,
            unchanged_since: Moment::START,
            confirmed: None,
            stale: true,
            has_unknown_write: false,
            failures: 0,
            pause_until: Moment::START,
            read_at: Moment::START,
            not_before: Moment::START,
            leads_until: None,
            would_lead_until: None,
            nominated: None,
            acquired_at: Moment::START,
            works: false,
            ended_holder: None,
            own_records: Vec::new(),
            foreign_records: 0,
            altered_writes: 0,
            term: None,
            tick,
            resigning: None,
            released: false,
            claimed_by: None,
            random: hasher.finish() | 1,
        }
    }

    /// Returns the next action. `wall`: the time that records show to people.
    pub fn next(&self, now: Moment, wall: Timestamp) -> Action<O> {
        if self.claimed_by.is_some() || self.released {
            return Action::Finish;
        }
        if let Some(give_up) = self.resigning {
            return self.next_resigning(now, wall, give_up);
        }
        if now < self.pause_until {
            return Action::Wait(self.pause_until);
        }
        if self.stale {
            return Action::Get;
        }
        let (identity, duration) = (&self.config.identity, self.config.timing.lease_duration);
        if self.config.nominated && (self.nominated.is_none() || self.observed.is_none()) {
            return self.next_without_nomination(now, wall);
        }
        let free_at = self.free_at();
        if now < free_at {
            // A holder renews when that is due. The others read at intervals.
            return if now < self.read_at { Action::Wait(free_at.min(self.read_at)) } else { Action::Get };
        }
        match &self.observed {
            None => Action::Create(LeaderElectionRecord::first(identity, duration, wall, self.tick)),
            Some(observed) => {
                Action::Update(Box::new(observed.clone()), observed.record.held_by(identity, duration, wall, self.tick))
            }
        }
    }

    /// Without a nomination, or a lock: reads at intervals, and releases the lock when the work of the former lead has ended.
    fn next_without_nomination(&self, now: Moment, wall: Timestamp) -> Action<O> {
        match &self.observed {
            Some(observed) if self.holds() && !self.works => {
                Action::Update(Box::new(observed.clone()), self.release(&observed.record, wall))
            }
            _ if now < self.read_at => Action::Wait(self.read_at),
            _ => Action::Get,
        }
    }

    /// The record that releases the lock.
    fn release(&self, observed: &LeaderElectionRecord, wall: Timestamp) -> LeaderElectionRecord {
        let released_by = self.config.nominated.then(|| self.config.identity.clone());
        LeaderElectionRecord { released_by, ..observed.released(wall, self.tick) }
    }

    fn next_resigning(&self, now: Moment, wall: Timestamp, give_up: Moment) -> Action<O> {
        let may_hold = self.has_unknown_write || self.holds();
        if !may_hold || now >= give_up {
            return Action::Finish;
        }
        match &self.observed {
            _ if now < self.pause_until => Action::Wait(self.pause_until.min(give_up)),
            Some(observed) if !self.stale => {
                Action::Update(Box::new(observed.clone()), self.release(&observed.record, wall))
            }
            _ => Action::Get,
        }
    }

    /// Processes the response to the action of [`Campaigner::next`]. `sent`: a moment before the request was sent. `now`: a moment after
    /// the response arrived. `wrote`: the record of a write.
    pub fn on_response(&mut self, answer: LockResponse<O>, sent: Moment, now: Moment, wrote: Option<LeaderElectionRecord>) {
        let unknown = matches!(answer, LockResponse::Unknown);
        match answer {
            LockResponse::Read(observed) => {
                self.has_unknown_write = false;
                self.observe(observed, now);
                // Not if a write is due: one that keeps failing stays delayed.
                if now < self.free_at() {
                    self.failures = 0;
                }
            }
            LockResponse::Written(observed) => match wrote {
                Some(record) if observed.difference(&record).is_none() => self.written(observed, sent, now),
                _ => self.altered(observed, now),
            },
            LockResponse::Rejected | LockResponse::Unknown => {
                if let Some(record) = wrote.filter(|_| unknown) {
                    self.has_unknown_write = true;
                    if self.own_records.len() == MAX_OWN_RECORDS {
                        self.own_records.remove(0);
                    }
                    self.own_records.push(record);
                }
                self.stale = true;
                self.failures = self.failures.saturating_add(1);
                if self.failures > 1 {
                    let retry = self.config.timing.retry_period;
                    self.pause_until = now + if self.leads(now) { retry } else { self.jittered(retry) };
                }
            }
        }
    }

    /// Processes a write that was stored unaltered.
    fn written(&mut self, observed: LockState<O>, sent: Moment, now: Moment) {
        self.has_unknown_write = false;
        (self.failures, self.altered_writes) = (0, 0);
        let continues = self.would_lead_until.is_some_and(|until| now < until);
        // No earlier write can be applied later, because its version is older.
        self.own_records = vec![observed.record.clone()];
        let revision = observed.version.resource_version.parse().ok();
        self.observe(Some(observed), now);
        if self.resigning.is_some() {
            // The write may be one that was in flight before.
            self.released = !self.holds();
        } else if self.holds() && self.claimed_by.is_none() && now >= self.not_before {
            // Not before: a creation may have been in flight while the lock of another process was created and deleted.
            let timing = self.config.timing;
            if !continues {
                (self.term, self.acquired_at) = (revision, now);
            }
            self.would_lead_until = Some(sent + timing.renew_deadline);
            self.lead_if_nominated();
            self.read_at = sent + timing.retry_period;
        }
    }

    /// Leads until the deadline of the last renewal, if nominated by a read that was sent after the lock was acquired: the nomination
    /// may have ended while the acquisition was under way.
    fn lead_if_nominated(&mut self) {
        let is_nominated = !self.config.nominated || self.nominated.is_some_and(|asked| asked >= self.acquired_at);
        if is_nominated && self.would_lead_until.is_some() {
            self.leads_until = self.would_lead_until;
        }
    }

    /// Processes a nomination: whether the nominating object, read from the server by a request that was sent at `asked`, names this
    /// process. Only for [`CampaignConfig::nominated`].
    pub fn nominate(&mut self, is_nominated: bool, asked: Moment) {
        self.nominated = is_nominated.then_some(asked);
        if is_nominated {
            self.lead_if_nominated();
        } else {
            (self.leads_until, self.would_lead_until) = (None, None);
        }
    }

    /// Sets whether the work of this process may go on, although it does not lead. The lock is not released meanwhile.
    pub fn set_works(&mut self, works: bool) {
        self.works = works;
    }

    /// Returns whether the lead waits for a nomination that is read from now on.
    pub fn wants_nomination(&self, now: Moment) -> bool {
        self.config.nominated && self.would_lead_until.is_some_and(|until| now < until) && self.leads_until.is_none()
    }

    /// Processes a write that an admission policy or a webhook altered, although the server reports success. It counts as rejected.
    /// It must not make or keep a leader, because the others observe what is stored: with a shorter duration or no holder they would
    /// acquire the lock before this deadline. If the stored record did not change at all, the lead of the last renewal stands.
    fn altered(&mut self, observed: LockState<O>, now: Moment) {
        let is_same = |known: &LockState<O>| {
            (&known.record, &known.parts, &known.version.uid) == (&observed.record, &observed.parts, &observed.version.uid)
        };
        let is_unchanged = self.observed.as_ref().is_some_and(is_same);
        if !is_unchanged {
            // It is no record of another process.
            self.own_records = vec![observed.record.clone()];
            self.has_unknown_write = false;
        }
        self.observe(Some(observed), now);
        if !is_unchanged {
            (self.leads_until, self.would_lead_until) = (None, None);
        }
        if self.resigning.is_some() {
            self.released = !self.holds();
        }
        self.failures = self.failures.saturating_add(1);
        self.altered_writes = self.altered_writes.saturating_add(1);
        let retry = self.config.timing.retry_period;
        let pause = retry.saturating_mul(1 << (self.altered_writes - 1).min(8)).min(retry.max(LONGEST_PAUSE));
        self.pause_until = now + if self.leads(now) { retry } else { self.jittered(pause) };
    }

    /// Processes an event of a watch: the lock as it was at some time; `None`: it was deleted. May be late.
    pub fn on_change(&mut self, observed: Option<LockState<O>>, now: Moment) {
        let Some(observed) = observed else {
            self.stale = true;
            return;
        };
        if self.observed.as_ref().is_some_and(|known| known.version == observed.version) {
            return;
        }
        let own = observed.record.holder == self.config.identity;
        match () {
            // An own earlier write: only the response to it counts.
            () if self.holds() && own => {}
            // A read comes before anything that depends on it.
            () if self.holds() || own || observed.claimed_by.is_some() || self.stale => self.stale = true,
            () => self.observe(Some(observed), now),
        }
    }

    /// Steps down at this moment. Only the release follows.
    pub fn resign(&mut self, now: Moment) {
        (self.leads_until, self.would_lead_until) = (None, None);
        self.pause_until = now;
        self.failures = 0;
        self.resigning.get_or_insert(now + self.config.request_timeout());
    }

    /// Returns whether the lock has a record of this process, or of its former one.
    fn holds(&self) -> bool {
        self.names_self() && self.observed.as_ref().is_some_and(|observed| self.own_records.contains(&observed.record))
    }

    fn names_self(&self) -> bool {
        self.observed.as_ref().is_some_and(|observed| observed.record.holder == self.config.identity)
    }

    /// Returns from when on this campaigner may write the lock.
    fn free_at(&self) -> Moment {
        let own = self.config.timing.lease_duration;
        let Some(LockState { record, .. }) = &self.observed else { return self.not_before };
        let free_at = if self.holds() {
            // A leader renews when that is due. A holder that does not lead writes at once.
            if self.would_lead_until.is_some() { self.read_at } else { Moment::START }
        } else if self.config.nominated && (record.is_held() || record.released_by.is_none()) {
            // Held, created anew, or edited: somebody may lead. An edit must not shorten the wait.
            self.unchanged_since + own.max(record.lease_duration(own).min(LONGEST_DURATION))
        } else if record.is_held() && self.ended_holder.as_ref() != Some(&record.holder) {
            self.unchanged_since + record.lease_duration(own)
        } else {
            Moment::START
        };
        free_at.max(self.not_before)
    }

    fn observe(&mut self, observed: Option<LockState<O>>, now: Moment) {
        let own = self.config.timing.lease_duration;
        let replaced = match (&self.observed, &observed) {
            // Without a UID there was no object that others could have held.
            (Some(before), Some(observed)) => !before.version.uid.is_empty() && before.version.uid != observed.version.uid,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if let Some(before) = self.observed.as_ref().filter(|_| replaced) {
            // Its holder may have renewed, or another process may have acquired it, without an observation.
            self.not_before = self.not_before.max(now + before.record.lease_duration(own).max(own));
        }
        // A blank record may come back after another one, unlike a renewal.
        let is_version_compared = self.config.nominated;
        let same = |before: &LockState<O>, observed: &LockState<O>| {
            let same_version = !is_version_compared || before.version == observed.version;
            !replaced && same_version && before.record == observed.record && before.parts == observed.parts
        };
        let is_change =
            !self.observed.as_ref().zip(observed.as_ref()).is_some_and(|(before, observed)| same(before, observed));
        if is_change {
            self.unchanged_since = now;
        }
        let is_first = self.confirmed.is_none();
        if is_first {
            let holder = observed.as_ref().map(|observed| observed.record.holder.clone());
            self.ended_holder = holder.filter(|holder| (self.config.has_ended)(holder));
            self.own_records
                .extend(observed.as_ref().filter(|_| self.config.resumes).map(|observed| observed.record.clone()));
        }
        self.claimed_by = observed.as_ref().and_then(|observed| observed.claimed_by.clone());
        self.observed = observed;
        self.foreign_records = match () {
            () if self.holds() || !self.names_self() => 0,
            // The first observation is of a former process.
            () if is_change && !is_first => self.foreign_records.saturating_add(1),
            () => self.foreign_records,
        };
        self.stale = false;
        self.confirmed = Some(now);
        if replaced || !self.holds() || self.claimed_by.is_some() {
            (self.leads_until, self.would_lead_until) = (None, None);
        }
        // A leader reads only after a renewal failed: the next one is due now.
        let pause = if self.would_lead_until.is_some() { Duration::ZERO } else { self.config.timing.retry_period };
        self.read_at = now + self.jittered(pause);
    }

    /// Returns the period, plus up to [`JITTER`] times the period.
    fn jittered(&mut self, period: Duration) -> Duration {
        // xorshift is random enough to spread requests.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = f64::from(u32::try_from(self.random >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        period + period.mul_f64(JITTER * share)
    }
}
