//! The caches against a server that changes while the watch lags, lists restart and responses arrive in between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kube::runtime::watcher::Event;
use proptest::prelude::*;

use super::fixtures::*;
use super::key::Kind;
use super::observe::cached::Named;
use super::observe::snapshot::Consulted;
use super::observe::stream::Ticket;
use super::observe::world::World;
use crate::ids::Uid;

#[derive(Clone, Debug)]
enum Step {
    /// A pod is created or changed, or deleted and re-created.
    Put(usize),
    Replace(usize),
    Delete(usize),
    /// The watch delivers its next event.
    Deliver,
    /// A request for one pod or for all begins, the server responds, and the caches apply the response. Two requests may be
    /// in flight, and end in any order.
    Ask(usize, Option<usize>),
    Answer(usize),
    Take(usize),
    /// The next part of a list: the watch breaks and a list begins; the server responds; each pod arrives; the list is
    /// complete. The watch delivers later changes after the list.
    List,
    /// A list restarts, or the watch breaks.
    Relist,
    /// A watch of another kind delivers an event, or begins a list.
    Other(Kind, bool),
}

const NAMES: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug, PartialEq)]
struct Stored {
    uid: String,
    revision: i64,
}

/// A request in flight: its target, and the objects cached when it began.
#[derive(Clone, Debug)]
struct Request {
    asked: Option<&'static str>,
    ticket: Ticket,
    known: BTreeMap<String, String>,
    answer: Option<BTreeMap<&'static str, Stored>>,
}

