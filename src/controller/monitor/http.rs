//! `/healthz`, `/readyz` and `/metrics`: for the kubelet, for Prometheus and for people; and `/log`, for those who look closer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout;
use tracing::info;

use super::census::Census;
use super::elections::{self, Observed};
use super::health::Report;
use super::metrics::Now;
use crate::controller::replicas::Activity;
use crate::controller::server::Server as ApiServer;
use crate::controller::shared::Shared;
use crate::controller::{SetLog, Telemetry};
use crate::http::{Body, Server, full, text};

/// What Prometheus calls the format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// More than any directives are.
const LONGEST: usize = 4096;

/// How long they may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers for ever.
pub async fn serve<S: ApiServer>(
    server: Server,
    shared: Arc<Shared<S>>,
    activity: Activity,
    telemetry: Telemetry,
) -> Infallible {
    server
        .serve(move |request, peer| {
            let (shared, activity, telemetry) = (shared.clone(), activity.clone(), telemetry.clone());
            async move {
                match (request.method(), request.uri().path()) {
                    (&Method::PUT, "/log") => change_log(&telemetry.set_log, request, peer).await,
                    (&Method::GET | &Method::HEAD, path) => respond(&shared, &activity, &telemetry, path),
                    _ => text(StatusCode::METHOD_NOT_ALLOWED, WHAT_THERE_IS),
                }
            }
        })
        .await
}

const WHAT_THERE_IS: &str = "there are GET /healthz, /readyz, /metrics and PUT /log\n";

fn respond<S: ApiServer>(shared: &Shared<S>, activity: &Activity, telemetry: &Telemetry, path: &str) -> Response<Body> {
    match path {
        "/healthz" => alive(shared),
        "/readyz" => can_work(shared, activity),
        "/metrics" => full(StatusCode::OK, OPEN_METRICS, metrics(shared, activity, telemetry.per_election)),
        _ => text(StatusCode::NOT_FOUND, WHAT_THERE_IS),
    }
}

/// Only for those who are in the pod, or come through `kubectl port-forward`, for which they need a right: whoever else reaches the
/// port must not fill the log, or silence it.
async fn change_log(set_log: &SetLog, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
    if !is_near(peer) {
        return text(StatusCode::FORBIDDEN, "only from localhost: use kubectl port-forward\n");
    }
    let body = match timeout(PATIENCE, Limited::new(request.into_body(), LONGEST).collect()).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return text(StatusCode::PAYLOAD_TOO_LARGE, "directives such as info,podium=debug\n"),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the directives took too long\n"),
    };
    let body = body.to_bytes();
    let directives = String::from_utf8_lossy(&body);
    let directives = directives.trim();
    let accepted = if directives.is_empty() { Err("it is empty".into()) } else { set_log(directives) };
    match accepted {
        Ok(()) => {
            info!(log = directives, "what is logged was changed");
            text(StatusCode::OK, "ok\n")
        }
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{directives:?} is not understood: {error}\n")),
    }
}

/// An address of IPv4 may come in the dress of IPv6.
fn is_near(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// Any task that the controller needs and that ends, ends the process. What is left is one that hangs while it has the caches:
/// then there is no answer. (A lost API server is no reason to be started again.)
fn alive<S: ApiServer>(shared: &Shared<S>) -> Response<Body> {
    drop(shared.world());
    text(StatusCode::OK, "ok\n")
}

/// A replica that stands by is as ready as the active one.
fn can_work<S: ApiServer>(shared: &Shared<S>, activity: &Activity) -> Response<Body> {
    let Report { obstacles, notes } = report(shared, activity);
    let lines = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    if obstacles.is_empty() {
        return text(StatusCode::OK, format!("ok\n{}", lines(&notes)));
    }
    text(StatusCode::SERVICE_UNAVAILABLE, lines(&[obstacles, notes].concat()))
}

fn report<S: ApiServer>(shared: &Shared<S>, activity: &Activity) -> Report {
    let world = shared.world();
    let (trouble, denied) = (activity.trouble(), activity.is_denied());
    let mut report = shared.monitor.health.report(&world.scope(), &world.unlisted(), trouble.clone().filter(|_| !denied));
    // It works all the same.
    report.notes.extend(trouble.filter(|_| denied).map(|why| format!("active without the Lease of the replicas: {why}")));
    report
}

fn metrics<S: ApiServer>(shared: &Shared<S>, activity: &Activity, per_election: bool) -> String {
    let ready = report(shared, activity).obstacles.is_empty();
    let (census, elections, objects, unserved) = {
        let world = shared.world();
        let unserved = shared.monitor.health.unserved(&world.unlisted()).len();
        let census = Census::of(world.elections().map(|(.., election)| (election.created, &election.status)));
        let elections = per_election.then(|| {
            elections::series(world.elections().map(|(namespace, name, election)| {
                let label_key = election.parsed.as_ref().ok().map(|parsed| parsed.settings.label.key.as_str());
                Observed { namespace, name, label_key, status: &election.status }
            }))
        });
        (census, elections.unwrap_or_default(), world.counts(), unserved)
    };
    let queues = [("elections", shared.elections.depth()), ("cleanups", shared.cleanups.depth())];
    let silences = shared.monitor.health.silences();
    let halted = shared.is_halted();
    let (active, time) = (activity.is_active() && !halted, (shared.clock)());
    shared.monitor.metrics.tell(Now { census, elections, objects, unserved, silences, queues, active, ready, halted, time })
}

#[cfg(test)]
mod tests {
    use super::is_near;

    #[test]
    fn only_those_on_the_same_machine_or_in_the_same_pod_are_near() {
        for (peer, near) in [
            ("127.0.0.1:40000", true),
            ("[::1]:40000", true),
            ("[::ffff:127.0.0.1]:40000", true),
            ("10.244.0.7:40000", false),
            ("[::ffff:10.244.0.7]:40000", false),
            ("[fd00::7]:40000", false),
        ] {
            assert_eq!(is_near(peer.parse().unwrap()), near, "{peer}");
        }
    }
}
