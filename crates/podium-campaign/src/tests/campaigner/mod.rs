//! The next action of a campaigner, case by case.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::*;

mod altered;
mod identity;
mod nominated;

const WALL: Timestamp = Timestamp::UNIX_EPOCH;

const TICK: Duration = Duration::from_micros(1);

fn at(seconds: f64) -> Moment {
    Moment::after(Duration::from_secs_f64(1000.0 + seconds))
}

/// Returns the campaigner `me` with client-go's durations: 15 s, 10 s, 2 s.
fn me() -> Campaigner<()> {
    Campaigner::new(CampaignConfig::new("me"), TICK)
}

fn lock(holder: &str, version: u32) -> LockState<()> {
    let record = LeaderElectionRecord {
        holder: holder.into(),
        lease_duration_seconds: Some(15),
        renew_time: Timestamp::from_second(version.into()).ok(),
        leader_transitions: Some(3),
        ..LeaderElectionRecord::default()
    };
    let version = ObjectVersion { uid: "uid".into(), resource_version: version.to_string() };
    LockState { record, version, claimed_by: None, parts: Vec::new(), object: () }
}

/// Responds at once to the request that is due. Writes are stored unaltered.
fn answer(campaigner: &mut Campaigner<()>, answer: LockResponse<()>, seconds: f64) {
    let wrote = match (campaigner.next(at(seconds), WALL), &answer) {
        (Action::Get, _) => None,
        (Action::Create(_) | Action::Update(..), LockResponse::Written(seen)) => Some(seen.record.clone()),
        (Action::Create(record) | Action::Update(_, record), _) => Some(record),
        (idle, _) => panic!("no request is due at {seconds} s: {idle:?}"),
    };
    campaigner.on_response(answer, at(seconds), at(seconds), wrote);
}

/// Responds to a write that was sent at one time and answered at another.
fn written(campaigner: &mut Campaigner<()>, seen: LockState<()>, asked: f64, answered: f64) {
    let wrote = Some(seen.record.clone());
    campaigner.on_response(LockResponse::Written(seen), at(asked), at(answered), wrote);
}

fn reads(campaigner: &mut Campaigner<()>, seen: Option<LockState<()>>, seconds: f64) {
    assert_eq!(campaigner.next(at(seconds), WALL), Action::Get);
    answer(campaigner, LockResponse::Read(seen), seconds);
}

/// Returns the leader since 0 s.
fn leader() -> Campaigner<()> {
    let mut campaigner = me();
    reads(&mut campaigner, None, 0.0);
    answer(&mut campaigner, LockResponse::Written(lock("me", 1)), 0.0);
    assert!(campaigner.leads(at(0.0)));
    campaigner
}

/// Returns a campaigner that has observed `other` as the holder since 0 s.
fn follower() -> Campaigner<()> {
    let mut campaigner = me();
    reads(&mut campaigner, Some(lock("other", 1)), 0.0);
    campaigner
}

fn update(campaigner: &Campaigner<()>, seconds: f64) -> LeaderElectionRecord {
    match campaigner.next(at(seconds), WALL) {
        Action::Update(_, record) => record,
        other => panic!("an update is due at {seconds} s: {other:?}"),
    }
}

fn waits(campaigner: &Campaigner<()>, seconds: f64) -> Duration {
    match campaigner.next(at(seconds), WALL) {
        Action::Wait(until) => until - at(seconds),
        other => panic!("nothing is due at {seconds} s: {other:?}"),
    }
}

#[test]
fn missing_lock_is_created_at_once_and_the_response_makes_the_leader() {
    let mut campaigner = me();
    reads(&mut campaigner, None, 0.0);
    let Action::Create(record) = campaigner.next(at(0.0), WALL) else { panic!("a creation") };
    assert_eq!((record.holder.as_str(), record.leader_transitions), ("me", Some(0)));
    assert!(!campaigner.leads(at(0.0)));
    answer(&mut campaigner, LockResponse::Written(lock("me", 1)), 0.0);
    assert!(campaigner.leads(at(0.0)));
}

