//! What the sidecar serves to the application beside it.
//!
//! On every path that is not listed below, and for every method, the answer of the leader-elector sidecar of Kubernetes 1.2:
//! `{"name":"<leader>"}`, with an empty name while nobody leads.

use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::json;
use tokio::net::{TcpListener, lookup_host};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::view::{Answer, View};

/// A connection on which no request arrives for so long is closed.
const IDLE: Duration = Duration::from_secs(120);

/// A stream of events on which nothing happens says so after as long, so that both sides notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// What to do when no more connections can be taken: there are too many.
const TOO_MANY: Duration = Duration::from_millis(100);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A server that listens already.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens on `address`: `0.0.0.0:4040`, `localhost:4040`, or `:4040` for all interfaces.
    ///
    /// # Errors
    /// An address that does not exist, or is in use.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let all = address.strip_prefix(':').map(|port| [format!("[::]:{port}"), format!("0.0.0.0:{port}")]);
        let listener = match &all {
            None => {
                // As Go does it: an application that asks 127.0.0.1 finds what listens on localhost.
                let mut found: Vec<SocketAddr> = lookup_host(address).await?.collect();
                found.sort_by_key(SocketAddr::is_ipv6);
                TcpListener::bind(&found[..]).await?
            }
            Some([dual, v4]) => match TcpListener::bind(dual).await {
                // A machine without IPv6.
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => TcpListener::bind(v4).await?,
                bound => bound?,
            },
        };
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever.
    pub async fn serve(self, view: View) -> Infallible {
        loop {
            let connection = match self.listener.accept().await {
                Ok((connection, _)) => connection,
                Err(error) => {
                    warn!("cannot take a connection: {error}");
                    sleep(TOO_MANY).await;
                    continue;
                }
            };
            let view = view.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let response = respond(&view, request.uri().path());
                async { Ok::<_, Infallible>(response) }
            });
            let mut http = http1::Builder::new();
            // The header names as the old sidecar wrote them: some scripts compare them as they are.
            http.title_case_headers(true).timer(TokioTimer::new()).header_read_timeout(IDLE);
            let connection = http.serve_connection(TokioIo::new(connection), service);
            tokio::spawn(async {
                if let Err(error) = connection.await {
                    debug!("a connection ended: {error}");
                }
            });
        }
    }
}

fn respond(view: &View, path: &str) -> Response<Body> {
    let answer = view.answer();
    match path {
        "/leader" if answer.is_leader => text(StatusCode::OK, "leader\n"),
        "/leader" => text(StatusCode::SERVICE_UNAVAILABLE, "not leader\n"),
        "/status" => full(StatusCode::OK, "application/json", status(&answer)),
        "/events" => events(view.clone()),
        "/healthz" => text(StatusCode::OK, "ok"),
        "/metrics" => full(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics(&answer)),
        _ => full(StatusCode::OK, "application/json", name(&answer)),
    }
}

fn text(status: StatusCode, body: &str) -> Response<Body> {
    full(status, "text/plain; charset=utf-8", body.to_owned())
}

fn full(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let length = body.len();
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    // In the order in which the old sidecar wrote them. hyper by itself would put the date last.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
    // A year that has no four digits has no date.
    if let Some(date) = date.ok().and_then(|date| HeaderValue::try_from(date).ok()) {
        headers.insert(DATE, date);
    }
    headers.insert(CONTENT_LENGTH, length.into());
    response
}

/// The old answer, byte for byte: Go escapes these three in JSON, too.
fn name(Answer { name, .. }: &Answer) -> String {
    let body = json!({ "name": name }).to_string();
    body.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn status(answer: &Answer) -> String {
    let Answer { name, is_leader, term, since, age } = answer;
    let since = since.map(|since| since.to_string());
    let age = age.map(|age| age.as_millis() as f64 / 1000.0);
    json!({ "name": name, "term": term, "isLeader": is_leader, "since": since, "age": age }).to_string()
}

fn metrics(answer: &Answer) -> String {
    let Answer { name, is_leader, term, since: _, age } = answer;
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
    text
}

/// Server-sent events: who leads now, and then each change.
fn events(view: View) -> Response<Body> {
    let told = stream::unfold((view, None::<Answer>), |(mut view, told)| async move {
        loop {
            let answer = view.answer();
            if told.as_ref().is_none_or(|told| answer.differs(told)) {
                let Answer { name, is_leader, term, .. } = &answer;
                let data = json!({ "name": name, "term": term, "isLeader": is_leader });
                return Some((event(format!("data: {data}\n\n")), (view, Some(answer))));
            }
            if timeout(KEEP_ALIVE, view.changed()).await.is_err() {
                return Some((event(": still so\n\n".into()), (view, told)));
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
    use super::*;

    fn answer(leader: &str) -> Answer {
        Answer {
            name: leader.into(),
            is_leader: false,
            term: Some(41),
            since: "2026-11-20T10:00:00Z".parse().ok(),
            age: Some(Duration::from_millis(1500)),
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
        let expected =
            json!({ "name": "web-0", "term": 41, "isLeader": false, "since": "2026-11-20T10:00:00Z", "age": 1.5 });
        assert_eq!(known, expected);
        let unknown = Answer { term: None, since: None, age: None, ..answer("") };
        let unknown: serde_json::Value = serde_json::from_str(&status(&unknown)).unwrap();
        assert_eq!(unknown, json!({ "name": "", "term": null, "isLeader": false, "since": null, "age": null }));
    }

    #[test]
    fn metrics_leave_out_what_is_not_known() {
        assert!(metrics(&answer("web-0")).contains("\npodium_sidecar_term 41\n"));
        let unknown = metrics(&Answer { term: None, age: None, ..answer("") });
        assert!(unknown.contains("\npodium_sidecar_leader_known 0\n") && !unknown.contains("_term"), "{unknown}");
    }
}
