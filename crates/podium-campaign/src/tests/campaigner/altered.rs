//! Altered writes: the server stores another record, and reports success.

use super::*;

/// Responds to the write that is due with this stored record.
fn stored(
    campaigner: &mut Campaigner<()>,
    change: impl FnOnce(LeaderElectionRecord) -> LeaderElectionRecord,
    version: u32,
    seconds: f64,
) {
    let wrote = match campaigner.next(at(seconds), WALL) {
        Action::Create(record) | Action::Update(_, record) => record,
        other => panic!("no write is due at {seconds} s: {other:?}"),
    };
    let seen = LockState { record: change(wrote.clone()), ..lock("", version) };
    campaigner.on_response(LockResponse::Written(seen), at(seconds), at(seconds), Some(wrote));
}

type Change = fn(LeaderElectionRecord) -> LeaderElectionRecord;

const CHANGES: [(&str, Change); 6] = [
    ("holder", |record| LeaderElectionRecord { holder: String::new(), ..record }),
    ("another holder", |record| LeaderElectionRecord { holder: "other".into(), ..record }),
    ("shorter", |record| LeaderElectionRecord { lease_duration_seconds: Some(1), ..record }),
    ("longer", |record| LeaderElectionRecord { lease_duration_seconds: Some(60), ..record }),
    ("no time", |record| LeaderElectionRecord { renew_time: None, ..record }),
    ("transitions", |record| LeaderElectionRecord { leader_transitions: None, ..record }),
];

#[test]
fn altered_creation_makes_no_leader_and_no_duplicate() {
    for (what, change) in CHANGES {
        let mut campaigner = me();
        reads(&mut campaigner, None, 0.0);
        stored(&mut campaigner, change, 1, 0.0);
        assert!(!campaigner.leads(at(0.0)) && !campaigner.is_unhindered(), "{what}");
        assert!(!campaigner.has_duplicate(), "{what}");
        assert!(waits(&campaigner, 0.0) >= Duration::from_secs(2), "{what}: not at once again");
    }
}

#[test]
fn altered_renewal_ends_the_lead_at_once() {
    for (what, change) in CHANGES {
        let mut campaigner = leader();
        stored(&mut campaigner, change, 2, 2.0);
        assert!(!campaigner.leads(at(2.0)), "{what}: others may take it before the deadline");
        assert_eq!(campaigner.term(), None, "{what}");
    }
}

#[test]
fn ignored_renewal_counts_as_rejected() {
    let mut campaigner = leader();
    for seconds in [2.0, 4.0, 6.0, 8.0] {
        stored(&mut campaigner, |_| lock("me", 1).record, 1, seconds);
        assert!(campaigner.leads(at(seconds)), "by the renewal before");
        assert_eq!(waits(&campaigner, seconds), Duration::from_secs(2));
    }
    assert!(!campaigner.leads(at(10.0)), "and no longer");
    let record = update(&campaigner, 10.0);
    campaigner.on_response(
        LockResponse::Written(LockState { record: record.clone(), ..lock("me", 9) }),
        at(10.0),
        at(10.0),
        Some(record),
    );
    assert!(campaigner.leads(at(10.0)) && campaigner.is_unhindered(), "as soon as the cause is gone");
}

#[test]
fn altered_writes_are_retried_with_backoff_within_20_s() {
    let mut campaigner = me();
    reads(&mut campaigner, None, 0.0);
    let (mut now, mut pauses) = (0.0, Vec::new());
    for version in 1..9 {
        stored(&mut campaigner, |record| LeaderElectionRecord { holder: String::new(), ..record }, version, now);
        let pause = waits(&campaigner, now);
        pauses.push(pause);
        now += pause.as_secs_f64();
    }
    assert!(pauses[0] < Duration::from_secs(5) && pauses[5..].iter().all(|pause| *pause >= Duration::from_secs(8)));
    assert!(pauses.iter().all(|pause| *pause < Duration::from_secs(20)), "{pauses:?}");
}

#[test]
fn ignored_release_is_retried_until_the_timeout() {
    let mut campaigner = leader();
    campaigner.resign(at(1.0));
    stored(&mut campaigner, |_| lock("me", 1).record, 1, 1.0);
    assert!(waits(&campaigner, 1.0) >= Duration::from_secs(2));
    assert_eq!(campaigner.next(at(6.0), WALL), Action::Finish);
}
