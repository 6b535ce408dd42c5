//! The network between a controller and the server: a `tower::Service` in place of sockets, with faults.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use kube::client::Body;
use podium_test_support::random::Random;
use podium_test_support::server::{Answer, Feed, Place, Request, Resource, Revision};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::caches::Caches;
use crate::cluster::{Cluster, lock};
use crate::schedule::{Lane, Schedule};

/// Read timeout of `podium controller`'s client: a connection silent for this long is dead.
const SILENCE: Duration = Duration::from_secs(300);

/// Probabilities of faults, per thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Requests that take seconds to arrive.
    pub late: u64,
    /// Their maximum delay, in milliseconds.
    pub latest: u64,
    /// Requests rejected without effect: 429, 500, 503, 504.
    pub refused: u64,
    /// Requests that are applied, but get an error or no response.
    pub unanswered: u64,
    /// Requests that never arrive.
    pub lost: u64,
    /// Watches that end early.
    pub dropped: u64,
    /// Watches that become silent.
    pub hung: u64,
    /// Late watch events.
    pub lagging: u64,
    /// Their maximum delay, in milliseconds.
    pub lag: u64,
    /// Requests that get an error before they arrive, later.
    pub abandoned: u64,
}

/// One controller's connection to the server.
pub struct Link {
    cluster: Arc<Cluster>,
    name: String,
    random: Mutex<Random>,
    weather: Weather,
    calm: Arc<AtomicBool>,
    cut: AtomicBool,
    /// Number of times that all watches were ended.
    drops: AtomicU64,
    /// Orders all messages in flight, with this controller's number. `None`: time orders them.
    schedule: Option<(Arc<Schedule>, usize)>,
}

/// The outcome of one request.
struct Fate {
    out: Duration,
    back: Duration,
    arrives: bool,
    refused: Option<u16>,
    answer: Reply,
    abandoned: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reply {
    AsItIs,
    Failure(u16),
    Reset,
    Never,
}

type Chunk = io::Result<Bytes>;

impl Link {
    /// A connection to this cluster. `calm`: no more faults.
    pub fn new(cluster: Arc<Cluster>, name: String, random: Random, weather: Weather, calm: Arc<AtomicBool>) -> Self {
        Self {
            cluster,
            name,
            random: Mutex::new(random),
            weather,
            calm,
            cut: AtomicBool::new(false),
            drops: AtomicU64::new(0),
            schedule: None,
        }
    }

    /// The same, ordered by the schedule.
    pub fn scheduled(self, schedule: Option<(Arc<Schedule>, usize)>) -> Self {
        Self { schedule, ..self }
    }

    /// Cuts or repairs the connection: while it is cut, no message arrives in either direction.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    /// Ends all watches.
    pub fn drop_watches(&self) {
        self.cluster.log(&self.name, "its watches end");
        self.drops.fetch_add(1, Ordering::Relaxed);
        self.cluster.revisions.notify_waiters();
    }

