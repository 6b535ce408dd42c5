//! One run: a change with a fault at one of its writes, and the outcome.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use super::change::Change;
use super::goal::{Goal, Term};
use super::judge::{Writes, judge, writes};
use super::world::World;
use crate::harness::cluster::Cluster;
use crate::harness::faulty::{Control, Fault, Noted, describe};
use crate::harness::inside::{Connections, Inside};
use crate::harness::observer::Observer;
use crate::harness::waiting::DEADLINE;

/// The cluster of all runs.
#[derive(Clone)]
pub struct Stage {
    pub cluster: Cluster,
    /// Connections of its controllers.
    pub connections: Connections,
    pub observer: Arc<Observer>,
    /// Namespaces used so far.
    pub used: Arc<Mutex<Vec<String>>>,
}

/// A change and its fault.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub change: Change,
    /// The fault, and the number of the write, from 0.
    pub fault: Option<(usize, Fault)>,
    /// Another change follows before a hanging controller resumes.
    pub moves_on: bool,
}

/// Outcome of a run.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Requested writes of the controller with the fault, without outdated ones.
    pub asked: Vec<String>,
    /// The write with the fault.
    pub struck: Option<String>,
    /// Number of outdated writes before that.
    pub outdated: usize,
    /// Effective writes of all controllers.
    pub writes: Writes,
    /// Number of judged revisions.
    pub revisions: usize,
    /// Violations of the guarantees.
    pub violations: Vec<String>,
    /// Time from the fault to the goal.
    pub took: Duration,
    /// Logs of the controllers.
    pub logs: String,
}

/// The controllers of a run: the one with the fault, and its successor or competitor.
struct Pair {
    first: Inside,
    second: Option<Inside>,
    /// The last revision before the change.
    since: i64,
}

impl Pair {
    fn all(&self) -> impl Iterator<Item = &Inside> {
        [&self.first].into_iter().chain(&self.second)
    }

    fn controls(&self) -> Vec<&Control> {
        self.all().map(|inside| &*inside.control).collect()
    }

    fn noted(&self) -> Vec<Noted> {
        self.all().flat_map(|inside| inside.control.noted()).collect()
    }
}

impl Stage {
    /// Runs it.
    ///
    /// # Errors
    /// The expectation that was not met in time.
    pub async fn run(&self, run: Run) -> Result<Done, String> {
        let world = World::new(&self.cluster, &self.connections, &self.observer).await;
        self.used.lock().expect("no panic").push(world.namespace.clone());
        let control = Control::new();
        let mut pair = Pair { first: world.controller(control.clone()), second: None, since: 0 };
        let outcome = carry_out(&world, run, &mut pair).await;
        self.observer.forget(&world.namespace);
        let mut done = Done { logs: logs(&pair), ..Done::default() };
        let took = outcome.map_err(|missing| format!("{missing}\n{}", done.logs));
        done.took = took?;
        let noted = pair.first.control.noted();
        done.asked = noted.iter().filter(|noted| !noted.is_outdated()).map(|noted| noted.what.clone()).collect();
        done.struck = pair.first.control.struck().map(|noted| noted.what);
        done.outdated = pair.first.control.outdated();
        let others = world.others(&pair.controls());
        {
            let view = world.view.borrow();
            done.writes = writes(&view, &others, pair.since, &pair.noted());
            (done.revisions, done.violations) = judge(&view, &world.forged());
        }
        run.change.clear(&world).await;
        Ok(done)
    }

    /// Deletes all namespaces, in the background. Only at the end, because it costs the cluster more than a run.
    pub async fn clear(&self) {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        let used = std::mem::take(&mut *self.used.lock().expect("no panic"));
        stream::iter(used)
            .for_each_concurrent(16, async |namespace| {
                let _ = namespaces.delete(&namespace, &DeleteParams::background()).await;
            })
            .await;
    }
}

