//! The deletion cost: with the label, given back with the fence, corrected in the background.

use proptest::prelude::*;

use super::*;
use crate::election::cost::DeletionCost;
use crate::election::plan::PodWrite;
use crate::election::snapshot::Refused;

fn cost(cost: &str, note: &str) -> DeletionCost {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    DeletionCost { cost: text(cost), note: text(note) }
}

/// The deletion cost of a pod that this Election leads with 100, and which had 5 before.
fn demanded() -> DeletionCost {
    cost("100", "web=100; original=5")
}

fn demanding(world: Snapshot) -> Snapshot {
    world.settings(|settings| settings.leader_deletion_cost = Some(100))
}

fn costs(writes: &[PodWrite]) -> Vec<(&str, LabelChange, Option<DeletionCost>)> {
    writes.iter().map(|write| (write.pod.name.as_str(), write.label, write.cost.clone())).collect()
}

#[test]
fn the_label_and_the_deletion_cost_are_one_write() {
    let elected = demanding(world(held_by("", 90, []))).pods([pod("a").with(|pod| pod.cost = cost("5", ""))]);
    assert_eq!(costs(elected.plan().label.as_slice()), [("a", SET, Some(demanded()))]);
    let plan = world(held_by("", 90, [])).pods([pod("a").with(|pod| pod.cost = cost("5", ""))]).plan();
    assert_eq!(costs(plan.label.as_slice()), [("a", SET, None)], "the user's own, without the field");
}

#[test]
fn the_fence_gives_the_deletion_cost_back() {
    let former = || pod("a").labeled().term(50).with(|pod| pod.cost = demanded());
    let of = |former| demanding(world(held_by("b", 90, ["a-uid"]))).pods([former, pod("b")]).plan();
    assert_eq!(costs(&of(former()).fence), [("a", REMOVE, Some(cost("5", "")))]);
    let changed = former().with(|pod| pod.cost.cost = Some("7".into()));
    assert_eq!(costs(&of(changed).fence), [("a", REMOVE, Some(cost("7", "")))]);
    let foreign = former().with(|pod| pod.label = Some("other".into()));
    assert_eq!(costs(&of(foreign).fence), [("a", KEEP, Some(cost("5", "")))]);
    assert_eq!(costs(&of(pod("a").labeled().term(50)).fence), [("a", REMOVE, None)]);
    let vacancy = demanding(world(held_by("a", 90, []))).pods([former().term(90).with(|pod| pod.ready = false)]).plan();
    assert_eq!(costs(&vacancy.fence), [("a", REMOVE, Some(cost("5", "")))]);
}

#[test]
fn changed_setting_corrects_the_leaders_deletion_cost_without_a_new_label() {
    let of = |demand, before: DeletionCost| {
        let leader = pod("b").labeled().term(90).with(|pod| pod.cost = before);
        let world = world(held_by("b", 90, [])).pods([leader]);
        let plan = world.settings(|settings| settings.leader_deletion_cost = demand).plan();
        assert_eq!((plan.lease, plan.fence.len(), plan.label, plan.follow.len()), (None, 0, None, 0));
        let terms: Vec<_> = plan.cost.iter().map(|write| write.term).collect();
        assert!(terms.iter().all(|own| *own == Some(term(90))), "the claim stays as it is");
        plan.cost.into_iter().filter_map(|write| write.cost).collect::<Vec<_>>()
    };
    assert_eq!(of(Some(100), demanded()), []);
    assert_eq!(of(Some(200), demanded()), [cost("200", "web=200; original=5")]);
    assert_eq!(of(None, demanded()), [cost("5", "")]);
    assert_eq!(of(Some(100), cost("", "")), [cost("100", "web=100; original=")]);
    assert_eq!(of(Some(100), cost("7", "web=100; original=5")), [], "a user's change is kept");
    assert_eq!(of(Some(200), cost("7", "web=100; original=5")), [cost("7", "web=200")]);
    assert_eq!(of(None, cost("7", "web=100; original=5")), [cost("7", "")]);
    assert_eq!(of(Some(100), cost("200", "db=200; original=5")), [cost("200", "db=200,web=100; original=5")]);
    assert_eq!(of(None, cost("200", "db=200; original=5")), [], "the demand of another Election");
}

