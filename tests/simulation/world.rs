//! One world: from a seed to what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use podium_test_support::random::Random;
use podium_test_support::server::{Resource, Revision, Server};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::acts::{self, Focus};
use crate::cluster::Cluster;
use crate::collector;
use crate::controller::{Controller, OWN_LEASE};
use crate::directed::Directed;
use crate::general::{self, General};
use crate::network::{Link, Weather};
use crate::schedule::Schedule;
use crate::verdict::{broken, contested, inactive, leftovers, unconfirmed, unrest};

/// No world of this size needs as many requests.
pub const STORM: u64 = 6_000;

/// How long it takes at most until everything is as it should be after mutating admission is gone.
const HEALED: Duration = Duration::from_secs(20);

/// How long it takes at most until a label that nobody changes any more is not called contested any more.
const CONTEST: Duration = Duration::from_secs(75);

/// What happens in a world, all of it from the seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where its randomness comes from.
    pub seed: u64,
    /// How many controllers there are.
    pub controllers: usize,
    /// Whether they elect an active one among themselves.
    pub candidacy: bool,
    /// What goes wrong between the controllers and the server.
    pub weather: Weather,
    /// What happens.
    pub course: Course,
}

/// The kinds of worlds.
#[derive(Clone, Debug)]
pub enum Course {
    /// Much of everything, by chance.
    General(General),
    /// Little, in an order that is drawn step by step.
    Directed(Directed),
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
    /// The world of this seed: two of five are general ones.
    pub fn of(seed: u64) -> Self {
        if seed % 5 < 2 { Self::general(seed) } else { Self::directed(seed) }
    }

    /// A general world.
    fn general(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut some = |often: u64, most: u64| if random.permille(often) { random.between(1, most) } else { 0 };
        let weather = general::weather(&mut some);
        let controllers = if some(800, 2) == 0 { 1 } else { 2 + usize::from(some(500, 2) > 0) };
        let candidacy = some(300, 2) > 0;
        Self { seed, controllers, candidacy, weather, course: Course::General(General::of(some)) }
    }

    /// A directed world.
    fn directed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let directed = Directed::of(&mut random);
        let mut some = |often: u64, most: u64| if random.permille(often) { random.between(1, most) } else { 0 };
        let (refused, unanswered, abandoned) = (some(300, 60), some(500, 80), some(500, 120));
        let weather = Weather { refused, unanswered, abandoned, ..Weather::default() };
        let candidacy = some(100, 2) > 0;
        let controllers = directed.controllers;
        Self { seed, controllers, candidacy, weather, course: Course::Directed(directed) }
    }

    /// A general world without anything that goes wrong: pods come, go and change, and that is all.
    pub fn fair(seed: u64) -> Self {
        let plan = Self::general(seed);
        let course = match plan.course {
            Course::General(general) => Course::General(general.fair()),
            course @ Course::Directed(_) => course,
        };
        Self { weather: Weather::default(), course, ..plan }
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
        cluster.install();
        let calm = Arc::new(AtomicBool::new(false));
        let is_calm = {
            let calm = calm.clone();
            move || calm.load(Ordering::Relaxed)
        };
        let mut actors = JoinSet::new();
        actors.spawn(collector::run(cluster.clone(), random.child(), is_calm.clone()));
        let schedule = matches!(self.course, Course::Directed(_)).then(|| Arc::new(Schedule::default()));
        let mut controllers: Vec<Controller> = (0..self.controllers)
            .map(|number| {
                let name = format!("controller-{number}");
                let link = Link::new(cluster.clone(), name.clone(), random.child(), self.weather, calm.clone());
                let link = link.scheduled(schedule.clone().map(|schedule| (schedule, number)));
                Controller::new(cluster.clone(), link, name, (random.permille(300), self.candidacy))
            })
            .collect();
        match (&self.course, &schedule) {
            (Course::General(general), _) => {
                general.begin(&cluster, &mut actors, &mut random, is_calm);
                general.trouble(&cluster, &mut controllers, &mut random).await;
            }
            (Course::Directed(directed), Some(schedule)) => {
                directed.play(&cluster, &mut controllers, schedule, &mut random).await;
            }
            (Course::Directed(_), None) => {}
        }
        calm.store(true, Ordering::Relaxed);
        cluster.go_on();
        cluster.log("world", "nothing goes wrong from now on");
        if let (Course::Directed(directed), Some(schedule)) = (&self.course, &schedule) {
            schedule.open(true);
            directed.end(&cluster, &mut controllers, &mut random).await;
        }
        self.settle(&cluster, &mut controllers).await
    }

    /// Everything comes to rest, and what became of it is judged.
    async fn settle(&self, cluster: &Cluster, controllers: &mut [Controller]) -> Outcome {
        for controller in &mut *controllers {
            controller.link.cut(false);
            controller.stop(false);
            controller.start();
        }
        let (settles, silence) = self.course.patience();
        let settled = Instant::now() + settles;
        while Instant::now() < settled && cluster.requests() < STORM {
            sleep(Duration::from_secs(1)).await;
        }
        let (mut found, mut restarted) = (unrest(cluster), false);
        if matches!(self.course, Course::Directed(_)) {
            found.extend(leftovers(cluster));
            // What people label once the Election is gone is theirs, also where a controller starts over.
            restarted = acts::label_after_deletion(cluster);
            if restarted {
                controllers.iter_mut().for_each(Controller::kill);
                controllers.iter_mut().for_each(Controller::start);
            }
        }
        if cluster.requests() >= STORM {
            found.push("a storm: requests without end".into());
        }
        // That others changed the label is said for a minute after they stopped.
        if found.is_empty() && !contested(cluster).is_empty() {
            sleep(CONTEST).await;
            found.extend(contested(cluster));
        }
        let settled = cluster.server().revision();
        if found.is_empty() {
            sleep(silence).await;
        }
        let history = cluster.server().history().to_vec();
        let own = |revision: &Revision| revision.id.resource == Resource::Leases && revision.id.name == OWN_LEASE;
        let noise = history.iter().filter(|revision| revision.number > settled && !own(revision));
        found.extend(noise.map(|revision| format!("written although all was at rest: revision {}", revision.number)));
        found.extend(
            controllers.iter().filter(|controller| controller.has_ended()).map(|_| "a controller ended by itself".into()),
        );
        if self.candidacy && !restarted && found.is_empty() {
            found.extend(inactive(cluster, settled));
        }
        found.extend(unconfirmed(cluster));
        found.extend(broken(cluster));
        Outcome { history: cluster.history(), broken: found, revisions: history.len() }
    }
}

impl Course {
    /// How long it may take after the last fault until everything is at rest, and how long nothing may be written after that.
    fn patience(&self) -> (Duration, Duration) {
        match self {
            // A watch that fell silent is given up after five minutes.
            Self::General(_) => (Duration::from_secs(420), Duration::from_secs(90)),
            Self::Directed(directed) if directed.focus == Focus::Admission => (HEALED, Duration::from_secs(30)),
            // No watch falls silent here. A request is given up after ten seconds, and what failed is tried again after fifteen.
            Self::Directed(_) => (Duration::from_secs(60), Duration::from_secs(30)),
        }
    }
}
