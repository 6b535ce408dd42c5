//! Preemption over a long time: random histories of readiness, scores and settings, with the controller's memory.

use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::controller::outranking::OutrankingPods;
use crate::election::fixtures::{self, PerfectServer, held_by};
use crate::election::plan::{LeaseWrite, Then};
use crate::election::snapshot::Pod;
use crate::lease::cause::Cause;
use crate::lease::record::Content;

const PODS: usize = 4;

#[derive(Clone, Debug)]
enum Event {
    /// A pod's readiness changes.
    Flip(usize),
    /// It changes twice before the controller decides.
    Flap(usize),
    /// The score of a pod changes.
    Score(usize, i64),
    /// `spec.preemption.policy` becomes PreferHigher or Never.
    Preempts(bool),
    Suspend(bool),
    /// The controller starts anew.
    Restart,
    /// Something irrelevant wakes the controller.
    Wake,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..PODS).prop_map(Event::Flip),
        2 => (0..PODS).prop_map(Event::Flap),
        8 => (0..PODS, 0..3_i64).prop_map(|(pod, score)| Event::Score(pod, score)),
        4 => prop::bool::weighted(0.6).prop_map(Event::Preempts),
        1 => prop::bool::weighted(0.3).prop_map(Event::Suspend),
        1 => Just(Event::Restart),
        2 => Just(Event::Wake),
    ]
}

/// Events, each with the seconds before it.
fn any_history() -> impl Strategy<Value = Vec<(i64, Event)>> {
    prop::collection::vec((0..40_i64, any_event()), 0..80)
}

/// A change of leader.
#[derive(Clone, Debug)]
struct Change {
    second: i64,
    to: Option<String>,
    cause: Cause,
}

/// A controller in virtual time, with a server that never fails.
struct History {
    began: Instant,
    second: i64,
    world: Snapshot,
    server: PerfectServer,
    memory: OutrankingPods,
    /// When each pod last became Ready or NotReady.
    flipped: [i64; PODS],
    /// Since when each pod outranks the leader, seen from outside.
    since: [Option<i64>; PODS],
    /// Since when the controller runs with PreferHigher.
    preempts_since: i64,
    changes: Vec<Change>,
    delay: i64,
}

fn name(pod: usize) -> String {
    format!("p{pod}")
}

impl History {
    /// `p0` leads. All pods are Ready and have the same score.
    fn new(delay: i64) -> Self {
        let mut world = fixtures::world(held_by("p0", 90, [])).with(|world| {
            world.pods = (0..PODS).map(|pod| fixtures::pod(&name(pod))).collect();
            world.pods[0] = fixtures::pod("p0").labeled().term(90);
        });
        set_preempts(&mut world, Some(delay));
        let (server, memory) = (PerfectServer::new(), OutrankingPods::default());
        let (flipped, since, changes) = ([0; PODS], [None; PODS], Vec::new());
        let began = Instant::now();
        Self { began, second: 0, world, server, memory, flipped, since, preempts_since: 0, changes, delay }
    }

    fn settings(&mut self) -> &mut crate::election::snapshot::Settings {
        self.world.election.settings.as_mut().unwrap()
    }

    fn leader(&self) -> Option<&Pod> {
        let Content::Term(record) = &self.world.lease.as_ref().unwrap().content else { return None };
        self.world.pod(&record.holder.as_ref()?.uid)
    }

    /// Looks from outside which pods outrank the leader.
    fn compare(&mut self) {
        let leader = self.leader().filter(|leader| leader.ready).map(|leader| (leader.id.clone(), leader.score));
        for (pod, since) in self.world.pods.iter().zip(&mut self.since) {
            let outranks = leader.as_ref().is_some_and(|(id, score)| pod.ready && pod.id != *id && pod.score > *score);
            *since = since.filter(|_| outranks).or_else(|| outranks.then_some(self.second));
        }
    }

    /// Decides until nothing is left to do. Returns the second of the next decision, if no event comes before.
    fn decide(&mut self) -> Option<i64> {
        for _ in 0..20 {
            for (pod, flipped) in self.world.pods.iter_mut().zip(self.flipped) {
                pod.unchanged_for = SignedDuration::from_secs(self.second - flipped);
                pod.transitioned = Some(fixtures::at(flipped));
            }
            let now = self.began + Duration::from_secs(self.second.unsigned_abs());
            self.world.outranking = self.memory.times(&key("web"), &self.world, now);
            let plan = self.world.plan();
            self.memory.note(&key("web"), &plan, now);
            if let Some(LeaseWrite::Elect { record, .. }) = &plan.lease {
                let to = record.holder.as_ref().map(|holder| holder.name.clone());
                self.changes.push(Change { second: self.second, to, cause: record.cause });
            }
            let ends = plan.lease.is_none() && plan.claim.is_none() && plan.label.is_none() && plan.fence.is_empty();
            let then = plan.then.clone();
            self.world = self.server.carry_out(plan, self.world.clone());
            match then {
                Then::Consult(_) | Then::ReadFollowedLease(_) => self.world = self.world.clone().consulted(),
                Then::RequeueAfter(wait) if ends => return Some(self.second + wait.as_secs()),
                Then::AwaitChange if ends => return None,
                Then::RequeueAfter(_) | Then::AwaitChange | Then::DecideAgain => {}
            }
        }
        panic!("no rest at second {}: {:#?}", self.second, self.changes);
    }

