//! Properties of decisions in random worlds.

use k8s_openapi::jiff::SignedDuration;
use proptest::prelude::*;

use super::candidate::{Candidates, Ineligible};
use super::fixtures::*;
use super::followed::Named;
use super::order::Order;
use super::plan::LeaseWrite;
use super::snapshot::{FollowedLease, NodeHeartbeat, Pod, PodState, Snapshot, SwitchoverRequest};
use crate::ids::Term;
use crate::lease::cause::Cause;
use crate::lease::record::{Content, Record};

fn any_pod(name: &'static str) -> impl Strategy<Value = Option<Pod>> {
    let state = prop_oneof![
        6 => Just(PodState::Running),
        1 => Just(PodState::Terminating),
        1 => Just(PodState::Failed),
        1 => Just(PodState::Pending),
    ];
    let value = |value: &str| Just(Some(value.to_owned()));
    let label = prop_oneof![3 => Just(None), 2 => value("true"), 1 => value("false"), 1 => value("foreign")];
    let own = prop_oneof![Just(None), (80_i64..110).prop_map(Some), Just(Some(999_999))];
    let rival = prop_oneof![6 => Just(None), 1 => Just(Some("db".to_owned()))];
    let rest = (any::<bool>(), 0..3_i64, 590..1_010_i64, prop::bool::weighted(0.9), prop::bool::weighted(0.9));
    (prop::bool::weighted(0.85), state, label, own, rival, rest).prop_map(
        move |(exists, state, label, own, rival, (claimed, priority, since, ready, matches))| {
            exists.then(|| {
                pod(name).with(|pod| {
                    (pod.state, pod.label, pod.rival, pod.score) = (state, label, rival, priority);
                    pod.term = own.map(term);
                    pod.claimed = claimed || own.is_some();
                    (pod.ready, pod.transitioned) = (ready, Some(at(since)));
                    pod.unchanged_for = SignedDuration::from_secs(1_010 - since);
                    // A pod that neither matches nor carries the claim is not in a snapshot.
                    pod.matches = matches || !pod.claimed;
                })
            })
        },
    )
}

/// Eligible pods: of two workloads with revisions, and without a workload.
fn any_candidates() -> impl Strategy<Value = Vec<Pod>> {
    let made = prop_oneof![1 => Just(None), 4 => ((0..2_u8), (0..3_u8)).prop_map(Some)];
    let since = prop_oneof![1 => Just(None), 4 => (0..4_i64).prop_map(Some)];
    let drawn = (0..2_i64, made, 0..4_i64, since);
    prop::collection::vec(drawn, 0..8).prop_map(|pods| {
        let pods = pods.into_iter().enumerate().map(|(number, (priority, made, created, since))| {
            let pod = pod(&format!("web-{number}")).with(|pod| (pod.score, pod.transitioned) = (priority, since.map(at)));
            match made {
                Some((workload, hash)) => pod.made_from(&workload.to_string(), &hash.to_string(), created),
                None => pod,
            }
        });
        pods.collect()
    })
}

fn any_content() -> impl Strategy<Value = Content> {
    let holder = prop_oneof![Just(None), Just(Some("a")), Just(Some("b")), Just(Some("absent"))];
    let unfenced = prop::collection::btree_set(prop_oneof![Just("a-uid"), Just("c-uid"), Just("lost-uid")], 0..3);
    let reign = (holder, 80_i64..100, unfenced).prop_map(|(holder, number, unfenced)| {
        let unfenced = unfenced.into_iter().map(Into::into).collect();
        Content::Term(Record {
            holder: holder.map(|name| pod(name).id),
            term: term(number),
            unfenced,
            cause: Cause::Unknown,
            reason: String::new(),
        })
    });
    prop_oneof![1 => Just(Content::Blank), 1 => Just(Content::Damaged("an edit")), 4 => reign]
}

