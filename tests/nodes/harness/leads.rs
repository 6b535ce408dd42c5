//! Holders of the leader's label over time, and their effect on a client of the Service.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, WatchParams};
use kube::{Api, ResourceExt};
use podium_test_support::recorder::{EventType, follow_metadata, position};
use tokio::task::JoinHandle;

use super::World;
use super::poller::{Answer, gap};

/// The API server notifies the test no sooner than kube-proxy, which may be ahead by the delay of a busy machine.
const LATE: f64 = 1000.0;

/// The time in milliseconds since 1970, as in [`Answer`].
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs_f64() * 1000.0
}

/// One pod's time with the label, in milliseconds since 1970, as observed by the test.
#[derive(Clone, Debug)]
pub struct Lead {
    pub pod: String,
    /// Time of labeling.
    pub since: f64,
    /// Time when it lost the label, or was deleted.
    pub until: Option<f64>,
}

/// A record of a leader's label in a namespace, until dropped.
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
    /// Starts to record the label `leader=true`. No pod may have it yet.
    pub async fn record_leads(&self) -> Leads {
        self.record_leads_by("leader").await
    }

    /// Starts to record the value `true` of a label. No pod may have it yet.
    pub async fn record_leads_by(&self, key: &str) -> Leads {
        let (pods, label): (Api<Pod>, _) = (self.api(), format!("{key}=true"));
        let from = position(&pods, &ListParams::default().labels(&label), true).await;
        let seen = Arc::<Mutex<Vec<Lead>>>::default();
        Leads { watch: tokio::spawn(follow(pods, label, from, seen.clone())), seen }
    }
}

async fn follow(pods: Api<Pod>, label: String, from: String, seen: Arc<Mutex<Vec<Lead>>>) {
    // For this selector, a pod without the label is deleted.
    let gap = follow_metadata(pods, WatchParams::default().labels(&label), from, |pod, event| {
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
    /// All so far, in order.
    pub fn all(&self) -> Vec<Lead> {
        assert!(!self.watch.is_finished(), "the record of the label ended");
        self.seen.lock().expect("no panic").clone()
    }

    /// Waits until a pod that satisfies this leads.
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

/// Effects of one leader change on a client, in milliseconds.
#[derive(Debug)]
pub struct Change {
    /// From cause to new label.
    pub label: f64,
    /// From the cause to the new leader's first response.
    pub served: f64,
    /// Longest time without a response since the cause.
    pub gap: f64,
    /// Number of failed requests since then.
    pub failed: usize,
    /// Time from the loss of the label to the former leader's last response: kube-proxy's delay. Negative if that came
    /// before.
    pub followed: f64,
}

/// Judges a client's responses by the leaders at the time. Returns the effects of the last change, caused at `cause`.
///
/// # Panics
/// If a response is wrong: from a pod not yet labeled, or from a former leader after its successor responded.
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

/// Returns responses that no client should get. `answers` are in the order of their arrival.
pub fn wrong<'a>(answers: &'a [Answer], leads: &[Lead]) -> Vec<&'a Answer> {
    let mut wrong = Vec::new();
    // The latest leader that has responded, and when its first response arrived.
    let (mut reached, mut since) = (0, f64::NEG_INFINITY);
    for answer in answers {
        let Ok(from) = &answer.from else { continue };
        let due = |lead: &Lead| lead.pod == *from && lead.since <= answer.known + LATE;
        // Two requests under way at once have no order.
        let overlaps = || answer.asked < since && leads[..reached].iter().any(|lead| lead.pod == *from);
        match leads[reached..].iter().position(due) {
            Some(0) => {}
            Some(further) => (reached, since) = (reached + further, answer.known),
            None if overlaps() => {}
            None => wrong.push(answer),
        }
    }
    wrong
}

impl Change {
    /// Prints a table row for `tests/nodes/run`.
    pub fn print(&self, cause: &str) {
        println!(
            "FIGURE {cause}: label after {:.0} ms, first answer by the new leader after {:.0} ms; the longest time without an answer {:.0} ms, \
             {} failed; kube-proxy followed the label after {:.0} ms; 0 wrong answers",
            self.label, self.served, self.gap, self.failed, self.followed,
        );
    }
}

/// Waits until only this pod responds to the client.
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
    let both = [answer(5200.0, "b"), answer(5200.5, "a")];
    assert_eq!(judged(&both), [0.0; 0], "both were under way while kube-proxy followed");
    assert_eq!(judged(&[both[0].clone(), answer(5201.5, "a")]), [5201.5], "asked after the successor's response");
    assert_eq!(judged(&[answer(100.0, "b")]), [100.0], "not yet");
    assert_eq!(judged(&[answer(100.0, "c")]), [100.0], "never");
    let change = judge(&[good[0].clone(), good[1].clone(), good[2].clone()], &leads[..2], 4900.0);
    assert_eq!((change.label, change.served, change.gap, change.followed), (110.0, 301.0, 150.0, 51.0));
}