#[test]
fn stale_demand_on_a_pod_that_does_not_lead_is_given_back() {
    let of = |change: fn(&mut Pod)| {
        let stale = pod("a").term(80).with(|pod| pod.cost = demanded()).with(change);
        demanding(world(held_by("b", 90, []))).pods([stale, pod("b").labeled().term(90).with(|pod| pod.cost = demanded())])
    };
    let plan = of(|_| {}).plan();
    assert_eq!(costs(&plan.cost), [("a", KEEP, Some(cost("5", "")))]);
    assert_eq!(plan.cost[0].term, Some(term(80)), "a cost is no fence");
    assert_eq!(of(|pod| pod.state = PodState::Terminating).plan().cost, []);
    assert_eq!(of(|pod| pod.claimed = false).plan().cost, [], "a cost claims no pod");
    let following = of(|_| {}).settings(|settings| settings.label.follower_value = Some("false".into())).plan();
    assert_eq!(costs(&following.follow), [("a", FOLLOW, Some(cost("5", "")))]);
    assert_eq!(following.cost, [], "one write per pod");
}

#[test]
fn denied_deletion_cost_degrades_and_says_so() {
    let world = demanding(world(held_by("b", 90, []))).pods([pod("b").labeled().term(90)]);
    let status = world.with(|world| world.refused = Some(Refused::Cost("no".into()))).plan().status.unwrap().status;
    assert!(status.is(DEGRADED, Reason::RequestDenied) && status.is("Ready", Reason::LeaderElected));
    assert!(status.condition(DEGRADED).unwrap().message.contains("spec.leaderDeletionCost"));
}

/// An event of the property below.
#[derive(Clone, Debug)]
enum Event {
    /// The user sets the cost of a pod.
    Own(usize, Option<i32>),
    /// Another Election demands a cost.
    Other(usize, Option<i32>),
    /// The setting changes.
    Setting(Option<i32>),
    Ready(usize, bool),
    /// Another client removes the label.
    Unlabel(usize),
    /// The Lease is deleted and created again.
    LeaseLost,
}

fn any_event() -> impl Strategy<Value = Event> {
    // Users' values are odd, demands even.
    let own = prop::option::of((0..3).prop_map(|value| 2 * value + 1));
    let demand = || prop::option::of((0..3).prop_map(|value| 2 * value));
    let pod = || 0..3_usize;
    prop_oneof![
        (pod(), own).prop_map(|(pod, value)| Event::Own(pod, value)),
        (pod(), demand()).prop_map(|(pod, value)| Event::Other(pod, value)),
        demand().prop_map(Event::Setting),
        (pod(), any::<bool>()).prop_map(|(pod, ready)| Event::Ready(pod, ready)),
        pod().prop_map(Event::Unlabel),
        Just(Event::LeaseLost),
    ]
}

proptest! {
    /// Whatever happens: the leader's pod has the demand, and a pod without a demand has the user's last own cost.
    #[test]
    fn pod_without_a_leading_election_has_the_users_last_own_cost(events in prop::collection::vec(any_event(), 0..25)) {
        let mut server = PerfectServer::new();
        let mut world = world(Content::Blank).pods([pod("a"), pod("b"), pod("c")]);
        let mut own: [Option<String>; 3] = Default::default();
        for event in events {
            match event {
                Event::Own(number, value) => {
                    own[number] = value.map(|value| value.to_string());
                    world.pods[number].cost.cost.clone_from(&own[number]);
                }
                Event::Other(number, value) => world.pods[number].cost = world.pods[number].cost.demanding("db", value),
                Event::Setting(value) => world = world.settings(|settings| settings.leader_deletion_cost = value),
                Event::Ready(number, ready) => world.pods[number].ready = ready,
                Event::Unlabel(number) => world.pods[number].label = None,
                Event::LeaseLost => world.lease.as_mut().unwrap().content = Content::Blank,
            }
            world = server.run(world).0;
            let settings = world.election.settings.as_ref().unwrap();
            for (pod, own) in world.pods.iter().zip(&own) {
                let led = settings.leader_deletion_cost.filter(|_| pod.is_labeled(&settings.label));
                prop_assert_eq!(pod.cost.demands().get("web").copied(), led);
                let highest = pod.cost.demands().into_values().max().map(|highest| highest.to_string());
                prop_assert!(pod.cost.cost == *own || pod.cost.cost == highest);
                let restored = DeletionCost { cost: own.clone(), note: None };
                prop_assert!(highest.is_some() || pod.cost == restored);
            }
        }
    }
}
