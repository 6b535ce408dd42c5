//! Campaigners on one lock, while answers are lost, writes come late, clocks run at different rates, and processes are paused,
//! crash and come back: never do two of them claim to lead at the same moment, and when the faults stop, one of them does.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;

use super::*;

/// What happens next. Numbers choose a campaigner.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in milliseconds. For whoever does nothing meanwhile it is a pause.
    Pass(u64),
    /// It decides, and what it asks is on its way.
    Ask(usize),
    /// The server does what was asked, and the answer is on its way.
    Serve(usize),
    /// The answer arrives.
    Answer(usize),
    /// All of these in a row.
    Round(usize),
    /// It gives up to wait for the answer. What was asked may be done later.
    GiveUp(usize),
    /// One of the writes that were given up is done after all.
    LateWrite(usize),
    /// The watch delivers some version that the lock once had, or its deletion.
    Hear(usize, usize),
    /// It is killed, and starts again, with another identity or its own.
    Crash(usize, bool),
    /// It stops leading, releases, and starts again when that is done.
    Resign(usize),
    /// Somebody deletes the lock.
    Delete,
}

type Request = Action<()>;

struct Node {
    campaigner: Campaigner<()>,
    life: u32,
    /// In percent of true time.
    rate: u64,
    /// What it asked and when, and the answer once the server has done it.
    asked: Option<(Request, Moment, Option<Answer<()>>)>,
}

struct World {
    /// True time, in milliseconds.
    time: u64,
    timing: Timing,
    lock: Option<Seen<()>>,
    revision: u64,
    history: Vec<Option<Seen<()>>>,
    nodes: Vec<Node>,
    late: Vec<Request>,
    deletions: bool,
}

fn wrote(request: &Request) -> Option<Record> {
    match request {
        Action::Create(record) | Action::Update(_, record) => Some(record.clone()),
        _ => None,
    }
}

fn name(node: usize, life: u32) -> String {
    format!("{}-{life}", ["a", "b", "c"][node])
}

impl World {
    fn new(timing: Timing, rates: &[u64], deletions: bool) -> Self {
        let mut world = Self {
            time: 1,
            timing,
            lock: None,
            revision: 0,
            history: vec![None],
            nodes: Vec::new(),
            late: Vec::new(),
            deletions,
        };
        for (node, rate) in rates.iter().enumerate() {
            let campaigner = world.campaigner(&name(node, 0));
            world.nodes.push(Node { campaigner, life: 0, rate: *rate, asked: None });
        }
        world
    }

    fn campaigner(&self, identity: &str) -> Campaigner<()> {
        Campaigner::new(Settings { timing: self.timing, ..Settings::new(identity) }, Duration::from_micros(1))
    }

    fn now(&self, node: usize) -> Moment {
        Moment::after(Duration::from_micros(self.time * 10 * self.nodes[node].rate))
    }

    /// Everybody's wall clock stands still: nothing may hang on it.
    fn ask(&mut self, node: usize) {
        let now = self.now(node);
        let node = &mut self.nodes[node];
        let request = node.campaigner.next(now, Timestamp::UNIX_EPOCH);
        if node.asked.is_none() && !matches!(request, Action::Wait(_) | Action::Finish) {
            node.asked = Some((request, now, None));
        }
    }

    /// The API server: compare-and-swap by UID and revision; a write that changes nothing makes no revision.
    fn apply(&mut self, request: &Request) -> Answer<()> {
        let (before, record) = match request {
            Action::Create(record) => (None, record),
            Action::Update(seen, record) => (Some(&**seen), record),
            _ => return Answer::Read(self.lock.clone()),
        };
        match (&mut self.lock, before) {
            (Some(lock), Some(before)) if lock.version == before.version => {
                if lock.record != *record {
                    self.revision += 1;
                    lock.record = record.clone();
                    lock.version.resource_version = self.revision.to_string();
                }
            }
            (None, None) => {
                self.revision += 1;
                let version = Version { uid: format!("u{}", self.revision), resource_version: self.revision.to_string() };
                self.lock = Some(Seen { record: record.clone(), version, claimed_by: None, parts: Vec::new(), object: () });
            }
            _ => return Answer::Refused,
        }
        self.history.push(self.lock.clone());
        self.lock.clone().map_or(Answer::Refused, Answer::Written)
    }

    fn serve(&mut self, node: usize) {
        let Some((request, asked, None)) = self.nodes[node].asked.take() else { return };
        let answer = self.apply(&request);
        self.nodes[node].asked = Some((request, asked, Some(answer)));
    }

    fn answer(&mut self, node: usize) {
        let now = self.now(node);
        match self.nodes[node].asked.take() {
            Some((request, asked, Some(answer))) => {
                self.nodes[node].campaigner.answered(answer, asked, now, wrote(&request));
            }
            unanswered => self.nodes[node].asked = unanswered,
        }
    }

    fn give_up(&mut self, node: usize) {
        let now = self.now(node);
        let Some((request, asked, answer)) = self.nodes[node].asked.take() else { return };
        let wrote = wrote(&request);
        if answer.is_none() && wrote.is_some() {
            self.late.push(request);
        }
        self.nodes[node].campaigner.answered(Answer::Unknown, asked, now, wrote);
    }

