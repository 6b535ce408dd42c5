//! What the application is told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use podium_campaign::{Leadership, LeadershipState, Moment, Renewals};
use tokio::time::sleep;

use crate::sync;

/// Who leads, to be told to an application.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The leader's name. Empty: nobody leads, as far as known.
    pub name: String,
    /// Whether it is this process.
    pub is_leader: bool,
    /// The leader's term, where it is known.
    pub term: Option<u64>,
    /// When its term began, by the clock of whoever began it.
    pub since: Option<Timestamp>,
    /// How old the API server's word about it is. `None`: it has said nothing yet.
    pub age: Option<Duration>,
    /// What is waited for, and for how long already.
    pub waiting: Option<(String, Duration)>,
}

impl Answer {
    /// Whether an application would call it another state of affairs. Time passing alone is none.
    pub fn differs(&self, other: &Self) -> bool {
        let Self { name, is_leader, term, since: _, age: _, waiting: _ } = self;
        (name, is_leader, term) != (&other.name, &other.is_leader, &other.term)
    }
}

/// Tells the application who leads. Every answer is made from the clock when it is asked for: a process that was paused claims
/// nothing that has expired meanwhile.
#[derive(Clone, Debug)]
pub struct View {
    identity: Arc<str>,
    leadership: Leadership,
    withdrawn: Arc<AtomicBool>,
    changes: Arc<AtomicU64>,
    renewals: Option<Arc<Renewals>>,
    /// Since when something is waited for.
    waiting_since: Arc<Mutex<Option<Moment>>>,
    /// Why this process cannot be the pod that leads.
    nameless: Arc<OnceLock<String>>,
}

/// What was counted since the process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// How often it named a leader after another one, or after nobody.
    pub changes: u64,
    /// How often this process renewed its lead, and failed to. `None`: it follows, and those who elect renew nothing here.
    pub renewals: Option<(u64, u64)>,
}

impl View {
    /// What `leadership` knows, told by the process of this identity. `renewals`: where they are counted, if it campaigns.
    pub fn new(identity: &str, leadership: Leadership, renewals: Option<Arc<Renewals>>) -> Self {
        Self {
            identity: identity.into(),
            leadership,
            withdrawn: Arc::default(),
            changes: Arc::default(),
            renewals,
            waiting_since: Arc::default(),
            nameless: Arc::default(),
        }
    }

    /// This process never leads, for this reason.
    pub fn never_leads(&self, why: String) {
        // The first reason stands.
        let _ = self.nameless.set(why);
    }

    /// Another leader is named than before.
    pub fn leader_changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether nothing hinders this process that was logged where it was noticed.
    pub fn waits_only(&self) -> bool {
        self.leadership.trouble().is_none() && self.nameless.get().is_none()
    }

    /// Whether this is said once, because it never changes.
    pub fn is_final(&self, what: &str) -> bool {
        self.nameless.get().is_some_and(|why| why == what)
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        let renewals = self.renewals.as_ref().map(|renewals| {
            let Renewals { succeeded, failed } = &**renewals;
            (succeeded.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
        });
        Counts { changes: self.changes.load(Ordering::Relaxed), renewals }
    }

    /// From now on this process claims to lead no more, whatever it holds.
    pub fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::SeqCst);
    }

    /// Who leads at this moment.
    pub fn answer(&self) -> Answer {
        let (standing, now) = self.leadership.look();
        let withdrawn = self.withdrawn.load(Ordering::SeqCst);
        let waits_for =
            standing.trouble.clone().or_else(|| standing.waits_for.clone()).or_else(|| self.nameless.get().cloned());
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
        Answer { waiting, ..answer(standing, now, &self.identity, withdrawn) }
    }

    /// Waits until the answer may be another one.
    pub async fn changed(&mut self) {
        let (LeadershipState { holder, leads_until, .. }, now) = self.leadership.look();
        let expiries = holder.map(|(_, until)| until).into_iter().chain(leads_until);
        let next = expiries.filter(|until| *until > now && *until < Moment::NEVER).min();
        let expired = async {
            match next {
                Some(until) => sleep(until - now).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            learnt = self.leadership.changed() => {
                if !learnt {
                    // Nobody learns anything any more: the process is about to end.
                    std::future::pending::<()>().await;
                }
            }
            () = expired => {}
        }
    }
}

