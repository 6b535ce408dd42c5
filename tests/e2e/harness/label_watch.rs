//! A watch of the pods that carry the label `leader`, with the time of each change.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, WatchParams};
use podium_test_support::recorder::{EventType, follow_metadata, position};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::scenario::Scenario;
use super::waiting::eventually;

/// Who is labeled, after each revision of a pod.
type Steps = Vec<(Instant, BTreeSet<String>)>;

/// Watches until it is dropped.
pub struct LabelWatch {
    steps: Arc<Mutex<Steps>>,
    _watch: JoinSet<String>,
}

impl LabelWatch {
    /// Starts the watch before any pod is labeled.
    pub async fn start(world: &Scenario) -> Self {
        let pods = world.api::<Pod>();
        let from = position(&pods, &ListParams::default(), false).await;
        let steps = Arc::<Mutex<Steps>>::default();
        let (into, mut watch) = (steps.clone(), JoinSet::new());
        watch.spawn(follow_metadata(pods, WatchParams::default(), from, move |pod, event| {
            let mut steps = into.lock().expect("no panic");
            let mut labeled = steps.last().map(|(_, labeled)| labeled.clone()).unwrap_or_default();
            let leads = event != EventType::Deleted && pod.labels().get("leader").is_some_and(|value| value == "true");
            match leads {
                true => labeled.insert(pod.name_any()),
                false => labeled.remove(&pod.name_any()),
            };
            steps.push((Instant::now(), labeled));
        }));
        Self { steps, _watch: watch }
    }

    /// Returns the time between the label's removal from one pod and its appearance on the other.
    ///
    /// # Panics
    /// As [`Self::moved`].
    pub async fn gap(&self, from: &str, to: &str) -> Duration {
        let (removed, appeared) = self.moved(from, to).await;
        appeared - removed
    }

    /// Returns when the label was removed from one pod, and when it appeared on the other.
    ///
    /// # Panics
    /// If two pods were labeled at once, or if there was no revision between with none.
    pub async fn moved(&self, from: &str, to: &str) -> (Instant, Instant) {
        let only = |labeled: &BTreeSet<String>, name: &str| labeled.iter().eq([name]);
        let (steps, made) = eventually(&format!("the watch shows the label move from {from} to {to}"), async || {
            let steps = self.steps.lock().expect("no panic").clone();
            let led = steps.iter().position(|(_, labeled)| only(labeled, from));
            let made = led.and_then(|led| Some(led + steps[led..].iter().position(|(_, labeled)| only(labeled, to))?));
            made.map(|made| (steps.clone(), made)).ok_or_else(|| format!("{steps:?}"))
        })
        .await;
        assert!(steps.iter().all(|(_, labeled)| labeled.len() < 2), "two at once: {steps:?}");
        let led = steps[..made].iter().rposition(|(_, labeled)| only(labeled, from)).expect("it was labeled");
        let broken = led + 1;
        assert!(broken < made, "no revision without a label: {steps:?}");
        (steps[broken].0, steps[made].0)
    }
}
