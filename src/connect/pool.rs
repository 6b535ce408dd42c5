//! Idle connections for later requests, abandoned when one of them is dead.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::rt::TokioExecutor;
use kube::client::Body;
use tokio::time::Instant;
use tower::{BoxError, Service};

use crate::sync;

/// The minimum age of a canceled request without a response that makes the idle connections suspect.
///
/// They may lead to the same API server. If it hangs, each further request would time out on one of them.
const SUSPECT_AFTER: Duration = Duration::from_secs(2);

/// An HTTP client whose idle connections can be abandoned.
pub struct Pool<C> {
    connector: C,
    current: Arc<Mutex<Current<C>>>,
}

struct Current<C> {
    client: HttpClient<C, Body>,
    /// The number of clients before.
    number: u64,
}

impl<C: Connect + Clone + Send + Sync + 'static> Pool<C> {
    /// Returns a pool without connections.
    pub fn new(connector: C) -> Self {
        let current = Current { client: HttpClient::builder(TokioExecutor::new()).build(connector.clone()), number: 0 };
        Self { connector, current: Arc::new(Mutex::new(current)) }
    }

    /// Abandons the idle connections of this client. Running requests continue; later ones get new connections.
    fn abandon(&self, number: u64) {
        let mut current = self.lock();
        if current.number == number {
            current.client = HttpClient::builder(TokioExecutor::new()).build(self.connector.clone());
            current.number += 1;
        }
    }
}

impl<C> Pool<C> {
    fn lock(&self) -> MutexGuard<'_, Current<C>> {
        sync::lock(&self.current)
    }
}

impl<C: Clone> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self { connector: self.connector.clone(), current: self.current.clone() }
    }
}

/// A running request.
struct Pending<C: Connect + Clone + Send + Sync + 'static> {
    pool: Pool<C>,
    number: u64,
    sent: Instant,
    is_answered: bool,
}

impl<C: Connect + Clone + Send + Sync + 'static> Drop for Pending<C> {
    fn drop(&mut self) {
        if !self.is_answered && self.sent.elapsed() >= SUSPECT_AFTER {
            self.pool.abandon(self.number);
        }
    }
}

impl<C: Connect + Clone + Send + Sync + 'static> Service<Request<Body>> for Pool<C> {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, number) = {
            let current = self.lock();
            (current.client.clone(), current.number)
        };
        let pending = Pending { pool: self.clone(), number, sent: Instant::now(), is_answered: false };
        Box::pin(async move {
            // Moves the guard in, so that a canceled request drops it.
            let mut pending = pending;
            let answer = client.request(request).await;
            pending.is_answered = answer.is_ok();
            answer.map_err(BoxError::from)
        })
    }
}
