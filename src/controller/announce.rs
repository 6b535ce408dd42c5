//! A change of leader, told to people: one line in the log and one Event object for each change.
//!
//! kube's recorder gathers Events of the same reason into a series and keeps only the first note: the very thing that differs.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::observe::world::Key;
use super::server::{Refusal, Server, Write};
use super::shared::Shared;
use crate::api::names;
use crate::election::plan::Announcement;
use crate::election::snapshot::Election;

/// A reason that Events give, their type, and what it means.
pub type Told = (&'static str, &'static str, &'static str);

const ELECTED: Told = ("LeaderElected", "Normal", "A pod became leader and is labeled");
const LOST: Told = ("LeaderLost", "Warning", "The previous leader is not eligible, and no other candidate is");

/// All of them.
pub const EVENTS: [Told; 2] = [ELECTED, LOST];

/// What this work is called among the complaints.
const WORK: &str = "publishing Events";

/// Publishes the Event. A lost Event loses nothing but the Event: the change stands in the Lease and in the status.
pub async fn publish<S: Server>(shared: &Shared<S>, election: &Election, change: Announcement, since: Instant) {
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
        // The Event of a term that was told before is refused, rightly; where the namespace goes, its Events go.
        Ok(_) | Err(Refusal::Outdated(_) | Refusal::Ending(_)) => {
            shared.complaints.settle(&key, WORK);
        }
        Err(refusal) if shared.complaints.is_news(&key, WORK, &refusal.to_string()) => {
            warn!(election = %key, "failed to publish the Event: {refusal}");
        }
        Err(_) => {}
    }
}

fn event(election: &Election, instance: &str, change: &Announcement, now: Timestamp) -> Event {
    let Announcement { from: _, to, term, cause: _, reason } = change;
    let ((reason_word, kind, _), action, note) = match to {
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
            // One name for one term: whoever tells it twice is refused.
            name: Some(format!("{}.{:x}", election.name, term.number())),
            namespace: Some(election.namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(format!("{}/controller", names::GROUP)),
        reporting_instance: Some(instance.chars().take(128).collect()),
        action: Some(action.into()),
        reason: Some(reason_word.into()),
        regarding: Some(regarding),
        note: Some(note.chars().take(1000).collect()),
        type_: Some(kind.into()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::EVENTS;

    #[test]
    fn every_event_is_documented() {
        let page = include_str!("../../docs/reference/conditions-and-events.md");
        for (reason, kind, _) in EVENTS {
            assert!(page.contains(&format!("| `{reason}` | {kind} |")), "{reason}");
        }
    }
}
