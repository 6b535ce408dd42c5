//! What the sidecar serves to the application beside it.
//!
//! On every path that is not listed below, and for every method, the answer of the leader-elector sidecar of Kubernetes 1.2:
//! `{"name":"<leader>"}`, with an empty name while nobody leads.

use std::convert::Infallible;
use std::fmt::Write;
use std::future::ready;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;
use tokio::time::timeout;

use super::view::{Answer, Counts, View};
use crate::http::{Body, Server, full, text};

/// A stream of events on which nothing happens says so after as long, so that both sides notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Serves for ever.
pub async fn serve(server: Server, view: View) -> Infallible {
    server.serve(move |request, _| ready(respond(&view, request.uri().path()))).await
}

fn respond(view: &View, path: &str) -> Response<Body> {
    let answer = view.answer();
    match path {
        "/leader" if answer.is_leader => text(StatusCode::OK, "leader\n"),
        "/leader" => text(StatusCode::SERVICE_UNAVAILABLE, "not leader\n"),
        "/status" => full(StatusCode::OK, "application/json", status(&answer)),
        "/events" => events(view.clone()),
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
    let Answer { name, is_leader, term, since, age } = answer;
    let since = since.map(|since| since.to_string());
    let age = age.map(|age| age.as_millis() as f64 / 1000.0);
    json!({ "name": name, "term": term, "isLeader": is_leader, "since": since, "age": age }).to_string()
}

fn metrics(answer: &Answer, counts: Counts) -> String {
    let Counts { changes, renewals } = counts;
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