    /// Decides, and checks every change of leader and the pods that wait for theirs.
    fn check(&mut self) -> Result<Option<i64>, TestCaseError> {
        self.compare();
        let known = self.changes.len();
        let next = self.decide();
        for number in known..self.changes.len() {
            let Change { second, to, cause } = self.changes[number].clone();
            if cause == Cause::Preempted {
                let pod = self.world.pods.iter().position(|pod| Some(&pod.id.name) == to.as_ref()).unwrap();
                let latest = second - self.delay;
                prop_assert!(self.since[pod].is_some_and(|since| since <= latest), "{pod} outranked too shortly");
                prop_assert!(self.preempts_since <= latest, "before the delay of this controller");
                let before = self.changes[..number].last().map_or(0, |before| before.second);
                prop_assert!(before <= latest, "{second} follows {before}: {:#?}", self.changes);
            }
            self.since = [None; PODS];
        }
        self.compare();
        let settings = self.settings();
        let waits = settings.preempt_after.is_some() && !settings.suspend;
        for since in self.since.into_iter().flatten().filter(|_| waits) {
            let due = since.max(self.preempts_since) + self.delay;
            prop_assert!(self.second < due, "the preemption due at {due} is late: {:#?}", self.changes);
            prop_assert!(next.is_some_and(|next| next <= due), "no decision is planned at {due}");
        }
        Ok(next)
    }

    /// Applies an event.
    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Flip(pod) => {
                self.world.pods[pod].ready ^= true;
                self.flipped[pod] = self.second;
            }
            Event::Flap(pod) => {
                (self.flipped[pod], self.since[pod]) = (self.second, None);
            }
            Event::Score(pod, score) => self.world.pods[pod].score = score,
            Event::Preempts(preempts) => {
                if preempts && self.settings().preempt_after.is_none() {
                    self.preempts_since = self.second;
                }
                let delay = preempts.then_some(self.delay);
                set_preempts(&mut self.world, delay);
            }
            Event::Suspend(suspend) => self.settings().suspend = suspend,
            Event::Restart => (self.memory, self.preempts_since) = (OutrankingPods::default(), self.second),
            Event::Wake => {}
        }
    }
}

fn set_preempts(world: &mut Snapshot, delay: Option<i64>) {
    world.election.settings.as_mut().unwrap().preempt_after = delay.map(SignedDuration::from_secs);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Each preemption comes at least the delay after the last change of leader and after the start of the controller, and by a
    /// pod that has outranked the leader for the delay without interruption. It is not late, either. So changes of leader that
    /// no failure causes are as rare as the delay.
    #[test]
    fn preemptions_are_as_rare_as_the_delay_and_never_early_or_late(delay in 1..60_i64, events in any_history()) {
        let mut history = History::new(delay);
        let mut next = history.check()?;
        for (gap, event) in events {
            let second = history.second + gap;
            while let Some(wake) = next.filter(|next| *next <= second) {
                history.second = wake;
                next = history.check()?;
            }
            history.second = second;
            history.happens(&event);
            next = history.check()?;
        }
        let preempted = history.changes.iter().filter(|change| change.cause == Cause::Preempted).count();
        let preempted = i64::try_from(preempted).unwrap();
        prop_assert!(preempted * delay <= history.second, "{preempted} changes in {} s", history.second);
    }
}

fn preempts(object: &mut Value) {
    object["spec"]["preemption"] = json!({ "policy": "PreferHigher", "delaySeconds": 300 });
}

/// Pod `b` outranks leader `a`, and may replace it after 300 s.
fn outranked() -> Shared<Script> {
    let leads = |object: &mut Value| {
        claimed(object);
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = json!({ names::claim("web"): "40" });
    };
    let higher = |object: &mut Value| {
        claimed(object);
        object["metadata"]["annotations"]["podium.dev/priority"] = "1".into();
    };
    let items = [election("web", 10, preempts), lease("web", 50, "a", 40), pod("a", 45, leads), pod("b", 46, higher)];
    shared(Script::default(), items)
}

/// Reconciles after these seconds. Returns whether that replaced the leader.
async fn replaces(reconciler: &Reconciler, shared: &Shared<Script>, seconds: u64) -> bool {
    tokio::time::advance(Duration::from_secs(seconds)).await;
    reconciler.reconcile(shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    let writes = std::mem::take(&mut *shared.server.writes.lock().unwrap());
    for write in &writes {
        let Write::PatchStatus { patch, .. } = write else { continue };
        let stored = |object: &mut Value| {
            preempts(object);
            object["status"] = patch["status"].clone();
        };
        apply(&mut shared.world(), election("web", 60, stored));
    }
    writes.iter().any(|write| matches!(write, Write::ReplaceLease(_)))
}

#[tokio::test(start_paused = true)]
async fn preemption_waits_for_the_delay_of_this_controller() {
    let (shared, reconciler) = (outranked(), Reconciler::default());
    assert!(!replaces(&reconciler, &shared, 1_000).await, "a controller that starts has observed nothing yet");
    assert!(!replaces(&reconciler, &shared, 299).await);
    // A restart, or another turn as the active replica.
    let reconciler = Reconciler::default();
    assert!(!replaces(&reconciler, &shared, 1).await);
    assert!(!replaces(&reconciler, &shared, 299).await);
    assert!(replaces(&reconciler, &shared, 1).await);
}
