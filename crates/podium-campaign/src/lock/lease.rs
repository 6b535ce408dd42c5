//! The Lease as a lock, as client-go uses it.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};

use super::object::{LockFormat, ObjectLock};
use crate::record::LeaderElectionRecord;

/// The API group of Podium's `Election`.
pub const ELECTION_GROUP: &str = "podium.dev";

/// The annotation with which an Election claims a Lease: its UID.
pub const ELECTION_ANNOTATION: &str = "podium.dev/election";

/// A Lease as the lock.
pub type LeaseLock = ObjectLock<LeaseFormat>;

/// The record in the spec of a Lease.
#[derive(Clone, Copy, Debug)]
pub enum LeaseFormat {}

impl LockFormat for LeaseFormat {
    type Object = Lease;

    const TICK: Duration = Duration::from_micros(1);

    fn record(lease: &Lease) -> LeaderElectionRecord {
        let spec = lease.spec.clone().unwrap_or_default();
        LeaderElectionRecord {
            holder: spec.holder_identity.unwrap_or_default(),
            lease_duration_seconds: spec.lease_duration_seconds,
            acquire_time: spec.acquire_time.map(|MicroTime(time)| time),
            renew_time: spec.renew_time.map(|MicroTime(time)| time),
            leader_transitions: spec.lease_transitions,
            released_by: None,
        }
    }

    fn set_record(lease: &mut Lease, record: LeaderElectionRecord) {
        let LeaderElectionRecord {
            holder,
            lease_duration_seconds,
            acquire_time,
            renew_time,
            leader_transitions,
            released_by: _,
        } = record;
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(holder),
            lease_duration_seconds,
            acquire_time: acquire_time.map(MicroTime),
            renew_time: renew_time.map(MicroTime),
            lease_transitions: leader_transitions,
            ..lease.spec.take().unwrap_or_default()
        });
    }

    fn claimed_by(lease: &Lease) -> Option<String> {
        let metadata = &lease.metadata;
        let owner = metadata.owner_references.iter().flatten().find(|owner| is_election(owner));
        let annotation = || metadata.annotations.as_ref()?.get(ELECTION_ANNOTATION);
        owner.map(|owner| owner.name.clone()).or_else(|| annotation().map(|uid| format!("with the UID {uid}")))
    }
}

/// Returns whether an owner is an Election, of whatever version.
pub fn is_election(owner: &OwnerReference) -> bool {
    owner.kind == "Election" && owner.api_version.split('/').next() == Some(ELECTION_GROUP)
}
