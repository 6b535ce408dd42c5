//! What others do to the labels of an Election: who changes them again and again, and what the API server said to a follower write.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use k8s_openapi::jiff::SignedDuration;
use tokio::time::Instant;

use super::observe::world::Key;
use crate::election::plan::LabelChange;
use crate::election::snapshot::CONTEST_TIMEOUT;
use crate::election::snapshot::Contest;
use crate::ids::Uid;
use crate::sync;

/// How many repairs within [`CONTEST_TIMEOUT`] make a contest.
const REPAIRS: usize = 3;

/// What is remembered of each Election whose labels others change, or whose followers cannot be labeled.
#[derive(Debug, Default)]
pub struct Disputes(Mutex<HashMap<Key, Dispute>>);

#[derive(Debug, Default)]
struct Dispute {
    /// The latest repairs, at most [`REPAIRS`], the earliest first.
    repairs: VecDeque<Instant>,
    contested: bool,
    /// Since when the status speaks of a contest that only another controller saw.
    taken_over: Option<Instant>,
    /// A contest is over here, and the status does not say so yet.
    settled: bool,
    refused: Option<String>,
    /// The last change of each follower's label that was acknowledged.
    followers: HashMap<Uid, LabelChange>,
}

impl Disputes {
    /// What a decision has to know. `said`: the status says that the label is contested.
    ///
    /// A controller that finds the status so, and repaired nothing itself, leaves it so for as long as a contest lasts: two active
    /// ones would overwrite each other's status without end. It never writes it anew: only who repairs knows of a contest.
    pub fn of(&self, key: &Key, said: bool) -> (Option<Contest>, Option<String>) {
        let mut all = self.lock();
        if said {
            all.entry(key.clone()).or_default();
        }
        let Some(dispute) = all.get_mut(key) else { return (None, None) };
        (dispute.contest(said), dispute.refused.clone())
    }

    /// A label that somebody else had changed was put back.
    pub fn repaired(&self, key: &Key) {
        self.lock().entry(key.clone()).or_default().repaired(Instant::now());
    }

    /// The follower's label was changed so. The same change again means that somebody else had undone it.
    pub fn followed(&self, key: &Key, pod: &Uid, change: LabelChange) {
        let mut all = self.lock();
        let dispute = all.entry(key.clone()).or_default();
        if dispute.followers.insert(pod.clone(), change) == Some(change) {
            dispute.repaired(Instant::now());
        }
    }

    /// What the API server said to follower writes. Returns whether that was not known.
    pub fn refused(&self, key: &Key, message: Option<String>) -> bool {
        let mut all = self.lock();
        if message.is_none() && !all.contains_key(key) {
            return false;
        }
        let dispute = all.entry(key.clone()).or_default();
        let news = dispute.refused.is_some() != message.is_some();
        dispute.refused = message;
        news
    }

    /// The Election is gone.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Dispute>> {
        sync::lock(&self.0)
    }
}

impl Dispute {
    fn contest(&mut self, said: bool) -> Option<Contest> {
        self.settled &= said;
        let lasts = |since: &Instant| SignedDuration::try_from(since.elapsed()).ok().filter(|ago| *ago < CONTEST_TIMEOUT);
        let own = self.repairs.back().filter(|_| self.contested).map(lasts);
        let taken_over = self.taken_over.filter(|_| said).as_ref().map(lasts);
        self.contested = matches!(own, Some(Some(_)));
        if let (Some(None), _) | (None, Some(None)) = (own, taken_over) {
            self.settled = said;
        }
        let begins = said && !self.settled && !self.contested;
        self.taken_over = begins.then(|| self.taken_over.unwrap_or_else(Instant::now));
        let taken_over = self.taken_over.map(|since| SignedDuration::try_from(since.elapsed()).unwrap_or_default());
        own.flatten().or(taken_over).map(|repaired_ago| Contest { repaired_ago })
    }

    fn repaired(&mut self, now: Instant) {
        self.repairs.push_back(now);
        if self.repairs.len() > REPAIRS {
            self.repairs.pop_front();
        }
        let lately = |first: &Instant| SignedDuration::try_from(now - *first).is_ok_and(|ago| ago < CONTEST_TIMEOUT);
        self.contested |= self.repairs.len() == REPAIRS && self.repairs.front().is_some_and(lately);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::controller::fixtures::key;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn three_repairs_within_a_minute_are_a_contest_until_a_minute_without_one() {
        let disputes = Disputes::default();
        let contested = || disputes.of(&key("web"), false).0.map(|contest| contest.repaired_ago.as_secs());
        for _ in 0..2 {
            disputes.repaired(&key("web"));
            advance(29 * SECOND).await;
        }
        assert_eq!(contested(), None);
        disputes.repaired(&key("web"));
        assert_eq!(contested(), Some(0));
        assert_eq!(disputes.of(&key("db"), false).0, None, "another Election");
        advance(59 * SECOND).await;
        assert_eq!(contested(), Some(59));
        advance(SECOND).await;
        assert_eq!(contested(), None);
        disputes.repaired(&key("web"));
        assert_eq!(contested(), None, "it takes three again");
    }

    #[tokio::test(start_paused = true)]
    async fn rare_repairs_are_no_contest() {
        let disputes = Disputes::default();
        for _ in 0..10 {
            disputes.repaired(&key("web"));
            advance(31 * SECOND).await;
        }
        assert_eq!(disputes.of(&key("web"), false).0, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_that_becomes_ready_and_unready_is_not_contested_and_one_that_loses_its_label_is() {
        let disputes = Disputes::default();
        let pod = Uid::from("pod");
        for _ in 0..10 {
            disputes.followed(&key("web"), &pod, LabelChange::Follow);
            disputes.followed(&key("web"), &pod, LabelChange::Remove);
        }
        assert_eq!(disputes.of(&key("web"), false).0, None);
        for _ in 0..4 {
            disputes.followed(&key("web"), &pod, LabelChange::Follow);
        }
        assert!(disputes.of(&key("web"), false).0.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_contest_that_only_the_status_knows_is_taken_over_for_a_minute_and_no_longer() {
        let disputes = Disputes::default();
        assert!(disputes.of(&key("web"), true).0.is_some(), "another controller saw it");
        advance(59 * SECOND).await;
        assert!(disputes.of(&key("web"), true).0.is_some());
        advance(SECOND).await;
        assert_eq!(disputes.of(&key("web"), true).0, None, "over, and the status is not written yet");
        assert_eq!(disputes.of(&key("web"), true).0, None);
        assert_eq!(disputes.of(&key("web"), false).0, None);
        assert!(disputes.of(&key("web"), true).0.is_some(), "another controller still sees it");
        assert_eq!(disputes.of(&key("web"), false).0, None, "and who only took it over writes it to no status");
    }

    #[test]
    fn what_was_said_to_a_follower_write_is_news_once() {
        let disputes = Disputes::default();
        assert!(!disputes.refused(&key("web"), None));
        assert!(disputes.refused(&key("web"), Some("no".into())));
        assert!(!disputes.refused(&key("web"), Some("no, again".into())));
        assert_eq!(disputes.of(&key("web"), false).1.as_deref(), Some("no, again"));
        assert!(disputes.refused(&key("web"), None));
    }
}
