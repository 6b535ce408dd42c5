//! The Leases that Elections follow: since when each is unchanged, and when it may have expired.
//!
//! Only this process's own observations count, on its monotonic clock. A renewal changes no decision, so it wakes no Election.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;
use tokio::time::Instant;

use super::cached::CachedLease;
use crate::controller::key::Key;
use crate::election::snapshot::FollowedLease;
use crate::lease::record::Lease;

/// Namespace and name of a Lease.
type Place = (String, String);

/// One followed Lease.
#[derive(Clone, Debug)]
struct Followed {
    /// The names of the Elections that follow it.
    followers: BTreeSet<String>,
    /// The newest observed version, also of a deleted Lease: its holder leads until that version expires.
    lease: Option<Lease>,
    exists: bool,
    /// First observation of that version, or of the absence of a Lease that was never observed.
    seen: Instant,
    /// When the last read began that showed no newer version.
    confirmed: Instant,
    /// [`FollowedLeases::expired`] has returned this version.
    is_reported: bool,
}

impl Followed {
    fn absent(now: Instant) -> Self {
        Self { followers: BTreeSet::new(), lease: None, exists: false, seen: now, confirmed: now, is_reported: false }
    }

    fn observe(&mut self, lease: &CachedLease) {
        (self.lease, self.exists) = (Some(lease.lease.clone()), true);
        (self.seen, self.confirmed, self.is_reported) = (lease.seen, lease.seen, false);
    }

    fn duration(&self) -> Duration {
        let duration = self.lease.as_ref().map_or(Lease::DEFAULT_DURATION, Lease::duration);
        Duration::try_from(duration).unwrap_or_default()
    }
}

/// All followed Leases.
#[derive(Clone, Debug, Default)]
pub struct FollowedLeases {
    by_place: BTreeMap<Place, Followed>,
    by_follower: BTreeMap<Key, String>,
}

impl FollowedLeases {
    /// Notes which Lease the Election follows, if it follows one, and the cached version of that Lease.
    pub fn follow(&mut self, election: &Key, lease: Option<&str>, cached: Option<&CachedLease>, now: Instant) {
        let Some(lease) = lease else { return self.forget(election) };
        if self.by_follower.get(election).is_some_and(|followed| followed == lease) {
            return;
        }
        self.forget(election);
        self.by_follower.insert(election.clone(), lease.to_owned());
        let followed = self.by_place.entry((election.namespace.clone(), lease.to_owned())).or_insert_with(|| {
            let mut followed = Followed::absent(now);
            cached.into_iter().for_each(|cached| followed.observe(cached));
            followed
        });
        followed.followers.insert(election.name.clone());
    }

    /// Forgets an Election that follows no Lease any more.
    pub fn forget(&mut self, election: &Key) {
        let Some(lease) = self.by_follower.remove(election) else { return };
        let place = (election.namespace.clone(), lease);
        let Some(followed) = self.by_place.get_mut(&place) else { return };
        followed.followers.remove(&election.name);
        if followed.followers.is_empty() {
            self.by_place.remove(&place);
        }
    }

    /// Notes a new version of a Lease. Returns the Elections for which it is no mere renewal.
    pub fn observe(&mut self, namespace: &str, name: &str, lease: &CachedLease) -> BTreeSet<String> {
        let Some(followed) = self.get_mut(namespace, name) else { return BTreeSet::new() };
        let is_renewal = followed.exists && followed.lease.as_ref().is_some_and(|before| is_renewal(before, &lease.lease));
        // An Election that noted the expiry decides again.
        let is_revival = followed.is_reported;
        followed.observe(lease);
        if is_renewal && !is_revival { BTreeSet::new() } else { followed.followers.clone() }
    }

    /// Notes that a Lease is deleted. Returns the Elections that follow it.
    pub fn deleted(&mut self, namespace: &str, name: &str) -> BTreeSet<String> {
        let Some(followed) = self.get_mut(namespace, name) else { return BTreeSet::new() };
        followed.exists = false;
        // The holder of an Election's Lease does not elect on it, and that Lease never expires.
        if followed.lease.as_ref().is_some_and(|lease| lease.owner.is_some() || lease.incarnation.is_some()) {
            (followed.lease, followed.is_reported) = (None, false);
        }
        followed.followers.clone()
    }

    /// Notes that a read that began at `asked` showed no newer version than the cache has, or no Lease where it has none.
    pub fn confirm(&mut self, namespace: &str, name: &str, asked: Instant) {
        if let Some(followed) = self.get_mut(namespace, name) {
            followed.confirmed = followed.confirmed.max(asked);
        }
    }

    /// Returns the Elections whose Lease was unchanged for its duration, each version once, and when the next one will be.
    pub fn expired(&mut self, now: Instant) -> (BTreeSet<Key>, Option<Instant>) {
        let (mut expired, mut next) = (BTreeSet::new(), None);
        for ((namespace, _), followed) in self.by_place.iter_mut().filter(|(_, followed)| !followed.is_reported) {
            let at = followed.seen + followed.duration();
            if at > now {
                next = next.map_or(Some(at), |next: Instant| Some(next.min(at)));
                continue;
            }
            followed.is_reported = true;
            expired.extend(followed.followers.iter().map(|name| Key { namespace: namespace.clone(), name: name.clone() }));
        }
        (expired, next)
    }

    /// The Lease as a decision sees it. `verified`: it was read after the Election's own Lease was observed.
    pub fn snapshot(&self, namespace: &str, name: &str, verified: bool, now: Instant) -> Option<FollowedLease> {
        let Followed { lease, exists, seen, confirmed, .. } = self.by_place.get(&(namespace.to_owned(), name.to_owned()))?;
        let since_seen =
            |at: Instant| SignedDuration::try_from(at.saturating_duration_since(*seen)).unwrap_or(SignedDuration::MAX);
        Some(FollowedLease {
            lease: lease.clone(),
            exists: *exists,
            unchanged_for: since_seen(now),
            confirmed_for: since_seen(*confirmed),
            verified,
        })
    }

    fn get_mut(&mut self, namespace: &str, name: &str) -> Option<&mut Followed> {
        // Most Leases are not followed.
        if self.by_place.is_empty() {
            return None;
        }
        self.by_place.get_mut(&(namespace.to_owned(), name.to_owned()))
    }
}

/// Returns whether a version differs from the one before only in the time of renewal.
fn is_renewal(before: &Lease, after: &Lease) -> bool {
    *after == Lease { resource_version: after.resource_version, ..before.clone() }
}
