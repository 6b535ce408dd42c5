//! Nominated processes: when they acquire, lead and release the lock.

use super::*;

/// Returns the nominated campaigner `me`, with client-go's durations.
fn nominee() -> Campaigner<()> {
    let mut campaigner = candidate();
    campaigner.nominate(true, at(0.0));
    campaigner
}

/// The same without a nomination.
fn candidate() -> Campaigner<()> {
    let settings = CampaignConfig { nominated: true, resumes: false, ..CampaignConfig::new("me") };
    Campaigner::new(settings, TICK)
}

fn blank(version: u32) -> LockState<()> {
    LockState { record: LeaderElectionRecord::default(), ..lock("", version) }
}

/// The lock as this holder released it.
fn released(by: &str, version: u32) -> LockState<()> {
    let lock = lock("", version);
    LockState { record: LeaderElectionRecord { released_by: Some(by.into()), ..lock.record }, ..lock }
}

/// Returns the leader since 0 s.
fn leading() -> Campaigner<()> {
    let mut campaigner = nominee();
    reads(&mut campaigner, Some(released("other", 1)), 0.0);
    answer(&mut campaigner, LockResponse::Written(lock("me", 2)), 0.0);
    campaigner.nominate(true, at(0.0));
    assert!(campaigner.leads(at(0.0)));
    campaigner
}

#[test]
fn released_lock_is_acquired_at_once_and_only_by_the_nominated_process() {
    let mut campaigner = candidate();
    reads(&mut campaigner, Some(released("other", 1)), 0.0);
    assert!(matches!(campaigner.next(at(0.0), WALL), Action::Wait(_)), "it reads the lock at intervals");
    campaigner.nominate(true, at(0.0));
    let record = update(&campaigner, 0.0);
    assert_eq!((record.holder.as_str(), record.released_by), ("me", None));
}

#[test]
fn lock_that_does_not_exist_is_not_created() {
    let mut campaigner = nominee();
    reads(&mut campaigner, None, 0.0);
    assert!(matches!(campaigner.next(at(0.0), WALL), Action::Wait(_)));
    assert_eq!(campaigner.next(at(60.0), WALL), Action::Get);
}

#[test]
fn blank_or_emptied_lock_is_acquired_after_a_whole_lease_duration() {
    for unmarked in [blank(1), lock("", 1)] {
        let mut campaigner = nominee();
        reads(&mut campaigner, Some(unmarked.clone()), 0.0);
        let campaigner = while_it_says(campaigner, &unmarked, 0.0, 14.9);
        assert_eq!(update(&campaigner, 15.0).holder, "me");
    }
}

#[test]
fn lock_that_is_blank_again_is_waited_for_again() {
    let mut campaigner = nominee();
    reads(&mut campaigner, Some(blank(1)), 0.0);
    let mut campaigner = while_it_says(campaigner, &blank(1), 0.0, 14.9);
    // Another process acquired it, and an edit emptied it.
    answer(&mut campaigner, LockResponse::Rejected, 15.0);
    reads(&mut campaigner, Some(blank(3)), 15.0);
    let campaigner = while_it_says(campaigner, &blank(3), 15.0, 29.9);
    assert_eq!(update(&campaigner, 30.0).holder, "me");
}

#[test]
fn edited_duration_does_not_shorten_the_wait() {
    for seconds in [Some(1), Some(0), None] {
        let mut edited = lock("other", 1);
        edited.record.lease_duration_seconds = seconds;
        let mut campaigner = nominee();
        reads(&mut campaigner, Some(edited.clone()), 0.0);
        let campaigner = while_it_says(campaigner, &edited, 0.0, 14.9);
        assert_eq!(update(&campaigner, 15.0).holder, "me");
    }
}

#[test]
fn own_record_of_a_former_process_is_somebody_elses() {
    let mut campaigner = nominee();
    reads(&mut campaigner, Some(lock("me", 1)), 0.0);
    let campaigner = while_it_says(campaigner, &lock("me", 1), 0.0, 14.9);
    assert_eq!(update(&campaigner, 15.0).holder, "me");
}

#[test]
fn lead_begins_with_a_nomination_that_was_read_after_the_acquisition() {
    let mut campaigner = nominee();
    reads(&mut campaigner, Some(released("other", 1)), 1.0);
    written(&mut campaigner, lock("me", 2), 1.0, 3.0);
    assert!(!campaigner.leads(at(3.0)) && campaigner.wants_nomination(at(3.0)));
    campaigner.nominate(true, at(2.9));
    assert!(!campaigner.leads(at(3.0)), "it was read before the response");
    campaigner.nominate(true, at(3.0));
    assert!(campaigner.leads(at(10.9)) && !campaigner.leads(at(11.0)), "the deadline counts from the request");
    assert!(!campaigner.wants_nomination(at(3.0)));
    assert_eq!(campaigner.term(), Some(2));
}

#[test]
fn acquisition_by_a_process_that_is_no_longer_nominated_is_released() {
    let mut campaigner = nominee();
    reads(&mut campaigner, Some(released("other", 1)), 1.0);
    written(&mut campaigner, lock("me", 2), 1.0, 1.0);
    campaigner.nominate(false, at(1.0));
    assert!(!campaigner.leads(at(1.0)) && !campaigner.wants_nomination(at(1.0)));
    let record = update(&campaigner, 1.0);
    assert_eq!((record.holder.as_str(), record.released_by.as_deref()), ("", Some("me")));
}

#[test]
fn deposed_leader_releases_the_lock_only_after_its_work_has_ended() {
    let mut campaigner = leading();
    campaigner.set_works(true);
    campaigner.nominate(false, at(1.0));
    assert!(!campaigner.leads(at(1.0)));
    assert!(matches!(campaigner.next(at(1.5), WALL), Action::Wait(_)), "it neither renews nor releases");
    campaigner.set_works(false);
    assert_eq!(update(&campaigner, 1.5).released_by.as_deref(), Some("me"));
    answer(&mut campaigner, LockResponse::Written(released("me", 3)), 1.5);
    assert!(matches!(campaigner.next(at(1.5), WALL), Action::Wait(_)), "it was released");
}

#[test]
fn process_that_is_nominated_again_leads_again_under_a_new_term() {
    let mut campaigner = leading();
    campaigner.nominate(false, at(1.0));
    answer(&mut campaigner, LockResponse::Written(released("me", 3)), 1.0);
    campaigner.nominate(true, at(2.0));
    answer(&mut campaigner, LockResponse::Written(lock("me", 4)), 2.0);
    campaigner.nominate(true, at(2.0));
    assert!(campaigner.leads(at(2.0)));
    assert_eq!(campaigner.term(), Some(4));
}

#[test]
fn renewals_need_no_further_nomination() {
    let mut campaigner = leading();
    answer(&mut campaigner, LockResponse::Written(lock("me", 3)), 2.0);
    assert!(campaigner.leads(at(11.9)) && !campaigner.leads(at(12.0)));
    assert_eq!(campaigner.term(), Some(2));
}

#[test]
fn release_on_resignation_carries_the_mark() {
    let mut campaigner = leading();
    campaigner.resign(at(1.0));
    assert_eq!(update(&campaigner, 1.0).released_by.as_deref(), Some("me"));
}
