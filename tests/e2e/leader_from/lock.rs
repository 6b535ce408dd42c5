//! A Lease on which the test elects. The clock of this elector is a day behind, because no wall clock may matter.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::harness::{Scenario, eventually};

/// A duration that no test outlasts, in seconds.
pub const HOUR: i32 = 3600;

/// The field manager of the elector's writes.
pub const MANAGER: &str = "test-elector";

/// The Lease `lock` of a namespace.
#[derive(Clone)]
pub struct Lock {
    leases: Api<Lease>,
    name: &'static str,
}

/// Renewals by a task, until it is dropped.
pub struct Renewals {
    done: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Lock {
    /// Creates the Lease `lock` with this holder, and a duration in seconds.
    pub async fn held_by(world: &Scenario, holder: &str, seconds: i32) -> Self {
        Self::named(world, "lock", holder, seconds).await
    }

    /// The same with another name of the Lease.
    pub async fn named(world: &Scenario, name: &'static str, holder: &str, seconds: i32) -> Self {
        let lock = Self { leases: world.api(), name };
        lock.create(holder, seconds).await;
        lock
    }

    /// Creates the Lease again.
    pub async fn create(&self, holder: &str, seconds: i32) {
        let lease = json!({
            "metadata": { "name": self.name },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": yesterday() },
        });
        let lease = serde_json::from_value(lease).expect("a Lease");
        let how = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        self.leases.create(&how, &lease).await.expect("the Lease is created");
    }

    /// Makes this identity the holder. Empty: a release.
    pub async fn hold(&self, holder: &str) -> Lease {
        self.patch(json!({ "holderIdentity": holder, "renewTime": yesterday() })).await
    }

    /// Renews the Lease. Returns a time before anybody could observe that.
    pub async fn renew(&self) -> Timestamp {
        let before = Timestamp::now();
        self.patch(json!({ "renewTime": yesterday() })).await;
        before
    }

    /// Renews it again and again, with this pause.
    pub fn renewals(&self, pause: Duration) -> Renewals {
        let (lock, done, mut task) = (self.clone(), Arc::<AtomicUsize>::default(), JoinSet::new());
        let count = done.clone();
        task.spawn(async move {
            let mut ticks = interval(pause);
            loop {
                ticks.tick().await;
                lock.renew().await;
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Renewals { done, _task: task }
    }

    /// The newest version.
    pub async fn get(&self) -> Lease {
        self.leases.get(self.name).await.expect("the Lease is there")
    }

    pub async fn delete(&self) {
        self.leases.delete(self.name, &DeleteParams::default()).await.expect("the Lease is deleted");
    }

    async fn patch(&self, spec: Value) -> Lease {
        let how = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        self.leases.patch(self.name, &how, &Patch::Merge(json!({ "spec": spec }))).await.expect("the Lease is patched")
    }

    /// Asserts that nobody else has written the Lease since this version.
    pub async fn assert_unchanged_since(&self, last: &Lease) {
        let now = self.get().await;
        assert_eq!(now.resource_version(), last.resource_version());
        let managers: Vec<_> = now.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect();
        assert!(managers.iter().all(|manager| *manager == MANAGER), "{managers:?}");
    }
}

impl Renewals {
    /// Waits for this many more renewals.
    pub async fn more(&self, times: usize) {
        let goal = self.done.load(Ordering::SeqCst) + times;
        eventually(&format!("the Lease was renewed {times} more times"), async || {
            let done = self.done.load(Ordering::SeqCst);
            if done >= goal { Ok(()) } else { Err(format!("{done} of {goal}")) }
        })
        .await;
    }
}

fn yesterday() -> String {
    format!("{:.6}", Timestamp::now() - SignedDuration::from_hours(24))
}
