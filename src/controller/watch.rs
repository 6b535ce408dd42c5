//! The watches: store what the API server delivers in the caches, and queue the Elections that it affects.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::Resource;
use kube::api::ListParams;
use kube::core::Status;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::watch::Sender;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info, warn};

use super::key::Kind;
use super::monitor::health::describe;
use super::monitor::silence::WATCH_SECONDS;
use super::observe::cached::{NODE_LEASES, Named};
use super::observe::world::went_back;
use super::server::ApiServer;
use super::shared::Shared;
use crate::ids::{NotAnInteger, ResourceVersion};
use crate::log_once::LogOnce;
use crate::retry_after;

/// The first and the longest backoff. Short, because there is no failover meanwhile.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// Timeout of the read before a list.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Watches one kind until the end of the process. `synced` becomes true when the first namespace is served.
pub async fn watch<S, K>(
    shared: Arc<Shared<S>>,
    api: Api<K>,
    kind: Kind,
    convert: impl Fn(K) -> Result<Named, NotAnInteger>,
    synced: Arc<Sender<bool>>,
) where
    S: ApiServer,
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let namespace = api.namespace().map(str::to_owned);
    // Lists have no resourceVersion, so they return the most recent state, and no cache goes back in time.
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    if kind == Kind::Leases && namespace.is_none() {
        config = config.fields(&format!("metadata.namespace!={NODE_LEASES}"));
    }
    let begin = || watcher(api.clone(), config.clone()).boxed();
    let mut events = begin();
    let mut outages = shared.monitor.health.outages();
    let mut problem = LogOnce::default();
    let mut delay = BACKOFF.0;
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            // The connection of the watch may be dead, which the watch would not notice for minutes.
            Ok(()) = outages.changed() => {
                debug!("listing {} again after an outage", kind.plural());
                events = begin();
                continue;
            }
        };
        let event = match event {
            None => return,
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                let message = explain(kind, namespace.as_deref(), &error);
                let denied = status(&error).is_some_and(|status| status.code == 403);
                shared.monitor.health.watch_failed((kind, namespace.clone()), &message, denied);
                shared.monitor.metrics.watch_failed(kind);
                if problem.is_new(&message) {
                    warn!("{message}");
                }
                if is_expired(&error) {
                    events = begin();
                }
                let retry_after = status(&error).and_then(retry_after::of_status).unwrap_or_default();
                sleep(delay.max(retry_after)).await;
                delay = delay.saturating_mul(2).min(BACKOFF.1);
                continue;
            }
        };
        if matches!(event, Event::Init) {
            check_revision(&shared, &api, kind).await;
        }
        // A list does not reset the backoff: where only watching fails, the list would be repeated at once.
        if matches!(event, Event::Apply(_) | Event::Delete(_)) {
            delay = BACKOFF.0;
        }
        // `Init` precedes the request of a list, so it is no success.
        if !matches!(event, Event::Init) && problem.clear() {
            info!("watching {} again", describe(&(kind, namespace.clone())));
        }
        let Some(event) = convert_event(event, &convert) else { continue };
        let complete = matches!(event, Event::InitDone);
        let (changes, serves) = {
            let mut world = shared.world();
            let served = namespace.as_deref().is_some_and(|namespace| world.serves(namespace));
            let mut changes = world.watched(kind, namespace.as_deref(), event);
            if complete {
                // Deletions that the watch missed show only in labels that are left.
                changes.orphaned.extend(world.orphaned());
            }
            if let Some(namespace) = namespace.as_deref().filter(|namespace| !served && world.serves(namespace)) {
                info!(namespace, "caches in sync");
            }
            if let Some(why) = world.went_back() {
                shared.halt(why);
            }
            (changes, world.serves_any())
        };
        shared.queue(changes);
        if complete {
            debug!("{} are listed", kind.plural());
            note_synced(&synced, serves);
        }
    }
}

/// Before a repeated list, halts the controller if revisions of the API server went back. The objects of the list need not
/// show it.
async fn check_revision<S: ApiServer, K>(shared: &Shared<S>, api: &Api<K>, kind: Kind)
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let newest = {
        let world = shared.world();
        world.newest(kind).filter(|_| world.has_listed(kind, api.namespace()))
    };
    let Some(newest) = newest else { return };
    // Without a resourceVersion, so it returns the most recent state. Where this read fails, the list fails, too.
    let Ok(Ok(list)) = timeout(TIMEOUT, api.list(&ListParams::default().limit(1))).await else { return };
    let revision = ResourceVersion::parse(list.metadata.resource_version.as_deref().unwrap_or_default());
    if let Some(revision) = revision.ok().filter(|revision| *revision < newest) {
        shared.halt(&went_back(kind, newest, revision));
    }
}

/// Returns whether the revision of the watch expired, by the code of the response. API servers send an event for this; after
/// a response kube's watcher would request the same revision forever.
fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// Sets `synced` when a namespace is served, and never resets it. Watches run concurrently, and one that saw an incomplete list
/// may come last: resetting would make the controller wait forever.
fn note_synced(synced: &Sender<bool>, serves: bool) {
    synced.send_if_modified(|synced| serves && !std::mem::replace(synced, true));
}

fn convert_event<K>(event: Event<K>, convert: impl Fn(K) -> Result<Named, NotAnInteger>) -> Option<Event<Named>> {
    let convert = |object| convert(object).inspect_err(|error| error!("{error}")).ok();
    Some(match event {
        Event::Apply(object) => Event::Apply(convert(object)?),
        Event::Delete(object) => Event::Delete(convert(object)?),
        Event::InitApply(object) => Event::InitApply(convert(object)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// Returns the response of the API server, if there was one.
pub fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// Returns a message with the problem and its remedy.
fn explain(kind: Kind, namespace: Option<&str>, error: &watcher::Error) -> String {
    let kind_name = kind.plural();
    let place = namespace.map_or_else(String::new, |namespace| format!(" in namespace {namespace}"));
    match status(error).map(|status| (status.code, &status.message)) {
        Some((404, _)) if kind == Kind::Elections => {
            "the Election resource is not installed: run `podium crd | kubectl apply -f -`; retrying".into()
        }
        Some((401, message)) => {
            format!("the API server rejects the credentials of the controller ({message}): renew them; retrying")
        }
        Some((403, message)) => {
            format!(
                "missing permission ({message}): grant the controller's ServiceAccount get, list and watch on {kind_name}{place}; retrying"
            )
        }
        // The revision of the watch expired: a new list follows at once.
        Some((410, _)) => format!("the watch of {kind_name}{place} expired; listing again"),
        Some((code, message)) => format!("the API server cannot serve {kind_name}{place} ({code}: {message}); retrying"),
        None => format!("cannot reach the API server to watch {kind_name}{place}: {error}; retrying"),
    }
}

#[cfg(test)]
mod tests {
    use super::note_synced;

    #[test]
    fn synced_is_never_reset() {
        let (synced, mut receiver) = tokio::sync::watch::channel(false);
        note_synced(&synced, false);
        assert!(!receiver.has_changed().unwrap(), "no change");
        note_synced(&synced, true);
        note_synced(&synced, false);
        assert!(*receiver.borrow_and_update());
        note_synced(&synced, true);
        assert!(!receiver.has_changed().unwrap(), "set once");
    }
}
