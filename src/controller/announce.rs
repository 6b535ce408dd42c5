//! Reports each change of leader: one log line and one Event.
//!
//! kube's recorder aggregates Events of the same reason into a series with the first note, but here the notes differ.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::key::Key;
use super::server::{ApiServer, Refusal, Write};
use super::shared::Shared;
use crate::api::names;
use crate::election::plan::Announcement;
use crate::election::snapshot::Election;
use crate::ids::Term;

/// Reason of an Event, its type, and its meaning.
pub type EventReason = (&'static str, &'static str, &'static str);

const ELECTED: EventReason = ("LeaderElected", "Normal", "A pod became leader and is labeled");
const LOST: EventReason = ("LeaderLost", "Warning", "The previous leader is not eligible, and no other candidate is");

/// All reasons of Events.
pub const EVENTS: [EventReason; 2] = [ELECTED, LOST];

/// Name of this work in the problem log.
const WORK: &str = "publishing Events";

/// Logs the change and publishes its Event. A lost Event is harmless: Lease and status have the change.
pub async fn publish<S: ApiServer>(shared: &Shared<S>, election: &Election, change: Announcement, since: Instant) {
    let name = format!("{}/{}", election.namespace, election.name);
    let Announcement { from, to, term, cause, reason } = &change;
    let (from, to) = (from.as_deref().unwrap_or_default(), to.as_deref().unwrap_or_default());
    let took_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    info!(election = %name, from, to, term = term.number(), cause = cause.as_str(), reason, took_ms, "leader changed");
    let event = event(election, &shared.instance, &change, (shared.clock)());
    let key = Key { namespace: election.namespace.clone(), name: election.name.clone() };
    shared.monitor.metrics.changed(&key, &change, &election.status, since, (shared.clock)());
    if shared.is_halted() {
        return;
    }
    match shared.server.write(&election.namespace, Write::CreateEvent(Box::new(event))).await {
        // A conflict: the Event of this term exists. A terminating namespace needs no Event.
        Ok(_) | Err(Refusal::Outdated(_) | Refusal::Ending(_)) => {
            shared.problems.clear(&key, WORK);
        }
        Err(refusal) if shared.problems.is_new(&key, WORK, &refusal.to_string()) => {
            warn!(election = %key, "failed to publish the Event: {refusal}");
        }
        Err(_) => {}
    }
}

fn event(election: &Election, instance: &str, change: &Announcement, now: Timestamp) -> Event {
    let Announcement { from: _, to, term, cause: _, reason } = change;
    let ((event_reason, kind, _), action, note) = match to {
        Some(pod) => (ELECTED, "Elect", format!("Pod {pod} became leader (term {term}): {reason}")),
        None => (LOST, "Vacate", format!("No leader (term {term}): {reason}, and no candidate is eligible")),
    };
    let regarding = ObjectReference {
        api_version: Some(names::API_VERSION.into()),
        kind: Some("Election".into()),
        namespace: Some(election.namespace.clone()),
        name: Some(election.name.clone()),
        uid: Some(election.uid.to_string()),
        ..ObjectReference::default()
    };
    Event {
        metadata: ObjectMeta {
            // One name for each term: the API server rejects a second Event.
            name: Some(format!("{}.{:x}", election.name, term.number())),
            namespace: Some(election.namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(format!("{}/controller", names::GROUP)),
        reporting_instance: Some(instance.chars().take(128).collect()),
        action: Some(action.into()),
        reason: Some(event_reason.into()),
        regarding: Some(regarding),
        note: Some(note.chars().take(1000).collect()),
        type_: Some(kind.into()),
        ..Event::default()
    }
}

/// A change of leader, as its Event reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The leader; `None` is a vacancy.
    pub leader: Option<String>,
    /// The term that began.
    pub term: Term,
    /// The cause in words.
    pub reason: String,
}

/// Reads the note of an Event. Returns `None` for one that [`publish`] does not write.
pub fn announced(note: &str) -> Option<Announced> {
    let (change, reason) = note.split_once("): ")?;
    let (who, term) = change.rsplit_once(" (term ")?;
    let leader = who.strip_prefix("Pod ").and_then(|who| who.strip_suffix(" became leader"));
    let reason = reason.strip_suffix(", and no candidate is eligible").filter(|_| leader.is_none()).unwrap_or(reason);
    (leader.is_some() || who == "No leader").then_some(())?;
    Some(Announced { leader: leader.map(str::to_owned), term: Term::parse(term)?, reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::fixtures::{held_by, now, term, world};
    use crate::lease::cause::Cause;

    #[test]
    fn each_event_is_documented() {
        let page = include_str!("../../docs/reference/conditions-and-events.md");
        for (reason, kind, _) in EVENTS {
            assert!(page.contains(&format!("| `{reason}` | {kind} |")), "{reason}");
        }
    }

    #[test]
    fn note_of_an_event_is_read_back() {
        let election = world(held_by("a", 90, [])).election;
        for leader in [Some("web-0"), None] {
            let reason = "previous leader a (on n) is terminating: gone".to_owned();
            let (from, to) = (None, leader.map(str::to_owned));
            let change = Announcement { from, to, term: term(91), cause: Cause::Terminating, reason: reason.clone() };
            let note = event(&election, "test", &change, now()).note.unwrap();
            let expected = Announced { leader: leader.map(str::to_owned), term: term(91), reason };
            assert_eq!(announced(&note), Some(expected), "{note}");
        }
        for other in ["", "Pod web-0 became leader", "Somebody (term 5): x", "No leader (term x): y"] {
            assert_eq!(announced(other), None, "{other}");
        }
    }
}
