//! `Retry-After`: the pause that an overloaded API server asks for.
//!
//! Priority and Fairness responds with 429, the header and a line of plain text. So does an API server during graceful shutdown.
//! kube makes an error of the text and drops the header. [`preserve`] copies the header into `details.retryAfterSeconds`, where
//! API servers put it in `Status` objects.

use http_body_util::{BodyExt, Limited};
use hyper::{HeaderMap, Request, Response, header};
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use kube::core::response::StatusDetails;
use podium_campaign::retry_after::asks_for_pause;
pub use podium_campaign::retry_after::{of, of_status};
use tower::service_fn;

/// The maximum size of an error's body in bytes. Every error is smaller.
const MAX_BODY: usize = 1 << 20;

/// Wraps the client so that its errors keep `Retry-After`.
pub fn preserve(client: &Client) -> Client {
    let inner = client.clone();
    let service = service_fn(move |request: Request<Body>| {
        let inner = inner.clone();
        async move { copy_header(inner.send(request).await?).await }
    });
    Client::new(service, client.default_namespace())
}

/// Parses seconds only: a date depends on the server's clock, and no API server sends one.
fn seconds(headers: &HeaderMap) -> Option<u32> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().filter(|seconds| *seconds > 0)
}

async fn copy_header(response: Response<Body>) -> Result<Response<Body>, kube::Error> {
    let code = response.status().as_u16();
    let Some(seconds) = seconds(response.headers()).filter(|_| asks_for_pause(code)) else { return Ok(response) };
    let (mut parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY);
    let body = body.collect().await.map_err(kube::Error::Service)?.to_bytes();
    let mut status: Status = serde_json::from_slice(&body)
        .unwrap_or_else(|_| Status::failure(String::from_utf8_lossy(&body).trim(), "").with_code(code));
    let none = || StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    };
    let details = status.details.get_or_insert_with(none);
    details.retry_after_seconds = details.retry_after_seconds.max(seconds);
    parts.headers.remove(header::CONTENT_LENGTH);
    let body = serde_json::to_vec(&status).map_err(kube::Error::SerdeError)?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;

    use super::*;

    async fn asked(code: u16, retry_after: Option<&'static str>, body: &'static str) -> (kube::Error, Option<Duration>) {
        let service = service_fn(move |_: Request<Body>| async move {
            let response = Response::builder().status(code);
            let response = retry_after.into_iter().fold(response, |response, value| response.header("Retry-After", value));
            response.body(Body::from(body.as_bytes().to_vec()))
        });
        let pods: Api<Pod> = Api::default_namespaced(preserve(&Client::new(service, "default")));
        let error = pods.get("web-0").await.unwrap_err();
        let asked = of(&error);
        (error, asked)
    }

    #[tokio::test]
    async fn pause_is_the_larger_of_header_and_details() {
        let text = "Too many requests, please try again later.\n";
        let object = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"slowly","code":429}"#;
        let detailed = r#"{"kind":"Status","apiVersion":"v1","code":504,"message":"slowly","details":{"name":"web-0","retryAfterSeconds":5}}"#;
        for (code, header, body, expected) in [
            (429, Some("1"), text, Some(1)),
            (429, Some(" 7 "), object, Some(7)),
            (503, Some("2"), "", Some(2)),
            (504, None, detailed, Some(5)),
            (504, Some("9"), detailed, Some(9)),
            (504, Some("3"), detailed, Some(5)),
            (429, Some("86400"), text, Some(60)),
            (429, None, text, None),
            (429, Some("0"), text, None),
            (429, Some("-1"), text, None),
            (429, Some("Wed, 21 Oct 2026 07:28:00 GMT"), text, None),
            (409, Some("1"), text, None),
        ] {
            let (error, asked) = self::asked(code, header, body).await;
            assert_eq!(asked, expected.map(Duration::from_secs), "{code} {header:?} {body}: {error:?}");
            let kube::Error::Api(status) = error else { panic!("{error:?}") };
            assert_eq!(status.code, code);
            assert!(
                body.is_empty() || status.message.contains(if body == text { "Too many" } else { "slowly" }),
                "{status:?}"
            );
        }
    }
}
