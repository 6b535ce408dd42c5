//! Timeouts of watches and lists: a connection may be alive as TCP sees it, and deliver nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use tokio::time::timeout;
use tower::BoxError;
use tracing::warn;

use super::health::{Health, RESPONSE, Watch, describe};
use super::metrics::Metrics;

/// Seconds after which the API server is asked to end a watch; the next one continues from its revision, without a list.
///
/// The API server sends bookmarks once a minute, but only while objects of that kind change anywhere in the cluster. It always
/// ends the watch in time. Without a bookmark or an end the connection is dead, however quiet the cluster is.
pub const WATCH_SECONDS: u32 = 65;

/// Silence after which a watch is reported.
const OVERDUE: Duration = Duration::from_secs(67);

/// Silence after which a watch begins again. kube's watcher waits for [`WATCH_SECONDS`] and 5 s, and reports nothing.
const GIVEN_UP: Duration = Duration::from_secs(69);

type Pieces = StreamBody<BoxStream<'static, Result<Frame<Bytes>, BoxError>>>;

/// Bounds the silence of a watch: its stream ends, and kube's watcher continues from its revision.
pub(super) fn bounded_watch(health: Arc<Health>, metrics: Arc<Metrics>, watch: Watch, body: Body) -> Pieces {
    let pieces = stream::unfold(Some((health, metrics, watch, body)), |open| async move {
        let (health, metrics, watch, mut body) = open?;
        let piece = next_of_watch(&health, &metrics, &watch, &mut body).await?;
        Some((piece, Some((health, metrics, watch, body))))
    });
    StreamBody::new(pieces.boxed())
}

async fn next_of_watch(
    health: &Health,
    metrics: &Metrics,
    watch: &Watch,
    body: &mut Body,
) -> Option<Result<Frame<Bytes>, BoxError>> {
    let piece = match timeout(OVERDUE, body.frame()).await {
        Ok(piece) => piece,
        Err(_) => {
            let message = format!(
                "the watch of {} is silent: no event, bookmark or end for {} s, its connection may be dead; \
                 continuing it on another connection",
                describe(watch),
                OVERDUE.as_secs()
            );
            health.silent(watch, &message);
            warn!("{message}");
            let Ok(piece) = timeout(GIVEN_UP - OVERDUE, body.frame()).await else {
                metrics.watch_failed(watch.0);
                return None;
            };
            piece
        }
    };
    health.delivered(watch);
    piece.map(|piece| piece.map_err(BoxError::from))
}

/// Bounds the silence within a list, which then fails.
pub(super) fn bounded_list(body: Body) -> Pieces {
    let pieces = stream::unfold(Some(body), |open| async move {
        let mut body = open?;
        match timeout(RESPONSE, body.frame()).await {
            Ok(piece) => Some((piece?.map_err(BoxError::from), Some(body))),
            Err(_) => {
                let error = format!("the list stopped: the API server sent nothing for {} s", RESPONSE.as_secs());
                Some((Err(error.into()), None))
            }
        }
    });
    StreamBody::new(pieces.boxed())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::runtime::watcher::{Config, Event, watcher};
    use kube::{Api, Client, ResourceExt};
    use serde_json::{Value, json};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::controller::fixtures::options;
    use crate::controller::key::Kind;
    use crate::controller::monitor::Monitor;
    use crate::scripted::{Script, event, server};

    fn pod(revision: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": format!("web-{revision}"), "namespace": "a",
            "resourceVersion": revision } })
    }

    fn list() -> Script {
        let metadata = json!({ "resourceVersion": "7" });
        Script::whole(&json!({ "apiVersion": "v1", "kind": "PodList", "metadata": metadata, "items": [pod("7")] }))
    }

    fn added(revision: &str) -> String {
        event("ADDED", &pod(revision))
    }

    fn bookmark(revision: u64) -> String {
        let metadata = json!({ "resourceVersion": revision.to_string() });
        event("BOOKMARK", &json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata }))
    }

    fn pods() -> Watch {
        (Kind::Pods, Some("a".into()))
    }

    /// Watches until this pod comes, and returns how long it took.
    async fn until(monitor: &Arc<Monitor>, client: &Client, pod: &str) -> Duration {
        let began = Instant::now();
        let api: Api<Pod> = Api::namespaced(monitor.watching(&monitor.monitored(client), pods()), "a");
        let mut events = watcher(api, Config::default().timeout(WATCH_SECONDS)).boxed();
        while let Some(event) = events.next().await {
            if let Ok(Event::Apply(found)) = event
                && found.name_any() == pod
            {
                return began.elapsed();
            }
        }
        panic!("the watcher ended");
    }

    #[tokio::test(start_paused = true)]
    async fn silent_watch_continues_from_its_revision_within_75_s_and_is_reported_meanwhile() {
        let monitor = Monitor::new(&options(), true);
        let (client, asked) = server([list(), Script::silent([(1, added("8"))]), Script::silent([(0, added("9"))])]);
        let watched = until(&monitor, &client, "web-9");
        let observed = async {
            sleep(Duration::from_secs(67)).await;
            assert_eq!(monitor.health.obstacles(&[], None), [""; 0], "not overdue yet");
            sleep(Duration::from_millis(1500)).await;
            let obstacles = monitor.health.obstacles(&[], None);
            assert!(matches!(&obstacles[..], [what] if what.contains("the watch of pods in namespace a")), "{obstacles:?}");
            let silence = monitor.health.idle_times().into_iter().find(|(kind, _)| *kind == Kind::Pods).unwrap().1;
            assert!(silence > Duration::from_secs(66), "{silence:?}");
        };
        let (took, ()) = tokio::join!(watched, observed);
        assert!(took < Duration::from_secs(75), "{took:?}");
        assert_eq!(monitor.health.obstacles(&[], None), [""; 0], "the watch works again");
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 3, "one list only: {asked:?}");
        assert!(asked[2].1.contains("watch=true") && asked[2].1.contains("resourceVersion=8"), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn bookmarks_keep_a_watch_alive_as_events_do() {
        let monitor = Monitor::new(&options(), true);
        let quiet = (10..20).map(|revision| (60, bookmark(revision)));
        let (client, asked) = server([list(), Script::silent(quiet.chain([(62, added("99"))]))]);
        let took = until(&monitor, &client, "web-99").await;
        assert_eq!(took, Duration::from_secs(662));
        assert_eq!(asked.lock().unwrap().len(), 2);
        assert_eq!(monitor.health.obstacles(&[], None), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn watches_that_end_quietly_are_continued_without_a_list_or_a_report() {
        let monitor = Monitor::new(&options(), true);
        let ended = std::iter::repeat_n(Script::quiet(WATCH_SECONDS.into()), 10);
        let last = Script::silent([(0, added("8"))]);
        let (client, asked) = server([list()].into_iter().chain(ended).chain([last]));
        let took = until(&monitor, &client, "web-8").await;
        assert_eq!(took, Duration::from_secs(650));
        let asked = asked.lock().unwrap();
        let resumed = asked.iter().filter(|(_, path)| path.contains("resourceVersion=7")).count();
        assert_eq!((asked.len(), resumed), (12, 11), "{asked:?}");
        assert_eq!(monitor.health.obstacles(&[], None), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn list_that_stops_half_way_is_read_again() {
        let monitor = Monitor::new(&options(), true);
        let half = Script::silent([(0, list().chunks[0].1[..20].to_owned())]);
        let (client, _) = server([half, list(), Script::silent([(0, added("8"))])]);
        let took = until(&monitor, &client, "web-8").await;
        assert_eq!(took, RESPONSE);
    }
}
