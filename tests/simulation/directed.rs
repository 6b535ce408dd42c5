//! Directed worlds: one Election, few pods, and events whose order is drawn step by step ([`crate::schedule`]). They reach
//! states that general worlds seldom reach: a controller with an old Lease and new pods, or vice versa, while the Lease is
//! deleted, a pod is re-created, or a late write arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use podium_test_support::random::Random;
use podium_test_support::server::Resource::{Elections, Leases, Nodes, Pods};
use serde_json::Value;
use tokio::time::sleep;

use crate::acts::{self, Focus};
use crate::cluster::Cluster;
use crate::controller::Controller;
use crate::electors;
use crate::followed_verdict;
use crate::policies;
use crate::schedule::{Actor, Lane, Schedule};
use crate::steering;
use crate::world::STORM;

/// Parameters of a directed world.
#[derive(Clone, Debug)]
pub struct Directed {
    pub focus: Focus,
    /// Number of controllers.
    pub controllers: usize,
    /// Number of pods.
    pub pods: usize,
    /// Number of rounds of events, each until the world is at rest.
    rounds: u64,
    /// Maximum number of events per round, by actor.
    happens: BTreeMap<Actor, u64>,
    /// There is a leader at the start.
    led: bool,
    /// Steps in a thousand that change priorities.
    changes: u64,
    /// Steps in a thousand that ignore priorities.
    chance: u64,
    /// Steps in a thousand that release several at once.
    bursts: u64,
    /// `whenNoneEligible: Hold`
    pub hold: bool,
    /// Followers have a label, too.
    pub followers: bool,
    /// Further settings of the Election.
    pub settings: Value,
    /// Whoever holds the followed Lease at the end renews it.
    pub renewed: bool,
}

impl Directed {
    /// Draws the parameters.
    pub fn of(random: &mut Random) -> Self {
        let focus = random.pick(&Focus::ALL).copied().unwrap_or(Focus::Readiness);
        let alone = focus == Focus::Relists && random.permille(600);
        let happens = [(Actor::Workload, 12), (Actor::People, 6), (Actor::Fate, 4)];
        let happens = happens.map(|(actor, most)| (actor, random.between(2, most + 1)));
        Self {
            focus,
            controllers: if alone { 1 } else { 2 + usize::from(random.permille(400)) },
            rounds: random.between(2, 8),
            pods: 2 + usize::from(random.permille(500)),
            happens: happens.into_iter().filter(|(actor, _)| focus.has(*actor)).collect(),
            led: random.permille(700),
            changes: random.pick(&[20, 60, 150]).copied().unwrap_or(60),
            chance: random.pick(&[0, 0, 50, 300, 1000]).copied().unwrap_or(0),
            bursts: random.pick(&[0, 100, 400]).copied().unwrap_or(0),
            hold: random.permille(100),
            followers: random.permille(300),
            settings: match focus {
                Focus::Steering => steering::settings(random),
                Focus::Followed => followed_verdict::settings(),
                _ => Value::Null,
            },
            renewed: focus == Focus::Followed && random.permille(600),
        }
    }

    /// Runs all rounds.
    pub async fn play(&self, cluster: &Cluster, controllers: &mut [Controller], schedule: &Schedule, random: &mut Random) {
        for index in 0..self.pods {
            acts::create_pod(cluster, &acts::pod_name(index), random);
        }
        if self.focus == Focus::Followed && random.permille(800) {
            electors::hold(cluster, acts::WHO, Some(&acts::pod_name(0)));
        }
        self.create_election(cluster);
        controllers.iter_mut().for_each(Controller::start);
        if self.led {
            schedule.open(true);
            sleep(Duration::from_secs(2)).await;
            schedule.open(false);
        }
        for _ in 0..self.rounds {
            self.round(cluster, controllers, schedule, random).await;
        }
    }

    /// Runs events until no step is left.
    async fn round(&self, cluster: &Cluster, controllers: &mut [Controller], schedule: &Schedule, random: &mut Random) {
        let mut left: BTreeMap<Actor, u64> =
            self.happens.iter().map(|(actor, most)| (*actor, random.between(1, most + 1))).collect();
        self.begin(schedule, random);
        let mut idle = 0;
        while idle < 10 && cluster.requests() < STORM {
            let ready: Vec<Lane> =
                left.iter().filter(|(_, left)| **left > 0).map(|(actor, _)| Lane::Happens(*actor)).collect();
            match schedule.next(&ready, self.chance, random) {
                Some(lane @ Lane::Happens(actor)) => {
                    self.act(actor, cluster, controllers, random);
                    left.entry(actor).and_modify(|left| *left -= 1);
                    // Usually some time passes before the next event.
                    if random.permille(700) {
                        schedule.redraw(lane, random);
                    }
                }
                Some(lane) => schedule.go(lane, if random.permille(self.bursts) { random.between(1, 8) } else { 0 }),
                None => idle += 1,
            }
            if random.permille(self.changes) {
                schedule.change(random);
            }
            let pause = if idle > 0 { (20, 500) } else { (1, 4) };
            sleep(random.millis(pause.0, pause.1)).await;
        }
    }

    /// Draws the stalled parts of a round: a controller, or up to three lanes between controllers and the server, or both.
    fn begin(&self, schedule: &Schedule, random: &mut Random) {
        let pick = |random: &mut Random| usize::try_from(random.between(0, self.controllers as u64)).unwrap_or_default();
        let paused = random.permille(500).then(|| pick(random));
        let one = pick(random);
        let numbers = if random.permille(250) { 0..self.controllers } else { one..one + 1 };
        let count = random.pick(&[0, 1, 1, 2, 3]).copied().unwrap_or(0);
        let ways = [Lane::Events, Lane::Events, Lane::Writes, Lane::Answers];
        let mut still = BTreeSet::new();
        for _ in 0..count {
            let way = random.pick(&ways).copied().unwrap_or(Lane::Events);
            let resource = random.pick(&[Pods, Pods, Leases, Leases, Elections, Nodes]).copied().unwrap_or(Leases);
            still.extend(numbers.clone().map(|number| way(number, resource)));
        }
        // If selectors change, a delayed write to a pod matters most.
        if self.focus == Focus::Selectors && random.permille(700) {
            still.insert(Lane::Writes(one, Pods));
        }
        schedule.begin(still, paused);
    }

    /// Brings the pods to rest, then ends mutating admission: everything must recover without another event.
    pub async fn end(&self, cluster: &Cluster, controllers: &mut [Controller], random: &mut Random) {
        acts::end(cluster).await;
        if self.focus == Focus::Admission {
            for controller in controllers {
                controller.stop(false);
                controller.start();
            }
            // Long enough for retries to back off.
            sleep(random.millis(1_000, 90_000)).await;
            policies::end(cluster);
        }
    }
}
