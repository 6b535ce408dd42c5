//! What a campaigner does next, case by case, in virtual time.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::*;

mod altered;
mod identity;

const WALL: Timestamp = Timestamp::UNIX_EPOCH;

const TICK: Duration = Duration::from_micros(1);

fn at(seconds: f64) -> Moment {
    Moment::after(Duration::from_secs_f64(1000.0 + seconds))
}

/// `me`, with client-go's durations: 15 s, 10 s, 2 s.
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

/// The answer to the request that is due, which arrives at once. What was written is what was asked for.
fn answer(campaigner: &mut Campaigner<()>, answer: LockResponse<()>, seconds: f64) {
    let wrote = match (campaigner.next(at(seconds), WALL), &answer) {
        (Action::Get, _) => None,
        (Action::Create(_) | Action::Update(..), LockResponse::Written(seen)) => Some(seen.record.clone()),
        (Action::Create(record) | Action::Update(_, record), _) => Some(record),
        (idle, _) => panic!("no request is due at {seconds} s: {idle:?}"),
    };
    campaigner.answered(answer, at(seconds), at(seconds), wrote);
}

/// The answer to the write that was sent at one time and answered at another.
fn written(campaigner: &mut Campaigner<()>, seen: LockState<()>, asked: f64, answered: f64) {
    let wrote = Some(seen.record.clone());
    campaigner.answered(LockResponse::Written(seen), at(asked), at(answered), wrote);
}

fn reads(campaigner: &mut Campaigner<()>, seen: Option<LockState<()>>, seconds: f64) {
    assert_eq!(campaigner.next(at(seconds), WALL), Action::Get);
    answer(campaigner, LockResponse::Read(seen), seconds);
}

/// One that became leader at 0 s.
fn leader() -> Campaigner<()> {
    let mut campaigner = me();
    reads(&mut campaigner, None, 0.0);
    answer(&mut campaigner, LockResponse::Written(lock("me", 1)), 0.0);
    assert!(campaigner.leads(at(0.0)));
    campaigner
}

/// One that sees `other` lead since 0 s.
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
fn without_a_lock_it_creates_one_at_once_and_leads_by_the_answer_only() {
    let mut campaigner = me();
    reads(&mut campaigner, None, 0.0);
    let Action::Create(record) = campaigner.next(at(0.0), WALL) else { panic!("a creation") };
    assert_eq!((record.holder.as_str(), record.leader_transitions), ("me", Some(0)));
    assert!(!campaigner.leads(at(0.0)));
    answer(&mut campaigner, LockResponse::Written(lock("me", 1)), 0.0);
    assert!(campaigner.leads(at(0.0)));
}

#[test]
fn a_leader_renews_every_period_and_leads_until_the_deadline_counted_from_before_the_request() {
    let mut campaigner = leader();
    assert_eq!(waits(&campaigner, 0.0), Duration::from_secs(2));
    assert_eq!(update(&campaigner, 2.0).leader_transitions, Some(3), "a renewal counts nothing");
    // Sent at 2 s, answered at 6 s.
    written(&mut campaigner, lock("me", 2), 2.0, 6.0);
    assert!(campaigner.leads(at(11.9)) && !campaigner.leads(at(12.0)));
}

#[test]
fn an_answer_that_comes_after_the_deadline_makes_no_leader() {
    let mut campaigner = me();
    reads(&mut campaigner, None, 0.0);
    written(&mut campaigner, lock("me", 1), 0.0, 10.0);
    assert!(!campaigner.leads(at(10.0)));
}

