//! Clients in pods that send requests continuously.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::World;
use super::eventually;

/// A pod that requests a URL every few milliseconds, each time on a new connection.
pub struct Poller<'a> {
    world: &'a World,
    pod: String,
    /// Answers to earlier requests do not count.
    since: Option<Timestamp>,
}

/// A response. Times are in milliseconds since 1970, by the machine's only clock.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Time of the request.
    pub asked: f64,
    /// Time of the response or timeout.
    pub known: f64,
    /// Name of the responding pod, or the failure.
    pub from: Result<String, String>,
}

impl World {
    /// Starts a client on this node.
    pub async fn poll(&self, name: &str, node: &str, url: &str) -> Poller<'_> {
        self.create::<Pod>(json!({
            "metadata": { "name": name },
            "spec": {
                "nodeName": node,
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "containers": [{ "name": "main", "image": "localhost/web:test", "args": ["poll", url, "10ms", "2s"] }],
            },
        }))
        .await;
        self.pod_is(name, "True").await;
        Poller { world: self, pod: name.into(), since: None }
    }
}

impl Poller<'_> {
    /// Forgets the answers so far, which would have to be read again and again.
    pub fn forget(&mut self) {
        self.since = Some(Timestamp::now());
    }

    /// The responses so far, in the order of the requests.
    pub async fn answers(&self) -> Vec<Answer> {
        let log = self.world.log_since(&self.pod, self.since).await;
        let mut answers: Vec<_> = log.lines().map(|line| read(line).unwrap_or_else(|| panic!("{line:?}"))).collect();
        let since = self.since.map_or(0.0, |since| since.as_microsecond() as f64 / 1000.0);
        answers.retain(|answer| answer.asked >= since);
        answers.sort_by(|one, other| one.asked.total_cmp(&other.asked));
        answers
    }

    /// Waits until this number of last responses satisfy `such`, and returns all.
    pub async fn lately(&self, number: usize, what: &str, such: impl Fn(&Answer) -> bool) -> Vec<Answer> {
        eventually(&format!("{number} answers {what}"), async || {
            let answers = self.answers().await;
            let last = &answers[answers.len().saturating_sub(number)..];
            if last.len() == number && last.iter().all(&such) { Ok(answers.clone()) } else { Err(format!("{last:?}")) }
        })
        .await
    }
}

impl Answer {
    /// Returns whether it is from this pod.
    pub fn is_from(&self, pod: &Pod) -> bool {
        self.from.as_ref().is_ok_and(|name| *name == pod.name_any())
    }
}

/// Longest time between two successful responses, in milliseconds.
pub fn gap(answers: &[Answer]) -> f64 {
    let mut good: Vec<f64> = answers.iter().filter(|answer| answer.from.is_ok()).map(|answer| answer.known).collect();
    good.sort_by(f64::total_cmp);
    good.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
}

/// Parses a line of `cluster/images/web`.
fn read(line: &str) -> Option<Answer> {
    let mut words = line.splitn(4, ' ');
    let (asked, known) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (status, text) = (words.next()?, words.next()?);
    let from = if status == "200" { Ok(text.to_owned()) } else { Err(format!("{status} {text}")) };
    Some(Answer { asked, known, from })
}