    /// A client on this connection.
    pub fn client(self: &Arc<Self>) -> kube::Client {
        let link = self.clone();
        kube::Client::new(tower::service_fn(move |request| link.clone().serve(request)), "default")
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    async fn serve(self: Arc<Self>, request: http::Request<Body>) -> io::Result<Response<Stream>> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.map_err(io::Error::other)?;
        let query = form(parts.uri.query().unwrap_or_default());
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).map_err(io::Error::other)? };
        let request = Request { method: parts.method.to_string(), path: parts.uri.path().into(), query, body };
        let (answer, answered) = oneshot::channel();
        // Its own task: a request in flight arrives even if its sender is gone.
        tokio::spawn(self.carry(request, answer));
        match timeout(SILENCE, answered).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was read for too long")),
        }
    }

    /// Waits for the lane's turn, or for this time.
    async fn travel(&self, lane: impl Fn(usize) -> Lane, time: Duration) {
        let waited = match &self.schedule {
            Some((schedule, number)) => schedule.turn(lane(*number)).await,
            None => false,
        };
        if !waited {
            sleep(time).await;
        }
    }

    async fn carry(self: Arc<Self>, request: Request, mut to: oneshot::Sender<Response<Stream>>) {
        let fate = self.fate();
        let resource = Place::parse(&request.path).map_or(Resource::Definitions, |place| place.resource);
        let writes = request.method != "GET";
        if fate.abandoned && writes {
            self.cluster.log(&self.name, format_args!("{} {}: given up on the way", request.method, request.path));
            self.travel(|number| Lane::Answers(number, resource), fate.back).await;
            let _ = to.send(self.clone().respond(failure(504)));
            self.travel(Lane::Abandoned, fate.out).await;
            self.cluster.request(&self.name, &request);
            return;
        }
        let lane = if writes { Lane::Writes } else { Lane::Reads };
        self.travel(|number| lane(number, resource), fate.out).await;
        if !fate.arrives || self.cut.load(Ordering::Relaxed) {
            self.cluster.log(&self.name, format_args!("{} {}: lost", request.method, request.path));
            return to.closed().await;
        }
        let answer = match fate.refused {
            Some(code) => failure(code),
            None => self.cluster.request(&self.name, &request),
        };
        if fate.refused.is_some() || fate.answer != Reply::AsItIs {
            let what = fate.refused.map_or("answer lost".into(), |code| format!("refused with {code}"));
            self.cluster.log(&self.name, format_args!("{} {}: {what}", request.method, request.path));
        }
        self.travel(|number| Lane::Answers(number, resource), fate.back).await;
        let answer = match fate.answer {
            Reply::AsItIs => answer,
            Reply::Failure(code) => failure(code),
            Reply::Reset => return,
            Reply::Never => return to.closed().await,
        };
        if self.cut.load(Ordering::Relaxed) {
            return to.closed().await;
        }
        let _ = to.send(self.respond(answer));
    }

    fn respond(self: Arc<Self>, answer: Answer) -> Response<Stream> {
        let (chunks, receiver) = mpsc::unbounded_channel();
        let code = match answer {
            Answer::Json(code, body) => {
                let _ = chunks.send(Ok(body.to_string().into()));
                code
            }
            Answer::Watch(feed) => {
                tokio::spawn(self.stream(feed, chunks));
                200
            }
        };
        let response = Response::builder().status(code).header("content-type", "application/json").body(Stream(receiver));
        response.unwrap_or_else(|error| panic!("a response: {error}"))
    }

    fn fate(&self) -> Fate {
        let mut random = lock(&self.random);
        let mut fate = Fate {
            out: random.millis(1, 12),
            back: random.millis(1, 12),
            arrives: true,
            refused: None,
            answer: Reply::AsItIs,
            abandoned: false,
        };
        if self.is_calm() {
            return fate;
        }
        let weather = self.weather;
        if random.permille(weather.late) {
            fate.out = random.millis(20, weather.latest.max(21));
        }
        if random.permille(weather.late) {
            fate.back = random.millis(20, weather.latest.max(21));
        }
        if weather.abandoned > 0 && random.permille(weather.abandoned) {
            fate.abandoned = true;
        } else if random.permille(weather.lost) {
            fate.arrives = false;
        } else if random.permille(weather.refused) {
            fate.refused = random.pick(&[429, 500, 503, 504, 409]).copied();
        } else if random.permille(weather.unanswered) {
            let answers = [Reply::Failure(504), Reply::Failure(500), Reply::Reset, Reply::Never];
            // A directed world has no time to wait for a response that never arrives.
            let answers = if self.schedule.is_some() { &answers[..3] } else { &answers };
            fate.answer = random.pick(answers).copied().unwrap_or(Reply::Reset);
        }
        fate
    }

    /// Delivers the events of a watch, in order, each with a delay.
    async fn stream(self: Arc<Self>, mut feed: Feed, to: mpsc::UnboundedSender<Chunk>) {
        let (ends, falls_silent, with_error) = self.lifetime(&feed);
        let mut bookmark = Instant::now() + lock(&self.random).millis(40_000, 70_000);
        let drops = self.drops.load(Ordering::Relaxed);
        let server = Caches::pick(&mut lock(&self.random));
        let over = || ends <= Instant::now() || drops != self.drops.load(Ordering::Relaxed);
        let mut started = false;
        loop {
            let changed = self.cluster.revisions.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let news = self.cluster.server().news(&feed, started);
            let news = match news {
                Ok(news) => news,
                Err(event) => {
                    send(&to, &event);
                    return;
                }
            };
            started = true;
            let shown = self.cluster.caches().position(server, feed.resource);
            for revision in news.into_iter().take_while(|revision| revision.number <= shown) {
                let due = self.cluster.instant(revision.at) + self.lag();
                let lane = |number| Lane::Events(number, feed.resource);
                self.travel(lane, due.saturating_duration_since(Instant::now())).await;
                self.wait_while_cut().await;
                if falls_silent.is_some_and(|at| at <= Instant::now()) {
                    self.cluster.log(&self.name, format_args!("a watch fell silent before revision {}", revision.number));
                    return hang(&to).await;
                }
                if over() {
                    break;
                }
                if !send(&to, &revision.event()) {
                    return;
                }
                feed.position = revision.number;
            }
            let until = ends.min(bookmark).min(falls_silent.filter(|at| *at > Instant::now()).unwrap_or(ends));
            let _ = tokio::time::timeout_at(until, changed).await;
            if to.is_closed() {
                return;
            }
            if falls_silent.is_some_and(|at| at <= Instant::now()) {
                return hang(&to).await;
            }
            if over() {
                if with_error {
                    let _ = to.send(Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset")));
                }
                return;
            }
            if bookmark <= Instant::now() {
                bookmark = Instant::now() + lock(&self.random).millis(40_000, 70_000);
                let shown = self.cluster.caches().position(server, feed.resource);
                let server = self.cluster.server();
                let revision = server.revision().min(shown);
                let is_left = |news: &[Revision]| news.iter().any(|revision| revision.number <= shown);
                // Only if all events are delivered, and never below the watch's position.
                let done = server.news(&feed, true).is_ok_and(|news| !is_left(&news)) && revision >= feed.position;
                if done && !self.cut.load(Ordering::Relaxed) {
                    feed.position = revision;
                    if !send(&to, &feed.bookmark(revision)) {
                        return;
                    }
                }
            }
        }
    }

    /// Draws when a watch ends, when it becomes silent, and whether it ends with an error.
    fn lifetime(&self, feed: &Feed) -> (Instant, Option<Instant>, bool) {
        let now = Instant::now();
        let mut random = lock(&self.random);
        let (mut ends, mut silent, mut with_error) = (now + Duration::from_secs(feed.seconds), None, false);
        if !self.is_calm() {
            if random.permille(self.weather.dropped) {
                ends = now + random.millis(1, 20_000);
                with_error = random.permille(500);
            }
            if random.permille(self.weather.hung) {
                silent = Some(now + random.millis(1, 20_000));
            }
        }
        (ends, silent, with_error)
    }

    fn lag(&self) -> Duration {
        let mut random = lock(&self.random);
        let late = !self.is_calm() && random.permille(self.weather.lagging);
        if late { random.millis(10, self.weather.lag.max(11)) } else { random.millis(0, 8) }
    }

    async fn wait_while_cut(&self) {
        while self.cut.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Sends one event. Returns whether the client still reads.
fn send(to: &mpsc::UnboundedSender<Chunk>, event: &Value) -> bool {
    to.send(Ok(format!("{event}\n").into())).is_ok()
}

/// Delivers nothing until the client gives up.
async fn hang(to: &mpsc::UnboundedSender<Chunk>) {
    if timeout(SILENCE, to.closed()).await.is_err() {
        let _ = to.send(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was read for too long")));
    }
}

fn failure(code: u16) -> Answer {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "this is not a good time", "reason": reason, "code": code,
    });
    Answer::Json(code, body)
}

fn form(query: &str) -> std::collections::BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8_lossy(&digits).into_owned();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'%'));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A body that arrives in chunks.
pub struct Stream(mpsc::UnboundedReceiver<Chunk>);

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}
