//! A Lease as the lock, as client-go uses it.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::object::{Keeps, ObjectLock};
use super::record::Record;
use crate::api::names;
use crate::lease::object::is_election;

/// A Lease as the lock.
pub type LeaseLock = ObjectLock<Lease>;

impl Keeps for Lease {
    const TICK: Duration = Duration::from_micros(1);

    fn record(&self) -> Record {
        let spec = self.spec.clone().unwrap_or_default();
        Record {
            holder: spec.holder_identity.unwrap_or_default(),
            lease_duration_seconds: spec.lease_duration_seconds,
            acquire_time: spec.acquire_time.map(|MicroTime(time)| time),
            renew_time: spec.renew_time.map(|MicroTime(time)| time),
            leader_transitions: spec.lease_transitions,
        }
    }

    fn keep(&mut self, record: Record) {
        let Record { holder, lease_duration_seconds, acquire_time, renew_time, leader_transitions } = record;
        self.spec = Some(LeaseSpec {
            holder_identity: Some(holder),
            lease_duration_seconds,
            acquire_time: acquire_time.map(MicroTime),
            renew_time: renew_time.map(MicroTime),
            lease_transitions: leader_transitions,
            ..self.spec.take().unwrap_or_default()
        });
    }

    fn claimed_by(&self) -> Option<String> {
        let metadata = &self.metadata;
        let owner = metadata.owner_references.iter().flatten().find(|owner| is_election(owner));
        let incarnation = || metadata.annotations.as_ref()?.get(names::INCARNATION);
        owner.map(|owner| owner.name.clone()).or_else(|| incarnation().map(|uid| format!("with the UID {uid}")))
    }
}