/// Progress of a list of the watch.
#[derive(Clone, Debug, Default)]
enum List {
    #[default]
    None,
    Asked,
    Arriving(VecDeque<(&'static str, Stored)>),
}

#[derive(Default)]
struct Model {
    revision: i64,
    pods: BTreeMap<&'static str, Stored>,
    undelivered: VecDeque<Event<Named>>,
    requests: [Option<Request>; 2],
    list: List,
    /// Number of events of other watches.
    others: i64,
}

fn object(name: &str, Stored { uid, revision }: &Stored) -> Named {
    pod(name, *revision, |object| object["metadata"]["uid"] = uid.as_str().into())
}

impl Model {
    fn put(&mut self, name: &'static str) {
        self.revision += 1;
        let uid = self.pods.get(name).map_or_else(|| format!("{name}-{}", self.revision), |pod| pod.uid.clone());
        let stored = Stored { uid, revision: self.revision };
        self.undelivered.push_back(Event::Apply(object(name, &stored)));
        self.pods.insert(name, stored);
    }

    fn delete(&mut self, name: &'static str) {
        let Some(stored) = self.pods.remove(name) else { return };
        self.revision += 1;
        self.undelivered.push_back(Event::Delete(object(name, &Stored { revision: self.revision, ..stored })));
    }

    fn step(&mut self, step: &Step, world: &mut World) {
        match *step {
            Step::Put(index) => self.put(NAMES[index]),
            Step::Replace(index) => {
                self.delete(NAMES[index]);
                self.put(NAMES[index]);
            }
            Step::Delete(index) => self.delete(NAMES[index]),
            // A watch that lists delivers no events.
            Step::Deliver if matches!(self.list, List::None) => {
                if let Some(event) = self.undelivered.pop_front() {
                    world.watched(Kind::Pods, None, event);
                }
            }
            Step::Deliver => {}
            Step::Ask(slot, index) => {
                let known = world.all(Kind::Pods, "default").into_iter();
                let known = known.map(|(name, version)| (name, version.uid.to_string())).collect();
                let asked = index.map(|index| NAMES[index]);
                let ticket = world.ticket(Kind::Pods, "default");
                self.requests[slot] = Some(Request { asked, ticket, known, answer: None });
            }
            Step::Answer(slot) => {
                if let Some(request) = &mut self.requests[slot] {
                    request.answer.get_or_insert_with(|| self.pods.clone());
                }
            }
            Step::Take(slot) => {
                if let Some(request) = self.requests[slot].take_if(|request| request.answer.is_some()) {
                    take(request, world);
                }
            }
            Step::List => self.list(world),
            Step::Relist => {
                world.watched(Kind::Pods, None, Event::Init);
                self.list = List::Asked;
            }
            Step::Other(kind, relists) => {
                self.others += 1;
                let (name, revision) = (format!("other-{}", self.others), 1_000 + self.others);
                let item = match kind {
                    Kind::Leases => lease(&name, revision, "z", 80),
                    _ => election(&name, revision, |object| object["spec"]["selector"]["matchLabels"]["app"] = "x".into()),
                };
                let event = if relists { Event::Init } else { Event::Apply(item) };
                world.watched(kind, None, event);
            }
        }
    }

    fn list(&mut self, world: &mut World) {
        self.list = match std::mem::take(&mut self.list) {
            List::None => {
                world.watched(Kind::Pods, None, Event::Init);
                List::Asked
            }
            List::Asked => {
                self.undelivered.clear();
                List::Arriving(self.pods.iter().map(|(name, stored)| (*name, stored.clone())).collect())
            }
            List::Arriving(mut items) => match items.pop_front() {
                Some((name, stored)) => {
                    world.watched(Kind::Pods, None, Event::InitApply(object(name, &stored)));
                    List::Arriving(items)
                }
                None => {
                    world.watched(Kind::Pods, None, Event::InitDone);
                    List::None
                }
            },
        }
    }
}

/// Applies a response as [`Shared::read`](super::shared::Shared::read) does.
fn take(Request { asked, ticket, known, answer }: Request, world: &mut World) {
    let mut found = answer.unwrap_or_default();
    found.retain(|name, _| asked.is_none_or(|asked| asked == *name));
    for (name, stored) in &found {
        world.answered(ticket, object(name, stored));
    }
    let asked_for = known.into_iter().filter(|(name, _)| asked.is_none_or(|asked| asked == name));
    let gone = asked_for.filter(|(_, uid)| found.values().all(|stored| stored.uid != *uid));
    // A response for one pod that shows another UID is not applied to the former pod.
    for (name, uid) in gone.filter(|(name, _)| asked.is_none() || !found.contains_key(name.as_str())) {
        world.answered_gone(Kind::Pods, "default", &name, &uid.as_str().into());
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..2_usize).prop_map(Step::Put),
        1 => (0..2_usize).prop_map(Step::Replace),
        1 => (0..2_usize).prop_map(Step::Delete),
        4 => Just(Step::Deliver),
        2 => (0..2_usize, prop::option::of(0..2_usize)).prop_map(|(slot, index)| Step::Ask(slot, index)),
        2 => (0..2_usize).prop_map(Step::Answer),
        2 => (0..2_usize).prop_map(Step::Take),
        4 => Just(Step::List),
        1 => Just(Step::Relist),
        1 => (any::<bool>(), any::<bool>())
            .prop_map(|(leases, relists)| Step::Other(if leases { Kind::Leases } else { Kind::Elections }, relists)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// The caches never go back in time, never take an existing pod for deleted, never restore a deleted one, and end equal
    /// to the server.
    #[test]
    fn the_caches_lag_but_never_lie(steps in prop::collection::vec(any_step(), 1..70)) {
        // Any pod may have been the leader: the Lease lists all of them as unfenced.
        let everybody: Vec<String> = (101..250).flat_map(|number| NAMES.map(|name| format!("{name}-{number}"))).collect();
        let mut world = world([election("web", 1, |_| ()), lease_after("web", 90, "z", 80, Some(&everybody.join(",")))]);
        let mut model = Model { revision: 100, ..Model::default() };
        let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
        let (mut cached, mut left) = (BTreeSet::new(), BTreeSet::new());
        for step in &steps {
            model.step(step, &mut world);
            let now: BTreeSet<Uid> = world.all(Kind::Pods, "default").into_values().map(|version| version.uid).collect();
            left.extend(cached.difference(&now).cloned());
            prop_assert!(now.is_disjoint(&left), "{:?} came back after {step:?}", now.intersection(&left));
            cached = now;
            for name in NAMES {
                let Some(version) = world.version(Kind::Pods, "default", name) else { continue };
                let revision: i64 = version.resource_version.to_string().parse().unwrap();
                prop_assert!(revision >= newest.get(name).copied().unwrap_or(0), "{name} went back to {revision}");
                newest.insert(name, revision);
            }
            let (snapshot, _) = world.snapshot(&key("web"), Consulted::default()).unwrap();
            for Stored { uid, .. } in model.pods.values() {
                prop_assert!(!snapshot.gone.contains(&uid.as_str().into()), "{uid} is taken for gone");
            }
            prop_assert_eq!(world.went_back(), None);
        }
        while !matches!(model.list, List::None) {
            model.step(&Step::List, &mut world);
        }
        while !model.undelivered.is_empty() {
            model.step(&Step::Deliver, &mut world);
        }
        let cached = |name: &str| world.version(Kind::Pods, "default", name).map(|version| version.uid.to_string());
        for name in NAMES {
            prop_assert_eq!(cached(name), model.pods.get(name).map(|stored| stored.uid.clone()));
        }
    }
}
