//! The controller's passes as traces: exported by OTLP, over HTTP, to where OpenTelemetry's own variables say. Only with the
//! feature `otlp`.
//!
//! Nothing that elects ever waits for it: a span that has ended is put into a queue, or dropped where the queue is full, and a
//! thread of its own sends what is there. What fails is said once.

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

/// How long the end waits until what is left has been sent.
const END: Duration = Duration::from_millis(500);

/// How long a collector may take to answer, unless the environment says otherwise: OpenTelemetry's own number.
const ANSWER: Duration = Duration::from_secs(10);

/// How many bytes of an answer are read. It says next to nothing.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Exports spans.
#[derive(Debug)]
pub struct Export {
    provider: SdkTracerProvider,
}

impl Export {
    /// What the environment asks for, by `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT`: without them,
    /// nothing. `variable`: what a variable says.
    ///
    /// # Errors
    /// An endpoint that is not understood, or not plain HTTP.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        // OpenTelemetry takes an empty variable for none.
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let Some(endpoint) = endpoint(&variable) else { return Ok(None) };
        let patience = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"].into_iter().find_map(&variable);
        let patience =
            patience.and_then(|milliseconds| milliseconds.trim().parse().ok()).map_or(ANSWER, Duration::from_millis);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(&endpoint)
            .with_timeout(patience)
            .with_http_client(Sender::new(&endpoint, patience)?)
            .build()
            .map_err(|error| error.to_string())?;
        let resource = resource(variable("OTEL_SERVICE_NAME"));
        let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        Ok(Some(Self { provider }))
    }

    /// Hands on the spans of Podium, whatever is logged of them.
    pub fn layer<S: Subscriber + for<'span> LookupSpan<'span>>(&self) -> impl Layer<S> + use<S> {
        let tracer = self.provider.tracer(env!("CARGO_PKG_NAME"));
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            // Nothing here reads OpenTelemetry's own context.
            .with_context_activation(false)
            .with_filter(Targets::new().with_target(env!("CARGO_PKG_NAME"), Level::DEBUG))
    }

    /// Sends what is left, as far as that goes in half a second.
    pub fn end(&self) {
        // That it does not work was said already, if it did not.
        let _ = self.provider.shutdown_with_timeout(END);
    }
}

/// Where traces go. That of traces alone is taken as it is, the other one is where all there is to send begins.
fn endpoint(variable: &impl Fn(&str) -> Option<String>) -> Option<String> {
    variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| {
        let all = variable("OTEL_EXPORTER_OTLP_ENDPOINT")?;
        Some(format!("{}/v1/traces", all.trim_end_matches('/')))
    })
}

/// Who exports: what the environment says comes before what Podium does.
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

/// Sends to the collector. The thread that asks for it has no runtime: this one runs while something is sent.
#[derive(Debug)]
struct Sender {
    runtime: Runtime,
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint: String,
    patience: Duration,
    /// Whether somebody was told that it does not work.
    told: AtomicBool,
}

impl Sender {
    fn new(endpoint: &str, patience: Duration) -> Result<Self, String> {
        let uri: Uri = endpoint.parse().map_err(|error| format!("the endpoint {endpoint:?} is not understood: {error}"))?;
        if uri.scheme_str() != Some("http") {
            return Err(format!("the endpoint {endpoint:?} is not one of plain http"));
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("failed to start what sends them: {error}"))?;
        // Nobody looks after a connection between two batches.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Ok(Self { runtime, client, endpoint: endpoint.to_owned(), patience, told: AtomicBool::new(false) })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.client.request(request.map(Full::new)).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    }

    /// Once, however often it fails: who collects traces is not needed to elect.
    fn tell(&self, why: &str) {
        if !self.told.swap(true, Ordering::Relaxed) {
            warn!(endpoint = self.endpoint, "traces are not exported, which is said this once: {why}");
        }
    }
}

impl HttpClient for Sender {
    // What the macro async_trait makes of it.
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> BoxFuture<'b, Result<Response<Bytes>, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let sent = self.runtime.block_on(async { timeout(self.patience, self.send(request)).await });
            let sent = sent.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.patience).into()));
            match &sent {
                Ok(answer) if !answer.status().is_success() => self.tell(&format!("the answer is {}", answer.status())),
                Ok(_) => {}
                Err(error) => self.tell(&whole(&**error)),
            }
            sent
        })
    }
}

/// The error and what it comes from.
fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
