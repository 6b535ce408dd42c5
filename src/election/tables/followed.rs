//! Elections that take their leader from a Lease on which others elect.

use super::handover::{degraded, handed_over, stays};
use super::*;
use crate::api::HolderForm;
use crate::election::snapshot::LeaderFrom;

/// A world in which `a` leads under term 90, and the Lease `lock` was observed later, with this holder.
fn led(holder: &str) -> Snapshot {
    led_by(lock(holder, 110))
}

fn led_by(lease: FollowedLease) -> Snapshot {
    world(held_by("a", 90, [])).pods([pod("a").labeled().term(90), pod("b"), pod("c")]).following(lease)
}

/// The same with `holder: NodeName`, each pod on a node of its own.
fn led_by_node(holder: &str) -> Snapshot {
    led(holder).with(|world| {
        world.pods.iter_mut().for_each(|pod| pod.node_name = Some(format!("node-{}", pod.id.name)));
        from(world).holder = HolderForm::NodeName;
    })
}

fn from(world: &mut Snapshot) -> &mut LeaderFrom {
    world.election.settings.as_mut().unwrap().leader_from.as_mut().unwrap()
}

/// The condition Ready: status, reason and message.
fn ready(world: &Snapshot) -> (String, String, String) {
    let status = world.plan().status.unwrap().status;
    let found = status.condition("Ready").unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

/// The cause and the message of the vacancy that the plan begins.
fn vacancy(world: &Snapshot) -> (Cause, String) {
    let plan = match world.plan() {
        plan if matches!(plan.then, Then::Consult(_)) => world.clone().consulted().plan(),
        plan => plan,
    };
    assert_eq!(handed_over(&plan).0, "", "{plan:#?}");
    let ready = plan.status.as_ref().unwrap().status.condition("Ready").unwrap();
    assert_eq!((&*ready.status, &*ready.reason), ("False", "NoEligibleCandidate"));
    (handed_over(&plan).1, ready.message.clone())
}

// ---- Whom the Lease names ----

#[test]
fn followed_lease_names_a_pod_by_its_name_or_its_uid() {
    for identity in ["b", "b_", "b_e6b0-4a", "b_x_y", "b-uid"] {
        assert_eq!(handed_over(&led(identity).plan()), ("b", Cause::HolderChanged), "{identity}");
    }
    for identity in ["a", "a_e6b0-4a", "a-uid"] {
        assert!(stays(&led(identity).plan()), "{identity}");
    }
    for identity in ["node-b", "node-b_e6b0-4a"] {
        assert_eq!(handed_over(&led_by_node(identity).plan()), ("b", Cause::HolderChanged), "{identity}");
    }
}

#[test]
fn identity_that_names_no_pod_is_a_vacancy_and_is_explained() {
    let said = |world: &Snapshot| vacancy(world).1;
    for identity in ["b-", "B", "_b", "b.example.com", "b-uid_x", "d"] {
        let expected = format!(
            "Lease lock is held by {identity:?}, which names no matching pod: of a it would be \"a\", \"a_…\" or its UID"
        );
        assert_eq!(said(&led(identity)), expected);
    }
    assert_eq!(
        said(&led_by_node("node-d_1")),
        "Lease lock is held by \"node-d_1\", which names the node of no matching pod: of a it would be \"node-a\" or \"node-a_…\""
    );
    assert_eq!(
        said(&led_by_node("b_1")),
        "Lease lock is held by \"b_1\", the name of a pod: create the Election with spec.leaderFrom.lease.holder: PodName"
    );
    let unplaced = led_by_node("node-d").with(|world| world.pods[0].node_name = None);
    assert_eq!(
        said(&unplaced),
        "Lease lock is held by \"node-d\", which names the node of no matching pod: a has no node yet"
    );
    let long = "x".repeat(300);
    let shown = format!("Lease lock is held by \"{}…\", which", "x".repeat(64));
    assert!(said(&led(&long)).starts_with(&shown));
}

#[test]
fn identity_that_names_several_pods_is_a_vacancy() {
    let both = led_by_node("node-b").with(|world| world.pods[2].node_name = Some("node-b".into()));
    assert_eq!(vacancy(&both).1, "Lease lock is held by \"node-b\", which names several pods: b, c");
    let name_is_uid = led("c").with(|world| world.pods[1].id.uid = "c".into());
    assert_eq!(vacancy(&name_is_uid).1, "Lease lock is held by \"c\", which names several pods: b, c");
}

#[test]
fn only_a_pod_that_matches_is_named() {
    let other = led("b").with(|world| world.pods[1].matches = false);
    assert!(vacancy(&other).1.contains("names no matching pod"));
}

#[test]
fn pods_are_read_before_an_identity_that_names_none_is_a_vacancy() {
    let plan = led("d_1").plan();
    assert!(stays(&plan) && matches!(plan.then, Then::Consult(_)), "{plan:#?}");
    let arrived = led("d_1").consulted().with(|world| world.pods.push(pod("d")));
    assert_eq!(handed_over(&arrived.plan()).0, "d");
    let nobody_leads = led("d_1").with(|world| world.lease.as_mut().unwrap().content = held_by("", 90, []));
    assert_eq!(nobody_leads.plan().then, Then::AwaitChange, "nothing depends on it");
}

// ---- Whom it makes leader ----

#[test]
fn readiness_age_and_deletion_do_not_apply_to_the_named_pod() {
    for change in [
        |pod: &mut Pod| pod.ready = false,
        |pod: &mut Pod| pod.unchanged_for = k8s_openapi::jiff::SignedDuration::ZERO,
        |pod: &mut Pod| pod.state = PodState::Terminating,
        |pod: &mut Pod| pod.state = PodState::Pending,
    ] {
        let young = |world: Snapshot| {
            world.settings(|settings| settings.min_ready = k8s_openapi::jiff::SignedDuration::from_secs(60))
        };
        let elected = young(led("b").with(|world| change(&mut world.pods[1])));
        assert_eq!(handed_over(&elected.plan()).0, "b");
        let kept = young(led("a").with(|world| change(&mut world.pods[0])));
        assert!(stays(&kept.plan()), "{:#?}", kept.plan());
        assert_eq!(ready(&kept).1, "LeaderElected");
    }
}

#[test]
fn pod_that_ended_or_is_not_free_does_not_lead_although_the_lease_names_it() {
    for (change, cause, why) in [
        ((|pod| pod.state = PodState::Failed) as fn(&mut Pod), Cause::Ended, "a failed"),
        (|pod| pod.state = PodState::Succeeded, Cause::Ended, "a has completed"),
        (|pod| pod.opted_out = true, Cause::OptedOut, "a has podium.dev/candidate: \"false\""),
    ] {
        let ended = led("a").with(|world| change(&mut world.pods[0]));
        let (found, message) = vacancy(&ended);
        assert_eq!(found, cause);
        assert!(message.starts_with(&format!("No candidate is eligible: {why}")), "{message}");
    }
}

#[test]
fn pod_that_is_created_again_under_the_name_leads() {
    let again = led("a").with(|world| {
        world.pods[0] = pod("a").with(|pod| pod.id.uid = "another".into());
        world.gone = uids(["a-uid"]);
    });
    assert_eq!(elected(&again.plan()), ("a", 100, uids(["a-uid"])));
    let by_uid = led("a-uid").with(|world| {
        world.pods[0] = pod("a").with(|pod| pod.id.uid = "another".into());
        world.gone = uids(["a-uid"]);
    });
    assert_eq!(vacancy(&by_uid).0, Cause::Gone);
}

#[test]
fn change_breaks_before_it_makes_like_every_other() {
    let plan = led("b_1").plan();
    assert_eq!(elected(&plan), ("b", 100, uids(["a-uid"])));
    assert_eq!(writes(&plan.fence), [("a", 100, REMOVE)]);
    assert_eq!(plan.label.as_ref().map(|label| label.pod.name.as_str()), Some("b"));
    let announced = plan.status.as_ref().unwrap().announce.as_ref().unwrap();
    assert_eq!(announced.reason, "Lease lock names b");
}

#[test]
fn first_leader_is_the_pod_that_the_lease_names() {
    let first = world(Content::Blank).pods([pod("a"), pod("b")]).following(lock("b", 50)).consulted();
    assert_eq!(handed_over(&first.plan()), ("b", Cause::InitialElection));
    let nobody = world(Content::Blank).pods([pod("a"), pod("b")]).following(lock("", 50));
    assert!(stays(&nobody.plan()));
    assert_eq!(ready(&nobody), ("False".into(), "NoEligibleCandidate".into(), "Lease lock has no holder".into()));
}

#[test]
fn standby_pods_carry_the_value_of_followers() {
    let world = led("a").settings(|settings| settings.label.follower_value = Some("false".into()));
    let world = world.with(|world| world.pods[2].ready = false);
    assert_eq!(writes(&world.plan().follow), [("b", 90, FOLLOW)], "c is not Ready");
    assert_eq!(world.plan().status.unwrap().status.eligible_candidates, 1);
}

#[test]
fn next_leader_is_unknown_and_nobody_is_claimed_in_advance() {
    let world = led("a").with(|world| world.pods[1].claimed = false);
    assert_eq!(world.plan().claim_next, None);
    let status = world.plan().status.unwrap().status;
    assert_eq!((status.next_leader, status.leader.as_deref()), (None, Some("a")));
}

// ---- Release, expiry, deletion ----

#[test]
fn released_lease_is_a_vacancy_at_once() {
    assert_eq!(vacancy(&led("")), (Cause::LeaseReleased, "Lease lock has no holder".into()));
}

#[test]
fn expiry_counts_only_up_to_a_read_from_the_server() {
    let observed = |unchanged, confirmed| led_by(lock("a_1", 110).unchanged_for(unchanged, confirmed));
    assert!(stays(&observed(14, 14).plan()));
    assert_eq!(observed(14, 0).plan().then, Then::AwaitChange, "a renewal or its absence wakes the Election");
    for confirmed in [0, 14] {
        let plan = observed(15, confirmed).plan();
        assert!(stays(&plan) && matches!(plan.then, Then::ReadFollowedLease(_)), "{plan:#?}");
    }
    let expired = "Lease lock expired: its holder \"a_1\" has not renewed it for 15 s".to_owned();
    assert_eq!(vacancy(&observed(15, 15)), (Cause::LeaseExpired, expired.clone()));
    assert_eq!(vacancy(&observed(15, 0).followed_lease_read()), (Cause::LeaseExpired, expired));
    let suspended = observed(20, 0).settings(|settings| settings.suspend = true).plan();
    assert!(stays(&suspended) && suspended.then == Then::AwaitChange, "{suspended:#?}");
}

#[test]
fn lease_without_a_duration_expires_after_that_of_client_go() {
    let without = |seconds| {
        let mut lease = lock("a", 110).unchanged_for(seconds, seconds);
        lease.lease.as_mut().unwrap().duration_seconds = None;
        led_by(lease)
    };
    assert!(stays(&without(14).plan()));
    assert_eq!(vacancy(&without(15)).0, Cause::LeaseExpired);
}

#[test]
fn deleted_lease_is_a_vacancy_when_its_duration_has_passed() {
    let deleted = |unchanged, confirmed| led_by(lock("a_1", 110).unchanged_for(unchanged, confirmed).deleted());
    assert!(stays(&deleted(14, 0).plan()));
    assert!(matches!(deleted(15, 0).plan().then, Then::ReadFollowedLease(_)));
    let message = "Lease lock was deleted, and its holder \"a_1\" has not renewed it for 15 s";
    assert_eq!(vacancy(&deleted(15, 15)), (Cause::LeaseExpired, message.into()));
}

#[test]
fn controller_that_starts_without_the_lease_does_not_depose_for_one_duration() {
    let absent = |unchanged, confirmed| led_by(FollowedLease::UNOBSERVED.unchanged_for(unchanged, confirmed));
    assert!(stays(&absent(14, 0).plan()));
    assert_eq!(ready(&absent(0, 0)).1, "LeaderElected");
    assert!(matches!(absent(15, 0).plan().then, Then::ReadFollowedLease(_)));
    // No version was observed, so nothing proves that it is not older than the term.
    let read = absent(15, 0).followed_lease_read();
    assert_eq!(vacancy(&read), (Cause::LeaseExpired, "Lease lock does not exist".into()));
    let settings_without_observation = led("a").with(|world| world.followed = None);
    assert!(stays(&settings_without_observation.plan()), "a Lease that is not observed elects nobody");
}

#[test]
fn holder_that_a_former_controller_found_expired_leads_only_after_a_renewal() {
    let vacant = |cause, revision| {
        let lease = Snapshot { followed: Some(lock("a_1", revision)), ..led("a") };
        lease.with(|world| {
            world.pods[0] = pod("a").term(90);
            world.lease.as_mut().unwrap().content = held_by("", 90, ["a-uid"]);
            let Content::Term(record) = &mut world.lease.as_mut().unwrap().content else { panic!("a term") };
            record.cause = cause;
        })
    };
    let expired = vacant(Cause::LeaseExpired, 99);
    assert!(stays(&expired.plan()), "this controller has just started");
    assert_eq!(expired.plan().then, requeue_after(1), "renewals wake nobody");
    let observed = expired.with(|world| world.followed = Some(lock("a_1", 99).unchanged_for(15, 15)));
    assert_eq!(observed.plan().then, Then::AwaitChange);
    assert_eq!(handed_over(&vacant(Cause::LeaseExpired, 101).plan()), ("a", Cause::HolderChanged), "it was renewed");
    assert_eq!(handed_over(&vacant(Cause::LeaseReleased, 101).plan()).0, "a");
    let acquired = vacant(Cause::LeaseExpired, 99).with(|world| world.followed = Some(lock("b_1", 99)));
    let read = acquired.followed_lease_read();
    assert_eq!(handed_over(&read.plan()).0, "b", "it acquired the Lease just before the vacancy");
}

#[test]
fn deleted_lease_whose_last_version_may_be_unknown_leaves_the_leader_for_one_duration() {
    let deleted = |revision, unchanged| {
        led_by(lock("b_1", revision).unchanged_for(unchanged, unchanged).deleted()).followed_lease_read()
    };
    assert!(stays(&deleted(99, 14).plan()), "another controller may have observed a later version");
    assert_eq!(handed_over(&deleted(101, 14).plan()).0, "b");
    assert_eq!(vacancy(&deleted(99, 15)), (Cause::LeaseExpired, "Lease lock does not exist".into()));
}

#[test]
fn observation_from_before_the_term_deposes_nobody() {
    for holder in ["b", ""] {
        let plan = led_by(lock(holder, 99)).plan();
        assert!(stays(&plan) && matches!(plan.then, Then::ReadFollowedLease(_)), "{plan:#?}");
        assert!(!stays(&led_by(lock(holder, 99)).followed_lease_read().plan()));
        assert!(!stays(&led_by(lock(holder, 101)).plan()), "it was observed after the term began");
    }
}

#[test]
fn retain_keeps_the_former_leader_while_the_lease_names_nobody() {
    let retains = |world: Snapshot| world.settings(|settings| settings.retain = true);
    for lease in [lock("", 110), lock("d", 110), lock("a", 110).unchanged_for(20, 20)] {
        let world = retains(led_by(lease));
        assert!(stays(&world.plan()), "{:#?}", world.plan());
        let (status, reason, message) = ready(&world);
        assert_eq!((&*status, &*reason), ("True", "LeaderRetained"));
        assert!(
            message
                .starts_with("Pod a is not named by the Lease of spec.leaderFrom and keeps the label (term 90): Lease lock")
        );
    }
    assert_eq!(handed_over(&retains(led("b")).plan()).0, "b", "it protects from no other pod");
    for state in [PodState::Terminating, PodState::Failed] {
        let ends = retains(led("")).with(|world| world.pods[0].state = state);
        assert_eq!(handed_over(&ends.plan()).0, "");
    }
}

// ---- What has no effect, and what is refused ----

#[test]
fn lease_of_an_election_is_refused_and_the_leader_stays() {
    let mut owned = lock("b", 110);
    owned.lease.as_mut().unwrap().owner = Some("db".into());
    let (reason, message) = stalled(&led_by(owned.clone()));
    assert_eq!(reason, "LeaseConflict");
    assert_eq!(
        message,
        "Lease lock belongs to Election db: create the Election with a spec.leaderFrom.lease.name on which others elect"
    );
    owned.lease.as_mut().unwrap().owner = None;
    owned.lease.as_mut().unwrap().incarnation = Some("x".into());
    assert_eq!(stalled(&led_by(owned)).0, "LeaseConflict", "also one that lost its owner reference");
}

#[test]
fn requests_for_a_switchover_are_ignored_and_named() {
    let requested = led("a").switchover("90", Some("b"));
    assert!(stays(&requested.plan()));
    let ignored = "Annotation podium.dev/switchover-term is ignored: Lease lock decides who leads";
    assert_eq!(ready(&requested).2, format!("Pod a is the leader (term 90). {ignored}"));
    assert_eq!(degraded(&requested.plan()), None);
}

#[test]
fn fields_without_effect_are_named_in_ready() {
    let world = led("a").with(|world| from(world).without_effect = vec!["tieBreak", "whenNodeDrains"]);
    let message = "Pod a is the leader (term 90). Without effect beside spec.leaderFrom: tieBreak, whenNodeDrains";
    assert_eq!(ready(&world), ("True".into(), "LeaderElected".into(), message.into()));
}
