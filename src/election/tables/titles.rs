//! Whose a Lease is: what is left alone, what is waited for, what is taken over.

use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::lease::record::Lease;

/// A Lease that Podium did not make, held by `holder` (`""`: nobody) for 15 s, last renewed `age` seconds ago.
fn foreign(holder: &str, age: i64, change: impl FnOnce(&mut Lease)) -> Snapshot {
    let content = if holder.is_empty() { Content::Blank } else { Content::Damaged("no term") };
    let world = world(content).pods([pod("a").with(|pod| pod.priority = 1), pod("b")]);
    world.with(|world| {
        let lease = world.lease.as_mut().unwrap();
        (lease.owner, lease.incarnation) = (None, None);
        lease.holder_identity = (!holder.is_empty()).then(|| holder.into());
        (lease.renewed, lease.duration_seconds) = (true, Some(15));
        lease.unchanged_for = SignedDuration::from_secs(age);
        change(lease);
    })
}

fn allow_adoption_by(election: &str) -> impl FnOnce(&mut Lease) {
    move |lease| lease.allow_adoption_by = Some(election.into())
}

fn by_sidecars(lease: &mut Lease) {
    lease.by_sidecars = true;
}

/// What is said, and when it is looked at again, in seconds from now.
fn left_alone(world: &Snapshot) -> (String, Option<i64>) {
    let (reason, message) = stalled(world);
    assert_eq!(reason, "LeaseConflict");
    match world.plan().then {
        Then::LookAgain(left) => (message, Some(left.as_secs())),
        _ => (message, None),
    }
}

#[test]
fn a_foreign_lease_is_left_alone_however_old_and_the_message_says_how_to_consent() {
    for (holder, age) in [("db-0", 0), ("db-0", 9_999), ("", 9_999)] {
        let (message, again) = left_alone(&foreign(holder, age, |_| {}).consulted());
        assert!(message.contains("kubectl annotate lease web podium.dev/allow-adoption-by=web"), "{message}");
        assert_eq!(again, None);
    }
    let (message, _) = left_alone(&foreign("db-0", 9_999, allow_adoption_by("db")).consulted());
    assert!(message.contains("its holder is db-0"), "consent for another Election is none: {message}");
}

#[test]
fn with_consent_a_live_holder_is_waited_for_until_it_expires() {
    let (message, again) = left_alone(&foreign("b", 5, allow_adoption_by("web")).consulted());
    assert!(message.contains("b holds it") && message.contains("stop that elector"), "{message}");
    assert_eq!(again, Some(10));
    let no_duration =
        foreign("b", 5, |lease| (lease.allow_adoption_by, lease.duration_seconds) = (Some("web".into()), None));
    assert_eq!(left_alone(&no_duration.consulted()).1, Some(10), "client-go's default");
}

#[test]
fn with_consent_a_released_or_expired_lease_is_emptied_which_makes_it_ours_with_a_revision_above_all_terms() {
    for world in [foreign("", 0, allow_adoption_by("web")), foreign("db-0", 15, allow_adoption_by("web"))] {
        let plan = world.plan();
        assert_eq!(plan.lease, Some(LeaseWrite::Blank(guard(), "it was adopted")));
        assert_eq!((plan.fence.len(), plan.label, plan.then), (0, None, Then::DecideAgain));
    }
}

#[test]
fn a_term_from_another_lease_of_the_elections_name_is_never_taken_for_forged_by_an_older_lease() {
    let claimed = |world: &mut Snapshot| world.pods[0] = pod("a").term(2_500);
    let plan = foreign("b", 0, by_sidecars).with(claimed).consulted().plan();
    assert_eq!(plan.lease, Some(LeaseWrite::Blank(guard(), "it was adopted")));
    let named = |world: &mut Snapshot| world.election.status.term = Some(2_500);
    let plan = foreign("b", 0, by_sidecars).with(named).consulted().plan();
    assert_eq!(plan.lease, Some(LeaseWrite::Blank(guard(), "it was adopted")));
}

