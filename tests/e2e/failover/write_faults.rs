//! Every fault at every write: the controller dies, hangs, loses the response, or races with another change, before and
//! after each write of each kind of change.

mod change;
mod goal;
mod judge;
mod run;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;

use change::{ALL, Change};
use judge::needless;
use run::{Done, Run, Stage};

use crate::harness::cluster::Cluster;
use crate::harness::faulty::{Fault, Side};
use crate::harness::inside::Connections;
use crate::harness::observer::Observer;

/// Number of concurrent runs. They mostly wait.
const AT_ONCE: usize = 12;

/// The faults, and whether another change follows before a hanging controller resumes.
const FAULTS: [(Fault, bool); 7] = [
    (Fault::Die(Side::Before), false),
    (Fault::Die(Side::After), false),
    (Fault::Hang(Side::Before), true),
    (Fault::Hang(Side::After), true),
    (Fault::Lose(Side::Before), false),
    (Fault::Lose(Side::After), false),
    (Fault::Edit, false),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_at_any_write_breaks_no_guarantee_and_repeats_no_write() {
    let begun = Instant::now();
    let cluster = Cluster::shared().await;
    let observer = Arc::new(Observer::start(&cluster.client).await);
    let connections = Connections::new(&cluster.controllers, &cluster.kubeconfig).await;
    let stage = Stage { cluster, connections, observer, used: Arc::default() };

    let changes = chosen();
    let flawless =
        changes.iter().flat_map(|change| [false, true].map(|moves_on| Run { change: *change, fault: None, moves_on }));
    let flawless = all(&stage, flawless.collect()).await;
    let mut failures = Vec::new();
    let mut expected = BTreeMap::new();
    let mut table = Table::default();
    for (run, done) in flawless {
        match done {
            Ok(done) => {
                table.note(run, &done);
                let wrong = done.violations.iter().cloned().chain(untimely(run, &done));
                failures.extend(wrong.map(|wrong| format!("{run:?}: {wrong}\n{}", done.logs)));
                expected.insert((run.change, run.moves_on), done);
            }
            Err(missing) => failures.push(format!("{run:?}: {missing}")),
        }
    }
    let mut runs = Vec::new();
    for ((change, moves_on), done) in &expected {
        if !moves_on {
            println!("{change:?}: {}", done.asked.join(", "));
            let points = 0..done.asked.len();
            let faults = points.flat_map(|number| FAULTS.map(|(fault, moves_on)| (number, fault, moves_on)));
            runs.extend(faults.map(|(number, fault, moves_on)| Run {
                change: *change,
                fault: Some((number, fault)),
                moves_on,
            }));
        }
    }
    for (run, done) in all(&stage, runs).await {
        let Some((number, fault)) = run.fault else { continue };
        let flawless = &expected[&(run.change, run.moves_on)];
        let at = &flawless.asked[number];
        let name =
            format!("{:?}, {fault:?} at {at} ({number}){}", run.change, if run.moves_on { ", moving on" } else { "" });
        match done {
            Ok(done) => {
                table.note(run, &done);
                let mut wrong = done.violations.clone();
                wrong.extend(needless(&flawless.writes, &done.writes, at, fault));
                wrong.extend(untimely(run, &done));
                if done.struck.as_ref() != Some(at) {
                    wrong.push(format!("the write was not this one but {:?}", done.struck));
                }
                if !wrong.is_empty() {
                    failures.push(format!("{name}: {}\n{}", wrong.join("; "), done.logs));
                }
            }
            Err(missing) => failures.push(format!("{name}: {missing}")),
        }
    }
    stage.clear().await;
    println!("{table}in {:.0?}", begun.elapsed());
    for failure in &failures {
        println!("=== {failure}");
    }
    let names: Vec<&str> = failures.iter().filter_map(|failure| failure.lines().next()).collect();
    assert!(failures.is_empty(), "{} of the runs failed:\n{}", names.len(), names.join("\n"));
}

/// Reports outdated writes without another writer: the controller used stale data.
fn untimely(run: Run, done: &Done) -> Option<String> {
    let is_wrong = done.outdated > 0 && !run.change.is_interfered_with();
    is_wrong.then(|| format!("{} writes came too late", done.outdated))
}

/// The changes to test: all, or those in `PODIUM_FAULTS`, separated by commas.
fn chosen() -> Vec<Change> {
    let names = std::env::var("PODIUM_FAULTS").unwrap_or_default();
    let chosen = |change: &Change| names.is_empty() || names.split(',').any(|name| name == format!("{change:?}"));
    let chosen: Vec<Change> = ALL.into_iter().filter(chosen).collect();
    assert!(!chosen.is_empty(), "PODIUM_FAULTS names none of {ALL:?}");
    chosen
}

async fn all(stage: &Stage, runs: Vec<Run>) -> Vec<(Run, Result<Done, String>)> {
    let each = runs.into_iter().map(|run| {
        let stage = stage.clone();
        async move {
            let done = tokio::spawn(async move { stage.run(run).await }).await;
            (run, done.unwrap_or_else(|panic| Err(format!("panic: {panic}"))))
        }
    });
    stream::iter(each).buffered(AT_ONCE).collect().await
}

/// Counts and times of all runs.
#[derive(Default)]
struct Table {
    rows: BTreeMap<Change, Row>,
    violations: usize,
}

#[derive(Default)]
struct Row {
    writes: usize,
    runs: usize,
    revisions: usize,
    took: Vec<Duration>,
}

impl Table {
    fn note(&mut self, run: Run, done: &Done) {
        let row = self.rows.entry(run.change).or_default();
        row.revisions += done.revisions;
        self.violations += done.violations.len();
        match run.fault {
            Some(_) => {
                row.runs += 1;
                row.took.push(done.took);
            }
            None if !run.moves_on => row.writes = done.asked.len(),
            None => {}
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        let mut line = |cells: [String; 6]| {
            let [first, rest @ ..] = cells;
            let rest: Vec<String> = rest.iter().map(|cell| format!("{cell:>10}")).collect();
            writeln!(text, "{first:<20}{}", rest.join(""))
        };
        line(["change", "writes", "faults", "revisions", "median", "longest"].map(str::to_owned))?;
        let mut total = Row::default();
        for (change, row) in &self.rows {
            line(row.cells(&format!("{change:?}")))?;
            total.writes += row.writes;
            total.runs += row.runs;
            total.revisions += row.revisions;
            total.took.extend(&row.took);
        }
        line(total.cells("all"))?;
        writeln!(f, "{text}violations: {}", self.violations)
    }
}

impl Row {
    fn cells(&self, name: &str) -> [String; 6] {
        let mut took = self.took.clone();
        took.sort();
        let at = |index: Option<&Duration>| index.map_or_else(String::new, |took| format!("{} ms", took.as_millis()));
        let numbers = [self.writes, self.runs, self.revisions].map(|number| number.to_string());
        let [writes, runs, revisions] = numbers;
        [name.into(), writes, runs, revisions, at(took.get(took.len() / 2)), at(took.last())]
    }
}
