//! Wrong clocks of kubelets, missing times, and a wall clock of the controller that jumps: from the watch to the plan.

use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::*;
use crate::controller::key::Scope;
use crate::election::decide;
use crate::election::plan::{LeaseWrite, Then};

/// Both delays, in seconds.
const DELAY: i64 = 30;

/// A machine: caches with a watch, and a settable wall clock.
struct Machine {
    world: World,
    wall: Arc<Mutex<SignedDuration>>,
    began: Instant,
    revision: i64,
}

impl Machine {
    fn new() -> Self {
        Self::since(Instant::now())
    }

    /// A machine whose clock began at `began`.
    fn since(began: Instant) -> Self {
        let wall: Arc<Mutex<SignedDuration>> = Arc::default();
        let clock = {
            let wall = wall.clone();
            Arc::new(move || time(began, *wall.lock().unwrap()))
        };
        let mut machine = Self { world: World::new(&Scope::Cluster, clock), wall, began, revision: 100 };
        for kind in Kind::ALL {
            machine.world.watched(kind, None, Event::Init);
            machine.world.watched(kind, None, Event::InitDone);
        }
        let spec = |object: &mut Value| {
            object["spec"]["minReadySeconds"] = DELAY.into();
            object["spec"]["failoverDelaySeconds"] = DELAY.into();
            object["spec"]["whenNoneEligible"] = "Retain".into();
        };
        apply(&mut machine.world, election("web", 10, spec));
        machine
    }

    /// The true time this long ago. Negative: clocks of kubelets are ahead.
    fn ago(&self, seconds: i64) -> Value {
        time(self.began, SignedDuration::from_secs(-seconds)).to_string().into()
    }

    /// The watch delivers a pod with these conditions.
    fn pod(&mut self, name: &str, conditions: Value) {
        self.revision += 1;
        let object = pod(name, self.revision, |object| {
            object["status"]["conditions"] = conditions;
            // Observed after its term began.
            object["metadata"]["annotations"] = json!({ names::claim("web"): "20" });
        });
        apply(&mut self.world, object);
    }

    fn ready(&mut self, name: &str, status: &str, transitioned: Value) {
        self.pod(name, json!([{ "type": "Ready", "status": status, "lastTransitionTime": transitioned }]));
    }

    /// `a` leads, and has been Ready for a long time.
    fn led(&mut self) -> Value {
        let long_ago = self.ago(3_600);
        self.ready("a", "True", long_ago.clone());
        self.ready("b", "True", long_ago.clone());
        apply(&mut self.world, lease("web", 50, "a", 20));
        long_ago
    }

    fn jump(&self, seconds: i64) {
        *self.wall.lock().unwrap() += SignedDuration::from_secs(seconds);
    }

    /// Seconds until a term begins, if the controller waits as the decisions request. The wall clock jumps by `jump` after
    /// each.
    async fn begins(&self, jump: i64) -> i64 {
        let began = Instant::now();
        for _ in 0..4 {
            let (snapshot, _) = self.world.snapshot(&key("web"), Consulted::default()).unwrap();
            let now = time(self.began, *self.wall.lock().unwrap());
            let plan = decide(&snapshot, now);
            if let Some(LeaseWrite::Create | LeaseWrite::Elect { .. }) = plan.lease {
                return i64::try_from(began.elapsed().as_secs()).unwrap();
            }
            let Then::RequeueAfter(wait) = plan.then else { panic!("{plan:#?}") };
            self.jump(jump);
            tokio::time::sleep(Duration::try_from(wait).unwrap()).await;
        }
        panic!("a delay that does not end");
    }
}

fn time(began: Instant, off: SignedDuration) -> Timestamp {
    let elapsed = SignedDuration::try_from(began.elapsed()).unwrap();
    (Timestamp::from_second(1_800_000_000).unwrap() + elapsed).checked_add(off).unwrap()
}

