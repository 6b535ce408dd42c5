//! A wall clock that jumps, or that disagrees with those of the kubelets: it moves delays, and nothing else.

use super::*;
use crate::election::decide;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// The beginning and the end of time, and some moments between: where a clock may be after a jump.
fn jumps() -> [Timestamp; 6] {
    [Timestamp::MIN, at(-1), at(0), at(999), at(4_000_000_000), Timestamp::MAX]
}

fn patient(world: &mut Snapshot) {
    let settings = world.election.settings.as_mut().unwrap();
    settings.min_ready = SignedDuration::from_secs(86_400);
    settings.failover_delay = SignedDuration::from_secs(86_400);
}

#[test]
fn a_leader_that_is_well_stays_whatever_the_clock_says() {
    let settled = PerfectServer::new().settle(world(reign("a", 90, [])).pods([pod("a").labelled().term(90), pod("b")])).0;
    for now in jumps() {
        let plan = decide(&settled.clone().with(patient), now);
        assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None), "{now}");
        let leader = plan.status.map_or(Some("a".into()), |write| write.status.leader);
        assert_eq!(leader.as_deref(), Some("a"), "{now}: only how many may lead is another number");
    }
}

#[test]
fn a_leader_that_is_gone_is_replaced_whatever_the_clock_says() {
    for now in jumps() {
        let gone = pod("a").labelled().term(90).with(|pod| pod.state = PodState::Terminating);
        // Eligible since the beginning of time.
        let next = pod("b").with(|pod| pod.ready_since = Some(Timestamp::MIN));
        let plan = decide(&world(reign("a", 90, [])).pods([gone, next]), now);
        let (holder, term, unfenced) = elected(&plan);
        assert_eq!((holder, term, unfenced), ("b", 100, uids(["a-uid"])), "{now}: the term is no time");
    }
}

#[test]
fn readiness_in_the_future_counts_as_now_and_ends_no_wait() {
    for ready_since in [at(1_001), at(4_000_000_000), Timestamp::MAX] {
        let ahead = pod("a").with(|pod| pod.ready_since = Some(ready_since));
        let at_once = world(reign("", 90, [])).pods([ahead.clone()]).plan();
        assert_eq!(elected(&at_once).0, "a", "{ready_since}");
        let waiting = world(reign("", 90, [])).pods([ahead]).with(patient).plan();
        assert_eq!((waiting.lease, waiting.then), (None, Then::LookAgain(at(87_400))), "{ready_since}");
    }
}

#[test]
fn a_delay_that_began_in_the_future_lasts_its_time_and_no_longer() {
    for unready_since in [at(1_001), Timestamp::MAX] {
        let leader = pod("a").labelled().term(90).with(|pod| {
            (pod.ready_since, pod.unready_since) = (None, Some(unready_since));
        });
        let next = pod("b").with(|pod| pod.ready_since = Some(Timestamp::MIN));
        let world = world(reign("a", 90, [])).pods([leader, next]).with(patient);
        let plan = decide(&world, now());
        assert_eq!((plan.lease, plan.then), (None, Then::LookAgain(at(87_400))), "{unready_since}");
    }
}

#[test]
fn a_delay_ends_at_once_when_the_clock_jumps_past_it_and_begins_nothing_when_it_jumps_back() {
    let leader = pod("a").labelled().term(90).with(|pod| (pod.ready_since, pod.unready_since) = (None, Some(at(990))));
    let next = pod("b").with(|pod| pod.ready_since = Some(Timestamp::MIN));
    let world = world(reign("a", 90, [])).pods([leader, next]).with(patient);
    assert_eq!(elected(&decide(&world, at(4_000_000_000))).0, "b");
    let back = decide(&world, at(10));
    assert_eq!((back.lease, back.then), (None, Then::LookAgain(at(86_410))));
}

#[test]
fn a_term_that_begins_at_the_ends_of_time_is_written_and_read() {
    for now in jumps() {
        let blank = world(Content::Blank).pods([pod("a").with(|pod| pod.ready_since = Some(Timestamp::MIN))]).consulted();
        let plan = decide(&blank, now);
        assert_eq!((elected(&plan).0, elected(&plan).1), ("a", 100), "{now}");
        let status = plan.status.expect("it is told").status;
        assert!(status.since.is_some() && status.leader.as_deref() == Some("a"), "{now}");
    }
}
