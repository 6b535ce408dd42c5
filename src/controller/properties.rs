//! The caches against a server that goes on while the watch lags, lists begin anew and answers arrive in between.

use std::collections::{BTreeMap, VecDeque};

use kube::runtime::watcher::Event;
use proptest::prelude::*;

use super::fixtures::*;
use super::observe::cached::Named;
use super::observe::snapshot::Consulted;
use super::observe::stream::{Kind, Ticket};
use super::observe::world::World;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A pod is created, or changed, or deleted and created anew.
    Put(usize),
    Replace(usize),
    Delete(usize),
    /// The watch delivers its next event.
    Deliver,
    /// A request begins, is answered by the server, and its answer is taken in: three moments.
    Ask(usize),
    Answer,
    Take,
    /// The watch breaks; a list of the moment arrives, and all events after it.
    List,
}

const NAMES: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug, PartialEq)]
struct Stored {
    uid: String,
    revision: i64,
}

#[derive(Default)]
struct Model {
    revision: i64,
    pods: BTreeMap<&'static str, Stored>,
    undelivered: VecDeque<Event<Named>>,
    asked: Option<(&'static str, Ticket)>,
    answered: Option<(&'static str, Ticket, Option<Stored>, Option<String>)>,
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
            Step::Deliver => {
                if let Some(event) = self.undelivered.pop_front() {
                    world.watched(Kind::Pods, None, event);
                }
            }
            Step::Ask(index) => self.asked = Some((NAMES[index], world.ticket(Kind::Pods, "default"))),
            Step::Answer => {
                if let Some((name, ticket)) = self.asked.take() {
                    let known = world.version(Kind::Pods, "default", name).map(|known| known.uid.to_string());
                    self.answered = Some((name, ticket, self.pods.get(name).cloned(), known));
                }
            }
            Step::Take => match self.answered.take() {
                Some((name, ticket, Some(stored), _)) => {
                    world.answered(ticket, object(name, &stored));
                }
                Some((name, _, None, Some(known))) => {
                    world.answered_gone(Kind::Pods, "default", name, &known.as_str().into());
                }
                _ => {}
            },
            Step::List => {
                world.watched(Kind::Pods, None, Event::Init);
                for (name, stored) in &self.pods {
                    world.watched(Kind::Pods, None, Event::InitApply(object(name, stored)));
                }
                world.watched(Kind::Pods, None, Event::InitDone);
                self.undelivered.clear();
            }
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..2_usize).prop_map(Step::Put),
        1 => (0..2_usize).prop_map(Step::Replace),
        1 => (0..2_usize).prop_map(Step::Delete),
        4 => Just(Step::Deliver),
        2 => (0..2_usize).prop_map(Step::Ask),
        2 => Just(Step::Answer),
        2 => Just(Step::Take),
        1 => Just(Step::List),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// The caches never go back in time, never take an existing pod for gone, and end as the server is.
    #[test]
    fn the_caches_lag_but_never_lie(steps in prop::collection::vec(any_step(), 1..60)) {
        // Whatever pod there ever is may have been the leader: the Lease asks for all of them.
        let everybody: Vec<String> = (101..250).flat_map(|number| NAMES.map(|name| format!("{name}-{number}"))).collect();
        let mut world = world([election("web", 1, |_| ()), lease_after("web", 90, "z", 80, Some(&everybody.join(",")))]);
        let mut model = Model { revision: 100, ..Model::default() };
        let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
        for step in &steps {
            model.step(step, &mut world);
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
