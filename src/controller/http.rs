//! `/healthz`, `/readyz` and `/metrics`, and PUT `/log` to change the log level.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout;
use tracing::info;

use super::monitor::census::Census;
use super::monitor::elections::{self, Observed};
use super::monitor::health::Report;
use super::monitor::metrics::Scrape;
use super::options::{SetLog, Telemetry};
use super::replicas::Activity;
use super::server::ApiServer;
use super::shared::Shared;
use crate::http::{Body, Server, full, text};

/// Content type of the OpenMetrics format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Maximum size of a request body.
const MAX_BODY: usize = 4096;

/// Timeout of a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves requests. It never returns.
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
                    _ => text(StatusCode::METHOD_NOT_ALLOWED, ROUTES),
                }
            }
        })
        .await
}

const ROUTES: &str = "routes: GET /healthz, GET /readyz, GET /metrics, PUT /log\n";

fn respond<S: ApiServer>(shared: &Shared<S>, activity: &Activity, telemetry: &Telemetry, path: &str) -> Response<Body> {
    match path {
        "/healthz" => healthz(shared),
        "/readyz" => readyz(shared, activity),
        "/metrics" => full(StatusCode::OK, OPEN_METRICS, metrics(shared, activity, telemetry.per_election)),
        _ => text(StatusCode::NOT_FOUND, ROUTES),
    }
}

/// Changes the log level, for clients in the pod or behind `kubectl port-forward`, which requires a permission. Other clients
/// of the port must not be able to fill the log or silence it.
async fn change_log(set_log: &SetLog, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
    if !is_local(peer) {
        return text(StatusCode::FORBIDDEN, "allowed from localhost only: use kubectl port-forward\n");
    }
    let body = match timeout(BODY_TIMEOUT, Limited::new(request.into_body(), MAX_BODY).collect()).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "the body must be log directives such as info,podium=debug\n");
        }
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "timeout of the request body\n"),
    };
    let body = body.to_bytes();
    let directives = String::from_utf8_lossy(&body);
    let directives = directives.trim();
    let accepted = if directives.is_empty() { Err("it must not be empty".into()) } else { set_log(directives) };
    match accepted {
        Ok(()) => {
            info!(log = directives, "log level changed");
            text(StatusCode::OK, "ok\n")
        }
        Err(error) => text(StatusCode::BAD_REQUEST, format!("invalid log directives {directives:?}: {error}\n")),
    }
}

/// Returns whether the client is on the loopback interface. IPv4 addresses may be mapped to IPv6.
fn is_local(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// Responds unless a task hangs while it locks the caches. Any necessary task that ends also ends the process. An unavailable
/// API server is no reason for a restart.
fn healthz<S: ApiServer>(shared: &Shared<S>) -> Response<Body> {
    drop(shared.world());
    text(StatusCode::OK, "ok\n")
}

/// A standby replica is ready, too.
fn readyz<S: ApiServer>(shared: &Shared<S>, activity: &Activity) -> Response<Body> {
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
    // The replica is active anyway.
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
    let idle_times = shared.monitor.health.idle_times();
    let halted = shared.is_halted();
    let (active, time) = (activity.is_active() && !halted, (shared.clock)());
    shared.monitor.metrics.encode(Scrape {
        census,
        elections,
        objects,
        unserved,
        idle_times,
        queues,
        active,
        ready,
        halted,
        time,
    })
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_loopback_clients_are_local() {
        for (peer, local) in [
            ("127.0.0.1:40000", true),
            ("[::1]:40000", true),
            ("[::ffff:127.0.0.1]:40000", true),
            ("10.244.0.7:40000", false),
            ("[::ffff:10.244.0.7]:40000", false),
            ("[fd00::7]:40000", false),
        ] {
            assert_eq!(is_local(peer.parse().unwrap()), local, "{peer}");
        }
    }
}
