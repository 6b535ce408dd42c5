//! Endpoints and a Lease of one name as one lock, for the way from the old lock to the new.
//!
//! Whoever leads holds both, so it excludes those who elect on the Endpoints alone as well as those who elect on the Lease
//! alone. The two kinds must not be mixed without this one: they would elect a leader each.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Endpoints;
use podium_campaign::{LeaderElectionRecord, LeaseLock, Lock, LockError, LockState, ObjectVersion};

use super::endpoints::EndpointsLock;

/// Endpoints and a Lease of one name as one lock.
#[derive(Clone, Debug)]
pub struct EndpointsAndLeaseLock {
    endpoints: EndpointsLock,
    lease: LeaseLock,
    identity: String,
}

/// The two objects, as far as they exist.
#[derive(Clone, Debug)]
pub struct Both {
    endpoints: Option<LockState<Endpoints>>,
    lease: Option<LockState<Lease>>,
}

impl EndpointsAndLeaseLock {
    /// Both of these, for the campaigner of this identity.
    pub fn new(endpoints: EndpointsLock, lease: LeaseLock, identity: impl Into<String>) -> Self {
        Self { endpoints, lease, identity: identity.into() }
    }

    /// Writes the Lease, then the Endpoints. In this order, because those who came from the Endpoints have the right to write
    /// these: a missing right on Leases leaves everything as it was.
    async fn write(
        &self,
        Both { endpoints, lease }: Both,
        record: LeaderElectionRecord,
    ) -> Result<LockState<Both>, LockError> {
        let lease = match lease {
            Some(lease) => self.lease.update(lease, record.clone()).await?,
            None => self.lease.create(record.clone()).await?,
        };
        if lease.difference(&record).is_some() {
            return Ok(seen(&self.identity, Both { endpoints, lease: Some(lease) }));
        }
        let endpoints = match endpoints {
            Some(endpoints) => self.endpoints.update(endpoints, record).await,
            None => self.endpoints.create(record).await,
        };
        // One half is written, whatever became of the other.
        let endpoints = endpoints.map_err(unknown)?;
        Ok(seen(&self.identity, Both { endpoints: Some(endpoints), lease: Some(lease) }))
    }
}

/// What a failure says where half of the lock is written already.
fn unknown(failure: LockError) -> LockError {
    match failure {
        LockError::Conflict(_) | LockError::Denied(_) => LockError::Unknown(failure.to_string()),
        failure @ (LockError::Unknown(_) | LockError::Busy { .. }) => failure,
    }
}

impl Lock for EndpointsAndLeaseLock {
    type Object = Both;

    const TICK: Duration = EndpointsLock::TICK;

    fn describe(&self) -> String {
        format!("{} and {}", self.endpoints.describe(), self.lease.describe())
    }

    async fn get(&self) -> Result<Option<LockState<Both>>, LockError> {
        let both = Both { endpoints: self.endpoints.get().await?, lease: self.lease.get().await? };
        let any = both.endpoints.is_some() || both.lease.is_some();
        Ok(any.then(|| seen(&self.identity, both)))
    }

    async fn create(&self, record: LeaderElectionRecord) -> Result<LockState<Both>, LockError> {
        self.write(Both { endpoints: None, lease: None }, record).await
    }

    async fn update(&self, seen: LockState<Both>, record: LeaderElectionRecord) -> Result<LockState<Both>, LockError> {
        self.write(seen.object, record).await
    }
}

/// What the two say together, to the campaigner of this identity.
fn seen(identity: &str, both: Both) -> LockState<Both> {
    let Both { endpoints, lease } = &both;
    let parts: Vec<LeaderElectionRecord> =
        [endpoints.as_ref().map(|seen| &seen.record), lease.as_ref().map(|seen| &seen.record)]
            .into_iter()
            .map(|record| record.cloned().unwrap_or_default())
            .collect();
    let revision =
        |seen: Option<&ObjectVersion>| seen.map_or(0, |version| version.resource_version.parse::<u64>().unwrap_or(0));
    let (first, second) = (endpoints.as_ref().map(|seen| &seen.version), lease.as_ref().map(|seen| &seen.version));
    LockState {
        record: together(identity, &parts),
        // Every write makes the latest of all revisions, so the later of the two tells them all apart. What vanished without
        // a trace is the Endpoints: those who elect on the Lease alone watch over the Lease themselves.
        version: ObjectVersion {
            uid: first.map(|version| version.uid.clone()).unwrap_or_default(),
            resource_version: revision(first).max(revision(second)).to_string(),
        },
        claimed_by: lease.as_ref().and_then(|seen| seen.claimed_by.clone()),
        parts,
        object: both,
    }
}

