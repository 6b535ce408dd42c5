//! The content of a lock: client-go's leader election record, and the version of its object.

use std::fmt::Debug;
use std::slice;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// client-go's `LeaderElectionRecord`. Its times are for people, and are never compared with a clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderElectionRecord {
    /// The holder; empty: the lock is free.
    pub holder: String,
    /// Seconds after which the others expire the holder. May be absent in records of other writers.
    pub lease_duration_seconds: Option<i32>,
    /// When the holder acquired it, by the holder's clock.
    pub acquire_time: Option<Timestamp>,
    /// When the holder last renewed it, by the holder's clock.
    pub renew_time: Option<Timestamp>,
    /// The number of changes of the holder.
    pub leader_transitions: Option<i32>,
    /// The holder that released the lock. Only locks of nominated processes have it: there an empty holder without it is an edit.
    pub released_by: Option<String>,
}

impl LeaderElectionRecord {
    /// Returns the record that replaces an unreadable one. It counts as held, because its holder may lead.
    pub fn unreadable() -> Self {
        Self { holder: "(unreadable)".into(), ..Self::default() }
    }

    /// Returns whether the lock has a holder, expired or not.
    pub fn is_held(&self) -> bool {
        !self.holder.is_empty()
    }

    /// Returns the lease duration. Default: that of the caller, also if the number is not positive.
    pub fn lease_duration(&self, own: Duration) -> Duration {
        let seconds = self.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        seconds.filter(|seconds| *seconds > 0).map_or(own, Duration::from_secs)
    }

    /// Returns the record with which `identity` acquires or renews the lock whose record is `self`.
    pub(super) fn held_by(&self, identity: &str, lease_duration: Duration, now: Timestamp, tick: Duration) -> Self {
        let renewed = self.holder == identity;
        let transitions = self.leader_transitions.unwrap_or(0);
        let renew_time = self.next_time(now, tick);
        Self {
            holder: identity.into(),
            lease_duration_seconds: i32::try_from(lease_duration.as_secs()).ok(),
            // Rounded like the lock does, so that it can be compared with the response.
            acquire_time: self.acquire_time.filter(|_| renewed).map(|time| floor(time, tick)).or(Some(renew_time)),
            renew_time: Some(renew_time),
            leader_transitions: Some(if renewed { transitions } else { transitions.saturating_add(1) }),
            released_by: None,
        }
    }

    /// Returns the record of the first holder of a new lock.
    pub(super) fn first(identity: &str, lease_duration: Duration, now: Timestamp, tick: Duration) -> Self {
        let record = Self::default().held_by(identity, lease_duration, now, tick);
        Self { leader_transitions: Some(0), ..record }
    }

    /// Returns the record of a released lock, as client-go writes it: with the shortest duration, so that readers that do not know empty
    /// holders wait briefly.
    pub(super) fn released(&self, now: Timestamp, tick: Duration) -> Self {
        let now = self.next_time(now, tick);
        Self {
            holder: String::new(),
            lease_duration_seconds: Some(1),
            acquire_time: Some(now),
            renew_time: Some(now),
            leader_transitions: Some(self.leader_transitions.unwrap_or(0)),
            released_by: None,
        }
    }

    /// Returns the time of the next record, which is always later than that of this one, even if the clock stands still or is set back.
    /// Otherwise a renewal might repeat a record, and the others, which wait for a change, would expire the holder.
    fn next_time(&self, now: Timestamp, tick: Duration) -> Timestamp {
        let step = i64::try_from(tick.as_micros()).unwrap_or(i64::MAX).max(1);
        let after = self.renew_time.map_or(i64::MIN, |renewed| floor(renewed, tick).as_microsecond().saturating_add(step));
        Timestamp::from_microsecond(floor(now, tick).as_microsecond().max(after)).unwrap_or(now)
    }

