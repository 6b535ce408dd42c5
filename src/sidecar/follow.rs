//! Follow mode: one watch on the Lease of an Election, or of a campaign of others.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease as Object;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource};
use podium_campaign::{Clock, LeadershipState, Moment};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::follower::{Follower, Observation};
use crate::connect::WATCH_TIMEOUT;
use crate::log_once::LogOnce;
use crate::retry_after;

/// The first and the longest pause after a failed watch.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Seconds after which the API server ends a watch. Bookmarks show in between that the connection works, so that the sidecars of a
/// cluster need not start a new watch each minute. Where the server sends none, the end of the watch shows it.
const WATCH_SECONDS: u32 = 290;
const WITHOUT_BOOKMARKS: u32 = 60;

/// The pause after an event, and the interval afterwards, at which the watch is polled. When no event is buffered, the next one was
/// sent after that poll.
const SETTLE: Duration = Duration::from_millis(100);
const QUIET: Duration = Duration::from_secs(5);

/// The interval of reads without permission to list and watch.
const POLL: Duration = Duration::from_secs(2);

/// The number of such reads before the next attempt to list and watch.
const READS: usize = 8;

/// Returns 0 if the resourceVersion is no integer: then no event counts as stale.
fn revision_of(object: &DeserializeGuard<Object>) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Follows a Lease, and publishes its leader.
pub struct Follow {
    api: Api<DeserializeGuard<Object>>,
    describe: String,
    namespace: String,
    only: String,
    name: String,
    follower: Follower,
    clock: Clock,
    state: watch::Sender<LeadershipState>,
    problem: LogOnce,
    /// The revision of the last observation.
    revision: u64,
    /// The API server is believed to send bookmarks.
    has_bookmarks: bool,
}

/// The end of a watch or a request.
enum Ended {
    /// The server ended the watch, or the object does not exist.
    Over,
    /// A permission is missing.
    Denied(String),
    /// The request failed, or the watch was silent.
    Failed(String),
    /// The server asks for a pause.
    Busy(String, Duration),
}

