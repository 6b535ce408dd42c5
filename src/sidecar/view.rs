//! The leader as the application sees it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use podium_campaign::{Leadership, LeadershipState, Moment, Renewals};
use tokio::time::sleep;

use crate::sync;

/// The leader, for an application.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaderInfo {
    /// The leader's name. Empty: unknown, or there is none.
    pub name: String,
    /// This process leads.
    pub is_leader: bool,
    /// The leader's term, where it is known.
    pub term: Option<u64>,
    /// When the term began, by the clock of the process that began it.
    pub since: Option<Timestamp>,
    /// The age of the information. `None`: the API server has not responded yet.
    pub age: Option<Duration>,
    /// The cause of the wait of this process, and its duration.
    pub waiting: Option<(String, Duration)>,
}

impl LeaderInfo {
    /// Returns whether leader or term differ.
    pub fn differs(&self, other: &Self) -> bool {
        let Self { name, is_leader, term, since: _, age: _, waiting: _ } = self;
        (name, is_leader, term) != (&other.name, &other.is_leader, &other.term)
    }
}

/// Returns the leader at any moment. It is computed from the clock on each call, so a process that was paused claims nothing that has
/// expired in the meantime.
#[derive(Clone, Debug)]
pub struct View {
    identity: Arc<str>,
    leadership: Leadership,
    withdrawn: Arc<AtomicBool>,
    changes: Arc<AtomicU64>,
    renewals: Option<Arc<Renewals>>,
    /// When the wait began.
    waiting_since: Arc<Mutex<Option<Moment>>>,
    /// The reason why this process can never lead.
    never_leads: Arc<OnceLock<String>>,
}

/// Counts since the process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Leaders that were named after another one, or after none.
    pub changes: u64,
    /// Successful and failed renewals by this process. `None`: it follows.
    pub renewals: Option<(u64, u64)>,
}

impl View {
    /// Returns the view of the process of this identity. `renewals`: the counters of its campaign, if it campaigns.
    pub fn new(identity: &str, leadership: Leadership, renewals: Option<Arc<Renewals>>) -> Self {
        Self {
            identity: identity.into(),
            leadership,
            withdrawn: Arc::default(),
            changes: Arc::default(),
            renewals,
            waiting_since: Arc::default(),
            never_leads: Arc::default(),
        }
    }

    /// Records why this process can never lead.
    pub fn never_leads(&self, why: String) {
        // The first reason stands.
        let _ = self.never_leads.set(why);
    }

    /// Counts that another leader was named.
    pub fn leader_changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether no problem exists that was logged where it was detected.
    pub fn is_only_waiting(&self) -> bool {
        self.leadership.problem().is_none() && self.never_leads.get().is_none()
    }

    /// Returns whether this never changes, so that it is logged once.
    pub fn is_permanent(&self, what: &str) -> bool {
        self.never_leads.get().is_some_and(|why| why == what)
    }

    /// Returns the counts.
    pub fn counts(&self) -> Counts {
        let renewals = self.renewals.as_ref().map(|renewals| {
            let Renewals { succeeded, failed } = &**renewals;
            (succeeded.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
        });
        Counts { changes: self.changes.load(Ordering::Relaxed), renewals }
    }

    /// Stops claiming to lead, whatever this process holds.
    pub fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::SeqCst);
    }

    /// Returns whether this process has stopped claiming to lead.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::SeqCst)
    }

    /// Returns the leader at this moment.
    pub fn leader(&self) -> LeaderInfo {
        let (state, now) = self.leadership.snapshot();
        let withdrawn = self.withdrawn.load(Ordering::SeqCst);
        let waits_for =
            state.problem.clone().or_else(|| state.waits_for.clone()).or_else(|| self.never_leads.get().cloned());
        let waits_for = waits_for.filter(|_| !withdrawn);
        let since = {
            let mut since = sync::lock(&self.waiting_since);
            match &waits_for {
                Some(_) => *since.get_or_insert(now),
                None => {
                    *since = None;
                    now
                }
            }
        };
        let waiting = waits_for.map(|waits_for| (waits_for, now - since));
        LeaderInfo { waiting, ..leader_of(state, now, &self.identity, withdrawn) }
    }

    /// Waits until [`View::leader`] may return something else.
    pub async fn changed(&mut self) {
        let (LeadershipState { holder, leads_until, .. }, now) = self.leadership.snapshot();
        let expiries = holder.map(|(_, until)| until).into_iter().chain(leads_until);
        let next = expiries.filter(|until| *until > now && *until < Moment::NEVER).min();
        let expired = async {
            match next {
                Some(until) => sleep(until - now).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            is_alive = self.leadership.changed() => {
                if !is_alive {
                    // The campaign is over: the process is about to exit.
                    std::future::pending::<()>().await;
                }
            }
            () = expired => {}
        }
    }
}

