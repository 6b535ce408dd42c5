//! The world of the properties: campaigners, the lock, what is under way, and what happens next.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;

use super::super::*;

/// What happens next. Numbers choose a campaigner.
#[derive(Clone, Debug)]
pub enum Step {
    /// Time passes, in milliseconds. For whoever does nothing meanwhile it is a pause.
    Pass(u64),
    /// It decides, and what it asks is on its way.
    Ask(usize),
    /// The server does what was asked, and the answer is on its way.
    Serve(usize),
    /// The answer arrives.
    LockResponse(usize),
    /// All of these in a row.
    Round(usize),
    /// The same, but the server stores something else, and answers success.
    Altered(usize, Alteration),
    /// The server stores something else, and the answer is on its way.
    ServeAltered(usize, Alteration),
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

/// What an admission policy makes of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alteration {
    /// Nothing changes.
    Keep,
    /// The time stays what it was, or is missing.
    KeepTime,
    DropTime,
    Longer,
    DropHolder,
    AnotherHolder,
    Shorter,
}

pub use Alteration::{AnotherHolder, DropHolder, DropTime, Keep, KeepTime, Longer, Shorter};

impl Alteration {
    fn of(self, asked: &LeaderElectionRecord, before: &LeaderElectionRecord) -> LeaderElectionRecord {
        let asked = asked.clone();
        match self {
            Keep => before.clone(),
            KeepTime => LeaderElectionRecord { renew_time: before.renew_time, ..asked },
            DropTime => LeaderElectionRecord { renew_time: None, ..asked },
            Longer => LeaderElectionRecord {
                lease_duration_seconds: asked.lease_duration_seconds.map(|seconds| seconds + 5),
                ..asked
            },
            DropHolder => LeaderElectionRecord { holder: String::new(), ..asked },
            AnotherHolder => LeaderElectionRecord { holder: "nobody-0".into(), ..asked },
            Shorter => LeaderElectionRecord { lease_duration_seconds: Some(1), ..asked },
        }
    }

    /// Whether it lets others in before the deadline of the last renewal. Nobody can know it before the answer has arrived, so
    /// these are answered at once.
    fn lets_others_in(self) -> bool {
        matches!(self, DropHolder | AnotherHolder | Shorter)
    }
}

/// What may happen beside lost answers, late writes, pauses and crashes.
#[derive(Clone, Copy, Default)]
pub struct Rules {
    pub deletions: bool,
    pub alterations: bool,
    /// Two of the three have the same name, and none resumes what it finds of its own.
    pub twins: bool,
}

type Request = Action<()>;

struct Node {
    campaigner: Campaigner<()>,
    life: u32,
    /// In percent of true time.
    rate: u64,
    /// What it asked and when, and the answer once the server has done it.
    asked: Option<(Request, Moment, Option<LockResponse<()>>)>,
}

pub struct World {
    /// True time, in milliseconds.
    pub time: u64,
    timing: Timing,
    lock: Option<LockState<()>>,
    revision: u64,
    history: Vec<Option<LockState<()>>>,
    nodes: Vec<Node>,
    late: Vec<Request>,
    rules: Rules,
    /// Until then somebody may lead on a lock that was deleted. Whoever starts meanwhile cannot know it.
    vanished_until: u64,
    asks: u64,
}

fn wrote(request: &Request) -> Option<LeaderElectionRecord> {
    match request {
        Action::Create(record) | Action::Update(_, record) => Some(record.clone()),
        _ => None,
    }
}

impl World {
    pub fn new(timing: Timing, rates: &[u64], rules: Rules) -> Self {
        let mut world = Self {
            time: 1,
            timing,
            lock: None,
            revision: 0,
            history: vec![None],
            nodes: Vec::new(),
            late: Vec::new(),
            rules,
            vanished_until: 0,
            asks: 0,
        };
        for (node, rate) in rates.iter().enumerate() {
            let campaigner = world.campaigner(node, 0);
            world.nodes.push(Node { campaigner, life: 0, rate: *rate, asked: None });
        }
        world
    }

    fn campaigner(&self, node: usize, life: u32) -> Campaigner<()> {
        let names = if self.rules.twins { ["a", "a", "c"] } else { ["a", "b", "c"] };
        let identity = format!("{}-{life}", names[node]);
        let settings = CampaignConfig { timing: self.timing, resumes: !self.rules.twins, ..CampaignConfig::new(identity) };
        Campaigner::new(settings, Duration::from_micros(1))
    }

    fn now(&self, node: usize) -> Moment {
        Moment::after(Duration::from_micros(self.time * 10 * self.nodes[node].rate))
    }

    /// Everybody's wall clock stands still: nothing may hang on it. Except that records are told apart, where there is another of the
    /// same name, or a policy drops the time that the next one has to be later than.
    fn wall(&mut self) -> Timestamp {
        if !self.rules.twins && !self.rules.alterations {
            return Timestamp::UNIX_EPOCH;
        }
        self.asks += 1;
        Timestamp::from_microsecond(i64::try_from(self.time * 1_000_000 + self.asks).unwrap()).unwrap()
    }

