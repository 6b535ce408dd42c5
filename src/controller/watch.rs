//! The watches: what the API server delivers goes into the caches, and whom it concerns into the queues.

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

use super::monitor::health::describe;
use super::monitor::silence::WATCH_SECONDS;
use super::observe::cached::{NODE_LEASES, Named};
use super::observe::stream::Kind;
use super::observe::world::went_back;
use super::server::Server;
use super::shared::Shared;
use crate::ids::{NotAnInteger, ResourceVersion};
use crate::retry_after;

/// The delays between attempts to reach the API server. Short, because nobody is elected meanwhile.
const DELAYS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// How long a look at the server may take before a list.
const PATIENCE: Duration = Duration::from_secs(10);

/// Watches one kind until the end of the process. `synced` learns when the first namespace is served.
pub async fn watch<S, K>(
    shared: Arc<Shared<S>>,
    api: Api<K>,
    kind: Kind,
    convert: impl Fn(K) -> Result<Named, NotAnInteger>,
    synced: Arc<Sender<bool>>,
) where
    S: Server,
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let namespace = api.namespace().map(str::to_owned);
    // A list without a resourceVersion: the most recent state, so that no cache ever goes back in time.
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    if kind == Kind::Leases && namespace.is_none() {
        config = config.fields(&format!("metadata.namespace!={NODE_LEASES}"));
    }
    let begin = || watcher(api.clone(), config.clone()).boxed();
    let mut events = begin();
    let mut outages = shared.monitor.health.outages();
    let mut trouble: Option<String> = None;
    let mut delay = DELAYS.0;
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            // The watch may be dead, and would not notice for minutes.
            Ok(()) = outages.changed() => {
                debug!("listing {} anew after an outage", kind.plural());
                events = begin();
                continue;
            }
        };
        let event = match event {
            None => return,
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                let what = explain(kind, namespace.as_deref(), &error);
                let denied = status(&error).is_some_and(|status| status.code == 403);
                shared.monitor.health.trouble((kind, namespace.clone()), &what, denied);
                shared.monitor.metrics.watch_failed(kind);
                if trouble.as_ref() != Some(&what) {
                    warn!("{what}");
                    trouble = Some(what);
                }
                if is_forgotten(&error) {
                    events = begin();
                }
                let asked = status(&error).and_then(retry_after::of_status).unwrap_or_default();
                sleep(delay.max(asked)).await;
                delay = delay.saturating_mul(2).min(DELAYS.1);
                continue;
            }
        };
        if matches!(event, Event::Init) {
            look_back(&shared, &api, kind).await;
        }
        // A list is no success of the watch yet: where only watching fails, everything would be listed again and again.
        if matches!(event, Event::Apply(_) | Event::Delete(_)) {
            delay = DELAYS.0;
        }
        // That a list is about to be asked for is no success at all.
        if !matches!(event, Event::Init) && trouble.take().is_some() {
            info!("watching {} again", describe(&(kind, namespace.clone())));
        }
        let Some(event) = convert_event(event, &convert) else { continue };
        let complete = matches!(event, Event::InitDone);
        let (changes, serves) = {
            let mut world = shared.world();
            let served = namespace.as_deref().is_some_and(|namespace| world.serves(namespace));
            let mut changes = world.watched(kind, namespace.as_deref(), event);
            if complete {
                // What was missed while not watching shows only in what is left.
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

/// Before a list that is not the first one of its watch: whether the server is still where it was when it delivered what is known. The
/// objects of the list need not show it.
async fn look_back<S: Server, K>(shared: &Shared<S>, api: &Api<K>, kind: Kind)
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let newest = {
        let world = shared.world();
        world.newest(kind).filter(|_| world.has_listed(kind, api.namespace()))
    };
    let Some(newest) = newest else { return };
    // Without a resourceVersion: the most recent state. Where it is not answered, neither will the list be.
    let Ok(Ok(list)) = timeout(PATIENCE, api.list(&ListParams::default().limit(1))).await else { return };
    let revision = ResourceVersion::parse(list.metadata.resource_version.as_deref().unwrap_or_default());
    if let Some(revision) = revision.ok().filter(|revision| *revision < newest) {
        shared.halt(&went_back(kind, newest, revision));
    }
}

/// Whether a watch cannot begin where the last one ended, said by the code of the answer: API servers say it by an event, and
/// kube's watcher would ask for the same revision for ever.
fn is_forgotten(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// Tells that a namespace is served, once one is. Watches run side by side, and one that saw that some list was still missing may
/// get to tell it last: it takes nothing back, or the controller would wait for ever.
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

/// What the API server answered, if it did.
fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// What is wrong and what to do about it, in one sentence.
fn explain(kind: Kind, namespace: Option<&str>, error: &watcher::Error) -> String {
    let what = kind.plural();
    let place = namespace.map_or_else(String::new, |namespace| format!(" in namespace {namespace}"));
    match status(error).map(|status| (status.code, &status.message)) {
        Some((404, _)) if kind == Kind::Elections => {
            "the Election resource is not installed: run `podium crd | kubectl apply -f -`; waiting for it".into()
        }
        Some((401, message)) => {
            format!("the API server does not accept our credentials ({message}): renew them; trying again")
        }
        Some((403, message)) => {
            format!(
                "missing rights ({message}): grant get, list and watch on {what}{place} to the controller's account; trying again"
            )
        }
        // The watch is too old to be continued: a new list follows at once.
        Some((410, _)) => format!("the watch of {what}{place} expired; listing them anew"),
        Some((code, message)) => format!("the API server cannot serve {what}{place} ({code}: {message}); trying again"),
        None => format!("cannot reach the API server to watch {what}{place}: {error}; trying again"),
    }
}

#[cfg(test)]
mod tests {
    use super::note_synced;

    #[test]
    fn a_watch_that_is_late_to_tell_that_lists_were_missing_takes_nothing_back() {
        let (synced, mut seen) = tokio::sync::watch::channel(false);
        note_synced(&synced, false);
        assert!(!seen.has_changed().unwrap(), "nothing to tell");
        note_synced(&synced, true);
        note_synced(&synced, false);
        assert!(*seen.borrow_and_update());
        note_synced(&synced, true);
        assert!(!seen.has_changed().unwrap(), "told once");
    }
}
