//! Connections that are kept for the next request, and given up when one of them turns out to be dead.

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

/// A request that is given up after so long without an answer casts doubt on the idle connections. They may lead to the same API
/// server, which hangs, and each request would wait for its timeout on one of them.
const DOUBTFUL: Duration = Duration::from_secs(2);

/// An HTTP client whose idle connections can be given up.
pub struct Pool<C> {
    connector: C,
    current: Arc<Mutex<Current<C>>>,
}

struct Current<C> {
    client: HttpClient<C, Body>,
    /// How many there were before.
    number: u64,
}

impl<C: Connect + Clone + Send + Sync + 'static> Pool<C> {
    /// Without connections.
    pub fn new(connector: C) -> Self {
        let current = Current { client: HttpClient::builder(TokioExecutor::new()).build(connector.clone()), number: 0 };
        Self { connector, current: Arc::new(Mutex::new(current)) }
    }

    /// Requests under way go on; what follows gets new connections.
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

/// A request under way.
struct Pending<C: Connect + Clone + Send + Sync + 'static> {
    pool: Pool<C>,
    number: u64,
    sent: Instant,
    is_answered: bool,
}

impl<C: Connect + Clone + Send + Sync + 'static> Drop for Pending<C> {
    fn drop(&mut self) {
        if !self.is_answered && self.sent.elapsed() >= DOUBTFUL {
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
            // All of it, also its drop, moves in here.
            let mut pending = pending;
            let answer = client.request(request).await;
            pending.is_answered = answer.is_ok();
            answer.map_err(BoxError::from)
        })
    }
}