fn answer(standing: LeadershipState, now: Moment, identity: &str, withdrawn: bool) -> Answer {
    let LeadershipState { holder, confirmed, leads_until, term, since, trouble: _, denied: _, waits_for: _ } = standing;
    let is_leader = !withdrawn && leads_until.is_some_and(|until| now < until);
    let name = holder.filter(|(_, until)| now < *until).map(|(name, _)| name).unwrap_or_default();
    // One that holds the lock without leading, or not any more, is nobody's leader. Its pod may have another name than its host.
    let is_me = name == identity || leads_until.is_some();
    let name = if is_me && !is_leader { String::new() } else { name };
    let known = !name.is_empty();
    Answer {
        is_leader,
        term: term.filter(|_| known),
        since: since.filter(|_| known),
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
    fn a_leader_is_named_until_its_time_is_over() {
        let other = |now| answer(held_by("other", at(110), false), at(now), "me", false);
        let told = other(109);
        assert_eq!((told.name.as_str(), told.is_leader, told.term), ("other", false, Some(7)));
        assert_eq!(told.age, Some(Duration::from_secs(9)));
        assert_eq!((other(110).name.as_str(), other(110).term), ("", None));
    }

    #[test]
    fn who_led_names_itself_no_longer_than_it_leads() {
        let me = |now, withdrawn| answer(held_by("me", at(110), true), at(now), "me", withdrawn);
        assert!(me(109, false).is_leader && me(109, false).name == "me");
        for told in [me(110, false), me(109, true)] {
            assert_eq!((told.name.as_str(), told.is_leader), ("", false));
        }
    }

    #[test]
    fn who_leads_under_another_name_than_its_hosts_names_itself_no_longer_than_it_leads() {
        let pod = |now, withdrawn| answer(held_by("pod", at(110), true), at(now), "host", withdrawn);
        assert!(pod(109, false).is_leader && pod(109, false).name == "pod");
        for told in [pod(110, false), pod(109, true)] {
            assert_eq!((told.name.as_str(), told.is_leader), ("", false));
        }
    }

    #[test]
    fn what_is_waited_for_is_told_with_the_time_since_anything_is() {
        let now = Arc::new(AtomicU64::new(100));
        let seconds = now.clone();
        let clock = Clock::new(move || at(seconds.load(Ordering::Relaxed)), || Timestamp::UNIX_EPOCH);
        let (standing, told) = watch::channel(LeadershipState::default());
        let view = View::new("me", Leadership::new(told, clock), None);
        assert_eq!(view.answer().waiting, None);
        standing.send_replace(LeadershipState { waits_for: Some("a Lease".into()), ..LeadershipState::default() });
        assert_eq!(view.answer().waiting, Some(("a Lease".into(), Duration::ZERO)));
        now.store(107, Ordering::Relaxed);
        standing.send_replace(LeadershipState { trouble: Some("a right".into()), ..LeadershipState::default() });
        assert_eq!(view.answer().waiting, Some(("a right".into(), Duration::from_secs(7))));
        standing.send_replace(LeadershipState::default());
        assert_eq!(view.answer().waiting, None);
        view.never_leads("no name".into());
        assert_eq!(view.answer().waiting, Some(("no name".into(), Duration::ZERO)));
    }

    #[test]
    fn the_own_name_in_the_lock_alone_makes_no_leader() {
        let told = answer(held_by("me", at(110), false), at(101), "me", false);
        assert_eq!((told.name.as_str(), told.is_leader), ("", false));
    }

    #[test]
    fn what_does_not_expire_is_told_for_ever() {
        let told = answer(held_by("me", Moment::NEVER, true), at(1_000_000), "me", false);
        assert!(told.is_leader);
        assert_eq!(told.age, Some(Duration::from_secs(999_900)));
    }
}
