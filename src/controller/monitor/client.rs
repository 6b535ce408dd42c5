//! The clients of the controller, which report to health and metrics what the API server responds.

use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::time::timeout;
use tower::service_fn;
use tracing::info;

use super::health::{Health, RESPONSE, Watch, describe};
use super::metrics::Metrics;
use super::requests;
use super::silence::{bounded_list, bounded_watch};
use crate::controller::options::Options;

/// Health and metrics of one controller.
#[derive(Debug)]
pub struct Monitor {
    /// Readiness of the controller.
    pub health: Arc<Health>,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    monitors_clients: bool,
}

impl Monitor {
    /// Returns a monitor of a controller that starts. `monitors_clients`: whether its clients report to it.
    pub fn new(options: &Options, monitors_clients: bool) -> Arc<Self> {
        let health = Arc::new(Health::new(options.candidacy.as_ref()));
        Arc::new(Self { health, metrics: Arc::default(), monitors_clients })
    }

    /// Returns the client of one watch. It reports accepted requests, because a quiet watch shows nothing else. It gives up a
    /// request without a response, and a watch that falls silent, for example because its connection is dead.
    pub fn watching(self: &Arc<Self>, client: &Client, watch: Watch) -> Client {
        if !self.monitors_clients {
            return client.clone();
        }
        self.health.watches(watch.clone());
        let (inner, monitor) = (client.clone(), self.clone());
        let service = service_fn(move |request: Request<Body>| {
            let (inner, monitor, watch) = (inner.clone(), monitor.clone(), watch.clone());
            async move {
                let is_watch = requests::describe(&request).0 == "watch";
                let timed_out = |_| kube::Error::Service(format!("no response within {} s", RESPONSE.as_secs()).into());
                let response = timeout(RESPONSE, inner.send(request)).await.map_err(timed_out)??;
                if response.status().is_success() && monitor.health.accepted(&watch) {
                    info!("watching {} again", describe(&watch));
                }
                Ok::<_, kube::Error>(response.map(|body| match is_watch {
                    true => bounded_watch(monitor.health.clone(), monitor.metrics.clone(), watch, body),
                    false => bounded_list(body),
                }))
            }
        });
        Client::new(service, client.default_namespace())
    }

    /// Returns the client of everything, which counts requests and reports all that the API server sends.
    pub fn monitored(self: &Arc<Self>, client: &Client) -> Client {
        if !self.monitors_clients {
            return client.clone();
        }
        let (inner, monitor) = (client.clone(), self.clone());
        let service = service_fn(move |request: Request<Body>| {
            let (inner, monitor) = (inner.clone(), monitor.clone());
            async move {
                let pending = monitor.metrics.request(&request);
                let response: Response<Body> = inner.send(request).await?;
                pending.responded(response.status());
                monitor.health.received();
                // Of a watch, each event and bookmark.
                Ok::<_, kube::Error>(response.map(|body| {
                    body.map_frame(move |frame| {
                        monitor.health.received();
                        frame
                    })
                }))
            }
        });
        Client::new(service, client.default_namespace())
    }
}
