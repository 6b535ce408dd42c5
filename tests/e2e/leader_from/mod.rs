//! `spec.leaderFrom`: the leader of an Election is the pod that the Lease of another elector names.

mod duration;
mod electors;
mod faults;
mod lock;
mod named;
mod options;
mod quiet;
mod refusals;

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::harness::{Scenario, eventually};

/// Creates the Election `web`, which follows the Lease `lock`, with additional spec fields.
async fn follow(world: &Scenario, fields: Value) {
    let mut spec = json!({ "leaderFrom": { "lease": { "name": "lock" } } });
    for (key, value) in fields.as_object().expect("fields") {
        spec[key] = value.clone();
    }
    world.election_with("web", spec).await;
}

/// Waits until nobody leads, and the condition Ready gives exactly this reason.
async fn vacant(world: &Scenario, why: &str) {
    world.vacancy("web").await;
    eventually(&format!("Ready says: {why}"), async || {
        let status = world.status("web").await?;
        let ready = status.condition("Ready").ok_or("no condition")?;
        if (&*ready.reason, &*ready.message) == ("NoEligibleCandidate", why) { Ok(()) } else { Err(format!("{ready:?}")) }
    })
    .await;
}

/// Waits until the message of the condition Ready is this one, and returns the condition's reason.
async fn ready_says(world: &Scenario, message: &str) -> String {
    eventually(&format!("Ready says: {message}"), async || {
        let status = world.status("web").await?;
        let ready = status.condition("Ready").ok_or("no condition")?;
        if ready.message == message { Ok(ready.reason.clone()) } else { Err(format!("{ready:?}")) }
    })
    .await
}

/// Waits for an Event with exactly this note.
async fn announced(world: &Scenario, note: &str) {
    eventually(&format!("an Event says: {note}"), async || {
        let events = world.api::<Event>().list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let notes: Vec<&str> = events.iter().filter_map(|event| event.note.as_deref()).collect();
        if notes.contains(&note) { Ok(()) } else { Err(format!("{notes:?}")) }
    })
    .await;
}
