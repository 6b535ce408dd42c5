//! One world: from a seed to what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::controller::Controller;
use crate::network::{Link, Weather};
use crate::random::Random;
use crate::server::Server;
use crate::user::People;
use crate::verdict::{broken, unrest};
use crate::workload::Workload;
use crate::{collector, user, workload};

/// How long it may take after the last fault until everything is at rest: a watch that fell silent is given up after five
/// minutes.
const SETTLES: Duration = Duration::from_secs(420);

/// How long nothing may be written after that.
const SILENCE: Duration = Duration::from_secs(90);

/// No world of this size needs as many requests.
const STORM: u64 = 6_000;

/// What happens in a world, all of it from the seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where its randomness comes from.
    pub seed: u64,
    /// How many controllers there are.
    pub controllers: u64,
    /// How long things happen.
    pub lasts: Duration,
    /// What goes wrong between the controllers and the server.
    pub weather: Weather,
    /// Controllers that are stopped, in so many of a thousand moments.
    pub stops: u64,
    /// Controllers that are killed.
    pub kills: u64,
    /// Connections that are cut.
    pub cuts: u64,
    /// Clocks that jump.
    pub jumps: u64,
    /// Compactions.
    pub compactions: u64,
    /// The pods.
    pub workload: Workload,
    /// The people.
    pub people: People,
}

/// What became of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Everything that happened, in words.
    pub history: String,
    /// What should not have.
    pub broken: Vec<String>,
    /// How many revisions there were.
    pub revisions: usize,
}

impl Plan {
    /// The world of this seed. In each, only some things go wrong, or all would look the same.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut some = |often: u64, most: u64| if random.permille(often) { random.between(1, most) } else { 0 };
        let weather = Weather {
            late: some(600, 150),
            latest: 20 + some(700, 20_000),
            refused: some(500, 120),
            unanswered: some(600, 150),
            lost: some(300, 60),
            dropped: some(500, 500),
            hung: some(300, 200),
            lagging: some(700, 600),
            lag: 10 + some(800, 8_000),
        };
        let (elections, pods) = (1 + some(500, 3), 2 + some(700, 4));
        Self {
            seed,
            controllers: 1 + some(800, 3),
            lasts: Duration::from_secs(15 + some(1000, 60)),
            weather,
            stops: some(600, 60),
            kills: some(500, 30),
            cuts: some(300, 30),
            jumps: some(300, 40),
            compactions: some(400, 200),
            workload: Workload {
                names: (0..pods).map(|number| format!("pod-{number}")).collect(),
                deletes: some(800, 200),
                flips: some(800, 250),
                pause: 100 + some(1000, 1_500),
            },
            people: People {
                elections: (0..elections).map(|number| format!("e{number}")).collect(),
                overlap: some(250, 2) > 0,
                leases: some(600, 400),
                specs: some(500, 300),
                forges: some(500, 300),
                pause: 100 + some(1000, 4_000),
            },
        }
    }

    /// The same world without anything that goes wrong: pods come, go and change, and that is all.
    pub fn fair(seed: u64) -> Self {
        let plan = Self::of(seed);
        let people = People { leases: 0, specs: 0, forges: 0, overlap: false, ..plan.people };
        Self { weather: Weather::default(), stops: 0, kills: 0, cuts: 0, jumps: 0, compactions: 0, people, ..plan }
    }

    /// Lets it happen.
    pub fn run(&self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap_or_else(|error| panic!("a runtime: {error}")).block_on(self.happen())
    }

    async fn happen(&self) -> Outcome {
        let mut random = Random::new(self.seed ^ 0x5eed);
        let page = if random.permille(300) { 2 } else { 500 };
        let cluster =
            Arc::new(Cluster::new(Server::new(i64::try_from(random.between(1000, 100_000)).unwrap_or(1000), page)));
        cluster.log("world", format_args!("{self:?}"));
        let calm = Arc::new(AtomicBool::new(false));
        let mut actors = JoinSet::new();
        let is_calm = || {
            let calm = calm.clone();
            move || calm.load(Ordering::Relaxed)
        };
        actors.spawn(workload::run(cluster.clone(), self.workload.clone(), random.child(), is_calm()));
        actors.spawn(user::run(cluster.clone(), self.people.clone(), random.child(), is_calm()));
        actors.spawn(collector::run(cluster.clone(), random.child(), is_calm()));
        let mut controllers: Vec<Controller> = (0..self.controllers)
            .map(|number| {
                let name = format!("controller-{number}");
                let link = Link::new(cluster.clone(), name.clone(), random.child(), self.weather, calm.clone());
                Controller::new(cluster.clone(), link, name, random.permille(300))
            })
            .collect();
        self.trouble(&cluster, &mut controllers, &mut random).await;
        calm.store(true, Ordering::Relaxed);
        cluster.log("world", "nothing goes wrong from now on");
        for controller in &mut controllers {
            controller.link.cut(false);
            controller.stop(false);
            controller.start();
        }
        let settled = Instant::now() + SETTLES;
        while Instant::now() < settled && cluster.requests() < STORM {
            sleep(Duration::from_secs(1)).await;
        }
        let mut found = unrest(&cluster);
        if cluster.requests() >= STORM {
            found.push("a storm: requests without end".into());
        }
        let settled = cluster.server().revision();
        if found.is_empty() {
            sleep(SILENCE).await;
        }
        let history = cluster.server().history().to_vec();
        let noise = history.iter().filter(|revision| revision.number > settled);
        found.extend(noise.map(|revision| format!("written although all was at rest: revision {}", revision.number)));
        found.extend(
            controllers.iter().filter(|controller| controller.has_ended()).map(|_| "a controller ended by itself".into()),
        );
        found.extend(broken(&cluster));
        Outcome { history: cluster.history(), broken: found, revisions: history.len() }
    }

    /// What happens to the controllers themselves.
    async fn trouble(&self, cluster: &Cluster, controllers: &mut [Controller], random: &mut Random) {
        let end = Instant::now() + self.lasts;
        controllers.iter_mut().for_each(Controller::start);
        while Instant::now() < end && cluster.requests() < STORM {
            sleep(random.millis(20, 400)).await;
            let index = usize::try_from(random.between(0, controllers.len() as u64)).unwrap_or_default();
            let controller = &mut controllers[index];
            if random.permille(150) {
                controller.stop(false);
                controller.link.cut(false);
                controller.start();
            }
            if random.permille(self.kills) {
                controller.kill();
            }
            if random.permille(self.stops) {
                controller.stop(true);
            }
            if random.permille(self.cuts) {
                controller.link.cut(true);
            }
            if random.permille(self.jumps) {
                controller.skew(i64::try_from(random.between(0, 200_000)).unwrap_or(0) - 100_000);
            }
            if random.permille(self.compactions) {
                cluster.server().compact();
            }
        }
    }
}
