//! General worlds: many random faults, for up to 75 seconds.

use std::sync::Arc;
use std::time::Duration;

use podium_test_support::random::Random;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::controller::Controller;
use crate::electors::Electors;
use crate::network::Weather;
use crate::user::{self, People};
use crate::workload::{self, Workload};
use crate::world::STORM;

/// Parameters of a general world.
#[derive(Clone, Debug)]
pub struct General {
    /// Duration of the faults.
    pub lasts: Duration,
    /// Pauses of controllers, per thousand moments.
    pub stops: u64,
    /// Kills of controllers.
    pub kills: u64,
    /// Cut connections.
    pub cuts: u64,
    /// Jumps of clocks.
    pub jumps: u64,
    /// Compactions.
    pub compactions: u64,
    /// Watch caches of API servers that stall or resume.
    pub stalls: u64,
    pub workload: Workload,
    /// The users.
    pub people: People,
    /// The first Election follows the Lease on which these elect.
    pub electors: Option<Electors>,
}

/// Draws the network faults. Each world has only some of them, or all worlds would be alike.
pub fn weather(mut some: impl FnMut(u64, u64) -> u64) -> Weather {
    Weather {
        late: some(600, 150),
        latest: 20 + some(700, 20_000),
        refused: some(500, 120),
        unanswered: some(600, 150),
        lost: some(300, 60),
        dropped: some(500, 500),
        hung: some(300, 200),
        lagging: some(700, 600),
        lag: 10 + some(800, 8_000),
        abandoned: 0,
    }
}

impl General {
    /// Draws the parameters. `some`: in this many of a thousand cases a number up to this, else 0.
    pub fn of(mut some: impl FnMut(u64, u64) -> u64) -> Self {
        let (elections, pods) = (1 + some(500, 3), 2 + some(700, 4));
        Self {
            lasts: Duration::from_secs(15 + some(1000, 60)),
            stops: some(600, 60),
            kills: some(500, 30),
            cuts: some(300, 30),
            jumps: some(300, 40),
            compactions: some(400, 200),
            stalls: some(400, 100),
            workload: Workload {
                names: (0..pods).map(|number| format!("pod-{number}")).collect(),
                deletes: some(800, 200),
                flips: some(800, 250),
                pause: 100 + some(1000, 1_500),
            },
            people: People {
                elections: (0..elections).map(|number| format!("e{number}")).collect(),
                overlap: some(250, 2) > 0,
                followers: some(300, 2) > 0,
                leases: some(600, 400),
                specs: some(500, 300),
                forges: some(500, 300),
                steers: some(500, 500),
                pause: 100 + some(1000, 4_000),
                follow: false,
            },
            electors: None,
        }
        .with(Electors::of(some))
    }

    /// The same with these electors.
    fn with(self, electors: Option<Electors>) -> Self {
        let people = People { follow: electors.is_some(), ..self.people };
        Self { people, electors, ..self }
    }

    /// The same without faults: pods are only created, changed and deleted.
    pub fn fair(self) -> Self {
        let people = People { leases: 0, specs: 0, forges: 0, steers: 0, overlap: false, ..self.people };
        let electors = self.electors.map(Electors::fair);
        Self { stops: 0, kills: 0, cuts: 0, jumps: 0, compactions: 0, stalls: 0, people, electors, ..self }
    }

    /// Starts users and pods, until it is calm.
    pub fn begin(
        &self,
        cluster: &Arc<Cluster>,
        actors: &mut JoinSet<()>,
        random: &mut Random,
        calm: impl Fn() -> bool + Clone + Send + Sync + 'static,
    ) {
        if let Some(electors) = &self.electors {
            electors.begin(cluster, actors, (&self.workload.names, random), calm.clone());
        }
        actors.spawn(workload::run(cluster.clone(), self.workload.clone(), random.child(), calm.clone()));
        actors.spawn(user::run(cluster.clone(), self.people.clone(), random.child(), calm));
    }

    /// Injects faults into the controllers.
    pub async fn trouble(&self, cluster: &Cluster, controllers: &mut [Controller], random: &mut Random) {
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
            if random.permille(self.stalls) {
                cluster.stall(random);
            }
        }
    }
}
