//! Records of this process, of a former process, and of another process with the same identity.

use super::*;

#[test]
fn record_of_a_former_process_is_renewed_at_once() {
    let mut campaigner = me();
    reads(&mut campaigner, Some(lock("me", 1)), 0.0);
    assert!(!campaigner.leads(at(0.0)));
    assert_eq!(update(&campaigner, 0.0).leader_transitions, Some(3));
}

#[test]
fn ended_holder_of_the_first_observation_is_replaced_at_once() {
    let settings =
        CampaignConfig { has_ended: std::sync::Arc::new(|holder| holder == "other"), ..CampaignConfig::new("me") };
    let mut campaigner = Campaigner::new(settings.clone(), TICK);
    reads(&mut campaigner, Some(lock("other", 1)), 0.0);
    assert_eq!(update(&campaigner, 0.0).holder, "me");

    let mut campaigner = Campaigner::new(settings, TICK);
    reads(&mut campaigner, Some(lock("third", 1)), 0.0);
    campaigner.on_change(Some(lock("other", 2)), at(1.0));
    assert_eq!(campaigner.holder().unwrap().1, at(16.0), "it was alive after we were");
}

#[test]
fn leader_steps_down_for_a_duplicate_of_its_identity() {
    let mut campaigner = leader();
    answer(&mut campaigner, LockResponse::Rejected, 2.0);
    reads(&mut campaigner, Some(lock("me", 7)), 2.0);
    assert!(!campaigner.leads(at(2.0)));
    assert_eq!(campaigner.holder(), Some(("me", at(17.0))));
    assert!(!campaigner.has_duplicate(), "it may be a write of a former life that came late");
    let mut seen_twice = campaigner.clone();
    seen_twice.on_change(Some(lock("me", 8)), at(3.0));
    reads(&mut seen_twice, Some(lock("me", 8)), 3.0);
    assert!(seen_twice.has_duplicate());
    let mut campaigner = while_it_says(campaigner, &lock("me", 7), 2.0, 16.9);
    assert_eq!(update(&campaigner, 17.0).leader_transitions, Some(3), "it is the same holder, as far as anybody can tell");
    answer(&mut campaigner, LockResponse::Written(lock("me", 8)), 17.0);
    assert!(campaigner.leads(at(17.0)) && !campaigner.has_duplicate());
}

#[test]
fn term_is_the_first_revision_that_named_the_leader() {
    assert_eq!(follower().term(), None);
    let mut campaigner = me();
    reads(&mut campaigner, None, 0.0);
    answer(&mut campaigner, LockResponse::Written(lock("me", 4)), 0.0);
    assert_eq!(campaigner.term(), Some(4));
    answer(&mut campaigner, LockResponse::Written(lock("me", 5)), 2.0);
    assert_eq!(campaigner.term(), Some(4), "a renewal begins no term");
    // No other process held the lock in between, but the work of the lead has ended.
    answer(&mut campaigner, LockResponse::Written(lock("me", 6)), 13.0);
    assert_eq!(campaigner.term(), Some(6));
    campaigner.resign(at(14.0));
    assert_eq!(campaigner.term(), None);
}

#[test]
fn campaigner_that_does_not_resume_waits_for_its_own_identity() {
    let mut campaigner = Campaigner::new(CampaignConfig { resumes: false, ..CampaignConfig::new("me") }, TICK);
    reads(&mut campaigner, Some(lock("me", 1)), 0.0);
    let campaigner = while_it_says(campaigner, &lock("me", 1), 0.0, 14.9);
    assert_eq!(update(&campaigner, 15.0).holder, "me");
}

#[test]
fn former_process_is_no_duplicate() {
    for resumes in [true, false] {
        let mut campaigner = Campaigner::new(CampaignConfig { resumes, ..CampaignConfig::new("me") }, TICK);
        reads(&mut campaigner, Some(lock("me", 1)), 0.0);
        assert!(!campaigner.has_duplicate(), "the record that it left");
        if resumes {
            answer(&mut campaigner, LockResponse::Rejected, 0.0);
        } else {
            campaigner.on_change(Some(lock("me", 2)), at(0.5));
        }
        reads(&mut campaigner, Some(lock("me", 2)), 0.5);
        assert!(!campaigner.has_duplicate(), "and its last renewal, which came late");
        campaigner.on_change(Some(lock("me", 3)), at(1.0));
        reads(&mut campaigner, Some(lock("me", 3)), 1.0);
        assert!(campaigner.has_duplicate(), "an ended process never renews again");
        campaigner.on_change(Some(lock("other", 4)), at(2.0));
        assert!(!campaigner.has_duplicate());
    }
}
