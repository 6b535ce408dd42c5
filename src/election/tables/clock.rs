//! A wall clock that is wrong, or jumps between two decisions: it dates what is written, and changes nothing else.

use super::*;
use crate::election::decide;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// The times to which a clock jumps: the limits of `Timestamp` and some between.
fn jumps() -> [Timestamp; 6] {
    [Timestamp::MIN, at(-1), at(0), at(999), at(4_000_000_000), Timestamp::MAX]
}

/// Wall clocks as functions of elapsed seconds: steady, stopped, running backwards, and jumping to each of [`jumps`] and back.
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

/// Returns the second at which a term begins. Until then each decision requeues after the rest of the delay.
fn begins(clock: &dyn Fn(i64) -> Timestamp, world_at: impl Fn(i64) -> Snapshot) -> Option<i64> {
    (0..60).find(|second| {
        let plan = decide(&world_at(*second).with(delays), clock(*second));
        if plan.lease.is_none() {
            assert_eq!(plan.then, requeue_after(30 - second), "at {second} s");
        }
        plan.lease.is_some()
    })
}

#[test]
fn delays_are_independent_of_wall_clock_jumps() {
    for (number, clock) in clocks().iter().enumerate() {
        let young = |second| world(held_by("", 90, [])).pods([pod("a").ready_for(true, second)]);
        assert_eq!(begins(clock, young), Some(30), "minReadySeconds, clock {number}");
        let unready = |second| {
            let leader = pod("a").labeled().term(90).ready_for(false, second);
            world(held_by("a", 90, [])).pods([leader, pod("b")])
        };
        assert_eq!(begins(clock, unready), Some(30), "failoverDelaySeconds, clock {number}");
    }
}

#[test]
fn healthy_leader_stays_at_any_wall_clock_time() {
    let rest = PerfectServer::new().run(world(held_by("a", 90, [])).pods([pod("a").labeled().term(90), pod("b")])).0;
    for now in jumps() {
        let plan = decide(&rest.clone().with(delays), now);
        assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None), "{now}");
        assert_eq!((plan.status, plan.then), (None, Then::AwaitChange), "{now}");
    }
}

#[test]
fn terminating_leader_is_replaced_at_any_wall_clock_time() {
    for now in jumps() {
        let gone = pod("a").labeled().term(90).with(|pod| pod.state = PodState::Terminating);
        let plan = decide(&world(held_by("a", 90, [])).pods([gone, pod("b")]).with(delays), now);
        let (holder, term, unfenced) = elected(&plan);
        assert_eq!((holder, term, unfenced), ("b", 100, uids(["a-uid"])), "{now}: the term does not depend on time");
    }
}

#[test]
fn candidate_order_is_independent_of_the_wall_clock() {
    let reported = |name: &str, time| pod(name).with(|pod| pod.transitioned = time);
    let (ahead, further) = (reported("b", Some(at(2_000))), reported("a", Some(Timestamp::MAX)));
    let without = reported("0", None);
    for now in jumps() {
        let plan = decide(&world(held_by("", 90, [])).pods([without.clone(), further.clone(), ahead.clone()]), now);
        assert_eq!(elected(&plan).0, "b", "{now}: times in the future are compared unchanged");
    }
    assert_eq!(
        elected(&world(held_by("", 90, [])).pods([without, further]).plan()).0,
        "a",
        "a pod without a time comes last"
    );
}

#[test]
fn term_at_the_limits_of_time_is_reported() {
    for now in jumps() {
        let plan = decide(&world(Content::Blank).pods([pod("a")]).consulted(), now);
        assert_eq!((elected(&plan).0, elected(&plan).1), ("a", 100), "{now}");
        let status = plan.status.expect("a status write").status;
        assert!(status.acquire_time.is_some() && status.leader.as_deref() == Some("a"), "{now}");
    }
}
