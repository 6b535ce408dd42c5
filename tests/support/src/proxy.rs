//! A proxy in front of an API server: counts requests, answers some with errors, and can cut all connections.
//!
//! It serves plain HTTP on a local port, and forwards with the credentials of its kubeconfig.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::{self, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The fate of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The API server responds.
    Forward,
    /// The proxy responds with this code, without the API server.
    Refuse(u16),
    /// A watch gets an event, as from an API server, that its revision has expired.
    Expire,
    /// The API server applies it, but the response has this code.
    Lose(u16),
    /// The API server never sees it, and it gets no response.
    Hang,
    /// The API server sees it after [`Proxy::let_go`], unless the client has given up.
    Hold,
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// GET, POST, PUT, PATCH or DELETE.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Time of arrival.
    pub at: Instant,
    /// Its fate.
    pub fate: Fate,
}

impl Asked {
    /// Returns whether it is a watch.
    pub fn is_watch(&self) -> bool {
        self.path.contains("watch=true")
    }

    /// Returns whether it writes this object: `leases/web`, or creates one: `leases`.
    pub fn writes(&self, object: &str) -> bool {
        let path = self.path.split('?').next().unwrap_or_default();
        self.method != "GET" && path.ends_with(&format!("/{object}"))
    }
}

type Rule = Box<dyn FnMut(&Asked) -> Fate + Send>;

/// The proxy, stopped on drop.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    _accepting: JoinSet<()>,
}

struct State {
    client: Client,
    rule: Mutex<Rule>,
    asked: Mutex<Vec<Asked>>,
    /// Requests with responses, and their freezes.
    answered: Mutex<Vec<(Asked, watch::Sender<bool>)>>,
    let_go: watch::Sender<bool>,
    connections: Mutex<JoinSet<()>>,
}

impl Proxy {
    /// Starts a proxy to this API server that forwards everything.
    pub async fn to(kubeconfig: &Kubeconfig) -> Self {
        let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await;
        let mut config = config.expect("a usable kubeconfig");
        config.default_retry = false;
        let state = Arc::new(State {
            client: Client::try_from(config).expect("a usable kubeconfig"),
            rule: Mutex::new(Box::new(|_| Fate::Forward)),
            asked: Mutex::default(),
            answered: Mutex::default(),
            let_go: watch::Sender::new(false),
            connections: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a local address").port();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, state.clone()));
        Self { port, state, _accepting: accepting }
    }

    /// A kubeconfig with the proxy's address.
    pub fn kubeconfig(&self) -> Kubeconfig {
        let name = "proxy";
        serde_json::from_value(json!({
            "clusters": [{ "name": name, "cluster": { "server": format!("http://127.0.0.1:{}", self.port) } }],
            "users": [{ "name": name, "user": {} }],
            "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
            "current-context": name,
        }))
        .expect("a kubeconfig")
    }

    /// Decides the fate of further requests by `rule`.
    pub fn rule(&self, rule: impl FnMut(&Asked) -> Fate + Send + 'static) {
        *lock(&self.state.rule) = Box::new(rule);
    }

    /// Forwards further requests.
    pub fn heal(&self) {
        self.rule(|_| Fate::Forward);
    }

    /// Forwards held requests, and holds no more.
    pub fn let_go(&self) {
        self.state.let_go.send_replace(true);
    }

    /// Cuts all connections, but accepts new ones: watches have to be requested again.
    pub fn cut(&self) {
        lock(&self.state.connections).abort_all();
    }

    /// Freezes these responses: they stay open without data, as from a hanging API server. Returns the number still open.
    pub fn freeze(&self, wanted: impl Fn(&Asked) -> bool) -> usize {
        let mut answered = lock(&self.state.answered);
        answered.retain(|(_, frozen)| frozen.receiver_count() > 0);
        let found = answered.iter().filter(|(asked, frozen)| wanted(asked) && !frozen.send_replace(true));
        found.count()
    }

    /// Removes and returns the requests so far.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *lock(&self.state.asked))
    }

    /// Requests since the last [`Self::take`] that satisfy this.
    pub fn asked(&self, wanted: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        lock(&self.state.asked).iter().filter(|asked| wanted(asked)).cloned().collect()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let each = state.clone();
        let service = service_fn(move |request| {
            let state = each.clone();
            async move { answer(&state, request).await }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let mut connections = lock(&state.connections);
        connections.spawn(async move {
            // The connection has ended, whichever side closed it.
            let _ = connection.await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, kube::Error>>;

async fn answer(state: &State, request: Request<Incoming>) -> Result<Answer, kube::Error> {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut asked = Asked { method: request.method().to_string(), path, at: Instant::now(), fate: Fate::Forward };
    asked.fate = (lock(&state.rule))(&asked);
    let fate = asked.fate;
    lock(&state.asked).push(asked.clone());
    match fate {
        Fate::Refuse(code) => return Ok(refusal(code)),
        Fate::Expire => return Ok(expired_watch()),
        Fate::Hang => std::future::pending().await,
        Fate::Hold => {
            // `state` owns the sender.
            let _ = state.let_go.subscribe().wait_for(|let_go| *let_go).await;
        }
        Fate::Forward | Fate::Lose(_) => {}
    }
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(hyper::header::HOST);
    let body = body.collect().await.map_err(|error| kube::Error::Service(error.into()))?.to_bytes();
    let answer = state.client.send(Request::from_parts(parts, Body::from(body))).await?;
    Ok(match fate {
        Fate::Lose(code) => refusal(code),
        _ => answer.map(|body| {
            let (frozen, freezes) = watch::channel(false);
            lock(&state.answered).push((asked, frozen));
            until_frozen(body, freezes)
        }),
    })
}

/// Returns the body, silent once it is frozen.
fn until_frozen(body: Body, freezes: watch::Receiver<bool>) -> UnsyncBoxBody<Bytes, kube::Error> {
    let pieces = stream::unfold((body, freezes), |(mut body, mut freezes)| async move {
        let is_frozen = async { freezes.wait_for(|frozen| *frozen).await.is_ok() };
        let piece = tokio::select! {
            biased;
            // The sender lives as long as the proxy, and this ends with the proxy.
            true = is_frozen => std::future::pending().await,
            piece = body.frame() => piece?,
        };
        Some((piece, (body, freezes)))
    });
    StreamBody::new(pieces.boxed()).boxed_unsync()
}

/// The response of an overloaded API server.
fn refusal(code: u16) -> Answer {
    let reason = match code {
        410 => "Expired",
        429 => "TooManyRequests",
        504 => "Timeout",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let message = format!("the test's proxy answers {code}");
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code });
    let body = whole(status.to_string());
    let response = Response::builder().status(code).header("Content-Type", "application/json");
    response.header("Retry-After", "1").body(body).expect("a response")
}

/// The response to a watch from an expired revision.
fn expired_watch() -> Answer {
    let event = json!({ "type": "ERROR", "object": { "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410 } });
    let body = whole(format!("{event}\n"));
    Response::builder().header("Content-Type", "application/json").body(body).expect("a response")
}

fn whole(body: String) -> UnsyncBoxBody<Bytes, kube::Error> {
    Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
