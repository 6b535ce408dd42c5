//! `suspend NAME` and `resume NAME`: set `spec.suspend`.

use std::ops::ControlFlow;

use serde_json::json;

use super::change::{How, Progress, attempt, gitops, patch, wait, waits_for};
use super::cluster::{Cluster, Fetched, is_ready};
use super::console;
use super::failure::Failure;
use super::status::resource;

/// Suspends or resumes an Election.
///
/// # Errors
/// A request failed, there is no such Election, or the controller did not observe the change in time.
pub async fn run(cluster: &Cluster, name: &str, suspend: bool, how: How) -> Result<(), Failure> {
    let done = if suspend { "suspended" } else { "resumed" };
    let changed = attempt(cluster, name, async |election: Fetched| {
        if election.is_suspended() == suspend {
            console::data(&format!("{} {done} (no change)\n", resource(&election)))?;
            return Ok(election);
        }
        if let Some((tool, known_by)) = gitops(&election.0) {
            console::warn(&format!(
                "{tool} applies Election {}/{name} ({known_by}) and may restore spec.suspend: change it in Git, too",
                cluster.namespace
            ));
        }
        let changed = patch(cluster, &election, json!({ "spec": { "suspend": suspend } }), how.dry_run).await?;
        console::data(&format!("{} {done}{}\n", resource(&election), how.note()))?;
        Ok(changed)
    });
    let changed = changed.await?;
    let Some(time) = how.waits() else { return Ok(()) };
    let generation = changed.metadata().generation.unwrap_or_default();
    let what = if suspend { "the controller's response" } else { "a leader" };
    wait(cluster, name, time, what, |election| observed(election, generation, suspend)).await
}

/// Whether the controller has observed this generation. A resumed Election has a leader then.
fn observed(election: &Fetched, generation: i64, suspend: bool) -> Progress {
    let status = election.status();
    match () {
        () if status.observed_generation < generation => ControlFlow::Continue(None),
        () if suspend || is_ready(&status) => ControlFlow::Break(Ok(())),
        () => ControlFlow::Continue(waits_for(election)),
    }
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::Value;

    use super::*;

    fn election(status: Value) -> Fetched {
        let object = json!({ "metadata": { "name": "web" }, "spec": {}, "status": status });
        Fetched::of(serde_json::from_value::<DynamicObject>(object).unwrap())
    }

    #[test]
    fn a_change_is_observed_with_its_generation() {
        let condition = |status: &str| json!([{ "type": "Ready", "status": status, "reason": "R", "message": "it waits", "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
        let old = election(json!({ "observedGeneration": 1, "conditions": condition("True") }));
        let waiting = election(json!({ "observedGeneration": 2, "conditions": condition("False") }));
        let ready = election(json!({ "observedGeneration": 2, "conditions": condition("True") }));
        for suspend in [true, false] {
            assert!(observed(&old, 2, suspend).is_continue());
            assert!(observed(&ready, 2, suspend).is_break());
        }
        assert!(observed(&waiting, 2, true).is_break());
        assert_eq!(observed(&waiting, 2, false), ControlFlow::Continue(Some("it waits".into())));
        assert_eq!(observed(&old, 2, false), ControlFlow::Continue(None), "no controller has responded");
    }
}