#[test]
fn a_read_that_shows_the_own_name_is_no_renewal() {
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
fn a_leader_whose_lock_names_somebody_else_stops_at_once() {
    let mut campaigner = leader();
    answer(&mut campaigner, LockResponse::Refused, 2.0);
    reads(&mut campaigner, Some(lock("other", 2)), 2.0);
    assert!(!campaigner.leads(at(2.0)));
}

#[test]
fn failures_of_a_leader_are_followed_by_one_more_attempt_at_once_and_then_by_pauses() {
    let mut campaigner = leader();
    answer(&mut campaigner, LockResponse::Unknown, 2.0);
    answer(&mut campaigner, LockResponse::Unknown, 2.0);
    assert_eq!(waits(&campaigner, 2.0), Duration::from_secs(2));
    answer(&mut campaigner, LockResponse::Read(Some(lock("me", 1))), 4.0);
    answer(&mut campaigner, LockResponse::Refused, 4.0);
    assert_eq!(waits(&campaigner, 4.0), Duration::from_secs(2), "reads alone are no success");
    answer(&mut campaigner, LockResponse::Read(Some(lock("me", 1))), 6.0);
    answer(&mut campaigner, LockResponse::Written(lock("me", 2)), 6.0);
    assert!(campaigner.leads(at(15.9)));
}

#[test]
fn a_request_of_a_leader_may_take_no_longer_than_its_deadline() {
    let campaigner = leader();
    assert_eq!(campaigner.patience(at(2.0)), Duration::from_secs(4), "so that there is time for another");
    assert_eq!(campaigner.patience(at(9.0)), Duration::from_secs(1));
    assert_eq!(campaigner.patience(at(10.0)), Duration::from_secs(4), "it leads no more");
}

#[test]
fn a_holder_is_waited_for_since_the_answer_arrived() {
    let mut campaigner = me();
    // Asked at 0 s. What it shows may have been written at 8 s.
    campaigner.answered(LockResponse::Read(Some(lock("other", 1))), at(0.0), at(8.0), None);
    let mut campaigner = watched(campaigner, 8.0, 22.9);
    assert_eq!(update(&campaigner, 23.0).leader_transitions, Some(4));
    answer(&mut campaigner, LockResponse::Written(lock("me", 2)), 23.0);
    assert!(campaigner.leads(at(23.0)));
}

/// Nothing is written from one time to the other while the lock is read and stays the same.
fn watched(campaigner: Campaigner<()>, from: f64, to: f64) -> Campaigner<()> {
    while_it_says(campaigner, &lock("other", 1), from, to)
}

fn while_it_says(mut campaigner: Campaigner<()>, lock: &LockState<()>, from: f64, to: f64) -> Campaigner<()> {
    let mut now = at(from);
    while now < at(to) {
        match campaigner.next(now, WALL) {
            Action::Wait(until) => now = until,
            Action::Get => campaigner.answered(LockResponse::Read(Some(lock.clone())), now, now, None),
            write => panic!("{write:?} at {now:?}"),
        }
    }
    campaigner
}

#[test]
fn every_renewal_that_is_seen_begins_the_wait_anew() {
    let mut campaigner = watched(follower(), 0.0, 10.0);
    campaigner.heard(Some(lock("other", 2)), at(10.0));
    let (holder, until) = campaigner.holder().unwrap();
    assert_eq!((holder, until), ("other", at(25.0)));
}

#[test]
fn another_version_of_the_object_with_the_same_record_is_no_renewal() {
    let mut campaigner = follower();
    let mut annotated = lock("other", 1);
    annotated.version.resource_version = "2".into();
    campaigner.heard(Some(annotated), at(10.0));
    assert_eq!(campaigner.holder().unwrap().1, at(15.0));
    assert_eq!(update(&campaigner, 15.0).holder, "me");
}

#[test]
fn the_holders_duration_counts_and_the_own_one_where_it_has_none() {
    for (seconds, expires) in [(Some(60), 60.0), (Some(1), 1.0), (None, 15.0), (Some(0), 15.0), (Some(-7), 15.0)] {
        let mut campaigner = me();
        let mut seen = lock("other", 1);
        seen.record.lease_duration_seconds = seconds;
        reads(&mut campaigner, Some(seen), 0.0);
        assert_eq!(campaigner.holder().unwrap().1, at(expires), "{seconds:?}");
    }
}

#[test]
fn a_released_lock_is_taken_at_once() {
    let mut campaigner = follower();
    campaigner.heard(Some(lock("", 2)), at(1.0));
    assert_eq!(update(&campaigner, 1.0).leader_transitions, Some(4));
}

#[test]
fn who_is_refused_the_lock_looks_who_has_it_and_waits() {
    let mut campaigner = follower();
    campaigner.heard(Some(lock("", 2)), at(1.0));
    answer(&mut campaigner, LockResponse::Refused, 1.0);
    reads(&mut campaigner, Some(lock("third", 3)), 1.0);
    assert!(waits(&campaigner, 1.0) >= Duration::from_secs(2));
    assert_eq!(campaigner.holder().unwrap(), ("third", at(16.0)));
}

#[test]
fn who_is_refused_the_creation_looks_who_was_faster_and_waits() {
    let mut campaigner = me();
    reads(&mut campaigner, None, 0.0);
    assert!(matches!(campaigner.next(at(0.0), WALL), Action::Create(_)));
    answer(&mut campaigner, LockResponse::Refused, 0.0);
    reads(&mut campaigner, Some(lock("other", 1)), 0.0);
    assert!(!campaigner.leads(at(0.0)) && waits(&campaigner, 0.0) >= Duration::from_secs(2));
    assert_eq!(campaigner.holder().unwrap(), ("other", at(15.0)));
}

#[test]
fn who_follows_names_each_new_holder_as_soon_as_it_is_seen() {
    let mut campaigner = follower();
    for (version, holder) in [(2, "third"), (3, "other"), (4, "fourth")] {
        campaigner.heard(Some(lock(holder, version)), at(version.into()));
        assert_eq!(campaigner.holder().map(|(name, _)| name), Some(holder));
    }
}

#[test]
fn a_lock_that_vanishes_is_created_anew_after_the_duration_only_by_its_holder_too() {
    let mut campaigner = leader();
    answer(&mut campaigner, LockResponse::Refused, 2.0);
    reads(&mut campaigner, None, 2.0);
    assert!(!campaigner.leads(at(2.0)));
    let quiet = |campaigner: &mut Campaigner<()>, until: f64| {
        let mut now = at(2.0);
        while now < at(until) {
            match campaigner.next(now, WALL) {
                Action::Wait(until) => now = until,
                Action::Get => campaigner.answered(LockResponse::Read(None), now, now, None),
                write => panic!("{write:?} at {now:?}"),
            }
        }
        now
    };
    assert_eq!(quiet(&mut campaigner, 17.0), at(17.0));
    assert!(matches!(campaigner.next(at(17.0), WALL), Action::Create(_)));

    let mut campaigner = follower();
    campaigner.heard(None, at(2.0));
    reads(&mut campaigner, None, 2.0);
    assert_eq!(quiet(&mut campaigner, 17.0), at(17.0));
}

#[test]
fn a_lock_that_was_replaced_unseen_is_as_one_that_vanished() {
    let mut campaigner = follower();
    let mut other = lock("", 2);
    other.version.uid = "another".into();
    campaigner.heard(Some(other), at(1.0));
    assert!(waits(&campaigner, 1.0) > Duration::ZERO, "it is free, but the holder of the former one may lead");
    assert_eq!(update(&campaigner, 16.0).holder, "me");
}

#[test]
fn old_news_about_others_do_not_end_leadership_but_are_checked() {
    let mut campaigner = leader();
    campaigner.heard(Some(lock("other", 0)), at(1.0));
    assert!(campaigner.leads(at(1.0)));
    reads(&mut campaigner, Some(lock("me", 1)), 1.0);
    assert!(campaigner.leads(at(1.0)));
}

#[test]
fn a_lock_that_an_election_claims_ends_the_campaign_for_good() {
    let claimed = LockState { claimed_by: Some("web".into()), ..lock("me", 2) };
    let mut campaigner = leader();
    campaigner.heard(Some(LockState { claimed_by: Some("web".into()), ..lock("web-0", 2) }), at(1.0));
    assert!(campaigner.leads(at(1.0)), "the server is asked first");
    reads(&mut campaigner, Some(claimed.clone()), 1.0);
    assert!(!campaigner.leads(at(1.0)));
    assert_eq!((campaigner.next(at(1.0), WALL), campaigner.claimed_by()), (Action::Finish, Some("web")));

    let mut campaigner = me();
    reads(&mut campaigner, Some(claimed), 0.0);
    assert_eq!(campaigner.next(at(99.0), WALL), Action::Finish);
}

#[test]
fn who_resigns_stops_leading_at_once_and_then_releases() {
    let mut campaigner = leader();
    campaigner.resign(at(1.0));
    assert!(!campaigner.leads(at(1.0)));
    let record = update(&campaigner, 1.0);
    assert_eq!((record.holder.as_str(), record.lease_duration_seconds, record.leader_transitions), ("", Some(1), Some(3)));
    answer(&mut campaigner, LockResponse::Refused, 1.0);
    reads(&mut campaigner, Some(lock("me", 1)), 1.0);
    answer(&mut campaigner, LockResponse::Written(lock("", 3)), 1.0);
    assert_eq!(campaigner.next(at(1.0), WALL), Action::Finish);
}

#[test]
fn who_resigns_with_a_write_in_doubt_looks_whether_it_holds_the_lock() {
    let mut campaigner = me();
    reads(&mut campaigner, None, 0.0);
    let Action::Create(record) = campaigner.next(at(0.0), WALL) else { panic!("a creation") };
    answer(&mut campaigner, LockResponse::Unknown, 0.0);
    campaigner.resign(at(1.0));
    reads(&mut campaigner, Some(LockState { record, ..lock("me", 1) }), 1.0);
    assert_eq!(update(&campaigner, 1.0).holder, "");
}

#[test]
fn a_renewal_in_flight_at_the_resignation_is_followed_by_the_release() {
    let mut campaigner = leader();
    campaigner.resign(at(2.0));
    written(&mut campaigner, lock("me", 2), 2.0, 2.1);
    assert!(!campaigner.leads(at(2.1)));
    assert_eq!(update(&campaigner, 2.1).holder, "");
}

#[test]
fn who_resigns_without_the_lock_does_nothing_and_who_cannot_release_gives_up() {
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
