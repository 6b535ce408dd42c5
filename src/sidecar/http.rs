//! The HTTP server of the sidecar, for the application in the same pod.
//!
//! Every path without a route, with any method, returns the response of the leader-elector sidecar of Kubernetes 1.2:
//! `{"name":"<leader>"}`, with an empty name while there is no leader. [`super::path`] normalizes paths.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode, Uri};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::metrics;
use super::path::normalized;
use super::readiness::Verdict;
use super::readyz::Readyz;
use super::view::{LeaderInfo, View};
use crate::http::limits::LimitedLog;
use crate::http::{Body, Server, full, text};

/// The interval of comments in a stream without events, by which both sides detect a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The maximum number of open streams of `/events`.
const LISTENERS: usize = 64;

/// Serves until the future is dropped. `readyz`: the readiness of the command, if this process has one.
pub async fn serve(server: Server, view: View, readyz: Option<Readyz>) -> Infallible {
    let listeners = Listeners::new();
    server.serve(move |request, _| ready(respond(&view, readyz.as_ref(), &listeners, request.uri()))).await
}

/// The open streams of `/events`.
#[derive(Debug)]
struct Listeners {
    slots: Arc<Semaphore>,
    too_many: LimitedLog,
}

impl Listeners {
    fn new() -> Arc<Self> {
        Arc::new(Self { slots: Arc::new(Semaphore::new(LISTENERS)), too_many: LimitedLog::default() })
    }

    /// Opens one more stream, if there is a free slot.
    fn admit(&self, view: &View) -> Response<Body> {
        if let Ok(slot) = self.slots.clone().try_acquire_owned() {
            return events(view.clone(), slot);
        }
        let message = format!("/events has {LISTENERS} listeners already: close one, or poll /");
        self.too_many.warn(|| message.clone());
        text(StatusCode::SERVICE_UNAVAILABLE, message + "\n")
    }
}

fn respond(view: &View, readyz: Option<&Readyz>, listeners: &Listeners, uri: &Uri) -> Response<Body> {
    let leader = view.leader();
    match normalized(uri).as_str() {
        // Without a command the path has no route, as in the old sidecars.
        "/readyz" if let Some(readyz) = readyz => readiness(&readyz.verdict()),
        "/leader" if leader.is_leader => text(StatusCode::OK, "leader\n"),
        "/leader" => text(StatusCode::SERVICE_UNAVAILABLE, "not leader\n"),
        "/status" => full(StatusCode::OK, "application/json", status(&leader)),
        "/events" => listeners.admit(view),
        "/healthz" => text(StatusCode::OK, "ok"),
        "/metrics" => full(
            StatusCode::OK,
            metrics::OPEN_METRICS,
            metrics::encode(&leader, view.counts(), readyz.map(|readyz| readyz.verdict().is_ready())),
        ),
        _ => full(StatusCode::OK, "application/json", name(&leader)),
    }
}

fn readiness(verdict: &Verdict) -> Response<Body> {
    let status = if verdict.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, format!("{}\n", verdict.line))
}

