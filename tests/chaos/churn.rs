//! Changes of pods, and tampering.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use podium_test_support::checker::Watched;
use podium_test_support::random::Random;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::recorder::Recorder;
use crate::world::{FORGED, Group, World};

/// Maximum wait for a response.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kinds of changes, with their shares in percent.
const CHANGES: [(u64, &str); 8] = [
    (25, "pods deleted gracefully"),
    (20, "pods deleted by force"),
    (25, "pods made unready"),
    (10, "pods made ready"),
    (4, "Leases deleted by hand"),
    (4, "Leases edited by hand"),
    (8, "labels stripped by hand"),
    (4, "labels forged by hand"),
];

/// Makes one change after another until this time.
pub async fn churn(world: &World, recorder: &Recorder, mut random: Random, until: Instant) {
    while Instant::now() < until {
        sleep(random.millis(100, 500)).await;
        let group = random.pick(&world.groups).expect("there are groups");
        let election = random.pick(&group.elections).expect("there are Elections");
        let pod = choose(group, election, recorder, &mut random);
        let known = recorder.record().pods.get(&pod).cloned();
        let what = match known {
            None => "pods created again under the same name",
            Some(entry) if !entry.eligible && random.permille(600) => "pods made ready",
            Some(_) => pick(&mut random),
        };
        let mark = random.between(0, u64::MAX).to_string();
        // A change that failed, because the pod is gone or etcd does not respond, was not made or is unknown.
        if let Ok(Ok(())) = timeout(PATIENCE, world.change(what, &pod, election, &mark)).await {
            world.figures.count(what, &pod);
        }
    }
}

fn pick(random: &mut Random) -> &'static str {
    let mut number = random.between(0, 100);
    for (share, what) in CHANGES {
        if number < share {
            return what;
        }
        number -= share;
    }
    unreachable!("a hundred changes")
}

/// Chooses one of the pods: the leader half of the time.
fn choose(group: &Group, election: &Watched, recorder: &Recorder, random: &mut Random) -> String {
    let names: Vec<String> = group.pods().collect();
    let leads = |name: &&String| {
        let record = recorder.record();
        let pod = record.pods.get(*name);
        pod.is_some_and(|pod| pod.revision.labels.get(&election.key) == Some(&election.value))
    };
    let leader = names.iter().find(leads).filter(|_| random.permille(500));
    leader.or_else(|| random.pick(&names)).expect("a group has pods").clone()
}

impl World {
    async fn change(&self, what: &str, pod: &str, election: &Watched, mark: &str) -> kube::Result<()> {
        let pods = self.api::<Pod>();
        let leases = self.api::<Lease>();
        let merge = |change: Value| Patch::Merge(change);
        let how = PatchParams::default();
        match what {
            "pods created again under the same name" => self.create_pod(pod).await,
            "pods deleted gracefully" => pods.delete(pod, &DeleteParams::default()).await.map(drop),
            "pods deleted by force" => pods.delete(pod, &DeleteParams::default().grace_period(0)).await.map(drop),
            "pods made unready" => self.set_ready(pod, false).await,
            "pods made ready" => self.set_ready(pod, true).await,
            "Leases deleted by hand" => leases.delete(&election.lease, &DeleteParams::default()).await.map(drop),
            "Leases edited by hand" => {
                let change =
                    json!({ "metadata": { "annotations": { FORGED: mark } }, "spec": { "holderIdentity": "somebody" } });
                leases.patch(&election.lease, &how, &merge(change)).await.map(drop)
            }
            "labels stripped by hand" => {
                let change = json!({ "metadata": { "labels": { &election.key: null } } });
                pods.patch(pod, &how, &merge(change)).await.map(drop)
            }
            "labels forged by hand" => {
                let change = json!({ "metadata": {
                    "labels": { &election.key: election.value }, "annotations": { FORGED: mark },
                }});
                pods.patch(pod, &how, &merge(change)).await.map(drop)
            }
            other => unreachable!("{other}"),
        }
    }
}
