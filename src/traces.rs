//! Traces of the controller's reconciles, exported by OTLP over HTTP to the endpoint in OpenTelemetry's variables. Only with the
//! feature `otlp`.
//!
//! Elections never wait for the export. A span that has ended goes into a queue, or is dropped if the queue is full, and a thread
//! of its own sends the queue. A failure is logged once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tracing::{Level, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// The maximum time that a shutdown waits until the queue is sent.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// The default timeout of a request to the collector: OpenTelemetry's.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of a response that is read.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Exports spans.
#[derive(Debug)]
pub struct Export {
    provider: SdkTracerProvider,
}

impl Export {
    /// Returns the export to `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT`, or `None` without them.
    /// `variable` returns the value of a variable.
    ///
    /// # Errors
    /// An endpoint that is invalid, or not plain HTTP.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        // OpenTelemetry treats an empty variable as unset.
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let Some(endpoint) = endpoint(&variable) else { return Ok(None) };
        let request_timeout =
            ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"].into_iter().find_map(&variable);
        let request_timeout = request_timeout
            .and_then(|milliseconds| milliseconds.trim().parse().ok())
            .map_or(DEFAULT_TIMEOUT, Duration::from_millis);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(&endpoint)
            .with_timeout(request_timeout)
            .with_http_client(Sender::new(&endpoint, request_timeout)?)
            .build()
            .map_err(|error| error.to_string())?;
        let resource = resource(variable("OTEL_SERVICE_NAME"));
        let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        Ok(Some(Self { provider }))
    }

    /// Returns the layer that exports Podium's spans, independent of the log level.
    pub fn layer<S: Subscriber + for<'span> LookupSpan<'span>>(&self) -> impl Layer<S> + use<S> {
        let tracer = self.provider.tracer(env!("CARGO_PKG_NAME"));
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            // Podium does not read OpenTelemetry's own context.
            .with_context_activation(false)
            .with_filter(Targets::new().with_target(env!("CARGO_PKG_NAME"), Level::DEBUG))
    }

    /// Sends the rest of the queue, for at most half a second.
    pub fn end(&self) {
        // A failure is already logged.
        let _ = self.provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT);
    }
}

/// Returns the endpoint for traces. The variable for traces is the full URL, the other one the base of all signals.
fn endpoint(variable: &impl Fn(&str) -> Option<String>) -> Option<String> {
    variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| {
        let all = variable("OTEL_EXPORTER_OTLP_ENDPOINT")?;
        Some(format!("{}/v1/traces", all.trim_end_matches('/')))
    })
}

/// Returns the exporter's identity. The environment has precedence over Podium's defaults.
fn resource(service: Option<String>) -> Resource {
    let podium = Resource::builder_empty()
        .with_service_name(env!("CARGO_PKG_NAME"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
    match service {
        Some(service) => podium.with_service_name(service).build(),
        None => podium.build(),
    }
}

/// Sends to the collector. The exporter's thread has no runtime, so this one runs during each request.
#[derive(Debug)]
struct Sender {
    runtime: Runtime,
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint: String,
    request_timeout: Duration,
    /// A failure was logged.
    warned: AtomicBool,
}

impl Sender {
    fn new(endpoint: &str, request_timeout: Duration) -> Result<Self, String> {
        let uri: Uri = endpoint.parse().map_err(|error| format!("the endpoint {endpoint:?} must be a URL: {error}"))?;
        if uri.scheme_str() != Some("http") {
            return Err(format!("the endpoint {endpoint:?} must begin with http://"));
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("failed to start the sender: {error}"))?;
        // No task maintains a connection between two batches.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Ok(Self { runtime, client, endpoint: endpoint.to_owned(), request_timeout, warned: AtomicBool::new(false) })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.client.request(request.map(Full::new)).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    }

    /// Logs the first failure only: elections do not need traces.
    fn warn_once(&self, why: &str) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            warn!(endpoint = self.endpoint, "failed to export traces, logged once: {why}");
        }
    }
}

impl HttpClient for Sender {
    // The signature that the macro async_trait generates.
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> BoxFuture<'b, Result<Response<Bytes>, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let sent = self.runtime.block_on(async { timeout(self.request_timeout, self.send(request)).await });
            let sent = sent.unwrap_or_else(|_| Err(format!("no response within {:?}", self.request_timeout).into()));
            match &sent {
                Ok(answer) if !answer.status().is_success() => {
                    self.warn_once(&format!("the response is {}", answer.status()))
                }
                Ok(_) => {}
                Err(error) => self.warn_once(&whole(&**error)),
            }
            sent
        })
    }
}

/// Formats an error with all of its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