    /// Describes the first field in which this record differs from the requested one.
    fn difference(&self, asked: &Self) -> Option<String> {
        fn field<T: PartialEq + Debug>(name: &str, is: &T, asked: &T) -> Option<String> {
            (is != asked).then(|| format!("{name} is {is:?} instead of {asked:?}"))
        }
        // Without the values, which differ each time, so that the same problem is logged once.
        fn time(name: &str, is: Option<Timestamp>, asked: Option<Timestamp>) -> Option<String> {
            (is != asked).then(|| format!("{name} is {}", if is.is_some() { "another" } else { "missing" }))
        }
        let Self { holder, lease_duration_seconds, acquire_time, renew_time, leader_transitions, released_by } = self;
        field("holderIdentity", holder, &asked.holder)
            .or_else(|| field("leaseDurationSeconds", lease_duration_seconds, &asked.lease_duration_seconds))
            .or_else(|| time("renewTime", *renew_time, asked.renew_time))
            .or_else(|| time("acquireTime", *acquire_time, asked.acquire_time))
            .or_else(|| field("leaderTransitions", leader_transitions, &asked.leader_transitions))
            .or_else(|| field("the mark of a release", released_by, &asked.released_by))
    }
}

/// Rounds the time down to whole ticks.
fn floor(time: Timestamp, tick: Duration) -> Timestamp {
    let tick = i64::try_from(tick.as_micros()).unwrap_or(i64::MAX).max(1);
    Timestamp::from_microsecond(time.as_microsecond().div_euclid(tick).saturating_mul(tick)).unwrap_or(time)
}

/// The version of an object. Opaque: versions are only compared for equality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.resourceVersion`
    pub resource_version: String,
}

/// A lock as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockState<O> {
    /// The record.
    pub record: LeaderElectionRecord,
    /// The version of the object.
    pub version: ObjectVersion,
    /// The Election that claims the lock, if one does.
    pub claimed_by: Option<String>,
    /// The records of a lock that consists of several objects; otherwise empty. A change of any of them counts as a renewal.
    pub parts: Vec<LeaderElectionRecord>,
    /// The object. A write keeps everything that others wrote into it.
    pub object: O,
}

