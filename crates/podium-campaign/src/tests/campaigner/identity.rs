//! Who holds the lock: this process, a former life of it, or another with the same identity.

use super::*;

#[test]
fn the_own_name_in_the_lock_is_renewed_at_once_by_a_new_life() {
    let mut campaigner = me();
    reads(&mut campaigner, Some(lock("me", 1)), 0.0);
    assert!(!campaigner.leads(at(0.0)));
    assert_eq!(update(&campaigner, 0.0).leader_transitions, Some(3));
}

#[test]
fn a_holder_that_is_known_to_have_ended_is_not_waited_for_if_it_was_found_at_the_first_look() {
    let settings =
        CampaignConfig { has_ended: std::sync::Arc::new(|holder| holder == "other"), ..CampaignConfig::new("me") };
    let mut campaigner = Campaigner::new(settings.clone(), TICK);
    reads(&mut campaigner, Some(lock("other", 1)), 0.0);
    assert_eq!(update(&campaigner, 0.0).holder, "me");

    let mut campaigner = Campaigner::new(settings, TICK);
    reads(&mut campaigner, Some(lock("third", 1)), 0.0);
    campaigner.heard(Some(lock("other", 2)), at(1.0));
    assert_eq!(campaigner.holder().unwrap().1, at(16.0), "it was alive after we were");
}

#[test]
fn who_reads_a_record_of_its_own_identity_that_it_never_wrote_stops_and_waits_for_its_twin() {
    let mut campaigner = leader();
    answer(&mut campaigner, LockResponse::Refused, 2.0);
    reads(&mut campaigner, Some(lock("me", 7)), 2.0);
    assert!(!campaigner.leads(at(2.0)));
    assert_eq!(campaigner.holder(), Some(("me", at(17.0))));
    assert!(!campaigner.has_twin(), "it may be a write of a former life that came late");
    let mut seen_twice = campaigner.clone();
    seen_twice.heard(Some(lock("me", 8)), at(3.0));
    reads(&mut seen_twice, Some(lock("me", 8)), 3.0);
    assert!(seen_twice.has_twin());
    let mut campaigner = while_it_says(campaigner, &lock("me", 7), 2.0, 16.9);
    assert_eq!(update(&campaigner, 17.0).leader_transitions, Some(3), "it is the same holder, as far as anybody can tell");
    answer(&mut campaigner, LockResponse::Written(lock("me", 8)), 17.0);
    assert!(campaigner.leads(at(17.0)) && !campaigner.has_twin());
}

#[test]
fn a_term_is_the_revision_at_which_the_lock_named_its_leader_first() {
    assert_eq!(follower().term(), None);
    let mut campaigner = me();
    reads(&mut campaigner, None, 0.0);
    answer(&mut campaigner, LockResponse::Written(lock("me", 4)), 0.0);
    assert_eq!(campaigner.term(), Some(4));
    answer(&mut campaigner, LockResponse::Written(lock("me", 5)), 2.0);
    assert_eq!(campaigner.term(), Some(4), "a renewal begins no term");
    // Nobody else held the lock meanwhile, but what hung on the lead has ended.
    answer(&mut campaigner, LockResponse::Written(lock("me", 6)), 13.0);
    assert_eq!(campaigner.term(), Some(6));
    campaigner.resign(at(14.0));
    assert_eq!(campaigner.term(), None);
}

#[test]
fn who_is_not_to_resume_waits_for_its_own_name_as_for_anybody_elses() {
    let mut campaigner = Campaigner::new(CampaignConfig { resumes: false, ..CampaignConfig::new("me") }, TICK);
    reads(&mut campaigner, Some(lock("me", 1)), 0.0);
    let campaigner = while_it_says(campaigner, &lock("me", 1), 0.0, 14.9);
    assert_eq!(update(&campaigner, 15.0).holder, "me");
}

#[test]
fn a_former_life_is_no_twin_whether_it_is_resumed_or_waited_for() {
    for resumes in [true, false] {
        let mut campaigner = Campaigner::new(CampaignConfig { resumes, ..CampaignConfig::new("me") }, TICK);
        reads(&mut campaigner, Some(lock("me", 1)), 0.0);
        assert!(!campaigner.has_twin(), "the record that it left");
        if resumes {
            answer(&mut campaigner, LockResponse::Refused, 0.0);
        } else {
            campaigner.heard(Some(lock("me", 2)), at(0.5));
        }
        reads(&mut campaigner, Some(lock("me", 2)), 0.5);
        assert!(!campaigner.has_twin(), "and its last renewal, which came late");
        campaigner.heard(Some(lock("me", 3)), at(1.0));
        reads(&mut campaigner, Some(lock("me", 3)), 1.0);
        assert!(campaigner.has_twin(), "nobody who has ended renews again");
        campaigner.heard(Some(lock("other", 4)), at(2.0));
        assert!(!campaigner.has_twin());
    }
}
