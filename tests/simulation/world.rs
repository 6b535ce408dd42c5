//! One world, from its seed to its outcome.

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
use crate::electors::{self, LOCK};
use crate::followed_verdict::unfollowed;
use crate::general::{self, General};
use crate::network::{Link, Weather};
use crate::schedule::Schedule;
use crate::steering;
use crate::steering_verdict::unrequested;
use crate::verdict::{broken, contested, inactive, leftovers, unconfirmed, unrest};

/// More requests than a world of this size needs.
pub const STORM: u64 = 6_000;

/// Maximum time to recover after mutating admission ends.
const HEALED: Duration = Duration::from_secs(20);

/// Maximum time until a label without further changes is no longer reported as contested.
const CONTEST: Duration = Duration::from_secs(75);

/// The plan of a world, drawn from its seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Number of controllers.
    pub controllers: usize,
    /// They elect an active replica.
    pub candidacy: bool,
    /// Network faults between controllers and server.
    pub weather: Weather,
    pub course: Course,
}

/// The kinds of worlds.
#[derive(Clone, Debug)]
pub enum Course {
    /// Many random events.
    General(General),
    /// Few events, in an order drawn step by step.
    Directed(Directed),
}

/// Outcome of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The log of the world.
    pub history: String,
    /// Failures.
    pub broken: Vec<String>,
    /// Number of revisions.
    pub revisions: usize,
}

impl Plan {
    /// Plans the world of this seed: two of five are general.
    pub fn of(seed: u64) -> Self {
        if seed % 5 < 2 { Self::general(seed) } else { Self::directed(seed) }
    }

    fn general(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut some = |often: u64, most: u64| if random.permille(often) { random.between(1, most) } else { 0 };
        let weather = general::weather(&mut some);
        let controllers = if some(800, 2) == 0 { 1 } else { 2 + usize::from(some(500, 2) > 0) };
        let candidacy = some(300, 2) > 0;
        Self { seed, controllers, candidacy, weather, course: Course::General(General::of(some)) }
    }

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

    /// A general world without faults: pods are only created, changed and deleted.
    pub fn fair(seed: u64) -> Self {
        let plan = Self::general(seed);
        let course = match plan.course {
            Course::General(general) => Course::General(general.fair()),
            course @ Course::Directed(_) => course,
        };
        Self { weather: Weather::default(), course, ..plan }
    }

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
        steering::create_nodes(&cluster);
        let calm = Arc::new(AtomicBool::new(false));
        let is_calm = {
            let calm = calm.clone();
            move || calm.load(Ordering::Relaxed)
        };
        let mut actors = JoinSet::new();
        actors.spawn(collector::run(cluster.clone(), random.child(), is_calm.clone()));
        if matches!(&self.course, Course::Directed(directed) if directed.renewed) {
            actors.spawn(electors::keep(cluster.clone(), is_calm.clone()));
        }
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

    /// Waits until the world is at rest, and judges it.
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
            // A label of a user after the Election's deletion stays, also after a restart of the controller.
            restarted = acts::label_after_deletion(cluster);
            if restarted {
                controllers.iter_mut().for_each(Controller::kill);
                controllers.iter_mut().for_each(Controller::start);
            }
        }
        if cluster.requests() >= STORM {
            found.push("a storm: requests without end".into());
        }
        // A contested label is reported for a minute after the last change.
        if found.is_empty() && !contested(cluster).is_empty() {
            sleep(CONTEST).await;
            found.extend(contested(cluster));
        }
        let settled = cluster.server().revision();
        if found.is_empty() {
            sleep(silence).await;
        }
        let history = cluster.server().history().to_vec();
        // Leases that are renewed by others than the Elections' reconcilers.
        let renewed = |revision: &Revision| {
            revision.id.resource == Resource::Leases && [OWN_LEASE, LOCK].contains(&revision.id.name.as_str())
        };
        let noise = history.iter().filter(|revision| revision.number > settled && !renewed(revision));
        found.extend(noise.map(|revision| format!("written although all was at rest: revision {}", revision.number)));
        found.extend(
            controllers.iter().filter(|controller| controller.has_ended()).map(|_| "a controller ended by itself".into()),
        );
        if self.candidacy && !restarted && found.is_empty() {
            found.extend(inactive(cluster, settled));
        }
        found.extend(unconfirmed(cluster));
        found.extend(unrequested(cluster));
        found.extend(unfollowed(cluster));
        found.extend(broken(cluster));
        Outcome { history: cluster.history(), broken: found, revisions: history.len() }
    }
}

impl Course {
    /// Maximum time from the last fault to rest, and the time without writes after that.
    fn patience(&self) -> (Duration, Duration) {
        match self {
            // A silent watch is abandoned after five minutes.
            Self::General(_) => (Duration::from_secs(420), Duration::from_secs(90)),
            Self::Directed(directed) if directed.focus == Focus::Admission => (HEALED, Duration::from_secs(30)),
            // Without silent watches: a request is abandoned after ten seconds, and retried after fifteen.
            Self::Directed(_) => (Duration::from_secs(60), Duration::from_secs(30)),
        }
    }
}
