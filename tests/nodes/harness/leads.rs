//! Who carried the leader's label when, and what a client of the Service noticed of it.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, WatchParams};
use kube::{Api, ResourceExt};
use podium_test_support::recorder::{EventType, follow_metadata, position};
use tokio::task::JoinHandle;

use super::World;
use super::poller::{Answer, gap};

/// The API server tells the test of a label no sooner than kube-proxy, which may be quicker by what a busy machine delays the test.
const LATE: f64 = 1000.0;

/// Selects the labeled pods.
const LABEL: &str = "leader=true";

/// The time in milliseconds since 1970, as in the answers.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs_f64() * 1000.0
}

/// One pod's time with the label, in milliseconds since 1970, as the test heard of it.
#[derive(Clone, Debug)]
pub struct Lead {
    /// The pod.
    pub pod: String,
    /// When it got the label.
    pub since: f64,
    /// When it lost the label, or was gone.
    pub until: Option<f64>,
}

/// A record of the label `leader=true` in a namespace. It ends when this is dropped.
pub struct Leads {
    seen: Arc<Mutex<Vec<Lead>>>,
    watch: JoinHandle<()>,
}

impl Drop for Leads {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl World {
    /// Records who carries the label from now on. Nobody may have it yet.
    pub async fn record_leads(&self) -> Leads {
        let pods: Api<Pod> = self.api();
        let from = position(&pods, &ListParams::default().labels(LABEL), true).await;
        let seen = Arc::<Mutex<Vec<Lead>>>::default();
        Leads { watch: tokio::spawn(follow(pods, from, seen.clone())), seen }
    }
}

async fn follow(pods: Api<Pod>, from: String, seen: Arc<Mutex<Vec<Lead>>>) {
    // To the API server a pod that loses the label is deleted from those that have it.
    let gap = follow_metadata(pods, WatchParams::default().labels(LABEL), from, |pod, event| {
        let now = now();
        let mut seen = seen.lock().expect("no panic");
        let pod = pod.name_any();
        let lead = seen.iter_mut().rev().find(|lead| lead.pod == pod);
        if event == EventType::Deleted {
            lead.expect("the pod was labeled").until = Some(now);
        } else if lead.is_none_or(|lead| lead.until.is_some()) {
            seen.push(Lead { pod, since: now, until: None });
        }
    });
    panic!("the record of the label has a gap: {}", gap.await);
}

impl Leads {
    /// All so far, in their order.
    pub fn all(&self) -> Vec<Lead> {
        assert!(!self.watch.is_finished(), "the record of the label ended");
        self.seen.lock().expect("no panic").clone()
    }

    /// Waits until a pod leads that satisfies this.
    pub async fn leader(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        super::waiting::eventually_within(std::time::Duration::from_secs(120), &format!("{what} leads"), async || {
            let all = self.all();
            match all.last() {
                Some(last) if last.until.is_none() && is(&last.pod) => Ok(last.pod.clone()),
                _ => Err(format!("{all:?}")),
            }
        })
        .await
    }
}

/// What a client noticed of one change of the leader. All in milliseconds.
#[derive(Debug)]
pub struct Change {
    /// From the cause to the new leader's label.
    pub label: f64,
    /// From the cause to the new leader's first answer.
    pub served: f64,
    /// The longest time without any answer, from the cause on.
    pub gap: f64,
    /// How many questions failed since then.
    pub failed: usize,
    /// How long after it had lost the label the former leader was still asked: until kube-proxy had followed. Negative where its last answer came before.
    pub followed: f64,
}

/// Judges the answers of a client by who led: what it noticed of the last change, whose cause came at `cause`.
///
/// # Panics
/// If one is wrong: given by a pod that had not been labelled by then, or by a former leader after its successor had answered.
pub fn judge(answers: &[Answer], leads: &[Lead], cause: f64) -> Change {
    let wrong = wrong(answers, leads);
    assert!(wrong.is_empty(), "{} wrong answers, such as {:?}, with leaders {leads:?}", wrong.len(), wrong[0]);
    let [.., former, new] = leads else { panic!("the leader did not change: {leads:?}") };
    let by = |lead: &Lead| {
        let (pod, since) = (lead.pod.clone(), lead.since - LATE);
        answers.iter().filter(move |answer| answer.from.as_deref() == Ok(pod.as_str()) && answer.known >= since)
    };
    let first = by(new).map(|answer| answer.known).fold(f64::INFINITY, f64::min);
    let last = by(former).filter(|answer| answer.asked < first).map(|answer| answer.known).fold(f64::NAN, f64::max);
    let since: Vec<Answer> = answers.iter().filter(|answer| answer.known >= cause).cloned().collect();
    let failed = since.iter().filter(|answer| answer.from.is_err()).count();
    let until = former.until.expect("it leads no more");
    Change { label: new.since - cause, served: first - cause, gap: gap(&since), failed, followed: last - until }
}

/// The answers that no client should have got.
pub fn wrong<'a>(answers: &'a [Answer], leads: &[Lead]) -> Vec<&'a Answer> {
    let mut wrong = Vec::new();
    // Which of the leads has answered last.
    let mut reached = 0;
    for answer in answers {
        let Ok(from) = &answer.from else { continue };
        let due = |lead: &Lead| lead.pod == *from && lead.since <= answer.known + LATE;
        match leads[reached..].iter().position(due) {
            Some(further) => reached += further,
            None => wrong.push(answer),
        }
    }
    wrong
}

impl Change {
    /// One line of the table of figures, which `tests/nodes/run` prints.
    pub fn print(&self, cause: &str) {
        println!(
            "FIGURE {cause}: label after {:.0} ms, first answer by the new leader after {:.0} ms; the longest time without an answer {:.0} ms, \
             {} failed; kube-proxy followed the label after {:.0} ms; 0 wrong answers",
            self.label, self.served, self.gap, self.failed, self.followed,
        );
    }
}

/// Waits until the client is answered by this pod, and by no other.
pub async fn answered_by(poller: &super::poller::Poller<'_>, pod: &str) -> Vec<Answer> {
    poller.lately(100, &format!("come from {pod}"), |answer| answer.from.as_deref() == Ok(pod)).await
}

#[test]
fn answers_are_judged_by_the_leader_of_that_time() {
    let lead = |pod: &str, since, until| Lead { pod: pod.into(), since, until };
    let leads = [lead("a", 0.0, Some(5000.0)), lead("b", 5010.0, Some(9000.0)), lead("a", 9010.0, None)];
    let answer = |at, from: &str| Answer { asked: at, known: at + 1.0, from: Ok(from.into()) };
    let judged = |answers: &[Answer]| wrong(answers, &leads).iter().map(|wrong| wrong.asked).collect::<Vec<_>>();
    let good = [answer(100.0, "a"), answer(5050.0, "a"), answer(5200.0, "b"), answer(9050.0, "b"), answer(9100.0, "a")];
    assert_eq!(judged(&good), [0.0; 0], "late, but kube-proxy has not followed yet");
    assert_eq!(judged(&[answer(100.0, "a"), answer(5200.0, "b"), answer(5300.0, "a")]), [5300.0], "it was over");
    assert_eq!(judged(&[answer(100.0, "b")]), [100.0], "not yet");
    assert_eq!(judged(&[answer(100.0, "c")]), [100.0], "never");
    let change = judge(&[good[0].clone(), good[1].clone(), good[2].clone()], &leads[..2], 4900.0);
    assert_eq!((change.label, change.served, change.gap, change.followed), (110.0, 301.0, 150.0, 51.0));
}
