//! A wall clock that is wrong, or that jumps between two decisions: it dates what is written, and moves nothing else.

use super::*;
use crate::election::decide;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// The beginning and the end of time, and some moments between: where a clock may be after a jump.
fn jumps() -> [Timestamp; 6] {
    [Timestamp::MIN, at(-1), at(0), at(999), at(4_000_000_000), Timestamp::MAX]
}

/// Wall clocks by the seconds that pass meanwhile: steady, standing still, running back, and jumping to each of [`jumps`] and back.
fn clocks() -> Vec<Box<dyn Fn(i64) -> Timestamp>> {
    let mut clocks: Vec<Box<dyn Fn(i64) -> Timestamp>> =
        vec![Box::new(|second| at(1_000 + second)), Box::new(|_| now()), Box::new(|second| at(1_000 - second))];
    for there in jumps() {
        clocks.push(Box::new(move |second| if second < 15 { at(1_000 + second) } else { there }));
        clocks.push(Box::new(move |second| if second < 15 { there } else { at(1_000 + second) }));
        clocks.push(Box::new(move |second| if second % 2 == 0 { at(1_000 + second) } else { there }));
    }
    clocks
}

fn delays(world: &mut Snapshot) {
    let settings = world.election.settings.as_mut().unwrap();
    (settings.min_ready, settings.failover_delay) = (SignedDuration::from_secs(30), SignedDuration::from_secs(30));
}

/// The second at which a term begins. Until then each decision says how long it takes.
fn begins(clock: &dyn Fn(i64) -> Timestamp, world_at: impl Fn(i64) -> Snapshot) -> Option<i64> {
    (0..60).find(|second| {
        let plan = decide(&world_at(*second).with(delays), clock(*second));
        if plan.lease.is_none() {
            assert_eq!(plan.then, look_again(30 - second), "at {second} s");
        }
        plan.lease.is_some()
    })
}

#[test]
fn a_delay_lasts_as_long_as_it_should_wherever_the_clock_jumps() {
    for (number, clock) in clocks().iter().enumerate() {
        let young = |second| world(reign("", 90, [])).pods([pod("a").ready_for(true, second)]);
        assert_eq!(begins(clock, young), Some(30), "minReadySeconds, clock {number}");
        let unready = |second| {
            let leader = pod("a").labelled().term(90).ready_for(false, second);
            world(reign("a", 90, [])).pods([leader, pod("b")])
        };
        assert_eq!(begins(clock, unready), Some(30), "failoverDelaySeconds, clock {number}");
    }
}

#[test]
fn a_leader_that_is_well_stays_whatever_the_clock_says() {
    let settled = PerfectServer::new().settle(world(reign("a", 90, [])).pods([pod("a").labelled().term(90), pod("b")])).0;
    for now in jumps() {
        let plan = decide(&settled.clone().with(delays), now);
        assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None), "{now}");
        assert_eq!((plan.status, plan.then), (None, Then::Rest), "{now}");
    }
}

#[test]
fn a_leader_that_is_gone_is_replaced_whatever_the_clock_says() {
    for now in jumps() {
        let gone = pod("a").labelled().term(90).with(|pod| pod.state = PodState::Terminating);
        let plan = decide(&world(reign("a", 90, [])).pods([gone, pod("b")]).with(delays), now);
        let (holder, term, unfenced) = elected(&plan);
        assert_eq!((holder, term, unfenced), ("b", 100, uids(["a-uid"])), "{now}: the term is no time");
    }
}

#[test]
fn the_order_of_candidates_is_the_same_whatever_the_clock_says() {
    let reported = |name: &str, time| pod(name).with(|pod| pod.transitioned = time);
    let (ahead, further) = (reported("b", Some(at(2_000))), reported("a", Some(Timestamp::MAX)));
    let without = reported("0", None);
    for now in jumps() {
        let plan = decide(&world(reign("", 90, [])).pods([without.clone(), further.clone(), ahead.clone()]), now);
        assert_eq!(elected(&plan).0, "b", "{now}: times in the future are compared as they stand");
    }
    assert_eq!(elected(&world(reign("", 90, [])).pods([without, further]).plan()).0, "a", "no time comes last");
}

#[test]
fn a_term_that_begins_at_the_ends_of_time_is_written_and_read() {
    for now in jumps() {
        let plan = decide(&world(Content::Blank).pods([pod("a")]).consulted(), now);
        assert_eq!((elected(&plan).0, elected(&plan).1), ("a", 100), "{now}");
        let status = plan.status.expect("it is told").status;
        assert!(status.acquire_time.is_some() && status.leader.as_deref() == Some("a"), "{now}");
    }
}