    fn restart(&mut self, node: usize, same: bool) {
        if let Some((request, _, None)) = self.nodes[node].asked.take() {
            self.late.push(request);
        }
        let life = self.nodes[node].life + u32::from(!same);
        let campaigner = self.campaigner(&name(node, life));
        let rate = self.nodes[node].rate;
        self.nodes[node] = Node { campaigner, life, rate, asked: None };
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Pass(millis) => self.time += millis,
            Step::Ask(node) => self.ask(node),
            Step::Serve(node) => self.serve(node),
            Step::Answer(node) => self.answer(node),
            Step::Round(node) => self.round(node),
            Step::GiveUp(node) => self.give_up(node),
            Step::LateWrite(number) => {
                if !self.late.is_empty() {
                    let request = self.late.swap_remove(number % self.late.len());
                    self.apply(&request);
                }
            }
            Step::Hear(node, number) => {
                let version = self.history[number % self.history.len()].clone();
                let now = self.now(node);
                self.nodes[node].campaigner.heard(version, now);
            }
            // Who starts anew has seen nothing vanish.
            Step::Crash(..) if self.deletions => {}
            Step::Crash(node, same) => self.restart(node, same),
            Step::Resign(node) => {
                let now = self.now(node);
                self.nodes[node].campaigner.resign(now);
            }
            Step::Delete => {
                let everybody_knows = self.nodes.iter().all(|node| node.campaigner.holder().is_some());
                if self.deletions && everybody_knows {
                    self.lock = None;
                    self.history.push(None);
                }
            }
        }
    }

    fn round(&mut self, node: usize) {
        self.ask(node);
        self.serve(node);
        self.answer(node);
        let finished = self.nodes[node].campaigner.next(self.now(node), Timestamp::UNIX_EPOCH) == Action::Finish;
        if finished && !self.deletions {
            self.restart(node, true);
        }
    }

    fn leaders(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].campaigner.leads(self.now(*node))).collect()
    }
}

fn step(nodes: usize) -> impl Strategy<Value = Step> {
    let node = move || 0..nodes;
    prop_oneof![
        3 => (1..800_u64).prop_map(Step::Pass),
        3 => (800..6_000_u64).prop_map(Step::Pass),
        4 => node().prop_map(Step::Ask),
        4 => node().prop_map(Step::Serve),
        4 => node().prop_map(Step::Answer),
        8 => node().prop_map(Step::Round),
        2 => node().prop_map(Step::GiveUp),
        2 => (0..9_usize).prop_map(Step::LateWrite),
        2 => (node(), 0..99_usize).prop_map(|(node, version)| Step::Hear(node, version)),
        1 => (node(), any::<bool>()).prop_map(|(node, same)| Step::Crash(node, same)),
        1 => node().prop_map(Step::Resign),
        1 => Just(Step::Delete),
    ]
}

/// The most that the validation lets through, so that an error of one step shows.
fn timings() -> impl Strategy<Value = Timing> {
    let timing = |lease, renew, retry| Timing {
        lease_duration: Duration::from_secs(lease),
        renew_deadline: Duration::from_millis(renew),
        retry_period: Duration::from_millis(retry),
    };
    prop_oneof![Just(timing(10, 9_040, 2_000)), Just(timing(15, 10_000, 2_000)), Just(timing(2, 1_800, 400))]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(3), 1..250)
}

fn rates() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(95..=105_u64, 3)
}

fn check(timing: Timing, rates: &[u64], steps: &[Step], deletions: bool) -> Result<World, TestCaseError> {
    prop_assert_eq!(timing.validate(), Ok(()));
    let mut world = World::new(timing, rates, deletions);
    for (number, step) in steps.iter().enumerate() {
        world.step(step);
        let leaders = world.leaders();
        prop_assert!(leaders.len() <= 1, "after step {number}, {step:?}, at {} ms: {leaders:?} lead", world.time);
    }
    Ok(world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_two_lead_at_any_moment_and_one_does_when_the_faults_stop(
        timing in timings(), rates in rates(), steps in steps(),
    ) {
        let mut world = check(timing, &rates, &steps, false)?;
        // What is on its way is lost, and everybody is served from now on.
        for node in 0..world.nodes.len() {
            world.give_up(node);
        }
        let end = world.time + 3 * u64::try_from(timing.lease_duration.as_millis()).unwrap();
        while world.time < end {
            world.time += 150;
            for node in 0..world.nodes.len() {
                world.round(node);
            }
            prop_assert!(world.leaders().len() <= 1);
        }
        prop_assert_eq!(world.leaders().len(), 1, "one leads: {:?}", world.lock);
    }

    #[test]
    fn no_two_lead_when_the_lock_is_deleted_under_those_who_know_it(
        timing in timings(), rates in rates(), steps in steps(),
    ) {
        check(timing, &rates, &steps, true)?;
    }
}

#[test]
fn a_creation_that_was_in_flight_while_anothers_lock_came_and_was_deleted_does_not_lead_at_once() {
    let timing = Timing {
        lease_duration: Duration::from_secs(10),
        renew_deadline: Duration::from_millis(9_040),
        retry_period: Duration::from_secs(2),
    };
    let steps = [
        Step::Round(2),
        Step::Round(1),
        Step::Ask(2),
        Step::Round(1),
        Step::Hear(2, 29),
        Step::Round(0),
        Step::Delete,
        Step::Round(2),
    ];
    let mut world = check(timing, &[95; 3], &steps, true).expect("no two lead");
    assert_eq!(world.leaders(), [1], "who led before the deletion, until its deadline");
    while world.leaders() != [2] {
        assert!(world.time < 60_000, "who made the new lock leads in the end");
        world.time += 150;
        world.round(2);
        world.round(1);
        assert!(world.leaders().len() <= 1);
    }
}
