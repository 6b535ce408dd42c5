//! What a campaigner knows, and what it does next. Pure: time, answers and randomness come in, requests go out.
//!
//! Two rules carry the safety. A holder leads until its deadline after the moment *before* it sent the renewal that
//! succeeded; everybody else waits for the longer lease duration after the moment at which the answer that showed that
//! renewal had *arrived*. So whatever lies between the two, the holder has stopped first. And every write is a
//! compare-and-swap, so that what was waited for is still so when it is written.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::action::{Action, LockResponse, Waits};
use super::clock::Moment;
use super::config::{CampaignConfig, JITTER};
use super::record::{LeaderElectionRecord, LockState};

/// How many writes that were not answered are remembered. Of one that is forgotten and then applied, this campaigner thinks
/// that somebody else wrote it, and waits.
const MOST_OWN: usize = 16;

/// The longest pause after a write that was stored otherwise than asked, unless the retry period is longer. Each one makes a
/// revision that all who watch receive.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// So many records of the own identity that this process never wrote show that another process of that identity lives. The
/// first may be a write of a former life that came late.
const TWIN: u32 = 2;

/// One who campaigns for a lock.
#[derive(Clone, Debug)]
pub struct Campaigner<O> {
    settings: CampaignConfig,
    seen: Option<LockState<O>>,
    /// When `seen` was first heard to say what it says.
    since: Moment,
    /// When it was last confirmed by the server.
    confirmed: Option<Moment>,
    /// `seen` may not be so any more: read before anything else.
    stale: bool,
    /// A write was not answered, and the lock was not read since.
    in_doubt: bool,
    /// Failures in a row of what this campaigner tries.
    failures: u32,
    /// No request before this moment.
    pause_until: Moment,
    /// Without any news, read again then.
    look_at: Moment,
    /// The lock that was seen has vanished: whoever held it may lead until this moment.
    not_before: Moment,
    /// Leads until then, by the own success.
    leads_until: Option<Moment>,
    /// The holder that was found at the first look, and is known to have ended.
    ended: Option<String>,
    /// The records with the own identity that are no other's: the one found at the first look, which a former life wrote, and
    /// those that were written since, or may have been.
    own: Vec<LeaderElectionRecord>,
    /// How many records of the own identity were seen in a row that are not among `own`, after the first look.
    foreign: u32,
    /// Writes in a row that were stored otherwise than asked.
    altered: u32,
    /// The term of the present lead, or of the last one.
    term: Option<u64>,
    tick: Duration,
    /// Stops for good; gives up the attempt to release at this moment.
    resigning: Option<Moment>,
    released: bool,
    /// The Election that claims the lock.
    claimed_by: Option<String>,
    random: u64,
}

impl<O: Clone> Campaigner<O> {
    /// One who knows nothing yet. `settings` are valid; `tick`: what the lock can tell apart ([`Lock::TICK`](super::Lock::TICK)).
    pub fn new(settings: CampaignConfig, tick: Duration) -> Self {
        // Differs between identities, and is the same in each run.
        let mut hasher = DefaultHasher::new();
        settings.identity.hash(&mut hasher);
        Self {
            settings,
            seen: None,
            since: Moment::START,
            confirmed: None,
            stale: true,
            in_doubt: false,
            failures: 0,
            pause_until: Moment::START,
            look_at: Moment::START,
            not_before: Moment::START,
            leads_until: None,
            ended: None,
            own: Vec::new(),
            foreign: 0,
            altered: 0,
            term: None,
            tick,
            resigning: None,
            released: false,
            claimed_by: None,
            random: hasher.finish() | 1,
        }
    }

