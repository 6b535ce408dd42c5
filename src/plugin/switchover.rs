//! `switchover NAME`: requests a planned change of leader by annotation, and waits for it.

use std::ops::ControlFlow;

use serde_json::json;

use super::change::{How, Progress, attempt, gitops, patch, wait, waits_for};
use super::cluster::{Cluster, Fetched, is_ready};
use super::console;
use super::failure::Failure;
use super::observed::observe;
use super::status::resource;
use crate::api::names::{SWITCHOVER_TERM, SWITCHOVER_TO};
use crate::election::explain::succession;
use crate::lease::object;
use crate::lease::record::Content;

/// A request, as it was made.
enum Requested {
    /// The request for the end of this term.
    Term(i64),
    /// The pod leads already.
    Unneeded,
}

/// Requests that another pod leads: this one, or the next in the order of succession.
///
/// # Errors
/// A request failed, the Election has no leader, or no new leader was labeled in time.
pub async fn run(cluster: &Cluster, name: &str, to: Option<&str>, how: How) -> Result<(), Failure> {
    let requested = attempt(cluster, name, async |election: Fetched| {
        let (term, leader) = present(cluster, &election).await?;
        if to == Some(leader.as_str()) {
            console::data(&format!("{} unchanged: {leader} leads already\n", resource(&election)))?;
            return Ok(Requested::Unneeded);
        }
        warn(cluster, &election, to).await?;
        let annotations = json!({ SWITCHOVER_TERM: term.to_string(), SWITCHOVER_TO: to });
        patch(cluster, &election, json!({ "metadata": { "annotations": annotations } }), how.dry_run).await?;
        console::data(&format!("{} switchover from {leader} requested (term {term}){}\n", resource(&election), how.note()))?;
        Ok(Requested::Term(term))
    });
    let (Requested::Term(term), Some(time)) = (requested.await?, how.waits()) else { return Ok(()) };
    wait(cluster, name, time, "a new leader", |election| changed(election, term, to)).await
}

/// The present term and leader: of the Lease, which is what the controller compares with, or of the status if the caller may not
/// read the Lease.
async fn present(cluster: &Cluster, election: &Fetched) -> Result<(i64, String), Failure> {
    let place = format!("{}/{}", cluster.namespace, election.name());
    if let Some(lease) = election.followed() {
        return Err(Failure::Failed(format!(
            "Election {place} has no switchover: Lease {lease} decides who leads, ask the elector that holds it to step down"
        )));
    }
    let lease = match cluster.lease(election.lease_name()).await {
        Ok(lease) => lease.and_then(|lease| object::read(&object::readable(lease)).ok()),
        Err(Failure::Denied(_)) => None,
        Err(failure) => return Err(failure),
    };
    let status = election.status();
    let present = match lease.map(|lease| lease.content) {
        Some(Content::Term(record)) => record.holder.map(|holder| (record.term.number(), holder.name)),
        _ => status.term.zip(status.leader.clone()),
    };
    present.ok_or_else(|| {
        let why = waits_for(election).unwrap_or_else(|| "the controller has not reported yet".into());
        Failure::Failed(format!("Election {place} has no leader to replace: {why}"))
    })
}

/// Warns of what may keep the switchover from happening.
async fn warn(cluster: &Cluster, election: &Fetched, to: Option<&str>) -> Result<(), Failure> {
    if let Some((tool, known_by)) = gitops(&election.0) {
        console::warn(&format!(
            "{tool} applies Election {}/{} ({known_by}) and may remove the request before the controller acts on it",
            cluster.namespace,
            election.name(),
        ));
    }
    if election.is_suspended() {
        console::warn("elections are suspended by spec.suspend: the switchover waits until `kubectl podium resume`");
    }
    let Some(to) = to else { return Ok(()) };
    let observed = match observe(cluster, election.name()).await {
        Ok(observed) => observed,
        // Only the warning needs the pods.
        Err(Failure::Denied(_)) => return Ok(()),
        Err(failure) => return Err(failure),
    };
    let Ok(settings) = &observed.snapshot.election.settings else { return Ok(()) };
    let candidates = succession(&observed.snapshot, settings);
    match candidates.iter().find(|candidate| candidate.pod.id.name == to) {
        None => {
            let message = format!("pod {to} does not match spec.selector, or does not exist: the switchover waits for it");
            console::warn(&message);
        }
        Some(candidate) => candidate.obstacle.iter().for_each(|why| {
            console::warn(&format!("pod {to} {why}: the switchover waits until it is eligible"));
        }),
    }
    Ok(())
}

/// Whether a new leader is labeled after this term.
fn changed(election: &Fetched, term: i64, to: Option<&str>) -> Progress {
    let status = election.status();
    let now = status.term.unwrap_or_default();
    let waiting = || waits_for(election).filter(|message| now > term || message.contains("switchover"));
    match &status.leader {
        Some(leader) if now > term && is_ready(&status) => match to {
            Some(to) if to != leader => ControlFlow::Break(Err(Failure::Failed(format!(
                "Election {}/{} changed its leader to {leader} instead of {to}: another change ended the term first, try again",
                election.namespace(),
                election.name(),
            )))),
            _ => {
                console::talk(&format!("Pod {leader} is the leader (term {now})"));
                ControlFlow::Break(Ok(()))
            }
        },
        _ => ControlFlow::Continue(waiting()),
    }
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::Value;

    use super::*;

    fn election(term: i64, leader: Option<&str>, conditions: &[(&str, &str, &str)]) -> Fetched {
        let condition = |(kind, status, message): &(&str, &str, &str)| -> Value {
            json!({ "type": kind, "status": status, "reason": "R", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z" })
        };
        let conditions: Vec<Value> = conditions.iter().map(condition).collect();
        let status = json!({ "observedGeneration": 1, "term": term, "leader": leader, "conditions": conditions });
        let object = json!({ "metadata": { "name": "web", "namespace": "default" }, "spec": {}, "status": status });
        Fetched::of(serde_json::from_value::<DynamicObject>(object).unwrap())
    }

    #[test]
    fn a_switchover_is_done_when_the_next_leader_is_labeled() {
        let ready = ("Ready", "True", "Pod x is the leader");
        let not_ready = ("Ready", "False", "Pod x is elected, its label is not confirmed");
        assert_eq!(changed(&election(11, Some("b"), &[ready]), 10, None), ControlFlow::Break(Ok(())));
        assert_eq!(changed(&election(11, Some("b"), &[ready]), 10, Some("b")), ControlFlow::Break(Ok(())));
        let ControlFlow::Break(Err(other)) = changed(&election(11, Some("c"), &[ready]), 10, Some("b")) else { panic!() };
        assert!(other.message().unwrap().contains("to c instead of b"));
        assert!(changed(&election(11, Some("b"), &[not_ready]), 10, None).is_continue());
        assert!(changed(&election(11, None, &[not_ready]), 10, None).is_continue());
        assert!(changed(&election(10, Some("a"), &[ready]), 10, None).is_continue(), "the same term");
    }

    #[test]
    fn waiting_switchover_says_for_what() {
        let ready = ("Ready", "True", "Pod a is the leader");
        let pending = ("Degraded", "True", "The switchover from a waits: there is no other candidate");
        let waiting = |conditions: &[(&str, &str, &str)]| changed(&election(10, Some("a"), conditions), 10, None);
        assert_eq!(waiting(&[ready, pending]), ControlFlow::Continue(Some(pending.2.into())));
        assert_eq!(waiting(&[ready]), ControlFlow::Continue(None), "no controller has responded");
    }
}