impl<O> LockState<O> {
    /// Describes how the stored lock differs from the requested record, in any of its parts: an admission policy or a webhook may alter
    /// a write, and the API server responds 200. `None`: it was stored unaltered.
    pub fn difference(&self, asked: &LeaderElectionRecord) -> Option<String> {
        let parts = if self.parts.is_empty() { slice::from_ref(&self.record) } else { &self.parts };
        parts.iter().find_map(|part| part.difference(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(15);
    const TICK: Duration = Duration::from_micros(1);

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(micros).unwrap()
    }

    #[test]
    fn new_lock_is_written_as_by_client_go() {
        let first = LeaderElectionRecord::first("a", DURATION, at(7), TICK);
        let expected = LeaderElectionRecord {
            holder: "a".into(),
            lease_duration_seconds: Some(15),
            acquire_time: Some(at(7)),
            renew_time: Some(at(7)),
            leader_transitions: Some(0),
            released_by: None,
        };
        assert_eq!(first, expected);
    }

    #[test]
    fn renewal_keeps_the_acquire_time_and_an_acquisition_counts() {
        let first = LeaderElectionRecord::first("a", DURATION, at(7), TICK);
        let renewed = first.held_by("a", DURATION, at(9), TICK);
        assert_eq!((renewed.acquire_time, renewed.renew_time), (Some(at(7)), Some(at(9))));
        assert_eq!(renewed.leader_transitions, Some(0));
        let taken = renewed.held_by("b", DURATION, at(11), TICK);
        assert_eq!((taken.acquire_time, taken.leader_transitions), (Some(at(11)), Some(1)));
    }

    #[test]
    fn release_empties_the_holder_and_keeps_the_count() {
        let released = LeaderElectionRecord::first("a", DURATION, at(7), TICK)
            .held_by("b", DURATION, at(8), TICK)
            .released(at(9), TICK);
        let expected = LeaderElectionRecord {
            holder: String::new(),
            lease_duration_seconds: Some(1),
            acquire_time: Some(at(9)),
            renew_time: Some(at(9)),
            leader_transitions: Some(1),
            released_by: None,
        };
        assert_eq!(released, expected);
    }

    #[test]
    fn renewal_never_repeats_a_record_if_the_clock_stands_still_or_is_set_back() {
        let mut records = vec![LeaderElectionRecord::first("a", DURATION, at(7), TICK)];
        for now in [7, 7, 3, 8] {
            records.push(records[records.len() - 1].held_by("a", DURATION, at(now), TICK));
        }
        let times: Vec<_> = records.iter().map(|record| record.renew_time).collect();
        assert!(times.is_sorted_by(|before, after| before < after), "{times:?}");
    }

    #[test]
    fn renewal_of_a_lock_with_whole_seconds_is_a_later_second() {
        let mut records = vec![LeaderElectionRecord::first("a", DURATION, at(1_700_000), Duration::from_secs(1))];
        for now in [1_900_000, 2_100_000, 9_999_999] {
            records.push(records[records.len() - 1].held_by("a", DURATION, at(now), Duration::from_secs(1)));
        }
        let times: Vec<_> = records.iter().filter_map(|record| Some(record.renew_time?.as_microsecond())).collect();
        assert_eq!(times, [1_000_000, 2_000_000, 3_000_000, 9_000_000]);
    }

    #[test]
    fn altered_field_is_found_in_every_part() {
        let asked = LeaderElectionRecord::first("a", DURATION, at(7), TICK);
        let version = ObjectVersion { uid: "u".into(), resource_version: "1".into() };
        let seen = |record: &LeaderElectionRecord, parts: &[&LeaderElectionRecord]| LockState {
            record: record.clone(),
            version: version.clone(),
            claimed_by: None,
            parts: parts.iter().map(|part| (*part).clone()).collect(),
            object: (),
        };
        assert_eq!(seen(&asked, &[]).difference(&asked), None);
        assert_eq!(seen(&asked, &[&asked, &asked]).difference(&asked), None);
        for (changed, field) in [
            (LeaderElectionRecord { holder: String::new(), ..asked.clone() }, "holderIdentity is \"\" instead of \"a\""),
            (
                LeaderElectionRecord { lease_duration_seconds: None, ..asked.clone() },
                "leaseDurationSeconds is None instead of Some(15)",
            ),
            (LeaderElectionRecord { renew_time: Some(at(6)), ..asked.clone() }, "renewTime is another"),
            (LeaderElectionRecord { acquire_time: None, ..asked.clone() }, "acquireTime is missing"),
            (LeaderElectionRecord { leader_transitions: Some(7), ..asked.clone() }, "leaderTransitions"),
        ] {
            for seen in [seen(&changed, &[]), seen(&asked, &[&changed, &asked]), seen(&asked, &[&asked, &changed])] {
                let difference = seen.difference(&asked).unwrap_or_default();
                assert!(difference.starts_with(field), "{field}: {difference}");
            }
        }
    }

    #[test]
    fn finer_time_of_another_writer_is_rounded() {
        let acquired = LeaderElectionRecord {
            acquire_time: Some(at(1_500_000)),
            ..LeaderElectionRecord::first("a", DURATION, at(1), TICK)
        };
        let renewed = acquired.held_by("a", DURATION, at(2_700_000), Duration::from_secs(1));
        assert_eq!((renewed.acquire_time, renewed.renew_time), (Some(at(1_000_000)), Some(at(2_000_000))));
    }

    #[test]
    fn missing_lease_duration_defaults_to_that_of_the_caller() {
        let record = |seconds| LeaderElectionRecord { lease_duration_seconds: seconds, ..LeaderElectionRecord::default() };
        for seconds in [None, Some(0), Some(-1)] {
            assert_eq!(record(seconds).lease_duration(DURATION), DURATION);
        }
        assert_eq!(record(Some(60)).lease_duration(DURATION), Duration::from_secs(60));
    }
}