#[test]
fn a_sidecars_lease_is_taken_over_at_once_and_its_holder_stays() {
    let cached = foreign("b", 0, by_sidecars).plan();
    assert_eq!(cached.lease, None, "not from the caches");
    assert!(matches!(cached.then, Then::Consult(_)));
    let plan = foreign("b", 0, by_sidecars).consulted().plan();
    assert_eq!(elected(&plan), ("b", 100, uids(["a-uid"])));
    let Some(LeaseWrite::Elect { record, transitions, .. }) = plan.lease else { panic!("{plan:?}") };
    assert_eq!(transitions, 4, "the leader did not change");
    assert_eq!(record.reason, "the Lease was adopted");
}

#[test]
fn a_sidecar_whose_pod_may_not_lead_is_waited_for() {
    let unready = |world: &mut Snapshot| world.pods[1].ready = false;
    let waiting = foreign("b", 5, by_sidecars).with(unready).consulted();
    assert_eq!(left_alone(&waiting).1, Some(10));
    let expired = foreign("b", 15, by_sidecars).with(unready).consulted().plan();
    assert!(matches!(expired.lease, Some(LeaseWrite::Blank(..))), "{expired:?}");
}

#[test]
fn a_sidecars_lease_needs_the_elections_name_and_a_holder_that_it_selects() {
    let strange = foreign("b", 0, by_sidecars).with(|world| world.pods[1].matches = false);
    left_alone(&strange.consulted());
    left_alone(&foreign("", 99, by_sidecars).consulted());
    let other_name = |world: &mut Snapshot| world.election.settings.as_mut().unwrap().lease_name = "other".into();
    left_alone(&foreign("b", 0, by_sidecars).with(other_name).consulted());
    let named = foreign("b", 0, |lease| (lease.by_sidecars, lease.allow_adoption_by) = (true, Some("web".into())));
    assert_eq!(elected(&named.with(other_name).consulted().plan()).0, "b");
}

#[test]
fn an_elector_that_took_our_lease_is_left_alone_until_it_expires_and_an_edit_is_not() {
    let taken = |age, change: fn(&mut Lease)| {
        foreign("db-0", age, |lease| {
            lease.incarnation = Some("election".into());
            change(lease);
        })
    };
    let (message, again) = left_alone(&taken(5, |_| {}).consulted());
    assert!(message.contains("was taken by db-0"), "{message}");
    assert_eq!(again, Some(10));
    for edited in [
        taken(15, |_| {}),
        taken(5, |lease| lease.renewed = false),
        taken(5, |lease| lease.duration_seconds = Some(i32::MAX)),
        taken(5, |lease| lease.holder_identity = None),
    ] {
        assert!(matches!(edited.plan().lease, Some(LeaseWrite::Blank(..))), "{:?}", edited.plan());
    }
}

#[test]
fn an_owner_reference_alone_makes_a_lease_ours_or_anothers() {
    let owned = |owner: &'static str| foreign("b", 99, move |lease| lease.owner = Some(owner.into()));
    assert!(matches!(owned("web").plan().lease, Some(LeaseWrite::Blank(..))));
    let (message, _) = left_alone(&owned("db").consulted());
    assert!(message.contains("belongs to Election db"), "{message}");
    let consented =
        foreign("b", 99, |lease| (lease.owner, lease.allow_adoption_by) = (Some("db".into()), Some("web".into())));
    left_alone(&consented.consulted());
}

#[test]
fn nothing_is_taken_over_while_elections_are_suspended_or_nobody_may_lead() {
    let suspended = foreign("", 0, allow_adoption_by("web")).consulted();
    let plan = suspended.with(|world| world.election.settings.as_mut().unwrap().suspend = true).plan();
    assert_eq!(plan.lease, None);
    let nobody = foreign("", 0, allow_adoption_by("web")).with(|world| world.pods.clear()).consulted().plan();
    assert_eq!(nobody.lease, None);
}
