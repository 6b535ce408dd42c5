//! Events that end a leader, as the API server shows them.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use podium_test_support::bench::Result;
use serde_json::{Value, json};

/// An event of the leader's pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Deletion with the grace period.
    Deleted,
    /// Deletion with a grace period of 0: the pod is gone at once.
    Forced,
    /// A failed readiness probe: the kubelet writes `Ready=False`.
    NotReady,
    /// A terminated container: the kubelet writes that and `Ready=False`.
    Crashed,
}

impl Cause {
    /// All events.
    pub const ALL: [Self; 4] = [Self::Deleted, Self::Forced, Self::NotReady, Self::Crashed];

    /// Returns the name in the figures.
    pub fn title(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Forced => "deleted by force",
            Self::NotReady => "not ready",
            Self::Crashed => "crashed",
        }
    }

    /// Causes the event. Returns the time of the API server's acknowledgment.
    pub async fn trigger(self, pods: &Api<Pod>, name: &str) -> Result<Instant> {
        match self {
            Self::Deleted => drop(pods.delete(name, &DeleteParams::default()).await?),
            Self::Forced => drop(pods.delete(name, &DeleteParams::default().grace_period(0)).await?),
            Self::NotReady => write(pods, name, conditions(false)).await?,
            Self::Crashed => {
                let mut status = conditions(false);
                let at = Timestamp::now();
                let terminated = json!({ "exitCode": 137, "reason": "Error", "startedAt": at, "finishedAt": at });
                status["containerStatuses"] = container(json!({ "terminated": terminated }), false);
                write(pods, name, status).await?;
            }
        }
        Ok(Instant::now())
    }

    /// Makes the pod healthy again, unless it was deleted.
    pub async fn recover(self, pods: &Api<Pod>, name: &str) -> Result<()> {
        match self {
            Self::Deleted | Self::Forced => Ok(()),
            Self::NotReady => write(pods, name, conditions(true)).await,
            Self::Crashed => {
                let mut status = conditions(true);
                status["containerStatuses"] = container(json!({ "running": { "startedAt": Timestamp::now() } }), true);
                write(pods, name, status).await
            }
        }
    }
}

/// Returns the status that the kubelet writes when containers become ready or unready.
fn conditions(ready: bool) -> Value {
    let at = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let status = if ready { "True" } else { "False" };
    let condition = |of: &str| json!({ "type": of, "status": status, "lastTransitionTime": at });
    json!({ "conditions": [condition("Ready"), condition("ContainersReady")] })
}

fn container(state: Value, runs: bool) -> Value {
    json!([{
        "name": "web", "image": "web", "imageID": "", "restartCount": u8::from(runs), "ready": runs, "started": runs,
        "state": state,
    }])
}

async fn write(pods: &Api<Pod>, name: &str, status: Value) -> Result<()> {
    pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(json!({ "status": status }))).await?;
    Ok(())
}
