//! What may end a leader, as the API server shows it.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::harness::Result;

/// What befalls the leader's pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is deleted, with its grace period.
    Deleted,
    /// It is deleted with a grace period of 0, so that it is gone at once.
    Forced,
    /// Its readiness probe fails: kubelet writes `Ready=False`.
    NotReady,
    /// Its container ends: kubelet writes that it has terminated, and `Ready=False`.
    Crashed,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Deleted, Self::Forced, Self::NotReady, Self::Crashed];

    /// What happened to the leader.
    pub fn title(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Forced => "deleted by force",
            Self::NotReady => "not ready",
            Self::Crashed => "crashed",
        }
    }

    /// Lets it happen, and returns when the API server had acknowledged it.
    pub async fn befall(self, pods: &Api<Pod>, name: &str) -> Result<Instant> {
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

    /// Makes the pod well again, where it lives on.
    pub async fn mend(self, pods: &Api<Pod>, name: &str) -> Result<()> {
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

/// What kubelet writes when the containers are ready, or not any more.
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
