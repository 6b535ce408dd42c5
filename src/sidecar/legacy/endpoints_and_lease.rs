//! Endpoints and a Lease of one name as one lock, for the migration from the old lock to the new.
//!
//! A leader holds both, so it excludes processes that elect on the Endpoints alone as well as those that elect on the Lease alone.
//! Without this lock between them, the two kinds would elect a leader each.

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

/// The two objects, if they exist.
#[derive(Clone, Debug)]
pub struct Both {
    endpoints: Option<LockState<Endpoints>>,
    lease: Option<LockState<Lease>>,
}

impl EndpointsAndLeaseLock {
    /// Returns the lock on both, for the campaigner of this identity.
    pub fn new(endpoints: EndpointsLock, lease: LeaseLock, identity: impl Into<String>) -> Self {
        Self { endpoints, lease, identity: identity.into() }
    }

    /// Writes the Lease, then the Endpoints. In this order, because users who migrate have the permissions on Endpoints: a missing
    /// permission on Leases leaves both unchanged.
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
            return Ok(state(&self.identity, Both { endpoints, lease: Some(lease) }));
        }
        let endpoints = match endpoints {
            Some(endpoints) => self.endpoints.update(endpoints, record).await,
            None => self.endpoints.create(record).await,
        };
        // The Lease is written, whatever became of the Endpoints.
        let endpoints = endpoints.map_err(half_written)?;
        Ok(state(&self.identity, Both { endpoints: Some(endpoints), lease: Some(lease) }))
    }
}

/// Turns an error into one of a lock that is half written.
fn half_written(error: LockError) -> LockError {
    match error {
        LockError::Conflict(_) | LockError::Denied(_) => LockError::Unknown(error.to_string()),
        error @ (LockError::Unknown(_) | LockError::Busy { .. }) => error,
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
        Ok(any.then(|| state(&self.identity, both)))
    }

    async fn create(&self, record: LeaderElectionRecord) -> Result<LockState<Both>, LockError> {
        self.write(Both { endpoints: None, lease: None }, record).await
    }

    async fn update(&self, observed: LockState<Both>, record: LeaderElectionRecord) -> Result<LockState<Both>, LockError> {
        self.write(observed.object, record).await
    }
}

/// Returns the state of both, for the campaigner of this identity.
fn state(identity: &str, both: Both) -> LockState<Both> {
    let Both { endpoints, lease } = &both;
    let parts: Vec<LeaderElectionRecord> =
        [endpoints.as_ref().map(|state| &state.record), lease.as_ref().map(|state| &state.record)]
            .into_iter()
            .map(|record| record.cloned().unwrap_or_default())
            .collect();
    let revision =
        |version: Option<&ObjectVersion>| version.map_or(0, |version| version.resource_version.parse::<u64>().unwrap_or(0));
    let (first, second) = (endpoints.as_ref().map(|state| &state.version), lease.as_ref().map(|state| &state.version));
    LockState {
        record: merged(identity, &parts),
        // Every write makes the latest of all revisions, so the later one of the two identifies the state. The UID is that of the
        // Endpoints: processes that elect on the Lease alone detect by themselves that it was deleted.
        version: ObjectVersion {
            uid: first.map(|version| version.uid.clone()).unwrap_or_default(),
            resource_version: revision(first).max(revision(second)).to_string(),
        },
        claimed_by: lease.as_ref().and_then(|state| state.claimed_by.clone()),
        parts,
        object: both,
    }
}

/// Merges the records. Another holder's record comes before that of this identity. If there are two other holders, one record is
/// left of an acquisition that failed halfway, or of a leader that died. The merged record names the one that renewed last by its own
/// clock, which is only for display. Its duration is the longer one, because a change of any part counts as a renewal.
fn merged(identity: &str, parts: &[LeaderElectionRecord]) -> LeaderElectionRecord {
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
        // No renewal of either may repeat a former record.
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
        merged("me", &[endpoints.clone(), lease.clone()]).holder
    }

    #[test]
    fn holder_of_one_of_the_two_is_waited_for() {
        let (me, other, free) = (held_by("me", 15), held_by("other", 10), LeaderElectionRecord::default());
        for (endpoints, lease, expected) in [
            (&free, &free, ""),
            (&other, &free, "other"),
            (&free, &other, "other"),
            (&other, &me, "other"),
            (&me, &other, "other"),
            (&me, &me, "me"),
            // An interrupted acquisition is continued.
            (&me, &free, "me"),
            (&free, &me, "me"),
        ] {
            assert_eq!(holder(endpoints, lease), expected, "{endpoints:?} {lease:?}");
        }
    }

    #[test]
    fn of_two_holders_the_last_to_renew_is_named_and_the_longer_duration_counts() {
        let renewed = |holder, seconds, second| {
            let renew_time = k8s_openapi::jiff::Timestamp::from_second(second).ok();
            LeaderElectionRecord { renew_time, ..held_by(holder, seconds) }
        };
        for (endpoints, lease, named) in [
            // Another process holds the Endpoints and renews them.
            (renewed("short", 10, 9), renewed("long", 60, 5), "short"),
            (renewed("short", 10, 5), renewed("long", 60, 9), "long"),
            (renewed("long", 60, 5), renewed("short", 10, 9), "short"),
        ] {
            let merged = merged("me", &[endpoints, lease]);
            assert_eq!((merged.holder.as_str(), merged.lease_duration_seconds), (named, Some(60)));
        }
    }

    #[test]
    fn merged_record_has_the_higher_count_and_the_later_time() {
        let time = |second| k8s_openapi::jiff::Timestamp::from_second(second).ok();
        let endpoints = LeaderElectionRecord { leader_transitions: Some(0), renew_time: time(9), ..held_by("me", 10) };
        let lease = LeaderElectionRecord { leader_transitions: Some(4), renew_time: time(7), ..held_by("me", 10) };
        let merged = merged("me", &[endpoints, lease]);
        assert_eq!((merged.leader_transitions, merged.renew_time), (Some(4), time(9)));
    }
}
