//! A kubelet for pods that run `podium run`: it runs a process per pod, probes `/readyz`, and ends it with its pod.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use tokio::time::sleep;

use super::scenario::Scenario;
use super::sidecar::{Call, Connection, Sidecar, split};

/// The period of the probes. The one of a real kubelet is at least 1 s.
const PERIOD: Duration = Duration::from_millis(100);

/// The process of a pod.
struct Process {
    sidecar: Sidecar,
    is_ready: bool,
    is_told: bool,
}

impl Scenario {
    /// Runs the pods labeled `app: web`, whose node has no other kubelet, with this command line, until the future is dropped.
    pub async fn run_pods(&self, command: impl Fn(&str) -> Call) -> Infallible {
        let mut processes = BTreeMap::<String, Process>::new();
        loop {
            let pods = self.api::<Pod>().list(&ListParams::default().labels("app=web")).await.expect("pods can be listed");
            for pod in pods {
                let (name, uid) = (pod.name_any(), pod.uid().expect("a UID"));
                if pod.metadata.deletion_timestamp.is_some() {
                    if end(processes.get_mut(&uid)) {
                        processes.remove(&uid);
                        let how = DeleteParams::default()
                            .grace_period(0)
                            .preconditions(kube::api::Preconditions { uid: Some(uid), resource_version: None });
                        // It may be gone.
                        let _ = self.api::<Pod>().delete(&name, &how).await;
                    }
                } else if let Some(process) = processes.get_mut(&uid)
                    && process.sidecar.runs()
                {
                    self.probe(&name, process).await;
                } else {
                    let sidecar = command(&name).variable("POD_UID", &uid).start().await;
                    self.patch_pod_status(&name, json!({ "phase": "Running" })).await;
                    self.set_ready(&name, false).await;
                    processes.insert(uid, Process { sidecar, is_ready: false, is_told: false });
                }
            }
            sleep(PERIOD).await;
        }
    }

    /// Probes the process, and reports a change.
    async fn probe(&self, name: &str, process: &mut Process) {
        let answer = async {
            let mut connection = Connection::open(process.sidecar.address).await?;
            connection.ask("GET", "/readyz").await
        };
        // A process that is about to end does not answer.
        let is_ready = answer.await.is_ok_and(|answer| split(&answer).0 == 200);
        if is_ready != process.is_ready {
            self.set_ready(name, is_ready).await;
            process.is_ready = is_ready;
        }
    }
}

/// Ends the process of a pod that terminates. Returns whether it has ended.
fn end(process: Option<&mut Process>) -> bool {
    let Some(process) = process else { return true };
    if !std::mem::replace(&mut process.is_told, true) && process.sidecar.runs() {
        process.sidecar.signal("TERM");
    }
    !process.sidecar.runs()
}
