//! What the sidecar serves to the application beside it.
//!
//! On every path that is not listed below, and for every method, the answer of the leader-elector sidecar of Kubernetes 1.2:
//! `{"name":"<leader>"}`, with an empty name while nobody leads. [`super::path`] says what counts as one of these paths.

use std::convert::Infallible;
use std::fmt::Write;
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

use super::path::plain;
use super::view::{Answer, Counts, View};
use crate::http::limits::LimitedLog;
use crate::http::{Body, Server, full, text};

/// A stream of events on which nothing happens says so after as long, so that both sides notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How many may listen to `/events` at a time.
const LISTENERS: usize = 64;

/// Serves for ever.
pub async fn serve(server: Server, view: View) -> Infallible {
    let listeners = Listeners::new();
    server.serve(move |request, _| ready(respond(&view, &listeners, request.uri()))).await
}

/// Those who listen to `/events`.
#[derive(Debug)]
struct Listeners {
    places: Arc<Semaphore>,
    too_many: LimitedLog,
}

impl Listeners {
    fn new() -> Arc<Self> {
        Arc::new(Self { places: Arc::new(Semaphore::new(LISTENERS)), too_many: LimitedLog::default() })
    }

    /// Answers one more, if there is a place.
    fn admit(&self, view: &View) -> Response<Body> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return events(view.clone(), place);
        }
        let what = format!("/events has {LISTENERS} listeners already: close one, or ask / from time to time");
        self.too_many.warn(|| what.clone());
        text(StatusCode::SERVICE_UNAVAILABLE, what + "\n")
    }
}

fn respond(view: &View, listeners: &Listeners, uri: &Uri) -> Response<Body> {
    let answer = view.answer();
    match plain(uri).as_str() {
        "/leader" if answer.is_leader => text(StatusCode::OK, "leader\n"),
        "/leader" => text(StatusCode::SERVICE_UNAVAILABLE, "not leader\n"),
        "/status" => full(StatusCode::OK, "application/json", status(&answer)),
        "/events" => listeners.admit(view),
        "/healthz" => text(StatusCode::OK, "ok"),
        "/metrics" => full(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics(&answer, view.counts())),
        _ => full(StatusCode::OK, "application/json", name(&answer)),
    }
}

