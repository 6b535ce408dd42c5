//! `history NAME`: the changes of leader, oldest first, from Events and the Lease.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;
use serde::Serialize;

use super::age;
use super::cluster::{Cluster, Fetched};
use super::console::{self, Output};
use super::failure::{Failure, Request};
use super::table::{NONE, Table};
use crate::controller::announce::{EVENTS, announced};
use crate::lease::object;
use crate::lease::record::Content;

/// A change of leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When the term began.
    pub time: Option<String>,
    /// The term.
    pub term: i64,
    /// The leader; `None` is a vacancy.
    pub leader: Option<String>,
    /// The cause in words, if it is known.
    pub cause: Option<String>,
}

/// Prints the changes that are still known.
///
/// # Errors
/// A request failed.
pub async fn run(cluster: &Cluster, name: &str, output: Output) -> Result<(), Failure> {
    let election = cluster.get(name).await?;
    let changes = changes(cluster, &election).await?;
    let transitions = election.status().leader_transitions;
    let known = changes.iter().filter(|change| change.leader.is_some()).count();
    if usize::try_from(transitions).is_ok_and(|transitions| known <= transitions) {
        console::talk("Earlier changes are not shown: Kubernetes deletes Events after an hour by default");
    }
    match output {
        Output::Json | Output::Yaml => console::data(&console::document(&changes, output)?),
        Output::Text | Output::Wide | Output::Name => console::data(&table(&changes, Timestamp::now()).text("")),
    }
}

/// Returns the changes that Events report, and the present term, oldest first.
///
/// # Errors
/// The Events cannot be read.
pub async fn changes(cluster: &Cluster, election: &Fetched) -> Result<Vec<Change>, Failure> {
    let request = Request { verb: "list", resource: "events", namespace: Some(&cluster.namespace), name: None };
    let uid = election.metadata().uid.as_deref().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let how = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let events = request.send(events.list(&how)).await?.items;
    let present = present(cluster, election).await?;
    Ok(merged(events.iter().filter_map(reported), present))
}

/// The present term, from the Lease, or from the status if the caller may not read the Lease.
async fn present(cluster: &Cluster, election: &Fetched) -> Result<Option<Change>, Failure> {
    let lease = match cluster.lease(election.lease_name()).await {
        Ok(lease) => lease.and_then(|lease| object::read(&object::readable(lease)).ok()),
        Err(Failure::Denied(_)) => None,
        Err(failure) => return Err(failure),
    };
    let uid = election.metadata().uid.as_deref();
    let lease = lease.filter(|lease| lease.incarnation.as_ref().map(AsRef::as_ref) == uid);
    if let Some((Content::Term(record), acquired)) = lease.map(|lease| (lease.content, lease.acquired)) {
        return Ok(Some(Change {
            time: acquired.map(age::time),
            term: record.term.number(),
            leader: record.holder.map(|holder| holder.name),
            cause: Some(record.reason).filter(|reason| !reason.is_empty()),
        }));
    }
    let status = election.status();
    let time = status.acquire_time.as_ref().map(|time| age::time(time.0));
    Ok(status.term.map(|term| Change { time, term, leader: status.leader, cause: None }))
}

/// Returns the change that this Event reports, if it reports one.
fn reported(event: &Event) -> Option<Change> {
    let is_ours = EVENTS.iter().any(|(reason, ..)| Some(*reason) == event.reason.as_deref());
    let announced = announced(event.message.as_deref().filter(|_| is_ours)?)?;
    let time = event.event_time.as_ref().map(|time| time.0).or_else(|| event.first_timestamp.as_ref().map(|time| time.0));
    Some(Change {
        time: time.map(age::time),
        term: announced.term.number(),
        leader: announced.leader,
        cause: Some(announced.reason),
    })
}

/// One change for each term, by term. Terms grow, so that is their order.
fn merged(reported: impl Iterator<Item = Change>, present: Option<Change>) -> Vec<Change> {
    let mut changes: BTreeMap<i64, Change> = reported.map(|change| (change.term, change)).collect();
    if let Some(mut present) = present {
        let event = changes.remove(&present.term);
        present.cause = present.cause.or_else(|| event.and_then(|event| event.cause));
        changes.insert(present.term, present);
    }
    changes.into_values().collect()
}

/// The changes as a table.
pub fn table(changes: &[Change], now: Timestamp) -> Table {
    let mut table = Table::new(["TIME", "AGE", "TERM", "LEADER", "CAUSE"]);
    for Change { time, term, leader, cause } in changes {
        let parsed = time.as_ref().and_then(|time| time.parse::<Timestamp>().ok());
        table.row(vec![
            time.clone().unwrap_or_else(|| "<unknown>".into()),
            parsed.map_or_else(|| "<unknown>".into(), |time| age::since(time, now)),
            term.to_string(),
            leader.clone().unwrap_or_else(|| NONE.into()),
            cause.clone().unwrap_or_else(|| "<unknown>".into()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(reason: &str, message: &str) -> Event {
        let event = json!({
            "metadata": { "name": "web.5" }, "involvedObject": {}, "reason": reason, "message": message,
            "eventTime": "2026-01-01T00:00:05.123456Z",
        });
        serde_json::from_value(event).unwrap()
    }

    fn change(term: i64, leader: Option<&str>, cause: Option<&str>) -> Change {
        let time = Some("2026-01-01T00:00:05Z".into());
        Change { time, term, leader: leader.map(str::to_owned), cause: cause.map(str::to_owned) }
    }

    #[test]
    fn events_of_podium_are_read_and_others_ignored() {
        let elected = event("LeaderElected", "Pod web-0 became leader (term 5): initial election");
        assert_eq!(reported(&elected), Some(change(5, Some("web-0"), Some("initial election"))));
        let lost = event("LeaderLost", "No leader (term 6): previous leader web-0 is gone, and no candidate is eligible");
        assert_eq!(reported(&lost), Some(change(6, None, Some("previous leader web-0 is gone"))));
        assert_eq!(reported(&event("Synced", "Pod web-0 became leader (term 5): initial election")), None);
    }

    #[test]
    fn changes_are_ordered_by_term_and_the_present_one_is_added() {
        let events = [change(6, None, Some("b")), change(5, Some("web-0"), Some("a"))];
        let merged = |present| merged(events.clone().into_iter(), present);
        let terms = |changes: Vec<Change>| changes.iter().map(|change| change.term).collect::<Vec<_>>();
        assert_eq!(terms(merged(None)), [5, 6]);
        assert_eq!(terms(merged(Some(change(7, Some("web-1"), None)))), [5, 6, 7]);
        let same = merged(Some(change(6, None, None)));
        assert_eq!((same.len(), same[1].cause.as_deref()), (2, Some("b")), "the Event has the cause");
    }

    #[test]
    fn table_shows_vacancies_and_unknown_causes() {
        let now = "2026-01-01T00:01:05Z".parse().unwrap();
        let text = table(&[change(5, Some("web-0"), Some("initial election")), change(6, None, None)], now).text("");
        let expected = "\
TIME                   AGE   TERM   LEADER   CAUSE
2026-01-01T00:00:05Z   60s   5      web-0    initial election
2026-01-01T00:00:05Z   60s   6      <none>   <unknown>
";
        assert_eq!(text, expected);
    }
}