fn any_world() -> impl Strategy<Value = Snapshot> {
    let status_term = prop_oneof![3 => Just(None), 2 => (80_i64..120).prop_map(Some), 1 => Just(Some(999_999))];
    (any_content(), any_pod("a"), any_pod("b"), any_pod("c"), status_term, any::<bool>(), any::<bool>()).prop_map(
        |(content, a, b, c, status_term, lease, consulted)| {
            let mut world = world(content);
            world.pods = [a, b, c].into_iter().flatten().collect();
            world.election.status.term = status_term;
            if !lease {
                world.lease = None;
            }
            if consulted { world.consulted() } else { world }
        },
    )
}

/// A request for a switchover, with any term and target.
fn any_switchover() -> impl Strategy<Value = SwitchoverRequest> {
    let term = prop_oneof![2 => Just(None), 3 => (80_i64..110).prop_map(|term| Some(term.to_string())), 1 => Just(Some("x".into()))];
    let to = prop_oneof![3 => Just(None), 1 => Just(Some("a")), 1 => Just(Some("b")), 1 => Just(Some("absent"))];
    (term, to).prop_map(|(term, to)| SwitchoverRequest { term, to: to.map(str::to_owned) })
}

/// Where the three pods are: on a node that drains, or that is silent.
fn any_nodes() -> impl Strategy<Value = Vec<(bool, Option<NodeHeartbeat>)>> {
    let heartbeat = (0..3_u8, 0..40_i64, prop::option::of(0..40_i64)).prop_map(|(node, silent, renewing)| NodeHeartbeat {
        name: node.to_string(),
        silent_for: SignedDuration::from_secs(silent),
        renewing_for: renewing.map(SignedDuration::from_secs),
    });
    prop::collection::vec((prop::bool::weighted(0.3), prop::option::of(heartbeat)), 3)
}

/// The controls that plan a change of leader.
fn steered(world: impl Strategy<Value = Snapshot>) -> impl Strategy<Value = Snapshot> {
    let preempts = prop::option::of(0..10_i64);
    (world, any_switchover(), any_nodes(), preempts, any::<[bool; 3]>()).prop_map(
        |(world, switchover, nodes, preempts, [spread, drains, timeout])| {
            world.with(|world| {
                world.election.switchover = switchover;
                for (pod, (is_draining, node)) in world.pods.iter_mut().zip(nodes) {
                    (pod.is_draining, pod.node) = (is_draining && drains, node);
                    world.outranking.insert(pod.id.uid.clone(), SignedDuration::from_secs(5));
                }
                let settings = world.election.settings.as_mut().unwrap();
                settings.preempt_after = preempts.map(SignedDuration::from_secs);
                (settings.spread, settings.leave_draining_nodes) = (spread, drains);
                settings.node_timeout = timeout.then(|| SignedDuration::from_secs(25));
            })
        },
    )
}

/// A Lease on which others elect, if the Election follows one.
fn any_followed() -> impl Strategy<Value = Option<FollowedLease>> {
    let holder = prop_oneof![Just(""), Just("a"), Just("b_1"), Just("c-uid"), Just("absent")];
    let times = (0..40_i64, 0..40_i64);
    let lease = (holder, 60..140_i64, any::<bool>(), times, any::<bool>());
    let lease = lease.prop_map(|(holder, number, exists, (unchanged, confirmed), observed)| {
        let lease = lock(holder, number).unchanged_for(unchanged, confirmed.min(unchanged));
        FollowedLease { exists: exists && observed, lease: lease.lease.clone().filter(|_| observed), ..lease }
    });
    prop_oneof![2 => Just(None), 1 => lease.prop_map(Some)]
}

