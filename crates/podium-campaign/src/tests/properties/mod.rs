//! Campaigners on one lock under faults: lost responses, late and altered writes, clocks of different rates, deletion of the lock,
//! paused and crashed processes, and duplicate identities. Two never claim to lead at the same moment, and one leads when the faults
//! stop.

use std::time::Duration;

use proptest::prelude::*;

use self::world::{Alteration, AnotherHolder, DropHolder, DropTime, Keep, KeepTime, Longer, Rules, Shorter, Step, World};
use super::*;

mod world;

fn alteration() -> impl Strategy<Value = Alteration> {
    prop::sample::select(vec![Keep, KeepTime, DropTime, Longer, DropHolder, AnotherHolder, Shorter])
}

fn step(nodes: usize) -> impl Strategy<Value = Step> {
    let node = move || 0..nodes;
    prop_oneof![
        3 => (1..800_u64).prop_map(Step::Pass),
        3 => (800..6_000_u64).prop_map(Step::Pass),
        4 => node().prop_map(Step::Ask),
        4 => node().prop_map(Step::Serve),
        4 => node().prop_map(Step::LockResponse),
        8 => node().prop_map(Step::Round),
        2 => (node(), alteration()).prop_map(|(node, alteration)| Step::Altered(node, alteration)),
        1 => (node(), alteration()).prop_map(|(node, alteration)| Step::ServeAltered(node, alteration)),
        2 => node().prop_map(Step::GiveUp),
        2 => (0..9_usize).prop_map(Step::LateWrite),
        2 => (node(), 0..99_usize).prop_map(|(node, version)| Step::Hear(node, version)),
        1 => (node(), any::<bool>()).prop_map(|(node, same)| Step::Crash(node, same)),
        1 => node().prop_map(Step::Resign),
        1 => Just(Step::Delete),
    ]
}

/// The steps of nominated processes, beside those of all.
fn nominated_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..1_500_u64).prop_map(Step::Pass),
        16 => (0..3_usize).prop_map(Step::Round),
        5 => (0..3_usize).prop_map(Step::Ask),
        5 => (0..3_usize).prop_map(Step::Serve),
        5 => (0..3_usize).prop_map(Step::LockResponse),
        12 => step(3),
        4 => (0..3_usize, prop::bool::weighted(0.7)).prop_map(|(node, is_nominated)| Step::Nominate(node, is_nominated)),
        2 => (0..3_usize).prop_map(Step::ReadNomination),
        1 => (0..3_usize).prop_map(Step::Stopped),
        1 => Just(Step::Blank),
        1 => alteration().prop_map(Step::Edit),
    ]
}

/// The limits of the validation, so that an error of one step shows.
fn timings() -> impl Strategy<Value = Timing> {
    let timing = |lease, renew, retry| Timing {
        lease_duration: Duration::from_secs(lease),
        renew_deadline: Duration::from_millis(renew),
        retry_period: Duration::from_millis(retry),
    };
    prop_oneof![Just(timing(10, 9_040, 2_000)), Just(timing(15, 10_000, 2_000)), Just(timing(2, 1_800, 400))]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(3), 1..250)
}

fn rates() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(95..=105_u64, 3)
}

fn check(timing: Timing, rates: &[u64], steps: &[Step], rules: Rules) -> Result<World, TestCaseError> {
    prop_assert_eq!(timing.validate(), Ok(()));
    let mut world = World::new(timing, rates, rules);
    for (number, step) in steps.iter().enumerate() {
        world.step(step);
        let leaders = world.leaders();
        prop_assert!(leaders.len() <= 1, "after step {number}, {step:?}, at {} ms: {leaders:?} lead", world.time);
    }
    Ok(world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn two_never_lead_at_once_and_one_leads_when_the_faults_stop(
        timing in timings(), rates in rates(), steps in steps(),
    ) {
        check(timing, &rates, &steps, Rules::default())?.settle()?;
    }

    #[test]
    fn two_never_lead_if_an_observed_lock_is_deleted(
        timing in timings(), rates in rates(), steps in steps(),
    ) {
        check(timing, &rates, &steps, Rules { deletions: true, ..Rules::default() })?.settle()?;
    }

    #[test]
    fn two_never_lead_if_writes_are_altered(
        timing in timings(), rates in rates(), steps in steps(), deletions in any::<bool>(),
    ) {
        check(timing, &rates, &steps, Rules { alterations: true, deletions, ..Rules::default() })?.settle()?;
    }

    #[test]
    fn two_of_one_identity_never_lead_if_neither_resumes(
        timing in timings(), rates in rates(), steps in steps(), deletions in any::<bool>(),
    ) {
        check(timing, &rates, &steps, Rules { twins: true, deletions, ..Rules::default() })?.settle()?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whoever is nominated whenever, whatever happens to the lock, and whenever processes start.
    #[test]
    fn two_nominated_never_work_at_once_and_the_nominated_one_leads_when_the_faults_stop(
        timing in timings(), rates in rates(), steps in prop::collection::vec(nominated_step(), 1..300), nominee in 0..3_usize,
        alterations in any::<bool>(), edits in any::<bool>(),
    ) {
        let rules = Rules { nominated: true, alterations, deletions: edits, ..Rules::default() };
        let mut world = World::new(timing, &rates, rules);
        world.release();
        for (number, step) in steps.iter().enumerate() {
            world.step(step);
            let working = world.working();
            prop_assert!(working.len() <= 1, "after step {number}, {step:?}, at {} ms: {working:?} work", world.time);
        }
        world.settle_on(nominee)?;
    }
}

#[test]
fn creation_in_flight_while_another_lock_came_and_went_does_not_lead() {
    let timing = Timing {
        lease_duration: Duration::from_secs(10),
        renew_deadline: Duration::from_millis(9_040),
        retry_period: Duration::from_secs(2),
    };
    let steps = [
        Step::Round(2),
        Step::Round(1),
        Step::Ask(2),
        Step::Round(1),
        Step::Hear(2, 29),
        Step::Round(0),
        Step::Delete,
        Step::Round(2),
    ];
    let rules = Rules { deletions: true, ..Rules::default() };
    let mut world = check(timing, &[95; 3], &steps, rules).expect("no two lead");
    assert_eq!(world.leaders(), [1], "who led before the deletion, until its deadline");
    while world.leaders() != [2] {
        assert!(world.time < 60_000, "who made the new lock leads in the end");
        world.time += 150;
        world.round(2, None);
        world.round(1, None);
        assert!(world.leaders().len() <= 1);
    }
}