fn logs(pair: &Pair) -> String {
    let log = |inside: &Inside| format!("{}\nwrites: {:#}\n", inside.log(), describe(&inside.control.noted()));
    pair.all().map(log).collect::<Vec<_>>().join("--- the other controller\n")
}

/// Returns the time from the fault to the goal.
async fn carry_out(world: &World, run: Run, pair: &mut Pair) -> Result<Duration, String> {
    let Run { change, fault, .. } = run;
    change.begin(world).await;
    let term = if change.has_leader() { lead(world, change, &pair.first).await? } else { 0 };
    pair.since = world.view.borrow().versions.last().copied().unwrap_or_default();
    let goal = if change.is_unseen() {
        pair.first.stop().await;
        let goal = change.apply(world, term).await;
        let control = Control::new();
        control.arm(fault);
        pair.first = world.controller(control);
        goal
    } else {
        pair.first.control.arm(fault);
        change.apply(world, term).await
    };
    go_on(world, run, pair, goal).await
}

/// Creates the Election, awaits its leader, and prepares the change. Returns the term.
async fn lead(world: &World, change: Change, controller: &Inside) -> Result<i64, String> {
    world.election().await;
    let control = &controller.control;
    let mut term = world.reach(&Goal::Leader(Some("web-0"), Term::Above(0)), &[control]).await?;
    in_time("the first leader is told of", told(control, 1)).await?;
    if let Some(goal) = change.prepare(world, term).await {
        term = world.reach(&goal, &[control]).await?;
        in_time("it is told of", told(control, 2)).await?;
    }
    Ok(term)
}

/// Completes after this many Events.
async fn told(control: &Control, events: usize) {
    control.until(|noted| noted.iter().filter(|noted| noted.what == "Event" && noted.over).count() == events).await;
}

/// Continues from the change to the end.
async fn go_on(world: &World, run: Run, pair: &mut Pair, mut goal: Goal) -> Result<Duration, String> {
    let mut begun = Instant::now();
    if let Some((_, fault)) = run.fault {
        in_time("the fault happens", pair.first.control.fault()).await?;
        begun = pair.first.control.reached().unwrap_or(begun);
        if let Fault::Die(_) = fault {
            in_time("the controller dies", pair.first.dead()).await?;
        }
        if let Fault::Die(_) | Fault::Hang(_) = fault {
            pair.second = Some(world.controller(Control::new()));
        }
    }
    let term = world.reach(&goal, &pair.controls()).await?;
    let took = begun.elapsed();
    if run.moves_on {
        goal = run.change.move_on(world, term).await;
        world.reach(&goal, &pair.controls()).await?;
    }
    if let Some((_, Fault::Hang(_))) = run.fault {
        pair.first.control.resume();
        in_time("the late answer arrives", pair.first.control.over()).await?;
    }
    settle(world, run, pair, &goal).await?;
    Ok(took)
}

/// Makes every live controller reconcile the reached goal once more and finish: the goal must still hold.
async fn settle(world: &World, run: Run, pair: &mut Pair, goal: &Goal) -> Result<(), String> {
    if world.view.borrow().elections.contains_key("web") {
        let before: Vec<u64> = pair.all().map(Inside::decisions).collect();
        // A difference for the next election, but not for the leader.
        world.patch::<Pod>("web-2", json!({ "metadata": { "annotations": { "podium.dev/priority": "-1" } } })).await;
        let died = matches!(run.fault, Some((_, Fault::Die(_))));
        in_time("every controller looks again", async {
            for (number, (inside, before)) in pair.all().zip(before).enumerate() {
                while inside.decisions() == before && !(died && number == 0) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        })
        .await?;
    }
    for inside in [&mut pair.first].into_iter().chain(&mut pair.second) {
        in_time("the controller stops", inside.stop()).await?;
    }
    world.reach(goal, &pair.controls()).await.map(drop)
}

async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> Result<T, String> {
    let done = tokio::time::timeout(DEADLINE, wait).await;
    done.map_err(|_| format!("after {} s still not: {what}", DEADLINE.as_secs()))
}