/// The same with the optional fields. The tables check what they do, these properties that they break nothing.
fn any_tuned_world() -> impl Strategy<Value = Snapshot> {
    let follower = prop_oneof![Just(None), Just(Some("false".to_owned()))];
    (steered(any_world()), any_followed(), (any::<bool>(), 0..60_i64, any::<bool>(), follower)).prop_map(
        |(world, followed, (hold, delay, suspend, follower))| {
            let (follows, delay) = (followed.is_some(), if followed.is_some() { 0 } else { delay });
            let world = match followed {
                Some(lease) => world.following(lease),
                None => world,
            };
            world.with(|world| {
                let settings = world.election.settings.as_mut().unwrap();
                settings.label.follower_value = follower;
                settings.failover_delay = SignedDuration::from_secs(delay);
                if follows {
                    // As the controller reads such a spec.
                    (settings.preempt_after, settings.node_timeout) = (None, None);
                    (settings.spread, settings.leave_draining_nodes) = (false, false);
                    world.pods.iter_mut().for_each(|pod| pod.is_draining = false);
                }
                (settings.retain, settings.suspend) = (hold, suspend);
            })
        },
    )
}

fn is_stalled(world: &Snapshot) -> bool {
    world.election.status.condition("Stalled").is_some()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Plans lead every world to rest in a few steps, and then at most the holder is labeled, with its term.
    #[test]
    fn every_world_comes_to_rest_with_only_the_holder_labeled(world in any_world()) {
        let (rest, _) = PerfectServer::new().run(world);
        let labeled: Vec<&Pod> = rest.pods.iter().filter(|pod| pod.is_labeled(&settings().label)).collect();
        let status = &rest.election.status;
        let stalled = is_stalled(&rest);
        match &rest.lease.as_ref().unwrap().content {
            Content::Term(record) => {
                let holders: Vec<_> = record.holder.iter().collect();
                prop_assert_eq!(labeled.iter().map(|pod| &pod.id).collect::<Vec<_>>(), holders);
                prop_assert!(labeled.iter().all(|pod| pod.term == Some(record.term)));
                prop_assert_eq!(&status.leader, &record.holder.as_ref().map(|holder| holder.name.clone()));
                prop_assert_eq!(status.term, Some(record.term.number()));
            }
            Content::Blank => prop_assert!(labeled.is_empty() || stalled, "{:?}", labeled),
            Content::Damaged(_) => prop_assert!(false, "a damaged Lease is not left so"),
        }
    }

    /// If a pod is eligible, a pod leads.
    #[test]
    fn an_eligible_pod_means_a_leader(world in any_world()) {
        let (rest, _) = PerfectServer::new().run(world);
        let healthy = |pod: &Pod| {
            let label = pod.label.as_deref().is_none_or(|value| value == "true");
            pod.matches && pod.state == PodState::Running && pod.ready && pod.rival.is_none() && label
        };
        let status = &rest.election.status;
        let stalled = is_stalled(&rest) && rest.lease.as_ref().unwrap().content == Content::Blank;
        if rest.pods.iter().any(healthy) && !stalled {
            prop_assert!(status.leader.is_some());
        }
    }

    /// A plan that labels a pod accounts for every other pod that may still be labeled.
    #[test]
    fn a_plan_that_labels_fences_every_other_labeled_or_listed_pod(world in any_tuned_world()) {
        let plan = world.plan();
        let Some(label) = &plan.label else { return Ok(()) };
        let lease = world.lease.as_ref().unwrap();
        let unfenced = match (&plan.lease, &lease.content) {
            (Some(LeaseWrite::Elect { record, .. }), _) | (None, Content::Term(record)) => record.unfenced.clone(),
            other => panic!("labeled under {other:?}"),
        };
        for pod in world.pods.iter().filter(|pod| pod.id != label.pod) {
            let fenced = plan.fence.iter().any(|fence| fence.pod == pod.id && fence.term == label.term);
            let own = pod.term_unless_forged(lease.resource_version);
            let harmless = !pod.is_labeled(&settings().label) && (own >= label.term || !unfenced.contains(&pod.id.uid));
            prop_assert!(fenced || harmless, "{} is neither fenced nor harmless", pod.id.name);
        }
        for uid in unfenced {
            prop_assert!(world.pod(&uid).is_some() || world.gone.contains(&uid), "{} is not accounted for", uid);
        }
    }

    /// Plans lead to rest in a few steps with all optional fields.
    #[test]
    fn every_tuned_world_comes_to_rest(world in any_tuned_world()) {
        let (rest, _) = PerfectServer::new().run(world);
        let labeled = rest.pods.iter().filter(|pod| pod.is_labeled(&settings().label)).count();
        let suspended = rest.election.settings.as_ref().unwrap().suspend;
        prop_assert!(labeled <= 1 || suspended || is_stalled(&rest));
    }

    /// At rest, every eligible pod that does not lead carries the follower's value, and no other pod does.
    #[test]
    fn every_tuned_world_comes_to_rest_with_its_followers_labeled(world in any_tuned_world()) {
        let (rest, _) = PerfectServer::new().run(world);
        let settings = rest.election.settings.as_ref().unwrap();
        let lease = rest.lease.as_ref().unwrap();
        let (Some(value), Content::Term(record)) = (&settings.label.follower_value, &lease.content) else { return Ok(()) };
        if settings.suspend {
            return Ok(()); // A pod that is labeled with a higher term blocks all labels until a new term may begin.
        }
        let incumbent = record.holder.as_ref().map(|holder| &holder.uid);
        let named = rest.followed_by(settings).map(|(from, followed)| followed.named(from, &rest, lease, incumbent));
        let candidates = Candidates::of(rest.pods.iter(), settings, incumbent, named.as_ref());
        let followers = rest.pods.iter().filter(|pod| pod.rival.is_none() && pod.state != PodState::Terminating);
        // No write overrides a higher term.
        let writable = |pod: &&Pod| pod.term_unless_forged(lease.resource_version) <= Some(record.term);
        for pod in followers.filter(writable).filter(|pod| record.holder.as_ref() != Some(&pod.id)) {
            let standby = candidates.ineligible.iter().filter(|(_, why)| *why == Ineligible::NotNamed).map(|(pod, _)| *pod);
            let follows = candidates.eligible.iter().copied().chain(standby).any(|eligible| eligible.id == pod.id);
            prop_assert_eq!(follows, pod.label.as_ref() == Some(value), "{:?}", pod);
        }
    }

    /// No write lowers a term that may be the Election's.
    #[test]
    fn no_write_lowers_a_term_that_is_not_proven_forged(world in any_tuned_world()) {
        let plan = world.plan();
        let revision = world.lease.as_ref().map_or(revision(1), |lease| lease.resource_version);
        for write in plan.fence.iter().chain(&plan.claim).chain(&plan.label).chain(&plan.claim_next).chain(&plan.follow).chain(&plan.cost) {
            let own = world.pod(&write.pod.uid).unwrap().term_unless_forged(revision);
            prop_assert!(own <= write.term);
        }
        if let Some(LeaseWrite::Elect { guard, record, .. }) = &plan.lease {
            prop_assert_eq!(record.term, Term::replacing(guard.resource_version));
            let named = record.holder.as_ref().and_then(|holder| world.pod(&holder.uid));
            prop_assert!(record.holder.is_none() || named.is_some_and(|pod| pod.claimed), "it names an unclaimed pod");
            if let Content::Term(before) = &world.lease.as_ref().unwrap().content {
                prop_assert!(record.term > before.term);
            }
        }
    }

    /// The order of candidates is total: the first of many is the first of every subset that contains it, in any order of
    /// observation. A pod comes before all outdated ones of its score.
    #[test]
    fn the_order_of_candidates_is_total(pods in any_candidates(), left_out in any::<u8>()) {
        let (settings, election) = (settings(), "election".into());
        let order = Order::of(pods.iter(), &settings, &election);
        let all: Vec<&Pod> = pods.iter().collect();
        let Some(first) = order.first(all.iter().copied(), None) else { return Ok(()) };
        let some = |(number, pod): (usize, &&'_ Pod)| left_out & (1 << number) == 0 || pod.id == first.id;
        let fewer: Vec<&Pod> = all.iter().enumerate().rev().filter(|(number, pod)| some((*number, pod))).map(|(_, pod)| *pod).collect();
        prop_assert_eq!(&order.first(fewer, None).unwrap().id, &first.id);
        let newer = |pod: &Pod| {
            let made = |pod: &Pod| pod.revision.clone().map(|revision| revision.workload);
            let same = pods.iter().filter(|other| made(pod).is_some() && made(other) == made(pod));
            same.max_by_key(|pod| (pod.created, pod.id.clone())).is_some_and(|newest| newest.revision != pod.revision)
        };
        let outdated = newer(first);
        let better = |pod: &&Pod| pod.score > first.score || (pod.score == first.score && outdated && !newer(pod));
        prop_assert_eq!(pods.iter().find(better), None);
    }

    /// An Election that follows a Lease comes to rest with the pod that it names as the leader, or none; with Retain, also with the
    /// former one.
    #[test]
    fn only_the_pod_that_the_followed_lease_names_leads(world in any_tuned_world()) {
        let (rest, _) = PerfectServer::new().run(world);
        let settings = rest.election.settings.as_ref().unwrap();
        let lease = rest.lease.as_ref().unwrap();
        let Content::Term(record) = &lease.content else { return Ok(()) };
        let Some((from, followed)) = rest.followed_by(settings).filter(|_| !settings.suspend && !is_stalled(&rest)) else {
            return Ok(());
        };
        let leader = record.holder.as_ref().map(|holder| &holder.uid);
        match followed.named(from, &rest, lease, leader) {
            Named::Pod(pod) => {
                let may_lead = pod.rival.is_none() && pod.state != PodState::Failed
                    && pod.label.as_ref().is_none_or(|value| settings.label.owns(value));
                prop_assert!(leader == Some(&pod.id.uid) || !may_lead || settings.retain, "{:?}", pod);
            }
            Named::Nobody(..) => prop_assert!(leader.is_none() || settings.retain),
        }
    }

    /// `status.nextLeader` is whom a decision elects once the leader's pod is gone.
    #[test]
    fn next_leader_is_elected_when_the_leader_is_gone(world in any_tuned_world()) {
        let mut server = PerfectServer::new();
        let (rest, _) = server.run(world);
        let status = &rest.election.status;
        let settings = rest.election.settings.as_ref().unwrap();
        let Content::Term(record) = &rest.lease.as_ref().unwrap().content else { return Ok(()) };
        let holder = record.holder.clone().filter(|_| settings.leader_from.is_none());
        let Some(holder) = holder.filter(|_| !settings.suspend && !is_stalled(&rest)) else { return Ok(()) };
        let gone = rest.clone().with(|world| {
            world.pods.retain(|pod| pod.id != holder);
            // A request that names the next term would end that one as well.
            world.election.switchover = SwitchoverRequest::default();
        });
        let gone = gone.consulted();
        let (after, _) = server.run(gone);
        prop_assert_eq!(&status.next_leader, &after.election.status.leader);
    }

    /// Planned changes end: at rest none is due, however the annotations, scores and nodes are.
    #[test]
    fn planned_changes_come_to_rest(world in any_tuned_world()) {
        let mut server = PerfectServer::new();
        let (rest, _) = server.run(world);
        let transitions = rest.election.status.leader_transitions;
        let (again, _) = server.run(rest);
        prop_assert_eq!(again.election.status.leader_transitions, transitions);
    }

    /// The order in which pods are observed makes no difference.
    #[test]
    fn the_order_of_observed_pods_does_not_matter(world in any_world()) {
        let mut reversed = world.clone();
        reversed.pods.reverse();
        let holder = |plan: super::Plan| match plan.lease {
            Some(LeaseWrite::Elect { record, .. }) => record.holder,
            _ => None,
        };
        prop_assert_eq!(holder(world.plan()), holder(reversed.plan()));
    }
}
