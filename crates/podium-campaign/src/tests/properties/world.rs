//! The world of the properties: campaigners, the lock, requests in flight, and steps.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;

use super::super::*;

/// A step. Numbers choose a campaigner.
#[derive(Clone, Debug)]
pub enum Step {
    /// Time passes, in milliseconds: a pause for every campaigner without a step in between.
    Pass(u64),
    /// The campaigner decides and sends its request.
    Ask(usize),
    /// The server applies the request and sends the response.
    Serve(usize),
    /// The response arrives.
    LockResponse(usize),
    /// The three steps above.
    Round(usize),
    /// The same with an altered write.
    Altered(usize, Alteration),
    /// The server stores an altered write and sends the response.
    ServeAltered(usize, Alteration),
    /// The request times out. It may be applied later.
    GiveUp(usize),
    /// A write that timed out is applied.
    LateWrite(usize),
    /// The watch delivers a former version of the lock, or its deletion.
    Hear(usize, usize),
    /// The process is killed, and starts again with another identity or its own.
    Crash(usize, bool),
    /// The process steps down, releases, and starts again.
    Resign(usize),
    /// The lock is deleted.
    Delete,
    /// The process is nominated, or no longer.
    Nominate(usize, bool),
    /// The process reads whether it is nominated.
    ReadNomination(usize),
    /// The work of a process that does not lead has ended.
    Stopped(usize),
    /// Somebody creates the lock blank, or empties it without the mark of a release.
    Blank,
    /// Somebody writes another holder or a short duration into the lock.
    Edit(Alteration),
}

/// A change of a record by an admission policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alteration {
    /// Keeps the former record.
    Keep,
    /// Keeps or drops the renew time.
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

    /// Returns whether the others may acquire the lock before the deadline of the last renewal. The leader learns that from the response,
    /// so these writes are answered at once.
    fn lets_others_in(self) -> bool {
        matches!(self, DropHolder | AnotherHolder | Shorter)
    }
}

/// The faults in addition to lost responses, late writes, pauses and crashes.
#[derive(Clone, Copy, Default)]
pub struct Rules {
    pub deletions: bool,
    pub alterations: bool,
    /// Two of the three have the same identity, and neither resumes.
    pub twins: bool,
    /// Processes are nominated, any number at any time. Work goes on after the lead until it is stopped or its deadline. The lock is
    /// deleted, created and edited at any time.
    pub nominated: bool,
}

type Request = Action<()>;

struct Node {
    campaigner: Campaigner<()>,
    life: u32,
    /// In percent of true time.
    rate: u64,
    /// The request, when it was sent, and the response once the server has applied it.
    asked: Option<(Request, Moment, Option<LockResponse<()>>)>,
    /// The deadline of its work, which its watchdog enforces. It survives the process.
    works_until: Option<Moment>,
}