#[test]
fn leader_renews_every_period_and_its_deadline_counts_from_the_request() {
    let mut campaigner = leader();
    assert_eq!(waits(&campaigner, 0.0), Duration::from_secs(2));
    assert_eq!(update(&campaigner, 2.0).leader_transitions, Some(3), "a renewal counts nothing");
    // Sent at 2 s, answered at 6 s.
    written(&mut campaigner, lock("me", 2), 2.0, 6.0);
    assert!(campaigner.leads(at(11.9)) && !campaigner.leads(at(12.0)));
}

#[test]
fn response_after_the_deadline_makes_no_leader() {
    let mut campaigner = me();
    reads(&mut campaigner, None, 0.0);
    written(&mut campaigner, lock("me", 1), 0.0, 10.0);
    assert!(!campaigner.leads(at(10.0)));
}

#[test]
fn read_of_the_own_identity_is_no_renewal() {
    for written in [true, false] {
        let mut campaigner = leader();
        let tried = LockState { record: update(&campaigner, 2.0), ..lock("me", 2) };
        answer(&mut campaigner, LockResponse::Unknown, 2.0);
        reads(&mut campaigner, Some(if written { tried } else { lock("me", 1) }), 2.0);
        assert!(campaigner.leads(at(9.9)) && !campaigner.leads(at(10.0)), "by the first success alone");
        assert_eq!(update(&campaigner, 2.0).holder, "me", "and it is tried again at once");
    }
}

#[test]
fn leader_whose_lock_names_another_steps_down_at_once() {
    let mut campaigner = leader();
    answer(&mut campaigner, LockResponse::Rejected, 2.0);
    reads(&mut campaigner, Some(lock("other", 2)), 2.0);
    assert!(!campaigner.leads(at(2.0)));
}

#[test]
fn leader_retries_once_at_once_and_then_with_pauses() {
    let mut campaigner = leader();
    answer(&mut campaigner, LockResponse::Unknown, 2.0);
    answer(&mut campaigner, LockResponse::Unknown, 2.0);
    assert_eq!(waits(&campaigner, 2.0), Duration::from_secs(2));
    answer(&mut campaigner, LockResponse::Read(Some(lock("me", 1))), 4.0);
    answer(&mut campaigner, LockResponse::Rejected, 4.0);
    assert_eq!(waits(&campaigner, 4.0), Duration::from_secs(2), "reads alone are no success");
    answer(&mut campaigner, LockResponse::Read(Some(lock("me", 1))), 6.0);
    answer(&mut campaigner, LockResponse::Written(lock("me", 2)), 6.0);
    assert!(campaigner.leads(at(15.9)));
}

#[test]
fn request_timeout_of_a_leader_ends_before_its_deadline() {
    let campaigner = leader();
    assert_eq!(campaigner.request_timeout(at(2.0)), Duration::from_secs(4), "so that there is time for another");
    assert_eq!(campaigner.request_timeout(at(9.0)), Duration::from_secs(1));
    assert_eq!(campaigner.request_timeout(at(10.0)), Duration::from_secs(4), "it leads no more");
}

#[test]
fn wait_for_a_holder_counts_from_the_response() {
    let mut campaigner = me();
    // Sent at 0 s. The record may have been written at 8 s.
    campaigner.on_response(LockResponse::Read(Some(lock("other", 1))), at(0.0), at(8.0), None);
    let mut campaigner = watched(campaigner, 8.0, 22.9);
    assert_eq!(update(&campaigner, 23.0).leader_transitions, Some(4));
    answer(&mut campaigner, LockResponse::Written(lock("me", 2)), 23.0);
    assert!(campaigner.leads(at(23.0)));
}

/// Checks that nothing is written between these times while the lock stays the same.
fn watched(campaigner: Campaigner<()>, from: f64, to: f64) -> Campaigner<()> {
    while_it_says(campaigner, &lock("other", 1), from, to)
}

