//! The run: a healthy start, the faults, then the verdict.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use podium_test_support::random::Random;
use podium_test_support::waiting::eventually_within;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::archive::Archive;
use crate::churn::churn;
use crate::control::ControlPlane;
use crate::controllers::{Mode, Slot, bugs};
use crate::end::Now;
use crate::recorder::Recorder;
use crate::setup::cluster;
use crate::verdict::{Verdict, judge};
use crate::world::{Settings, World};

/// Deadline for every Election to have its leader after the faults, counted from when its pods are eligible.
const BOUND: Duration = Duration::from_secs(60);
/// Deadline before the faults. This is only a precondition, and all Elections start at once.
const PATIENCE: Duration = Duration::from_secs(180);
/// The controllers alternate after this time: all active, or one elected.
const PHASE: Duration = Duration::from_secs(30);
/// Number of concurrent tasks that change pods.
const CHURNERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos() {
    let settings = Settings::read();
    println!("chaos: {settings:?}; PODIUM_CHAOS_SEED={} makes the same faults", settings.seed);
    let (kubeconfig, state) = cluster();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}", settings.seed));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a writable target directory");
    let archive = Archive::start(&state, &kubeconfig, &directory.join("archive.log")).await;
    let world = Arc::new(World::create(settings, archive.client.clone(), directory.clone()).await);
    let recorder = Recorder::start(&world).await;
    let (phase, mode) = watch::channel(Mode::One);
    let slots: Vec<Slot> =
        (0..3).map(|slot| Slot::start(&world, &kubeconfig, &format!("controller-{slot}"), mode.clone())).collect();
    world.populate().await;
    world.heal().await;
    let first = leaders(&world, PATIENCE, "at the beginning").await;
    let begun = std::time::Instant::now();
    let elections: usize = world.groups.iter().map(|group| group.elections.len()).sum();
    println!("{elections} Elections have their leaders {:.1} s after their pods were ready", first.as_secs_f64());

    world.figures.note("the faults begin");
    let slots = torment(&world, &recorder, &state, slots, phase).await;

    // The faults have stopped, components run again, and pods are eligible.
    world.figures.note("the faults have stopped");
    world.heal().await;
    let again = leaders(&world, BOUND, "after the faults").await;
    drop(slots);
    let record = recorder.finish(&world).await;
    let mut verdict = judge(&record, &world.groups, begun);
    verdict.violations.extend(bugs(&world));
    report(&world, &verdict, elections, again);
    for (time, whose) in &verdict.leaderless {
        world.figures.note(&format!("{whose} was without a leader for {:.1} s", time.as_secs_f64()));
    }
    let broken = &verdict.violations;
    assert!(broken.is_empty(), "logs are in {}; broken:\n{}", directory.display(), broken.join("\n"));
    if std::env::var_os("PODIUM_CHAOS_KEEP").is_none() {
        let _ = fs::remove_dir_all(&directory);
    }
}

/// Injects all faults at once, as the seed decides, for the configured time.
async fn torment(
    world: &Arc<World>,
    recorder: &Recorder,
    state: &Path,
    slots: Vec<Slot>,
    phase: watch::Sender<Mode>,
) -> Vec<Slot> {
    let mut random = Random::new(world.settings.seed);
    let until = Instant::now() + Duration::from_secs(world.settings.seconds);
    let control = ControlPlane::new(state).torment(world, random.child(), until);
    let churners = join_all((0..CHURNERS).map(|_| churn(world, recorder, random.child(), until)).collect::<Vec<_>>());
    let slots = join_all(slots.into_iter().map(|slot| slot.torment(random.child(), until)).collect::<Vec<_>>());
    let phases = async {
        let mut mode = *phase.borrow();
        while Instant::now() + PHASE < until {
            sleep(PHASE).await;
            mode = if mode == Mode::One { Mode::All } else { Mode::One };
            world.figures.count("changes between one active controller and three", &format!("{mode:?}"));
            phase.send_replace(mode);
        }
    };
    tokio::join!(slots, control, churners, phases).0
}

/// Waits until every Election has its leader, and returns how long it took.
async fn leaders(world: &World, within: Duration, when: &str) -> Duration {
    let begun = Instant::now();
    eventually_within(within, &format!("every Election has its leader {when}"), async || {
        let now = Now::look(world).await.map_err(|error| error.to_string())?;
        let unrest = now.unrest(world.groups.iter().flat_map(|group| group.elections.iter().cloned()));
        if unrest.is_empty() { Ok(()) } else { Err(format!("{} without: {}", unrest.len(), unrest.join("\n"))) }
    })
    .await;
    begun.elapsed()
}

fn report(world: &World, verdict: &Verdict, elections: usize, again: Duration) {
    let (pods, leases) = verdict.revisions;
    println!("{} s of chaos, {elections} Elections, {} pods:", world.settings.seconds, world.groups.len() * 3);
    world.figures.lines().iter().for_each(|line| println!("{line}"));
    println!("revisions checked: {} ({pods} of pods, {leases} of Leases)", pods + leases);
    println!("failovers: {}", verdict.failovers);
    let (time, whose) = verdict.leaderless.first().expect("there are Elections");
    println!(
        "longest time without a leader while a pod could lead: {:.1} s ({whose}; outages included)",
        time.as_secs_f64()
    );
    println!("after the faults all Elections had their leaders within {:.1} s", again.as_secs_f64());
    println!("violations: {}", verdict.violations.len());
}
