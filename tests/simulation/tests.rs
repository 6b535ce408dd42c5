//! The worlds, and tests of the simulation.

use std::collections::BTreeMap;
use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::cluster::lock;
use crate::world::{Outcome, Plan};

/// Default number of worlds.
const SEEDS: u64 = 1_000;

/// Number of printed lines of a failed world's history.
const LINES: usize = 60;

fn variable(name: &str) -> Option<u64> {
    let value = env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// Runs these worlds, as many at a time as there are CPUs. Returns those that broke a guarantee.
fn run(seeds: std::ops::Range<u64>, plan: impl Fn(u64) -> Plan + Sync) -> BTreeMap<u64, Outcome> {
    let next = AtomicU64::new(seeds.start);
    let broken = Mutex::default();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = plan(seed).run();
                    if !outcome.broken.is_empty() {
                        lock::<BTreeMap<_, _>>(&broken).insert(seed, outcome);
                    }
                }
            });
        }
    });
    broken.into_inner().unwrap_or_else(|error| error.into_inner())
}

fn report(broken: &BTreeMap<u64, Outcome>) -> String {
    let mut text = String::new();
    for (seed, outcome) in broken {
        text += &format!("seed {seed}: {}\n", outcome.broken.join("; "));
    }
    if let Some((seed, outcome)) = broken.first_key_value() {
        let lines: Vec<&str> = outcome.history.lines().collect();
        text +=
            &format!("the end of the history of seed {seed}:\n{}\n", lines[lines.len().saturating_sub(LINES)..].join("\n"));
        text += &format!("{} worlds are broken; the whole of this one: make simulate SEED={seed}\n", broken.len());
    }
    text
}

#[test]
fn guarantees_hold_in_every_world() {
    if let Some(seed) = variable("SEED") {
        let outcome = Plan::of(seed).run();
        println!("{}", outcome.history);
        assert!(outcome.broken.is_empty(), "{}", outcome.broken.join("\n"));
        return;
    }
    let from = variable("FROM").unwrap_or(0);
    let broken = run(from..from + variable("SEEDS").unwrap_or(SEEDS), Plan::of);
    assert!(broken.is_empty(), "{}", report(&broken));
}

#[test]
fn guarantees_hold_without_faults() {
    let broken = run(0..20, Plan::fair);
    assert!(broken.is_empty(), "{}", report(&broken));
}

#[test]
fn same_seed_gives_the_same_world_to_the_byte() {
    // Two general worlds and three directed ones.
    for seed in [10, 11, 12, 13, 14] {
        let (first, second) = (Plan::of(seed).run(), Plan::of(seed).run());
        assert!(first.revisions > 10, "a world in which little happens proves little: {}", first.revisions);
        let differs = first.history.lines().zip(second.history.lines()).find(|(first, second)| first != second);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
    }
    assert_ne!(Plan::of(3).run().history, Plan::of(4).run().history, "another seed is another world");
}