fn while_it_says(mut campaigner: Campaigner<()>, lock: &LockState<()>, from: f64, to: f64) -> Campaigner<()> {
    let mut now = at(from);
    while now < at(to) {
        match campaigner.next(now, WALL) {
            Action::Wait(until) => now = until,
            Action::Get => campaigner.on_response(LockResponse::Read(Some(lock.clone())), now, now, None),
            write => panic!("{write:?} at {now:?}"),
        }
    }
    campaigner
}

#[test]
fn observed_renewal_restarts_the_wait() {
    let mut campaigner = watched(follower(), 0.0, 10.0);
    campaigner.on_change(Some(lock("other", 2)), at(10.0));
    let (holder, until) = campaigner.holder().unwrap();
    assert_eq!((holder, until), ("other", at(25.0)));
}

#[test]
fn new_version_with_the_same_record_is_no_renewal() {
    let mut campaigner = follower();
    let mut annotated = lock("other", 1);
    annotated.version.resource_version = "2".into();
    campaigner.on_change(Some(annotated), at(10.0));
    assert_eq!(campaigner.holder().unwrap().1, at(15.0));
    assert_eq!(update(&campaigner, 15.0).holder, "me");
}

#[test]
fn lease_duration_of_the_holder_counts() {
    for (seconds, expires) in [(Some(60), 60.0), (Some(1), 1.0), (None, 15.0), (Some(0), 15.0), (Some(-7), 15.0)] {
        let mut campaigner = me();
        let mut seen = lock("other", 1);
        seen.record.lease_duration_seconds = seconds;
        reads(&mut campaigner, Some(seen), 0.0);
        assert_eq!(campaigner.holder().unwrap().1, at(expires), "{seconds:?}");
    }
}

#[test]
fn released_lock_is_acquired_at_once() {
    let mut campaigner = follower();
    campaigner.on_change(Some(lock("", 2)), at(1.0));
    assert_eq!(update(&campaigner, 1.0).leader_transitions, Some(4));
}

#[test]
fn rejected_update_is_followed_by_a_read() {
    let mut campaigner = follower();
    campaigner.on_change(Some(lock("", 2)), at(1.0));
    answer(&mut campaigner, LockResponse::Rejected, 1.0);
    reads(&mut campaigner, Some(lock("third", 3)), 1.0);
    assert!(waits(&campaigner, 1.0) >= Duration::from_secs(2));
    assert_eq!(campaigner.holder().unwrap(), ("third", at(16.0)));
}

#[test]
fn rejected_creation_is_followed_by_a_read() {
    let mut campaigner = me();
    reads(&mut campaigner, None, 0.0);
    assert!(matches!(campaigner.next(at(0.0), WALL), Action::Create(_)));
    answer(&mut campaigner, LockResponse::Rejected, 0.0);
    reads(&mut campaigner, Some(lock("other", 1)), 0.0);
    assert!(!campaigner.leads(at(0.0)) && waits(&campaigner, 0.0) >= Duration::from_secs(2));
    assert_eq!(campaigner.holder().unwrap(), ("other", at(15.0)));
}

#[test]
fn follower_names_each_observed_holder() {
    let mut campaigner = follower();
    for (version, holder) in [(2, "third"), (3, "other"), (4, "fourth")] {
        campaigner.on_change(Some(lock(holder, version)), at(version.into()));
        assert_eq!(campaigner.holder().map(|(name, _)| name), Some(holder));
    }
}

#[test]
fn deleted_lock_is_created_again_only_after_the_lease_duration() {
    let mut campaigner = leader();
    answer(&mut campaigner, LockResponse::Rejected, 2.0);
    reads(&mut campaigner, None, 2.0);
    assert!(!campaigner.leads(at(2.0)));
    let quiet = |campaigner: &mut Campaigner<()>, until: f64| {
        let mut now = at(2.0);
        while now < at(until) {
            match campaigner.next(now, WALL) {
                Action::Wait(until) => now = until,
                Action::Get => campaigner.on_response(LockResponse::Read(None), now, now, None),
                write => panic!("{write:?} at {now:?}"),
            }
        }
        now
    };
    assert_eq!(quiet(&mut campaigner, 17.0), at(17.0));
    assert!(matches!(campaigner.next(at(17.0), WALL), Action::Create(_)));

    let mut campaigner = follower();
    campaigner.on_change(None, at(2.0));
    reads(&mut campaigner, None, 2.0);
    assert_eq!(quiet(&mut campaigner, 17.0), at(17.0));
}