/// The old answer, byte for byte: Go escapes these three in JSON, too.
fn name(Answer { name, .. }: &Answer) -> String {
    let body = json!({ "name": name }).to_string();
    body.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn status(answer: &Answer) -> String {
    let Answer { name, is_leader, term, since, age, waiting } = answer;
    let since = since.map(|since| since.to_string());
    let seconds = |duration: &Duration| duration.as_millis() as f64 / 1000.0;
    let (waiting_for, waiting) = waiting.as_ref().map(|(what, duration)| (what, seconds(duration))).unzip();
    json!({
        "name": name, "term": term, "isLeader": is_leader, "since": since, "age": age.as_ref().map(seconds),
        "waitingFor": waiting_for, "waitingSeconds": waiting,
    })
    .to_string()
}

fn metrics(answer: &Answer, counts: Counts) -> String {
    let Counts { changes, renewals } = counts;
    let Answer { name, is_leader, term, since: _, age, waiting: _ } = answer;
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, value: f64| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    };
    gauge("podium_sidecar_is_leader", "Whether this pod leads.", f64::from(u8::from(*is_leader)));
    gauge("podium_sidecar_leader_known", "Whether it is known who leads.", f64::from(u8::from(!name.is_empty())));
    if let Some(term) = term {
        gauge("podium_sidecar_term", "The term of the leader, where it is known.", *term as f64);
    }
    if let Some(age) = age {
        gauge("podium_sidecar_information_age_seconds", "How old the API server's word is.", age.as_secs_f64());
    }
    let mut counter = |name: &str, help: &str, values: &[(&str, u64)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let named = "How often a leader was named after another one, or after nobody.";
    counter("podium_sidecar_leader_changes_total", named, &[("", changes)]);
    if let Some((succeeded, failed)) = renewals {
        let results = [("{result=\"success\"}", succeeded), ("{result=\"failure\"}", failed)];
        counter("podium_sidecar_renewals_total", "How often this pod renewed its lead, and failed to.", &results);
    }
    text
}

/// Server-sent events: who leads now, and then each change. `place` is held until the listener goes.
fn events(view: View, place: OwnedSemaphorePermit) -> Response<Body> {
    let told = stream::unfold((view, None::<Answer>, place), |(mut view, told, place)| async move {
        loop {
            let answer = view.answer();
            if told.as_ref().is_none_or(|told| answer.differs(told)) {
                let Answer { name, is_leader, term, .. } = &answer;
                let data = json!({ "name": name, "term": term, "isLeader": is_leader });
                return Some((event(format!("data: {data}\n\n")), (view, Some(answer), place)));
            }
            if timeout(KEEP_ALIVE, view.changed()).await.is_err() {
                return Some((event(": still so\n\n".into()), (view, told, place)));
            }
        }
    });
    let mut response = Response::new(StreamBody::new(told).boxed_unsync());
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

    /// Sends requests, one on each connection, to a leader and to a follower, and returns the answers of both.
    async fn answers(requests: &[String]) -> Vec<[String; 2]> {
        let mut addresses = Vec::new();
        for leads in [true, false] {
            let holder = Some(("web-0".into(), Moment::NEVER));
            let standing =
                LeadershipState { holder, leads_until: leads.then_some(Moment::NEVER), ..LeadershipState::default() };
            let leadership = Leadership::new(watch::channel(standing).1, Clock::machine());
            let server = Server::bind("127.0.0.1:0").await.unwrap();
            addresses.push(server.address());
            tokio::spawn(serve(server, View::new(if leads { "web-0" } else { "web-1" }, leadership, None)));
        }
        let mut answers = Vec::new();
        for request in requests {
            let mut both = [String::new(), String::new()];
            for (address, answer) in addresses.iter().zip(&mut both) {
                let mut connection = TcpStream::connect(address).await.unwrap();
                connection.write_all(request.as_bytes()).await.unwrap();
                let mut bytes = Vec::new();
                connection.read_to_end(&mut bytes).await.unwrap();
                *answer = String::from_utf8(bytes).unwrap();
            }
            answers.push(both);
        }
        answers
    }

    fn codes([leader, follower]: &[String; 2]) -> (&str, &str) {
        (leader.split(' ').nth(1).unwrap_or_default(), follower.split(' ').nth(1).unwrap_or_default())
    }

    #[tokio::test]
    async fn a_follower_answers_503_to_every_spelling_of_leader_in_every_kind_of_request() {
        let mut requests = Vec::new();
        for target in
            ["/leader", "/leader/", "//leader", "/LEADER", "/leader?x", "/%6ceader", "/leader%2f", "http://x/leader/"]
        {
            for method in ["GET", "HEAD", "OPTIONS", "POST"] {
                requests.push(format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
                requests.push(format!("{method} {target} HTTP/1.0\r\n\r\n"));
            }
        }
        for (request, answers) in requests.iter().zip(answers(&requests).await) {
            assert_eq!(codes(&answers), ("200", "503"), "{request}");
            let has_body = answers.iter().all(|answer| answer.ends_with("leader\n"));
            assert_eq!(has_body, !request.starts_with("HEAD"), "{request}: {answers:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_request_of_this_protocol_is_not_answered_200() {
        let requests = ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /leader\r\n\r\n", "\r\n\r\n\x16\x03\x01 /leader\r\n\r\n"];
        for [leader, follower] in answers(&requests.map(str::to_owned)).await {
            assert!(!leader.contains(" 200 ") && !follower.contains(" 200 "), "{leader} {follower}");
        }
        let [answer] = &answers(&["GET leader HTTP/1.0\r\n\r\n".into()]).await[..] else { panic!("one answer") };
        assert!(!answer[1].contains(" 200 "), "{answer:?}");
    }

    fn answer(leader: &str) -> Answer {
        Answer {
            name: leader.into(),
            is_leader: false,
            term: Some(41),
            since: "2026-11-20T10:00:00Z".parse().ok(),
            age: Some(Duration::from_millis(1500)),
            waiting: None,
        }
    }

    #[test]
    fn the_old_answer_is_the_same_byte_for_byte() {
        assert_eq!(name(&answer("krmcbride-0-8njsd")), r#"{"name":"krmcbride-0-8njsd"}"#);
        assert_eq!(name(&answer("")), r#"{"name":""}"#);
        assert_eq!(name(&answer(r#"a"<&>"#)), r#"{"name":"a\"\u003c\u0026\u003e"}"#);
    }

    #[test]
    fn the_status_has_all_of_its_fields_also_where_nothing_is_known() {
        let known: serde_json::Value = serde_json::from_str(&status(&answer("web-0"))).unwrap();
        let expected = json!({
            "name": "web-0", "term": 41, "isLeader": false, "since": "2026-11-20T10:00:00Z", "age": 1.5,
            "waitingFor": null, "waitingSeconds": null,
        });
        assert_eq!(known, expected);
        let waiting = Some(("a Lease".to_owned(), Duration::from_millis(2500)));
        let unknown = Answer { term: None, since: None, age: None, waiting, ..answer("") };
        let unknown: serde_json::Value = serde_json::from_str(&status(&unknown)).unwrap();
        let expected = json!({
            "name": "", "term": null, "isLeader": false, "since": null, "age": null,
            "waitingFor": "a Lease", "waitingSeconds": 2.5,
        });
        assert_eq!(unknown, expected);
    }

    #[test]
    fn metrics_leave_out_what_is_not_known() {
        let follows = Counts { changes: 3, renewals: None };
        assert!(metrics(&answer("web-0"), follows).contains("\npodium_sidecar_term 41\n"));
        let unknown = metrics(&Answer { term: None, age: None, ..answer("") }, follows);
        assert!(unknown.contains("\npodium_sidecar_leader_known 0\n") && !unknown.contains("_term"), "{unknown}");
        assert!(!unknown.contains("renewals"), "{unknown}");
    }

    #[test]
    fn what_prometheus_reads_is_what_was_counted() {
        let text = metrics(&answer("web-0"), Counts { changes: 3, renewals: Some((20, 1)) });
        let read = prometheus_parse::Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let counters = read.samples.iter().filter_map(|sample| match sample.value {
            prometheus_parse::Value::Counter(value) => Some((sample.metric.as_str(), sample.labels.get("result"), value)),
            _ => None,
        });
        let renewals = "podium_sidecar_renewals_total";
        let expected = [
            ("podium_sidecar_leader_changes_total", None, 3.0),
            (renewals, Some("success"), 20.0),
            (renewals, Some("failure"), 1.0),
        ];
        assert_eq!(counters.collect::<Vec<_>>(), expected);
        assert_eq!(read.samples.len(), 7, "{text}");
    }
}
