//! An API server for tests in virtual time: it sends scripted responses in order.

#![allow(missing_docs, reason = "test fixtures")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::Either;
use futures::stream::{self, StreamExt};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// The chunks of one response, each with its delay in seconds after the previous chunk.
#[derive(Clone, Debug)]
pub struct Script {
    pub chunks: Vec<(u64, String)>,
    /// The response ends after the last chunk. Otherwise it stays open.
    pub ends: bool,
}

impl Script {
    pub fn whole(body: &Value) -> Self {
        Self { chunks: vec![(0, body.to_string())], ends: true }
    }

    pub fn silent(chunks: impl IntoIterator<Item = (u64, String)>) -> Self {
        Self { chunks: chunks.into_iter().collect(), ends: false }
    }

    /// A watch that ends after these seconds without an event.
    pub fn quiet(seconds: u64) -> Self {
        Self { chunks: vec![(seconds, String::new())], ends: true }
    }
}

/// A line of a watch.
pub fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": kind, "object": object }))
}

/// The URLs of the requests, each with its time.
pub type Requests = Arc<Mutex<Vec<(Instant, String)>>>;

/// Returns a client of a server that sends these responses, and no response to later requests.
pub fn server(scripts: impl IntoIterator<Item = Script>) -> (Client, Requests) {
    let scripts = Arc::new(Mutex::new(scripts.into_iter().collect::<VecDeque<_>>()));
    let requests = Requests::default();
    let log = requests.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let script = scripts.lock().unwrap().pop_front();
        log.lock().unwrap().push((Instant::now(), request.uri().to_string()));
        async move {
            let Some(Script { chunks, ends }) = script else { std::future::pending().await };
            let chunks = stream::iter(chunks).then(|(seconds, chunk)| async move {
                sleep(Duration::from_secs(seconds)).await;
                Ok::<_, Infallible>(Frame::data(Bytes::from(chunk)))
            });
            let rest = if ends { Either::Left(stream::empty()) } else { Either::Right(stream::pending()) };
            Ok::<_, Infallible>(Response::new(StreamBody::new(chunks.chain(rest))))
        }
    });
    (Client::new(service, "a"), requests)
}
