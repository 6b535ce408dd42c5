//! `/healthz` and `/readyz`, for the kubelet and for people.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use hyper::{Method, Response, StatusCode};

use crate::controller::replicas::Activity;
use crate::controller::server::Server as ApiServer;
use crate::controller::shared::Shared;
use crate::http::{Body, Server, text};

/// Answers for ever.
pub async fn serve<S: ApiServer>(server: Server, shared: Arc<Shared<S>>, activity: Activity) -> Infallible {
    server.serve(move |request, _| ready(respond(&shared, &activity, request.method(), request.uri().path()))).await
}

fn respond<S: ApiServer>(shared: &Shared<S>, activity: &Activity, method: &Method, path: &str) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET it\n");
    }
    match path {
        "/healthz" => alive(shared),
        "/readyz" => can_work(shared, activity),
        _ => text(StatusCode::NOT_FOUND, "there are /healthz and /readyz\n"),
    }
}

/// Any task that the controller needs and that ends, ends the process. What is left is one that hangs while it has the caches:
/// then there is no answer. (A lost API server is no reason to be started again.)
fn alive<S: ApiServer>(shared: &Shared<S>) -> Response<Body> {
    drop(shared.world());
    text(StatusCode::OK, "ok\n")
}

/// A replica that stands by is as ready as the active one.
fn can_work<S: ApiServer>(shared: &Shared<S>, activity: &Activity) -> Response<Body> {
    let unlisted = shared.world().unlisted();
    let obstacles = shared.monitor.health.obstacles(&unlisted, activity.trouble());
    if obstacles.is_empty() {
        return text(StatusCode::OK, "ok\n");
    }
    let lines: String = obstacles.iter().map(|obstacle| format!("{obstacle}\n")).collect();
    text(StatusCode::SERVICE_UNAVAILABLE, lines)
}