    /// What to do at this moment. `wall`: the time that people read on the clock.
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
        let (identity, duration) = (&self.settings.identity, self.settings.timing.lease_duration);
        let free_at = self.free_at();
        if now < free_at {
            // The holder itself knows when it is to renew. Others look from time to time.
            return if now < self.look_at { Action::Wait(free_at.min(self.look_at)) } else { Action::Get };
        }
        match &self.seen {
            None => Action::Create(LeaderElectionRecord::first(identity, duration, wall, self.tick)),
            Some(seen) => Action::Update(Box::new(seen.clone()), seen.record.held_by(identity, duration, wall, self.tick)),
        }
    }

    fn next_resigning(&self, now: Moment, wall: Timestamp, give_up: Moment) -> Action<O> {
        let may_hold = self.in_doubt || self.holds();
        if !may_hold || now >= give_up {
            return Action::Finish;
        }
        match &self.seen {
            _ if now < self.pause_until => Action::Wait(self.pause_until.min(give_up)),
            Some(seen) if !self.stale => Action::Update(Box::new(seen.clone()), seen.record.released(wall, self.tick)),
            _ => Action::Get,
        }
    }

    /// Takes in the answer to the action that [`Campaigner::next`] asked for. `asked`: a moment before the request was sent.
    /// `now`: a moment after the answer arrived. `wrote`: the record that it was to write, if it was a write.
    pub fn answered(&mut self, answer: LockResponse<O>, asked: Moment, now: Moment, wrote: Option<LeaderElectionRecord>) {
        let unknown = matches!(answer, LockResponse::Unknown);
        match answer {
            LockResponse::Read(seen) => {
                self.in_doubt = false;
                self.see(seen, now);
                // As before, if the next step is what failed: a write that is refused time and again is not hurried.
                if now < self.free_at() {
                    self.failures = 0;
                }
            }
            LockResponse::Written(seen) => match wrote {
                Some(record) if seen.difference(&record).is_none() => self.written(seen, asked, now),
                _ => self.altered(seen, now),
            },
            LockResponse::Refused | LockResponse::Unknown => {
                if let Some(record) = wrote.filter(|_| unknown) {
                    self.in_doubt = true;
                    if self.own.len() == MOST_OWN {
                        self.own.remove(0);
                    }
                    self.own.push(record);
                }
                self.stale = true;
                self.failures = self.failures.saturating_add(1);
                if self.failures > 1 {
                    let retry = self.settings.timing.retry_period;
                    self.pause_until = now + if self.leads(now) { retry } else { self.jittered(retry) };
                }
            }
        }
    }

    /// Takes in that a write was stored as asked.
    fn written(&mut self, seen: LockState<O>, asked: Moment, now: Moment) {
        self.in_doubt = false;
        (self.failures, self.altered) = (0, 0);
        let led = self.leads(now);
        // Nothing that was tried before can be applied any more: it was decided on an older version.
        self.own = vec![seen.record.clone()];
        let revision = seen.version.resource_version.parse().ok();
        self.see(Some(seen), now);
        if self.resigning.is_some() {
            // Or it is what was in flight when the resignation came.
            self.released = !self.holds();
        } else if self.holds() && self.claimed_by.is_none() && now >= self.not_before {
            // Not before: what was in flight while somebody else's lock came and vanished again may have made this one.
            let timing = self.settings.timing;
            self.leads_until = Some(asked + timing.renew_deadline);
            if !led {
                self.term = revision;
            }
            self.look_at = asked + timing.retry_period;
        }
    }

    /// Takes in that a write was stored otherwise than asked: an admission policy or a webhook has changed it, and the server
    /// answers success all the same. It counts as refused. Others see what is stored, so nothing leads on it: a shorter duration or
    /// no holder would let them in before this deadline. Where nothing was changed at all, the lead of the last renewal stands.
    fn altered(&mut self, seen: LockState<O>, now: Moment) {
        let is_same = |known: &LockState<O>| {
            (&known.record, &known.parts, &known.version.uid) == (&seen.record, &seen.parts, &seen.version.uid)
        };
        let nothing_changed = self.seen.as_ref().is_some_and(is_same);
        if !nothing_changed {
            // Whoever changed it, it is no other process's.
            self.own = vec![seen.record.clone()];
            self.in_doubt = false;
        }
        self.see(Some(seen), now);
        if !nothing_changed {
            self.leads_until = None;
        }
        if self.resigning.is_some() {
            self.released = !self.holds();
        }
        self.failures = self.failures.saturating_add(1);
        self.altered = self.altered.saturating_add(1);
        let retry = self.settings.timing.retry_period;
        let pause = retry.saturating_mul(1 << (self.altered - 1).min(8)).min(retry.max(LONGEST_PAUSE));
        self.pause_until = now + if self.leads(now) { retry } else { self.jittered(pause) };
    }

    /// Takes in what a watch delivered: the lock as it was at some time; `None`: it was deleted. May be late.
    pub fn heard(&mut self, seen: Option<LockState<O>>, now: Moment) {
        let Some(seen) = seen else {
            self.stale = true;
            return;
        };
        if self.seen.as_ref().is_some_and(|known| known.version == seen.version) {
            return;
        }
        let own = seen.record.holder == self.settings.identity;
        match () {
            // Old news about oneself: only an answer to the own request counts.
            () if self.holds() && own => {}
            // Before anything that matters follows, the server is asked.
            () if self.holds() || own || seen.claimed_by.is_some() || self.stale => self.stale = true,
            () => self.see(Some(seen), now),
        }
    }

    /// Ends leadership at this moment, and campaigns no more: what follows is the release.
    pub fn resign(&mut self, now: Moment) {
        self.leads_until = None;
        self.pause_until = now;
        self.failures = 0;
        self.resigning.get_or_insert(now + self.settings.request_timeout());
    }

    /// Whether this campaigner leads at this moment.
    pub fn leads(&self, now: Moment) -> bool {
        self.leads_until.is_some_and(|until| now < until)
    }

    /// Until when it leads, if nothing else happens.
    pub fn leads_until(&self) -> Option<Moment> {
        self.leads_until
    }

    /// The term of its lead: the revision at which the lock named it first. Revisions only grow, so a later leader's is larger,
    /// also after the lock was deleted. `None`: it does not lead.
    pub fn term(&self) -> Option<u64> {
        self.term.filter(|_| self.leads_until.is_some())
    }

    /// When whoever holds the lock acquired it, by the holder's clock.
    pub fn acquired(&self) -> Option<Timestamp> {
        self.seen.as_ref().filter(|seen| seen.record.is_held())?.record.acquire_time
    }

    /// Whether another process campaigns under the same identity.
    pub fn has_twin(&self) -> bool {
        self.foreign >= TWIN
    }

    /// Who holds the lock, as far as known, and from when on that counts no more unless it is confirmed until then.
    pub fn holder(&self) -> Option<(&str, Moment)> {
        let seen = self.seen.as_ref().filter(|seen| seen.record.is_held())?;
        let counts_until = if self.holds() { self.leads_until? } else { self.free_at() };
        Some((&seen.record.holder, counts_until))
    }

    /// When the server last said so.
    pub fn confirmed(&self) -> Option<Moment> {
        self.confirmed
    }

    /// What is waited for, if it is not that somebody else leads.
    pub(super) fn waits(&self, now: Moment) -> Option<Waits> {
        match () {
            () if self.claimed_by.is_some() || self.leads(now) => None,
            () if now < self.not_before => Some(Waits::Vanished),
            () if self.names_me() && !self.holds() && now < self.free_at() => Some(Waits::OwnName),
            () => None,
        }
    }

    /// The Election that claims the lock: this campaign is over.
    pub fn claimed_by(&self) -> Option<&str> {
        self.claimed_by.as_deref()
    }

    /// Whether an Election has claimed the lock and left it to this campaigner.
    pub fn is_adopted(&self) -> bool {
        self.claimed_by.is_some() && self.names_me()
    }

    /// Who this is.
    pub fn identity(&self) -> &str {
        &self.settings.identity
    }

    /// Whether nothing that this campaigner tried has failed since its last success.
    pub fn gets_on(&self) -> bool {
        self.failures == 0
    }

    /// The longest time that the request which is due now may take.
    pub fn patience(&self, now: Moment) -> Duration {
        let timeout = self.settings.request_timeout();
        let bound = self.resigning.or(self.leads_until).filter(|until| now < *until);
        bound.map_or(timeout, |until| timeout.min(until - now))
    }

    /// Whether the lock names this campaigner. It may lead, or have led, or be someone whose former life led.
    fn holds(&self) -> bool {
        self.names_me() && self.seen.as_ref().is_some_and(|seen| self.own.contains(&seen.record))
    }

    fn names_me(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.record.holder == self.settings.identity)
    }

    /// From when on the lock may be written by this campaigner.
    fn free_at(&self) -> Moment {
        let own = self.settings.timing.lease_duration;
        let Some(LockState { record, .. }) = &self.seen else { return self.not_before };
        let free_at = if self.holds() {
            // To be renewed when it is time; at once by one that does not lead.
            if self.leads_until.is_some() { self.look_at } else { Moment::START }
        } else if record.is_held() && self.ended.as_ref() != Some(&record.holder) {
            self.since + record.lease_duration(own)
        } else {
            Moment::START
        };
        free_at.max(self.not_before)
    }

    fn see(&mut self, seen: Option<LockState<O>>, now: Moment) {
        let own = self.settings.timing.lease_duration;
        let replaced = match (&self.seen, &seen) {
            // One that had no UID had no object that others could have held.
            (Some(before), Some(seen)) => !before.version.uid.is_empty() && before.version.uid != seen.version.uid,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if let Some(before) = self.seen.as_ref().filter(|_| replaced) {
            // Until just now its holder may have renewed, or somebody may have become its holder, unseen.
            self.not_before = self.not_before.max(now + before.record.lease_duration(own).max(own));
        }
        let same = |before: &LockState<O>, seen: &LockState<O>| {
            !replaced && before.record == seen.record && before.parts == seen.parts
        };
        let is_news = !self.seen.as_ref().zip(seen.as_ref()).is_some_and(|(before, seen)| same(before, seen));
        if is_news {
            self.since = now;
        }
        let is_first = self.confirmed.is_none();
        if is_first {
            let holder = seen.as_ref().map(|seen| seen.record.holder.clone());
            self.ended = holder.filter(|holder| (self.settings.has_ended)(holder));
            self.own.extend(seen.as_ref().filter(|_| self.settings.resumes).map(|seen| seen.record.clone()));
        }
        self.claimed_by = seen.as_ref().and_then(|seen| seen.claimed_by.clone());
        self.seen = seen;
        self.foreign = match () {
            () if self.holds() || !self.names_me() => 0,
            // What is found at the first look is of a former life.
            () if is_news && !is_first => self.foreign.saturating_add(1),
            () => self.foreign,
        };
        self.stale = false;
        self.confirmed = Some(now);
        if replaced || !self.holds() || self.claimed_by.is_some() {
            self.leads_until = None;
        }
        // Who leads reads only when a renewal failed, or was in question: it is due now.
        let pause = if self.leads_until.is_some() { Duration::ZERO } else { self.settings.timing.retry_period };
        self.look_at = now + self.jittered(pause);
    }

    /// The period, and up to [`JITTER`] times more.
    fn jittered(&mut self, period: Duration) -> Duration {
        // xorshift: to spread requests, nothing more.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = f64::from(u32::try_from(self.random >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        period + period.mul_f64(JITTER * share)
    }
}
