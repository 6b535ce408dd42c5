//! An API server for tests in virtual time: it answers requests one after the other, as it is told.

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

/// What one response brings, piece by piece: each so many seconds after the one before.
#[derive(Clone, Debug)]
pub struct Script {
    pub pieces: Vec<(u64, String)>,
    /// Whether the response ends then. Otherwise nothing more comes.
    pub ends: bool,
}

impl Script {
    pub fn whole(body: &Value) -> Self {
        Self { pieces: vec![(0, body.to_string())], ends: true }
    }

    pub fn silent(pieces: impl IntoIterator<Item = (u64, String)>) -> Self {
        Self { pieces: pieces.into_iter().collect(), ends: false }
    }

    /// A watch that ends after so many seconds without an event.
    pub fn quiet(seconds: u64) -> Self {
        Self { pieces: vec![(seconds, String::new())], ends: true }
    }
}

/// A line of a watch.
pub fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": kind, "object": object }))
}

/// What was asked for, and when.
pub type Asked = Arc<Mutex<Vec<(Instant, String)>>>;

/// Answers with these, and what comes after them never.
pub fn server(scripts: impl IntoIterator<Item = Script>) -> (Client, Asked) {
    let scripts = Arc::new(Mutex::new(scripts.into_iter().collect::<VecDeque<_>>()));
    let asked = Asked::default();
    let log = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let script = scripts.lock().unwrap().pop_front();
        log.lock().unwrap().push((Instant::now(), request.uri().to_string()));
        async move {
            let Some(Script { pieces, ends }) = script else { std::future::pending().await };
            let pieces = stream::iter(pieces).then(|(seconds, piece)| async move {
                sleep(Duration::from_secs(seconds)).await;
                Ok::<_, Infallible>(Frame::data(Bytes::from(piece)))
            });
            let rest = if ends { Either::Left(stream::empty()) } else { Either::Right(stream::pending()) };
            Ok::<_, Infallible>(Response::new(StreamBody::new(pieces.chain(rest))))
        }
    });
    (Client::new(service, "a"), asked)
}
