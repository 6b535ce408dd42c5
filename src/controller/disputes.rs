//! Contested labels, which others keep changing, and denied writes of follower labels, by Election.

use std::collections::{HashMap, VecDeque};
use std::mem::discriminant;
use std::sync::{Mutex, MutexGuard};

use k8s_openapi::jiff::SignedDuration;
use tokio::time::Instant;

use super::key::Key;
use crate::election::plan::LabelChange;
use crate::election::snapshot::{CONTEST_TIMEOUT, Contest, Refused};
use crate::ids::Uid;
use crate::sync;

/// Repairs within [`CONTEST_TIMEOUT`] that make a contest.
const REPAIRS: usize = 3;

/// Elections whose labels others change, or whose followers cannot be labeled.
#[derive(Debug, Default)]
pub struct Disputes(Mutex<HashMap<Key, Dispute>>);

#[derive(Debug, Default)]
struct Dispute {
    /// The latest repairs, at most [`REPAIRS`], the earliest first.
    repairs: VecDeque<Instant>,
    contested: bool,
    /// Since when the status reports a contest that another controller observed.
    inherited: Option<Instant>,
    /// The contest is over, and the status still reports it.
    over: bool,
    denied: Option<Refused>,
    /// The last change of each follower's label that was acknowledged.
    followers: HashMap<Uid, LabelChange>,
}

impl Disputes {
    /// Returns the contest and the denied write for a decision. `reported`: the status reports a contest.
    ///
    /// A controller that finds a reported contest, and repaired nothing itself, keeps it for the duration of a contest: otherwise
    /// two active controllers would overwrite each other's status. It never reports it again: only a controller that repairs
    /// observes a contest.
    pub fn of(&self, key: &Key, reported: bool) -> (Option<Contest>, Option<Refused>) {
        let mut all = self.lock();
        if reported {
            all.entry(key.clone()).or_default();
        }
        let Some(dispute) = all.get_mut(key) else { return (None, None) };
        (dispute.contest(reported), dispute.denied.clone())
    }

    /// Notes that the controller repaired a label that another client had changed.
    pub fn repaired(&self, key: &Key) {
        self.lock().entry(key.clone()).or_default().repaired(Instant::now());
    }

    /// Notes a change of a follower's label. The same change twice means that another client had reverted it.
    pub fn followed(&self, key: &Key, pod: &Uid, change: LabelChange) {
        let mut all = self.lock();
        let dispute = all.entry(key.clone()).or_default();
        if dispute.followers.insert(pod.clone(), change) == Some(change) {
            dispute.repaired(Instant::now());
        }
    }

    /// Notes whether the API server denied background writes. Returns whether that changed.
    pub fn denied(&self, key: &Key, refused: Option<Refused>) -> bool {
        let mut all = self.lock();
        if refused.is_none() && !all.contains_key(key) {
            return false;
        }
        let dispute = all.entry(key.clone()).or_default();
        let changed = dispute.denied.as_ref().map(discriminant) != refused.as_ref().map(discriminant);
        dispute.denied = refused;
        changed
    }

    /// Forgets a deleted Election.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Dispute>> {
        sync::lock(&self.0)
    }
}

impl Dispute {
    fn contest(&mut self, reported: bool) -> Option<Contest> {
        self.over &= reported;
        let lasts = |since: &Instant| SignedDuration::try_from(since.elapsed()).ok().filter(|ago| *ago < CONTEST_TIMEOUT);
        let own = self.repairs.back().filter(|_| self.contested).map(lasts);
        let inherited = self.inherited.filter(|_| reported).as_ref().map(lasts);
        self.contested = matches!(own, Some(Some(_)));
        if let (Some(None), _) | (None, Some(None)) = (own, inherited) {
            self.over = reported;
        }
        let begins = reported && !self.over && !self.contested;
        self.inherited = begins.then(|| self.inherited.unwrap_or_else(Instant::now));
        let inherited = self.inherited.map(|since| SignedDuration::try_from(since.elapsed()).unwrap_or_default());
        own.flatten().or(inherited).map(|repaired_ago| Contest { repaired_ago })
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
    async fn three_repairs_within_a_minute_contest_the_label_until_a_minute_without_repair() {
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
        assert_eq!(contested(), None, "three more repairs are needed");
    }

    #[tokio::test(start_paused = true)]
    async fn rare_repairs_do_not_contest_the_label() {
        let disputes = Disputes::default();
        for _ in 0..10 {
            disputes.repaired(&key("web"));
            advance(31 * SECOND).await;
        }
        assert_eq!(disputes.of(&key("web"), false).0, None);
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_label_of_a_follower_is_a_repair_but_readiness_changes_are_not() {
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
    async fn reported_contest_of_another_controller_is_kept_for_a_minute() {
        let disputes = Disputes::default();
        assert!(disputes.of(&key("web"), true).0.is_some(), "another controller reported it");
        advance(59 * SECOND).await;
        assert!(disputes.of(&key("web"), true).0.is_some());
        advance(SECOND).await;
        assert_eq!(disputes.of(&key("web"), true).0, None, "over, before the status is written");
        assert_eq!(disputes.of(&key("web"), true).0, None);
        assert_eq!(disputes.of(&key("web"), false).0, None);
        assert!(disputes.of(&key("web"), true).0.is_some(), "another controller still reports it");
        assert_eq!(disputes.of(&key("web"), false).0, None, "and who only took it over writes it to no status");
    }

    #[test]
    fn denied_follower_write_is_a_change_once() {
        let disputes = Disputes::default();
        assert!(!disputes.denied(&key("web"), None));
        let follower = |message: &str| Some(Refused::Follower(message.into()));
        assert!(disputes.denied(&key("web"), follower("no")));
        assert!(!disputes.denied(&key("web"), follower("no, again")));
        assert_eq!(disputes.of(&key("web"), false).1, follower("no, again"));
        assert!(disputes.denied(&key("web"), Some(Refused::Cost("no".into()))));
        assert!(disputes.denied(&key("web"), None));
    }
}