/// The record that stands for all of these: somebody else's before the own. Of two others, one holds what is left of an
/// acquisition that failed halfway, or of a leader that died: named is whoever renewed last by their clocks, on which nothing
/// else hangs, and waited for, as a change of any part counts as a renewal, as long as the slower of them takes.
fn together(identity: &str, parts: &[LeaderElectionRecord]) -> LeaderElectionRecord {
    let others = || parts.iter().filter(|record| record.is_held() && record.holder != identity);
    let own = parts.iter().find(|record| record.holder == identity);
    let leader_transitions = transitions(parts);
    let Some(record) = others().max_by_key(|record| record.renew_time).or(own) else {
        return LeaderElectionRecord { leader_transitions, ..parts.last().cloned().unwrap_or_default() };
    };
    let slowest = others().filter_map(|record| record.lease_duration_seconds).max();
    LeaderElectionRecord {
        lease_duration_seconds: slowest.or(record.lease_duration_seconds),
        leader_transitions,
        // No renewal of either repeats what was there before.
        renew_time: parts.iter().filter_map(|record| record.renew_time).max(),
        ..record.clone()
    }
}

fn transitions(parts: &[LeaderElectionRecord]) -> Option<i32> {
    parts.iter().filter_map(|record| record.leader_transitions).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, seconds: i32) -> LeaderElectionRecord {
        LeaderElectionRecord {
            holder: holder.into(),
            lease_duration_seconds: Some(seconds),
            ..LeaderElectionRecord::default()
        }
    }

    fn holder(endpoints: &LeaderElectionRecord, lease: &LeaderElectionRecord) -> String {
        together("me", &[endpoints.clone(), lease.clone()]).holder
    }

    #[test]
    fn whoever_holds_one_of_the_two_is_waited_for() {
        let (me, other, nobody) = (held_by("me", 15), held_by("other", 10), LeaderElectionRecord::default());
        for (endpoints, lease, expected) in [
            (&nobody, &nobody, ""),
            (&other, &nobody, "other"),
            (&nobody, &other, "other"),
            (&other, &me, "other"),
            (&me, &other, "other"),
            (&me, &me, "me"),
            // What is left of an acquisition that was interrupted is gone on with.
            (&me, &nobody, "me"),
            (&nobody, &me, "me"),
        ] {
            assert_eq!(holder(endpoints, lease), expected, "{endpoints:?} {lease:?}");
        }
    }

    #[test]
    fn of_two_others_the_one_that_renewed_last_is_named_and_the_one_that_takes_longer_is_waited_for() {
        let renewed = |holder, seconds, second| {
            let renew_time = k8s_openapi::jiff::Timestamp::from_second(second).ok();
            LeaderElectionRecord { renew_time, ..held_by(holder, seconds) }
        };
        for (endpoints, lease, named) in [
            // The Lease of one that did not get the Endpoints, which somebody renews.
            (renewed("short", 10, 9), renewed("long", 60, 5), "short"),
            (renewed("short", 10, 5), renewed("long", 60, 9), "long"),
            (renewed("long", 60, 5), renewed("short", 10, 9), "short"),
        ] {
            let together = together("me", &[endpoints, lease]);
            assert_eq!((together.holder.as_str(), together.lease_duration_seconds), (named, Some(60)));
        }
    }

    #[test]
    fn the_count_goes_on_from_the_higher_one_and_time_from_the_later_one() {
        let time = |second| k8s_openapi::jiff::Timestamp::from_second(second).ok();
        let endpoints = LeaderElectionRecord { leader_transitions: Some(0), renew_time: time(9), ..held_by("me", 10) };
        let lease = LeaderElectionRecord { leader_transitions: Some(4), renew_time: time(7), ..held_by("me", 10) };
        let together = together("me", &[endpoints, lease]);
        assert_eq!((together.leader_transitions, together.renew_time), (Some(4), time(9)));
    }
}
