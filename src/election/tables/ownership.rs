//! The ownership of a Lease: which are left alone, which are adopted, and when.

use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::lease::record::Lease;

/// A Lease that Podium did not create, held by `holder` (`""`: none) for 15 s, last renewed `age` seconds ago.
fn foreign(holder: &str, age: i64, change: impl FnOnce(&mut Lease)) -> Snapshot {
    let content = if holder.is_empty() { Content::Blank } else { Content::Damaged("no term") };
    let world = world(content).pods([pod("a").with(|pod| pod.score = 1), pod("b")]);
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

/// Returns the condition's message, and the seconds until the next decision.
fn left_alone(world: &Snapshot) -> (String, Option<i64>) {
    let (reason, message) = stalled(world);
    assert_eq!(reason, "LeaseConflict");
    match world.plan().then {
        Then::RequeueAfter(left) => (message, Some(left.as_secs())),
        _ => (message, None),
    }
}

#[test]
fn foreign_lease_is_left_alone_at_any_age_and_the_message_says_how_to_allow_adoption() {
    for (holder, age) in [("db-0", 0), ("db-0", 9_999), ("", 9_999)] {
        let (message, again) = left_alone(&foreign(holder, age, |_| {}).consulted());
        assert!(message.contains("kubectl annotate lease web podium.dev/allow-adoption-by=web"), "{message}");
        assert_eq!(again, None);
    }
    let (message, _) = left_alone(&foreign("db-0", 9_999, allow_adoption_by("db")).consulted());
    assert!(message.contains("its holder is db-0"), "the consent names another Election: {message}");
}

#[test]
fn adoptable_lease_with_a_live_holder_is_adopted_after_it_expires() {
    let (message, again) = left_alone(&foreign("b", 5, allow_adoption_by("web")).consulted());
    assert!(message.contains("b holds and renews it") && message.contains("stop that elector"), "{message}");
    assert_eq!(again, Some(10));
    let no_duration =
        foreign("b", 5, |lease| (lease.allow_adoption_by, lease.duration_seconds) = (Some("web".into()), None));
    assert_eq!(left_alone(&no_duration.consulted()).1, Some(10), "client-go's default");
}

#[test]
fn adoptable_lease_that_is_released_or_expired_is_blanked_first() {
    for world in [foreign("", 0, allow_adoption_by("web")), foreign("db-0", 15, allow_adoption_by("web"))] {
        let plan = world.plan();
        assert_eq!(plan.lease, Some(LeaseWrite::Blank(guard(), "it was adopted")));
        assert_eq!((plan.fence.len(), plan.label, plan.then), (0, None, Then::DecideAgain));
    }
}

#[test]
fn adopted_lease_is_blanked_first_if_a_higher_term_exists() {
    let claimed = |world: &mut Snapshot| world.pods[0] = pod("a").term(2_500);
    let plan = foreign("b", 0, by_sidecars).with(claimed).consulted().plan();
    assert_eq!(plan.lease, Some(LeaseWrite::Blank(guard(), "it was adopted")));
    let named = |world: &mut Snapshot| world.election.status.term = Some(2_500);
    let plan = foreign("b", 0, by_sidecars).with(named).consulted().plan();
    assert_eq!(plan.lease, Some(LeaseWrite::Blank(guard(), "it was adopted")));
}

#[test]
fn sidecars_lease_is_adopted_at_once_and_its_holder_stays() {
    let cached = foreign("b", 0, by_sidecars).plan();
    assert_eq!(cached.lease, None, "the caches do not suffice");
    assert!(matches!(cached.then, Then::Consult(_)));
    let plan = foreign("b", 0, by_sidecars).consulted().plan();
    assert_eq!(elected(&plan), ("b", 100, uids(["a-uid"])));
    let Some(LeaseWrite::Elect { record, transitions, .. }) = plan.lease else { panic!("{plan:?}") };
    assert_eq!(transitions, 4, "the leader did not change");
    assert_eq!(record.reason, "the Lease was adopted");
}

#[test]
fn sidecars_lease_with_an_ineligible_holder_is_adopted_after_it_expires() {
    let unready = |world: &mut Snapshot| world.pods[1].ready = false;
    let waiting = foreign("b", 5, by_sidecars).with(unready).consulted();
    assert_eq!(left_alone(&waiting).1, Some(10));
    let expired = foreign("b", 15, by_sidecars).with(unready).consulted().plan();
    assert!(matches!(expired.lease, Some(LeaseWrite::Blank(..))), "{expired:?}");
}

#[test]
fn sidecars_lease_must_have_the_elections_name_and_a_matching_holder() {
    let strange = foreign("b", 0, by_sidecars).with(|world| world.pods[1].matches = false);
    left_alone(&strange.consulted());
    left_alone(&foreign("", 99, by_sidecars).consulted());
    let other_name = |world: &mut Snapshot| world.election.settings.as_mut().unwrap().lease_name = "other".into();
    left_alone(&foreign("b", 0, by_sidecars).with(other_name).consulted());
    let named = foreign("b", 0, |lease| (lease.by_sidecars, lease.allow_adoption_by) = (true, Some("web".into())));
    assert_eq!(elected(&named.with(other_name).consulted().plan()).0, "b");
}

#[test]
fn elector_that_acquired_the_elections_lease_is_left_alone_until_it_expires() {
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
fn owner_reference_alone_decides_the_ownership_of_a_lease() {
    let owned = |owner: &'static str| foreign("b", 99, move |lease| lease.owner = Some(owner.into()));
    assert!(matches!(owned("web").plan().lease, Some(LeaseWrite::Blank(..))));
    let (message, _) = left_alone(&owned("db").consulted());
    assert!(message.contains("belongs to Election db"), "{message}");
    let consented =
        foreign("b", 99, |lease| (lease.owner, lease.allow_adoption_by) = (Some("db".into()), Some("web".into())));
    left_alone(&consented.consulted());
}

#[test]
fn no_lease_is_adopted_while_suspended_or_without_an_eligible_pod() {
    let suspended = foreign("", 0, allow_adoption_by("web")).consulted();
    let plan = suspended.with(|world| world.election.settings.as_mut().unwrap().suspend = true).plan();
    assert_eq!(plan.lease, None);
    let nobody = foreign("", 0, allow_adoption_by("web")).with(|world| world.pods.clear()).consulted().plan();
    assert_eq!(nobody.lease, None);
}