pub struct World {
    /// True time, in milliseconds.
    pub time: u64,
    timing: Timing,
    lock: Option<LockState<()>>,
    revision: u64,
    history: Vec<Option<LockState<()>>>,
    nodes: Vec<Node>,
    nominees: Vec<bool>,
    late: Vec<Request>,
    rules: Rules,
    /// A process may lead on a deleted lock until this time. One that starts in between cannot know that.
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
            nominees: vec![true; rates.len()],
            late: Vec::new(),
            rules,
            vanished_until: 0,
            asks: 0,
        };
        for (node, rate) in rates.iter().enumerate() {
            let campaigner = world.campaigner(node, 0);
            world.nodes.push(Node { campaigner, life: 0, rate: *rate, asked: None, works_until: None });
        }
        world
    }

    fn campaigner(&self, node: usize, life: u32) -> Campaigner<()> {
        let names = if self.rules.twins { ["a", "a", "c"] } else { ["a", "b", "c"] };
        let identity = format!("{}-{life}", names[node]);
        let Rules { twins, nominated, .. } = self.rules;
        let resumes = !twins && !nominated;
        let settings = CampaignConfig { timing: self.timing, resumes, nominated, ..CampaignConfig::new(identity) };
        Campaigner::new(settings, Duration::from_micros(1))
    }

    fn now(&self, node: usize) -> Moment {
        Moment::after(Duration::from_micros(self.time * 10 * self.nodes[node].rate))
    }

    /// The wall clock stands still, because safety must not depend on it. It advances only where records must differ: with a duplicate
    /// identity, or if a policy drops the renew time.
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
        node.campaigner.set_works(node.works_until.is_some_and(|until| now < until));
        let request = node.campaigner.next(now, wall);
        if node.asked.is_none() && !matches!(request, Action::Wait(_) | Action::Finish) {
            node.asked = Some((request, now, None));
        }
    }

    /// The API server: compare-and-swap by UID and revision. A write without a change makes no revision.
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
            _ => return LockResponse::Rejected,
        }
        self.history.push(self.lock.clone());
        self.lock.clone().map_or(LockResponse::Rejected, LockResponse::Written)
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
                self.nodes[node].campaigner.on_response(answer, asked, now, wrote(&request));
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
        self.nodes[node].campaigner.on_response(LockResponse::Unknown, asked, now, wrote);
    }

    fn restart(&mut self, node: usize, same: bool) {
        if let Some((request, _, None)) = self.nodes[node].asked.take() {
            self.late.push(request);
        }
        let life = self.nodes[node].life + u32::from(!same);
        let campaigner = self.campaigner(node, life);
        let Node { rate, works_until, .. } = self.nodes[node];
        self.nodes[node] = Node { campaigner, life, rate, asked: None, works_until };
    }

    pub fn step(&mut self, step: &Step) {
        self.take(step);
        self.work();
    }

    /// Starts work where a process leads, and ends it at its deadline.
    fn work(&mut self) {
        for node in 0..self.nodes.len() {
            let now = self.now(node);
            let Node { campaigner, works_until, .. } = &mut self.nodes[node];
            *works_until = works_until.filter(|until| now < *until);
            if campaigner.leads(now) {
                *works_until = campaigner.leads_until();
            }
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Pass(millis) => self.time += millis,
            Step::Ask(node) => self.ask(node),
            Step::Serve(node) => self.serve(node, None),
            Step::LockResponse(node) => self.answer(node),
            Step::Round(node) => self.round(node, None),
            Step::Altered(node, alteration) => self.round(node, Some(alteration).filter(|_| self.rules.alterations)),
            Step::ServeAltered(node, alteration) => {
                let alters = self.rules.alterations && (self.rules.nominated || !alteration.lets_others_in());
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
                self.nodes[node].campaigner.on_change(version, now);
            }
            Step::Crash(node, same) if self.may_start() => self.restart(node, same),
            Step::Crash(..) => {}
            Step::Resign(node) => {
                let now = self.now(node);
                // All work has ended by then.
                self.nodes[node].works_until = None;
                self.nodes[node].campaigner.resign(now);
            }
            Step::Nominate(node, is_nominated) => self.nominees[node] = is_nominated,
            Step::ReadNomination(node) => self.read_nomination(node),
            Step::Stopped(node) => {
                if !self.nodes[node].campaigner.leads(self.now(node)) {
                    self.nodes[node].works_until = None;
                }
            }
            Step::Blank if self.rules.nominated && (self.rules.deletions || self.lock.is_none()) => self.blank(),
            Step::Edit(alteration) if self.rules.nominated && self.rules.deletions => self.edit(alteration),
            Step::Blank | Step::Edit(_) => {}
            Step::Delete if self.rules.nominated => {
                if self.rules.deletions && self.lock.take().is_some() {
                    self.history.push(None);
                }
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

    /// The lock without a holder and without the mark of a release: of a new object if there is none.
    fn blank(&mut self) {
        self.revision += 1;
        let version = ObjectVersion { uid: format!("u{}", self.revision), resource_version: self.revision.to_string() };
        let (record, parts) = (LeaderElectionRecord::default(), Vec::new());
        let lock = self.lock.get_or_insert(LockState { record, version, claimed_by: None, parts, object: () });
        lock.record = LeaderElectionRecord::default();
        lock.version.resource_version = self.revision.to_string();
        self.history.push(self.lock.clone());
    }

    /// A new lock that is free at once.
    pub fn release(&mut self) {
        self.blank();
        let lock = self.lock.as_mut().expect("a lock");
        lock.record.released_by = Some("nobody".into());
    }

    fn edit(&mut self, alteration: Alteration) {
        let Some(lock) = &mut self.lock else { return };
        self.revision += 1;
        lock.record = LeaderElectionRecord { released_by: None, ..alteration.of(&lock.record, &lock.record) };
        lock.version.resource_version = self.revision.to_string();
        self.history.push(self.lock.clone());
    }

    fn read_nomination(&mut self, node: usize) {
        let now = self.now(node);
        if self.rules.nominated {
            self.nodes[node].campaigner.nominate(self.nominees[node], now);
        }
    }

    /// A process that starts has not observed a deletion.
    fn may_start(&self) -> bool {
        self.time >= self.vanished_until
    }

    pub fn round(&mut self, node: usize, alteration: Option<Alteration>) {
        self.ask(node);
        self.serve(node, alteration);
        self.answer(node);
        self.read_nomination(node);
        let finished = self.nodes[node].campaigner.next(self.now(node), Timestamp::UNIX_EPOCH) == Action::Finish;
        if finished && self.may_start() {
            self.restart(node, true);
        }
    }

    /// Ends the faults: requests in flight are lost, and all later ones are served. One campaigner leads in the end.
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

    /// The processes that lead, and those whose work goes on.
    pub fn working(&self) -> Vec<usize> {
        let works = |node: &usize| self.nodes[*node].works_until.is_some_and(|until| self.now(*node) < until);
        (0..self.nodes.len()).filter(works).collect()
    }

    /// Ends the faults, nominates one process only, and blanks a missing lock. That process leads in the end, unless it is the only one
    /// of its identity that an edit names.
    pub fn settle_on(&mut self, nominee: usize) -> Result<(), TestCaseError> {
        for node in 0..self.nodes.len() {
            self.give_up(node);
        }
        if self.lock.is_none() {
            self.blank();
        }
        let lease = u64::try_from(self.timing.lease_duration.as_millis()).unwrap();
        // An edit may have made the duration of the holder longer by 5 s each time.
        let longest = self
            .lock
            .as_ref()
            .map_or(0, |lock| u64::try_from(lock.record.lease_duration(Duration::ZERO).as_millis()).unwrap());
        let end = self.time + 3 * lease.max(longest) + 30_000;
        while self.time < end {
            self.time += 150;
            for node in 0..self.nodes.len() {
                self.step(&Step::Nominate(node, node == nominee));
                self.step(&Step::Stopped(node));
                self.step(&Step::Round(node));
            }
            let working = self.working();
            prop_assert!(working.len() <= 1, "at {} ms: {working:?} work", self.time);
        }
        prop_assert_eq!(self.leaders(), [nominee], "the nominated one leads: {:?}", self.lock);
        Ok(())
    }
}