#[test]
fn replaced_lock_counts_as_deleted() {
    let mut campaigner = follower();
    let mut other = lock("", 2);
    other.version.uid = "another".into();
    campaigner.on_change(Some(other), at(1.0));
    assert!(waits(&campaigner, 1.0) > Duration::ZERO, "it is free, but the holder of the former one may lead");
    assert_eq!(update(&campaigner, 16.0).holder, "me");
}

#[test]
fn stale_event_about_another_holder_is_verified() {
    let mut campaigner = leader();
    campaigner.on_change(Some(lock("other", 0)), at(1.0));
    assert!(campaigner.leads(at(1.0)));
    reads(&mut campaigner, Some(lock("me", 1)), 1.0);
    assert!(campaigner.leads(at(1.0)));
}

#[test]
fn claimed_lock_ends_the_campaign() {
    let claimed = LockState { claimed_by: Some("web".into()), ..lock("me", 2) };
    let mut campaigner = leader();
    campaigner.on_change(Some(LockState { claimed_by: Some("web".into()), ..lock("web-0", 2) }), at(1.0));
    assert!(campaigner.leads(at(1.0)), "a read comes first");
    reads(&mut campaigner, Some(claimed.clone()), 1.0);
    assert!(!campaigner.leads(at(1.0)));
    assert_eq!((campaigner.next(at(1.0), WALL), campaigner.claimed_by()), (Action::Finish, Some("web")));

    let mut campaigner = me();
    reads(&mut campaigner, Some(claimed), 0.0);
    assert_eq!(campaigner.next(at(99.0), WALL), Action::Finish);
}

#[test]
fn resigning_leader_steps_down_then_releases() {
    let mut campaigner = leader();
    campaigner.resign(at(1.0));
    assert!(!campaigner.leads(at(1.0)));
    let record = update(&campaigner, 1.0);
    assert_eq!((record.holder.as_str(), record.lease_duration_seconds, record.leader_transitions), ("", Some(1), Some(3)));
    answer(&mut campaigner, LockResponse::Rejected, 1.0);
    reads(&mut campaigner, Some(lock("me", 1)), 1.0);
    answer(&mut campaigner, LockResponse::Written(lock("", 3)), 1.0);
    assert_eq!(campaigner.next(at(1.0), WALL), Action::Finish);
}

#[test]
fn resigning_campaigner_with_an_unknown_write_reads_first() {
    let mut campaigner = me();
    reads(&mut campaigner, None, 0.0);
    let Action::Create(record) = campaigner.next(at(0.0), WALL) else { panic!("a creation") };
    answer(&mut campaigner, LockResponse::Unknown, 0.0);
    campaigner.resign(at(1.0));
    reads(&mut campaigner, Some(LockState { record, ..lock("me", 1) }), 1.0);
    assert_eq!(update(&campaigner, 1.0).holder, "");
}

#[test]
fn renewal_in_flight_is_followed_by_the_release() {
    let mut campaigner = leader();
    campaigner.resign(at(2.0));
    written(&mut campaigner, lock("me", 2), 2.0, 2.1);
    assert!(!campaigner.leads(at(2.1)));
    assert_eq!(update(&campaigner, 2.1).holder, "");
}

#[test]
fn resigning_without_the_lock_finishes_at_once() {
    let mut campaigner = follower();
    campaigner.resign(at(1.0));
    assert_eq!(campaigner.next(at(1.0), WALL), Action::Finish);

    let mut campaigner = leader();
    campaigner.resign(at(1.0));
    answer(&mut campaigner, LockResponse::Unknown, 1.0);
    answer(&mut campaigner, LockResponse::Unknown, 1.0);
    assert!(waits(&campaigner, 1.0) <= Duration::from_secs(5));
    assert_eq!(campaigner.next(at(6.0), WALL), Action::Finish);
}
