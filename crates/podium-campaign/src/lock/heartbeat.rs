//! The heartbeat Lease of an Election as a lock. Its controller creates it, and nominates the holder.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

use super::lease::LeaseFormat;
use super::object::{LockFormat, ObjectLock};
use crate::record::LeaderElectionRecord;

/// The annotation of a release: the identity that released the Lease.
pub const RELEASED_ANNOTATION: &str = "podium.dev/released";

/// A heartbeat Lease as the lock of nominated processes.
pub type HeartbeatLock = ObjectLock<HeartbeatFormat>;

/// The record in the spec of a Lease, and the mark of a release in an annotation. It belongs to an Election, which does not claim it.
#[derive(Clone, Copy, Debug)]
pub enum HeartbeatFormat {}

impl LockFormat for HeartbeatFormat {
    type Object = Lease;

    const TICK: Duration = LeaseFormat::TICK;

    fn record(lease: &Lease) -> LeaderElectionRecord {
        let mark = lease.metadata.annotations.as_ref().and_then(|annotations| annotations.get(RELEASED_ANNOTATION));
        LeaderElectionRecord { released_by: mark.cloned(), ..LeaseFormat::record(lease) }
    }

    fn set_record(lease: &mut Lease, mut record: LeaderElectionRecord) {
        let annotations = lease.metadata.annotations.get_or_insert_default();
        match record.released_by.take() {
            Some(identity) => drop(annotations.insert(RELEASED_ANNOTATION.into(), identity)),
            None => drop(annotations.remove(RELEASED_ANNOTATION)),
        }
        LeaseFormat::set_record(lease, record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_of_a_release_is_written_read_and_removed() {
        let mut lease = Lease::default();
        let released = LeaderElectionRecord { released_by: Some("a".into()), ..LeaderElectionRecord::default() };
        HeartbeatFormat::set_record(&mut lease, released.clone());
        assert_eq!(HeartbeatFormat::record(&lease), released);
        let held = LeaderElectionRecord { holder: "b".into(), ..LeaderElectionRecord::default() };
        HeartbeatFormat::set_record(&mut lease, held.clone());
        assert_eq!(HeartbeatFormat::record(&lease), held);
    }

    #[test]
    fn election_that_owns_it_does_not_claim_it() {
        let mut lease = Lease::default();
        let annotation = (crate::ELECTION_ANNOTATION.to_owned(), "uid".to_owned());
        lease.metadata.annotations.get_or_insert_default().extend([annotation]);
        assert_eq!(HeartbeatFormat::claimed_by(&lease), None);
        assert!(LeaseFormat::claimed_by(&lease).is_some());
    }
}