impl Follow {
    /// Returns a follower of the Lease of this name.
    pub fn new(
        client: Client,
        (namespace, name): (&str, &str),
        follower: Follower,
        clock: Clock,
        state: watch::Sender<LeadershipState>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            describe: format!("Lease {namespace}/{name}"),
            namespace: namespace.into(),
            only: format!("metadata.name={name}"),
            name: name.into(),
            follower,
            clock,
            state,
            problem: LogOnce::default(),
            revision: 0,
            has_bookmarks: true,
        }
    }

    /// Follows until the future is dropped.
    pub async fn run(mut self) -> std::convert::Infallible {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.watch(&mut pause).await {
                Ended::Over => {}
                Ended::Denied(message) => {
                    self.poll(&message).await;
                    continue;
                }
                Ended::Failed(message) => self.report(Some(message)),
                Ended::Busy(message, after) => {
                    self.report(Some(message));
                    sleep(after.saturating_sub(pause)).await;
                }
            }
            // Also after a regular end: some watches end as soon as they begin.
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Reads the Lease at intervals, without permission to list and watch. `denied`: the message of the server.
    async fn poll(&mut self, denied: &str) {
        for _ in 0..READS {
            let (describe, namespace, every) = (&self.describe, &self.namespace, POLL.as_secs());
            let grant = format!("grant get, list and watch on leases in namespace {namespace}; retrying every {every} s");
            let list = format!("missing permission to list and watch the {describe} ({denied}): {grant}");
            // The same message each time, so that it is logged once.
            let mut rest = POLL;
            let problem = match self.read_once().await {
                Ok(()) | Err(Ended::Over) => list,
                Err(Ended::Denied(_)) => list.replace("to list and watch", "to get, list and watch"),
                Err(Ended::Failed(message)) => message,
                Err(Ended::Busy(message, after)) => {
                    rest = after.max(POLL);
                    message
                }
            };
            self.report(Some(problem));
            sleep(rest).await;
        }
    }

    /// Lists the Lease, then watches it until the watch ends.
    async fn watch(&mut self, pause: &mut Duration) -> Ended {
        let asked = self.clock.moment();
        let list = match self.send(self.api.list(&ListParams::default().fields(&self.only))).await {
            Ok(list) => list,
            Err(ended) => return ended,
        };
        let revision = list.metadata.resource_version.unwrap_or_default();
        let found = list.items.into_iter().next();
        self.revision = found.as_ref().map_or(0, revision_of);
        self.on_read(found, asked);
        let seconds = if self.has_bookmarks { WATCH_SECONDS } else { WITHOUT_BOOKMARKS };
        let only = WatchParams::default().fields(&self.only).timeout(seconds);
        let mut events = match self.send(self.api.watch(&only, &revision)).await {
            Ok(events) => events.boxed(),
            Err(ended) => return ended,
        };
        self.report(None);
        // Every event was sent after this moment.
        let mut after = asked;
        let mut silent = self.clock.moment() + WATCH_TIMEOUT;
        let mut settle = SETTLE;
        loop {
            let polled = self.clock.moment();
            let due = self.follower.read_due().map_or(silent, |look| look.min(silent));
            match timeout(settle.min(due - polled), events.next()).await {
                Ok(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                    self.on_event(object, false, after)
                }
                Ok(Some(Ok(WatchEvent::Deleted(object)))) => self.on_event(object, true, after),
                Ok(Some(Ok(WatchEvent::Bookmark(_)))) => {
                    self.has_bookmarks = true;
                    self.confirm(after);
                }
                Ok(Some(Ok(WatchEvent::Error(_)) | Err(_)) | None) => return Ended::Over,
                Err(_) => {
                    (after, settle) = (polled, QUIET);
                    let now = self.clock.moment();
                    // A maximum age needs reads. Otherwise a new watch is enough.
                    if self.follower.read_due().is_some_and(|look| look <= now) {
                        if let Err(ended) = self.read_once().await {
                            return ended;
                        }
                    } else if silent <= now {
                        self.has_bookmarks = false;
                        return Ended::Failed(self.silent());
                    }
                    continue;
                }
            }
            (silent, settle) = (self.clock.moment() + WATCH_TIMEOUT, SETTLE);
            *pause = FIRST_PAUSE;
        }
    }

    fn silent(&self) -> String {
        let (describe, seconds) = (&self.describe, WATCH_TIMEOUT.as_secs());
        format!(
            "the watch of the {describe} is silent: no event, bookmark or end for {seconds} s, its connection may be dead; \
             watching on another connection"
        )
    }

    /// Reads the Lease once. Never fails with [`Ended::Over`].
    async fn read_once(&mut self) -> Result<(), Ended> {
        let asked = self.clock.moment();
        let object = match self.send(self.api.get(&self.name)).await {
            Ok(object) => Some(object),
            Err(Ended::Over) => None,
            Err(ended) => return Err(ended),
        };
        if let Some(object) = &object {
            self.revision = revision_of(object);
        }
        self.on_read(object, asked);
        Ok(())
    }

    /// Awaits the response, up to [`TIMEOUT`]. [`Ended::Over`]: the object does not exist.
    async fn send<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Ended> {
        match timeout(TIMEOUT, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(Ended::Denied(status.message)),
            Ok(Err(kube::Error::Api(status))) if status.code == 410 => Err(Ended::Over),
            Ok(Err(kube::Error::Api(status)))
                if status.code == 404 && status.details.as_ref().is_some_and(|details| details.kind == "leases") =>
            {
                Err(Ended::Over)
            }
            Ok(Err(error)) => {
                let message = format!("cannot read the {}: {error}", self.describe);
                Err(match retry_after::of(&error) {
                    Some(after) => Ended::Busy(message, after),
                    None => Ended::Failed(message),
                })
            }
            Err(_) => {
                Err(Ended::Failed(format!("cannot read the {}: the API server did not respond in time", self.describe)))
            }
        }
    }

    /// Stores the Lease as it was at some moment after `asked`; `None`: it does not exist.
    fn on_read(&mut self, object: Option<DeserializeGuard<Object>>, asked: Moment) {
        self.follower.observe_read(object.map(Observation::of), asked, self.clock.moment());
        self.publish();
    }

    /// Stores an event that was sent after this moment, unless a read has returned a newer version.
    fn on_event(&mut self, object: DeserializeGuard<Object>, is_deleted: bool, after: Moment) {
        let revision = revision_of(&object);
        if revision < self.revision {
            return;
        }
        self.revision = revision;
        let observation = Some(object).filter(|_| !is_deleted).map(Observation::of);
        self.follower.observe_event(observation, after, self.clock.moment());
        self.publish();
    }

    fn confirm(&mut self, after: Moment) {
        self.follower.confirm(after);
        self.publish();
    }

    /// Logs and publishes a problem: once while it lasts, and when it is over.
    fn report(&mut self, problem: Option<String>) {
        match problem {
            Some(message) if self.problem.is_new(&message) => warn!("{message}"),
            None if self.problem.clear() => info!("following the {} again", self.describe),
            _ => {}
        }
        self.publish();
    }

    fn publish(&self) {
        self.state.send_if_modified(|known| {
            // Before the first observation the former state stands: that of a campaign whose Lease an Election has adopted.
            let seen = self.follower.has_observed().then(|| self.follower.state());
            let waits_for = self.follower.lease_is_absent().then(|| {
                let describe = &self.describe;
                format!(
                    "the {describe} does not exist: create the Election, or correct --election, which names its Lease, and \
                     --election-namespace"
                )
            });
            let problem = self.problem.message().map(str::to_owned);
            let state = LeadershipState { problem, waits_for, ..seen.unwrap_or_else(|| known.clone()) };
            let is_new = *known != state;
            *known = state;
            is_new
        });
    }
}

#[cfg(test)]
mod tests;
