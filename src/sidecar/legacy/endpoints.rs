//! An annotation on Endpoints as the lock, as in the leader-elector sidecar of Kubernetes 1.2 and in older versions of client-go.

use std::time::Duration;

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::jiff::Timestamp;
use podium_campaign::{LeaderElectionRecord, LockFormat, ObjectLock};
use serde::{Deserialize, Serialize};

/// An annotation on an Endpoints object as the lock.
pub type EndpointsLock = ObjectLock<LeaderAnnotation>;

/// The annotation that holds the record, as JSON.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// The record in JSON: the order of the fields is part of the format. Times are whole seconds.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Leader {
    holder_identity: String,
    lease_duration_seconds: i32,
    acquire_time: Option<Timestamp>,
    renew_time: Option<Timestamp>,
    leader_transitions: i32,
}

/// The record in an annotation.
#[derive(Clone, Copy, Debug)]
pub enum LeaderAnnotation {}

impl LockFormat for LeaderAnnotation {
    type Object = Endpoints;

    const TICK: Duration = Duration::from_secs(1);

    fn record(endpoints: &Endpoints) -> LeaderElectionRecord {
        let Some(text) = endpoints.metadata.annotations.as_ref().and_then(|annotations| annotations.get(LEADER)) else {
            return LeaderElectionRecord::default();
        };
        match serde_json::from_str(text) {
            Ok(Leader { holder_identity, lease_duration_seconds, acquire_time, renew_time, leader_transitions }) => {
                LeaderElectionRecord {
                    holder: holder_identity,
                    lease_duration_seconds: Some(lease_duration_seconds),
                    acquire_time,
                    renew_time,
                    leader_transitions: Some(leader_transitions),
                    released_by: None,
                }
            }
            Err(_) => LeaderElectionRecord::unreadable(),
        }
    }

    fn set_record(endpoints: &mut Endpoints, record: LeaderElectionRecord) {
        let LeaderElectionRecord {
            holder,
            lease_duration_seconds,
            acquire_time,
            renew_time,
            leader_transitions,
            released_by: _,
        } = record;
        let leader = Leader {
            holder_identity: holder,
            lease_duration_seconds: lease_duration_seconds.unwrap_or_default(),
            acquire_time: acquire_time.map(whole_seconds),
            renew_time: renew_time.map(whole_seconds),
            leader_transitions: leader_transitions.unwrap_or_default(),
        };
        // Text and numbers always have a JSON form.
        let text = serde_json::to_string(&leader).unwrap_or_default();
        endpoints.metadata.annotations.get_or_insert_default().insert(LEADER.into(), text);
    }
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by leader-elector 0.5.
    const WRITTEN: &str = r#"{"holderIdentity":"contrib05-0-irgkv","leaseDurationSeconds":10,"acquireTime":"2026-11-20T18:10:29Z","renewTime":"2026-11-20T18:10:32Z","leaderTransitions":0}"#;

    fn endpoints(annotation: &str) -> Endpoints {
        let mut object = Endpoints::default();
        object.metadata.annotations = Some([(LEADER.to_owned(), annotation.to_owned())].into());
        object
    }

    #[test]
    fn record_of_the_old_sidecar_is_read_and_written_byte_for_byte() {
        let record = LeaderAnnotation::record(&endpoints(WRITTEN));
        assert_eq!((record.holder.as_str(), record.lease_duration_seconds), ("contrib05-0-irgkv", Some(10)));
        assert_eq!(record.renew_time, "2026-11-20T18:10:32Z".parse().ok());
        let mut written = endpoints("");
        LeaderAnnotation::set_record(&mut written, record);
        assert_eq!(written, endpoints(WRITTEN));
    }

    #[test]
    fn times_are_written_in_whole_seconds() {
        let mut written = Endpoints::default();
        let time = Some("2026-11-20T18:10:32.987654Z".parse().unwrap());
        LeaderAnnotation::set_record(
            &mut written,
            LeaderElectionRecord {
                holder: "a".into(),
                acquire_time: time,
                renew_time: time,
                ..LeaderElectionRecord::default()
            },
        );
        let expected = r#"{"holderIdentity":"a","leaseDurationSeconds":0,"acquireTime":"2026-11-20T18:10:32Z","renewTime":"2026-11-20T18:10:32Z","leaderTransitions":0}"#;
        assert_eq!(written, endpoints(expected));
    }

    #[test]
    fn missing_annotation_is_a_free_lock_and_an_unreadable_one_is_held() {
        assert_eq!(LeaderAnnotation::record(&Endpoints::default()), LeaderElectionRecord::default());
        for edited in ["", "{", "leader", r#"{"renewTime":"yesterday"}"#, r#"{"leaseDurationSeconds":"ten"}"#] {
            assert!(LeaderAnnotation::record(&endpoints(edited)).is_held(), "{edited}");
        }
        assert!(!LeaderAnnotation::record(&endpoints("{}")).is_held());
        assert_eq!(LeaderAnnotation::record(&endpoints(r#"{"holderIdentity":"a","more":1}"#)).holder, "a");
    }
}