/// Jumps of the controller's wall clock during a delay.
const JUMPS: [i64; 5] = [0, 3_600, -3_600, 1_000_000_000, -1_000_000_000];

/// Possible reports of a change by a kubelet, and the rest of the delay when the controller observes them.
fn reports(machine: &Machine, before: &Value) -> Vec<(&'static str, Value, i64)> {
    vec![
        ("in time", machine.ago(0), DELAY),
        ("seen late", machine.ago(20), DELAY - 20),
        ("seen too late", machine.ago(60), 0),
        ("missing", Value::Null, DELAY),
        ("unreadable", "+10000-01-01T00:00:00Z".into(), DELAY),
        ("unchanged", before.clone(), DELAY),
        ("before the change before", machine.ago(7_200), DELAY),
        ("a little ahead", machine.ago(-1), DELAY),
        ("far ahead", machine.ago(-300), DELAY),
        ("at the end of time", "9999-12-31T23:59:59Z".into(), DELAY),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_failover_delay_is_never_longer_than_its_setting_and_never_void() {
    let count = reports(&Machine::new(), &Value::Null).len();
    for (number, jump) in (0..count).flat_map(|number| JUMPS.map(|jump| (number, jump))) {
        let mut machine = Machine::new();
        let before = machine.led();
        let (what, transitioned, left) = reports(&machine, &before).swap_remove(number);
        machine.ready("a", "False", transitioned);
        assert_eq!(machine.begins(jump).await, left, "{what}, the clock jumps by {jump} s");
    }
}

#[tokio::test(start_paused = true)]
async fn min_ready_seconds_are_never_longer_than_their_setting_and_never_void() {
    let count = reports(&Machine::new(), &Value::Null).len();
    for (number, jump) in (0..count).flat_map(|number| JUMPS.map(|jump| (number, jump))) {
        let mut machine = Machine::new();
        apply(&mut machine.world, lease("web", 50, "b", 20));
        let before = machine.ago(3_600);
        machine.ready("b", "False", before.clone());
        machine.ready("a", "False", before.clone());
        let (what, transitioned, left) = reports(&machine, &before).swap_remove(number);
        machine.ready("a", "True", transitioned);
        assert_eq!(machine.begins(jump).await, left, "{what}, the clock jumps by {jump} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_does_not_begin_a_delay_again() {
    let mut first = Machine::new();
    first.led();
    let reported = first.ago(0);
    first.ready("a", "False", reported.clone());
    tokio::time::sleep(Duration::from_secs(20)).await;
    let mut second = Machine::since(first.began);
    // The first list only shows the current state.
    let long_ago = second.ago(3_600);
    second.ready("b", "True", long_ago);
    apply(&mut second.world, lease("web", 50, "a", 20));
    second.ready("a", "False", reported);
    assert_eq!(second.begins(0).await, 10);
}

#[tokio::test(start_paused = true)]
async fn a_time_that_is_written_anew_with_each_update_does_not_keep_a_delay_from_ending() {
    let mut machine = Machine::new();
    machine.led();
    for _ in 0..3 {
        let now = machine.ago(0);
        machine.ready("a", "False", now);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(machine.begins(0).await, DELAY - 15);
    let mut machine = Machine::new();
    machine.led();
    for status in ["False", "Unknown", "False"] {
        let now = machine.ago(0);
        machine.ready("a", status, now);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(machine.begins(0).await, DELAY - 15, "the leader has not been Ready meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_is_lost_is_not_true_since_its_loss_was_seen() {
    let mut machine = Machine::new();
    let before = machine.led();
    machine.pod("a", json!([]));
    tokio::time::sleep(Duration::from_secs(10)).await;
    machine.pod("a", json!([{ "type": "PodScheduled", "status": "True" }]));
    assert_eq!(machine.begins(0).await, DELAY - 10);
    // It returns as it was: a change whose time did not advance.
    machine.ready("a", "True", before.clone());
    machine.ready("a", "False", before);
    assert_eq!(machine.begins(0).await, DELAY);
}