/// The response of the old sidecar, byte for byte: Go escapes these three characters in JSON.
fn name(LeaderInfo { name, .. }: &LeaderInfo) -> String {
    let body = json!({ "name": name }).to_string();
    body.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn status(leader: &LeaderInfo) -> String {
    let LeaderInfo { name, is_leader, term, since, age, waiting } = leader;
    let since = since.map(|since| since.to_string());
    let seconds = |duration: &Duration| duration.as_millis() as f64 / 1000.0;
    let (waiting_for, waiting) = waiting.as_ref().map(|(what, duration)| (what, seconds(duration))).unzip();
    json!({
        "name": name, "term": term, "isLeader": is_leader, "since": since, "age": age.as_ref().map(seconds),
        "waitingFor": waiting_for, "waitingSeconds": waiting,
    })
    .to_string()
}

/// Server-sent events: the leader, then each change. The slot is held until the connection ends.
fn events(view: View, slot: OwnedSemaphorePermit) -> Response<Body> {
    let events = stream::unfold((view, None::<LeaderInfo>, slot), |(mut view, sent, slot)| async move {
        loop {
            let leader = view.leader();
            if sent.as_ref().is_none_or(|sent| leader.differs(sent)) {
                let LeaderInfo { name, is_leader, term, .. } = &leader;
                let data = json!({ "name": name, "term": term, "isLeader": is_leader });
                return Some((event(format!("data: {data}\n\n")), (view, Some(leader), slot)));
            }
            if timeout(KEEP_ALIVE, view.changed()).await.is_err() {
                return Some((event(": unchanged\n\n".into()), (view, sent, slot)));
            }
        }
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let headers = response.headers_mut();
    for (header, value) in [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")] {
        headers.insert(header, HeaderValue::from_static(value));
    }
    response
}

fn event(text: String) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(Bytes::from(text)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::watch;

    use super::*;
    use podium_campaign::{Clock, Leadership, LeadershipState, Moment};

    /// Sends each request on a connection of its own to a leader and a follower. Returns the responses of both.
    async fn responses(requests: &[String]) -> Vec<[String; 2]> {
        let mut addresses = Vec::new();
        for leads in [true, false] {
            let holder = Some(("web-0".into(), Moment::NEVER));
            let state =
                LeadershipState { holder, leads_until: leads.then_some(Moment::NEVER), ..LeadershipState::default() };
            let leadership = Leadership::new(watch::channel(state).1, Clock::machine());
            let server = Server::bind("127.0.0.1:0").await.unwrap();
            addresses.push(server.address());
            tokio::spawn(serve(server, View::new(if leads { "web-0" } else { "web-1" }, leadership, None), None));
        }
        let mut responses = Vec::new();
        for request in requests {
            let mut both = [String::new(), String::new()];
            for (address, answer) in addresses.iter().zip(&mut both) {
                let mut connection = TcpStream::connect(address).await.unwrap();
                connection.write_all(request.as_bytes()).await.unwrap();
                let mut bytes = Vec::new();
                connection.read_to_end(&mut bytes).await.unwrap();
                *answer = String::from_utf8(bytes).unwrap();
            }
            responses.push(both);
        }
        responses
    }

    fn codes([leader, follower]: &[String; 2]) -> (&str, &str) {
        (leader.split(' ').nth(1).unwrap_or_default(), follower.split(' ').nth(1).unwrap_or_default())
    }

    #[tokio::test]
    async fn follower_returns_503_for_every_spelling_of_leader_with_every_method() {
        let mut requests = Vec::new();
        for target in
            ["/leader", "/leader/", "//leader", "/LEADER", "/leader?x", "/%6ceader", "/leader%2f", "http://x/leader/"]
        {
            for method in ["GET", "HEAD", "OPTIONS", "POST"] {
                requests.push(format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
                requests.push(format!("{method} {target} HTTP/1.0\r\n\r\n"));
            }
        }
        for (request, answers) in requests.iter().zip(responses(&requests).await) {
            assert_eq!(codes(&answers), ("200", "503"), "{request}");
            let has_body = answers.iter().all(|answer| answer.ends_with("leader\n"));
            assert_eq!(has_body, !request.starts_with("HEAD"), "{request}: {answers:?}");
        }
    }

    #[tokio::test]
    async fn malformed_requests_are_never_answered_with_200() {
        let requests = ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /leader\r\n\r\n", "\r\n\r\n\x16\x03\x01 /leader\r\n\r\n"];
        for [leader, follower] in responses(&requests.map(str::to_owned)).await {
            assert!(!leader.contains(" 200 ") && !follower.contains(" 200 "), "{leader} {follower}");
        }
        let [answer] = &responses(&["GET leader HTTP/1.0\r\n\r\n".into()]).await[..] else { panic!("one answer") };
        assert!(!answer[1].contains(" 200 "), "{answer:?}");
    }

    fn answer(leader: &str) -> LeaderInfo {
        LeaderInfo {
            name: leader.into(),
            is_leader: false,
            term: Some(41),
            since: "2026-11-20T10:00:00Z".parse().ok(),
            age: Some(Duration::from_millis(1500)),
            waiting: None,
        }
    }

    #[test]
    fn default_response_equals_the_old_sidecars_byte_for_byte() {
        assert_eq!(name(&answer("krmcbride-0-8njsd")), r#"{"name":"krmcbride-0-8njsd"}"#);
        assert_eq!(name(&answer("")), r#"{"name":""}"#);
        assert_eq!(name(&answer(r#"a"<&>"#)), r#"{"name":"a\"\u003c\u0026\u003e"}"#);
    }

    #[test]
    fn status_has_all_fields_while_nothing_is_known() {
        let known: serde_json::Value = serde_json::from_str(&status(&answer("web-0"))).unwrap();
        let expected = json!({
            "name": "web-0", "term": 41, "isLeader": false, "since": "2026-11-20T10:00:00Z", "age": 1.5,
            "waitingFor": null, "waitingSeconds": null,
        });
        assert_eq!(known, expected);
        let waiting = Some(("a Lease".to_owned(), Duration::from_millis(2500)));
        let unknown = LeaderInfo { term: None, since: None, age: None, waiting, ..answer("") };
        let unknown: serde_json::Value = serde_json::from_str(&status(&unknown)).unwrap();
        let expected = json!({
            "name": "", "term": null, "isLeader": false, "since": null, "age": null,
            "waitingFor": "a Lease", "waitingSeconds": 2.5,
        });
        assert_eq!(unknown, expected);
    }
}