    fn ask(&mut self, node: usize) {
        let (now, wall) = (self.now(node), self.wall());
        let node = &mut self.nodes[node];
        let request = node.campaigner.next(now, wall);
        if node.asked.is_none() && !matches!(request, Action::Wait(_) | Action::Finish) {
            node.asked = Some((request, now, None));
        }
    }

    /// The API server: compare-and-swap by UID and revision; a write that changes nothing makes no revision.
    fn apply(&mut self, request: &Request, alteration: Option<Alteration>) -> LockResponse<()> {
        let (before, record) = match request {
            Action::Create(record) => (None, record),
            Action::Update(seen, record) => (Some(&**seen), record),
            _ => return LockResponse::Read(self.lock.clone()),
        };
        let stored = before.map_or_else(LeaderElectionRecord::default, |seen| seen.record.clone());
        let record = &alteration.map_or_else(|| record.clone(), |alteration| alteration.of(record, &stored));
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
                let version =
                    ObjectVersion { uid: format!("u{}", self.revision), resource_version: self.revision.to_string() };
                self.lock =
                    Some(LockState { record: record.clone(), version, claimed_by: None, parts: Vec::new(), object: () });
            }
            _ => return LockResponse::Refused,
        }
        self.history.push(self.lock.clone());
        self.lock.clone().map_or(LockResponse::Refused, LockResponse::Written)
    }

    fn serve(&mut self, node: usize, alteration: Option<Alteration>) {
        match self.nodes[node].asked.take() {
            Some((request, asked, None)) => {
                let answer = self.apply(&request, alteration);
                self.nodes[node].asked = Some((request, asked, Some(answer)));
            }
            served => self.nodes[node].asked = served,
        }
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
        self.nodes[node].campaigner.answered(LockResponse::Unknown, asked, now, wrote);
    }

    fn restart(&mut self, node: usize, same: bool) {
        if let Some((request, _, None)) = self.nodes[node].asked.take() {
            self.late.push(request);
        }
        let life = self.nodes[node].life + u32::from(!same);
        let campaigner = self.campaigner(node, life);
        let rate = self.nodes[node].rate;
        self.nodes[node] = Node { campaigner, life, rate, asked: None };
    }

    pub fn step(&mut self, step: &Step) {
        match *step {
            Step::Pass(millis) => self.time += millis,
            Step::Ask(node) => self.ask(node),
            Step::Serve(node) => self.serve(node, None),
            Step::LockResponse(node) => self.answer(node),
            Step::Round(node) => self.round(node, None),
            Step::Altered(node, alteration) => self.round(node, Some(alteration).filter(|_| self.rules.alterations)),
            Step::ServeAltered(node, alteration) => {
                let alters = self.rules.alterations && !alteration.lets_others_in();
                self.serve(node, Some(alteration).filter(|_| alters));
            }
            Step::GiveUp(node) => self.give_up(node),
            Step::LateWrite(number) => {
                if !self.late.is_empty() {
                    let request = self.late.swap_remove(number % self.late.len());
                    self.apply(&request, None);
                }
            }
            Step::Hear(node, number) => {
                let version = self.history[number % self.history.len()].clone();
                let now = self.now(node);
                self.nodes[node].campaigner.heard(version, now);
            }
            Step::Crash(node, same) if self.may_start() => self.restart(node, same),
            Step::Crash(..) => {}
            Step::Resign(node) => {
                let now = self.now(node);
                self.nodes[node].campaigner.resign(now);
            }
            Step::Delete => {
                let everybody_knows = self.nodes.iter().all(|node| node.campaigner.holder().is_some());
                if self.rules.deletions && everybody_knows && self.lock.take().is_some() {
                    self.history.push(None);
                    let lease = u64::try_from(self.timing.lease_duration.as_millis()).unwrap();
                    self.vanished_until = self.time + lease * 2;
                }
            }
        }
    }

    /// Who starts anew has seen nothing vanish.
    fn may_start(&self) -> bool {
        self.time >= self.vanished_until
    }

    pub fn round(&mut self, node: usize, alteration: Option<Alteration>) {
        self.ask(node);
        self.serve(node, alteration);
        self.answer(node);
        let finished = self.nodes[node].campaigner.next(self.now(node), Timestamp::UNIX_EPOCH) == Action::Finish;
        if finished && self.may_start() {
            self.restart(node, true);
        }
    }

    /// The faults stop: what is on its way is lost, and everybody is served from now on. One leads in the end.
    pub fn settle(&mut self) -> Result<(), TestCaseError> {
        for node in 0..self.nodes.len() {
            self.give_up(node);
        }
        let lease = u64::try_from(self.timing.lease_duration.as_millis()).unwrap();
        let end = self.time + 3 * lease + 30_000;
        while self.time < end {
            self.time += 150;
            for node in 0..self.nodes.len() {
                self.round(node, None);
            }
            let leaders = self.leaders();
            prop_assert!(leaders.len() <= 1, "at {} ms: {leaders:?} lead", self.time);
        }
        prop_assert_eq!(self.leaders().len(), 1, "one leads: {:?}", self.lock);
        Ok(())
    }

    pub fn leaders(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].campaigner.leads(self.now(*node))).collect()
    }
}
