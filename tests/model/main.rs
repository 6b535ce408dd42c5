//! The safety protocol (`docs/design.md`, section 4), explored exhaustively with Podium's own `decide`: every interleaving
//! of controllers with stale caches, late and lost requests, crashes, pods that come and go, and manual edits.
//!
//! `cargo test --profile explore --test model` runs the explorations of a minute or two, `make model` more. Words after `--`
//! select by name. Each exploration must visit exactly its stated number of states, which reveals a change of the protocol.
//! Each removed rule must break a guarantee in exactly its stated number of steps.

mod controller;
mod explorations;
mod followed;
mod liveness;
mod mutation;
mod numbers;
mod protocol;
mod removals;
mod server;
mod steps;
mod words;
mod world;

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use explorations::{EXPLORATIONS, Exploration, LARGE};
use liveness::Schedule;
use protocol::{Action, LIVENESS, Protocol};
use removals::{REMOVALS, Removal, Verdict};
use stateright::{Checker, HasDiscoveries, Model, Path};
use words::{look, words};
use world::World;

/// Far longer than any exploration, so that only an endless one fails.
const LONGEST: Duration = Duration::from_secs(1_800);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let large = std::env::args().any(|argument| argument == "--large");
    let chosen = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| name.contains(argument.as_str()));
    let explorations = EXPLORATIONS.iter().chain(LARGE.iter().filter(|_| large));
    let explored = explorations.filter(|exploration| chosen(exploration.name)).map(explore);
    let removed = REMOVALS.iter().filter(|removal| chosen(&format!("{:?}", removal.rule))).map(remove);
    let failed = explored.chain(removed).filter(|passed| !passed).count();
    println!("{}", if failed == 0 { "model: ok".into() } else { format!("model: {failed} FAILED") });
    ExitCode::from(u8::from(failed > 0))
}

/// Explores a world completely: no guarantee breaks, and every event that should happen occurs in some state.
fn explore(exploration: &Exploration) -> bool {
    let start = Instant::now();
    let model: Protocol = (exploration.protocol)();
    let names: Vec<&str> = model
        .properties()
        .iter()
        .filter(|property| property.name.starts_with("some"))
        .map(|property| property.name)
        .collect();
    let checker = model.checker().threads(2).timeout(LONGEST).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let states = checker.unique_state_count();
    let found = checker.discoveries();
    let broken: Vec<&&str> = found.keys().filter(|name| !name.starts_with("some")).collect();
    let missing: Vec<&&str> = names.iter().filter(|name| !found.contains_key(**name)).collect();
    let unseen: Vec<&&str> = missing.into_iter().filter(|name| !exploration.without.contains(name)).collect();
    let passed = broken.is_empty() && unseen.is_empty() && states == exploration.states;
    let verdict = if passed { "ok" } else { "FAILED" };
    println!(
        "explore {}: {states} states, depth {}, {:.1?} ... {verdict}",
        exploration.name,
        checker.max_depth(),
        start.elapsed()
    );
    if states != exploration.states && broken.is_empty() {
        println!("  {} states were expected: if the protocol changed, say so in explorations.rs", exploration.states);
    }
    for name in unseen {
        println!("  it never happened that {name}");
    }
    for name in broken {
        let path = found[*name].clone();
        let last = path.last_state().clone();
        tell(name, path);
        if *name == LIVENESS {
            tell_rest(&(exploration.protocol)(), &last);
        }
    }
    passed
}

/// Returns the shortest path to a state in which a guarantee is broken, and the number of states up to it. (A checker of
/// stateright returns any path.)
fn shortest(model: &Protocol) -> (Option<Path<World, Action>>, usize) {
    let fingerprint = |world: &World| {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        hasher.finish()
    };
    let first = model.init_states().remove(0);
    let mut seen = HashSet::from([fingerprint(&first)]);
    // By number of the state: the number of the one before, and the action in between.
    let mut before: Vec<Option<(usize, Action)>> = vec![None];
    let mut queue = VecDeque::from([(0, first.clone())]);
    while let Some((number, world)) = queue.pop_front() {
        if world.broken.is_some() || (model.liveness && !model.settles(&world)) {
            let mut actions = Vec::new();
            let mut at = number;
            while let Some((previous, action)) = before[at] {
                actions.push(action);
                at = previous;
            }
            actions.reverse();
            return (Path::from_actions(model, first, &actions), seen.len());
        }
        let mut actions = Vec::new();
        model.actions(&world, &mut actions);
        for action in actions {
            let Some(next) = model.next_state(&world, action) else { continue };
            if seen.insert(fingerprint(&next)) {
                queue.push_back((before.len(), next));
                before.push(Some((number, action)));
            }
        }
    }
    (None, seen.len())
}

/// Removes a rule: a guarantee must break.
fn remove(removal: &Removal) -> bool {
    let start = Instant::now();
    let liveness = matches!(removal.verdict, Verdict::Unsettled(_));
    let model = Protocol { removed: Some(removal.rule), liveness, ..(removal.protocol)() };
    let (path, states) = shortest(&model);
    let steps = path.clone().map(|path| path.into_actions().len());
    let (expected, why) = match removal.verdict {
        Verdict::Breaks(steps) | Verdict::Unsettled(steps) => (Some(steps), String::new()),
        Verdict::Unnoticed(why) => (None, format!(": {why}")),
    };
    let passed = steps == expected;
    let broken = path.as_ref().and_then(|path| path.last_state().broken);
    let broken = broken.map_or_else(|| "Unsettled".into(), |broken| format!("{broken:?}"));
    let what = steps.map_or_else(|| "nothing breaks".into(), |steps| format!("{broken} after {steps} steps"));
    let verdict = if passed { "ok" } else { "FAILED" };
    println!("without {:?}: {what}{why}, {states} states, {:.1?} ... {verdict}", removal.rule, start.elapsed());
    if let Some(path) = path.filter(|_| !passed || std::env::var_os("PODIUM_MODEL_TRACES").is_some()) {
        tell(if liveness { LIVENESS } else { "the promises hold" }, path);
    }
    passed
}

/// Prints the steps after a state from which the world does not settle.
fn tell_rest(model: &Protocol, world: &World) {
    println!("  {:?} from there on:", Schedule::of(world));
    let mut left = 60;
    model.settles_by(world, Schedule::of(world), &mut |world, action| {
        if left > 0 {
            left -= 1;
            println!("      {}\n    {}", look(world), words(action));
        }
    });
}

/// Prints a path through the model.
fn tell(property: &str, path: Path<World, Action>) {
    println!("  not so: {property}");
    for (world, action) in path.into_vec() {
        println!("      {}", look(&world));
        if let Some(action) = action {
            println!("    {}", words(action));
        }
    }
}