fn leader_of(state: LeadershipState, now: Moment, identity: &str, withdrawn: bool) -> LeaderInfo {
    let LeadershipState { holder, confirmed, leads_until, term, since, problem: _, denied: _, waits_for: _ } = state;
    let is_leader = !withdrawn && leads_until.is_some_and(|until| now < until);
    let name = holder.filter(|(_, until)| now < *until).map(|(name, _)| name).unwrap_or_default();
    // This process may hold the lock without leading: then there is no leader. Its pod may have another name than its host.
    let is_me = name == identity || leads_until.is_some();
    let name = if is_me && !is_leader { String::new() } else { name };
    let is_known = !name.is_empty();
    LeaderInfo {
        is_leader,
        term: term.filter(|_| is_known),
        since: since.filter(|_| is_known),
        age: confirmed.map(|confirmed| now - confirmed),
        waiting: None,
        name,
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use podium_campaign::Clock;

    fn at(seconds: u64) -> Moment {
        Moment::after(Duration::from_secs(seconds))
    }

    fn held_by(name: &str, until: Moment, leads: bool) -> LeadershipState {
        LeadershipState {
            holder: Some((name.into(), until)),
            confirmed: Some(at(100)),
            leads_until: leads.then_some(until),
            term: Some(7),
            ..LeadershipState::default()
        }
    }

    #[test]
    fn leader_is_named_until_it_expires() {
        let other = |now| leader_of(held_by("other", at(110), false), at(now), "me", false);
        let leader = other(109);
        assert_eq!((leader.name.as_str(), leader.is_leader, leader.term), ("other", false, Some(7)));
        assert_eq!(leader.age, Some(Duration::from_secs(9)));
        assert_eq!((other(110).name.as_str(), other(110).term), ("", None));
    }

    #[test]
    fn former_leader_does_not_name_itself() {
        let me = |now, withdrawn| leader_of(held_by("me", at(110), true), at(now), "me", withdrawn);
        assert!(me(109, false).is_leader && me(109, false).name == "me");
        for leader in [me(110, false), me(109, true)] {
            assert_eq!((leader.name.as_str(), leader.is_leader), ("", false));
        }
    }

    #[test]
    fn former_leader_with_another_host_name_does_not_name_itself() {
        let pod = |now, withdrawn| leader_of(held_by("pod", at(110), true), at(now), "host", withdrawn);
        assert!(pod(109, false).is_leader && pod(109, false).name == "pod");
        for leader in [pod(110, false), pod(109, true)] {
            assert_eq!((leader.name.as_str(), leader.is_leader), ("", false));
        }
    }

    #[test]
    fn wait_is_published_with_its_duration() {
        let now = Arc::new(AtomicU64::new(100));
        let seconds = now.clone();
        let clock = Clock::new(move || at(seconds.load(Ordering::Relaxed)), || Timestamp::UNIX_EPOCH);
        let (state, receiver) = watch::channel(LeadershipState::default());
        let view = View::new("me", Leadership::new(receiver, clock), None);
        assert_eq!(view.leader().waiting, None);
        state.send_replace(LeadershipState { waits_for: Some("a Lease".into()), ..LeadershipState::default() });
        assert_eq!(view.leader().waiting, Some(("a Lease".into(), Duration::ZERO)));
        now.store(107, Ordering::Relaxed);
        state.send_replace(LeadershipState { problem: Some("a permission".into()), ..LeadershipState::default() });
        assert_eq!(view.leader().waiting, Some(("a permission".into(), Duration::from_secs(7))));
        state.send_replace(LeadershipState::default());
        assert_eq!(view.leader().waiting, None);
        view.never_leads("no name".into());
        assert_eq!(view.leader().waiting, Some(("no name".into(), Duration::ZERO)));
    }

    #[test]
    fn own_name_in_the_lock_alone_makes_no_leader() {
        let leader = leader_of(held_by("me", at(110), false), at(101), "me", false);
        assert_eq!((leader.name.as_str(), leader.is_leader), ("", false));
    }

    #[test]
    fn leader_without_expiry_is_named_for_ever() {
        let leader = leader_of(held_by("me", Moment::NEVER, true), at(1_000_000), "me", false);
        assert!(leader.is_leader);
        assert_eq!(leader.age, Some(Duration::from_secs(999_900)));
    }
}
