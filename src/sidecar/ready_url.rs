//! `--ready-url`: asks the command by HTTP whether it is ready.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::str::FromStr;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinHandle;

/// The maximum size of the response's headers.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// An `http://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyUrl {
    url: String,
    host: String,
    port: u16,
    /// The header `Host`.
    authority: HeaderValue,
    /// Path and query.
    target: Uri,
}

impl FromStr for ReadyUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let remedy = |why: &str| format!("{why}: name a path of the command, such as http://localhost:8080/healthz");
        let url: Uri = text.parse().map_err(|error| remedy(&format!("is no http:// URL, {error}")))?;
        match url.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(remedy("https is not supported, because the request stays in the pod")),
            _ => return Err(remedy("must begin with http://")),
        }
        let authority = url.authority().ok_or_else(|| remedy("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(remedy("must not have a user name"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let has_invalid_port = authority.port().is_none() && authority.as_str() != authority.host();
        if host.is_empty() || has_invalid_port {
            return Err(remedy("must have a host and, unless it is 80, a port"));
        }
        let port = authority.port_u16().unwrap_or(80);
        let target = url.path_and_query().map_or("", |target| target.as_str());
        let slash = if target.starts_with('/') { "" } else { "/" };
        let target = format!("{slash}{target}").parse().map_err(|error| remedy(&format!("no path, {error}")))?;
        let authority = authority.as_str().try_into().map_err(|error| remedy(&format!("no host, {error}")))?;
        Ok(Self { url: text.into(), host, port, authority, target })
    }
}

/// Asks a URL, again and again.
#[derive(Debug)]
pub(super) struct UrlCheck {
    url: ReadyUrl,
    /// A lookup of the host name that has not ended, perhaps since an earlier check. The next check waits for it instead of
    /// starting another one.
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl UrlCheck {
    /// Returns a check of this URL.
    pub fn new(url: ReadyUrl) -> Self {
        Self { url, lookup: None }
    }

    /// Sends one request, as the kubelet does: an answer of 200 to 399 is a success. Redirects are not followed. Ends only when the
    /// server answers, so the caller must drop it after a timeout.
    ///
    /// # Errors
    /// The cause of the failure.
    pub async fn run(&mut self) -> Result<(), String> {
        let url = self.url.url.clone();
        let failed = |error: io::Error| format!("{url} cannot be asked: {error}");
        let addresses = self.addresses().await.map_err(failed)?;
        let stream = TcpStream::connect(&addresses[..]).await.map_err(failed)?;
        let status = self.ask(stream).await.map_err(|error| failed(io::Error::other(error)))?;
        if (200..400).contains(&status.as_u16()) { Ok(()) } else { Err(format!("{url} answered {status}")) }
    }

    async fn addresses(&mut self) -> io::Result<Vec<SocketAddr>> {
        let ReadyUrl { host, port, .. } = &self.url;
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, *port).into()]);
        }
        // An image without /etc/hosts knows no localhost.
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![(Ipv4Addr::LOCALHOST, *port).into(), (Ipv6Addr::LOCALHOST, *port).into()]);
        }
        let (host, port) = (host.clone(), *port);
        let lookup =
            self.lookup.get_or_insert_with(|| tokio::spawn(async move { Ok(lookup_host((host, port)).await?.collect()) }));
        let found = lookup.await;
        self.lookup = None;
        found.map_err(io::Error::other)?
    }

    async fn ask(&self, stream: TcpStream) -> hyper::Result<StatusCode> {
        let mut http = http1::Builder::new();
        let (mut sender, connection) = http.max_buf_size(MAX_HEADER_BYTES).handshake(TokioIo::new(stream)).await?;
        let ReadyUrl { authority, target, .. } = &self.url;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = target.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, authority.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("podium/", env!("CARGO_PKG_VERSION"))));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let response = while_driven(sender.send_request(request), connection).await?;
        Ok(response.status())
    }
}

/// Awaits the response while the connection is driven.
async fn while_driven<T>(response: impl Future<Output = T>, connection: impl Future) -> T {
    let (mut response, mut connection) = (pin!(response), pin!(connection));
    tokio::select! {
        biased;
        response = response.as_mut() => return response,
        _ = connection.as_mut() => {}
    }
    // The server has closed the connection after its response, or without one.
    response.await
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    /// Checks a server on this host that answers each request with these bytes. Returns the result and the request.
    async fn check(answer: &'static str) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let request = Arc::<Mutex<String>>::default();
        let seen = request.clone();
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 4096];
            let read = connection.read(&mut bytes).await.unwrap();
            *seen.lock().unwrap() = String::from_utf8_lossy(&bytes[..read]).into_owned();
            connection.write_all(answer.as_bytes()).await.unwrap();
        });
        let url = format!("http://localhost:{port}/healthz?full=1").parse().unwrap();
        let result = timeout(Duration::from_secs(30), UrlCheck::new(url).run()).await.expect("an answer");
        (result, request.lock().unwrap().clone())
    }

    #[tokio::test]
    async fn answers_from_200_to_399_are_a_success_as_for_the_kubelet() {
        for (answer, is_ready) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
            ("HTTP/1.0 204 No Content\r\n\r\n", true),
            ("HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n", true),
            ("HTTP/1.1 399 Odd\r\n\r\n", true),
            // A body that never ends.
            ("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nok", true),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 400 Bad Request\r\n\r\n", false),
            ("HTTP/1.1 404 Not Found\r\n\r\n", false),
            ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", false),
            ("SSH-2.0-OpenSSH_9.2\r\n", false),
            ("", false),
        ] {
            let (result, request) = check(answer).await;
            assert_eq!(result.is_ok(), is_ready, "{answer:?}: {result:?}");
            assert!(request.starts_with("GET /healthz?full=1 HTTP/1.1\r\n"), "{request}");
            assert!(request.to_lowercase().contains("\r\nhost: localhost:"), "{request}");
        }
        let (result, _) = check("HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        assert!(result.unwrap_err().ends_with("/healthz?full=1 answered 503 Service Unavailable"));
    }

    #[tokio::test]
    async fn closed_port_is_a_failure_that_names_the_url() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        drop(listener);
        let error = UrlCheck::new(url.parse().unwrap()).run().await.unwrap_err();
        assert!(error.starts_with(&format!("{url} cannot be asked: ")), "{error}");
    }

    #[test]
    fn url_has_a_host_a_port_and_a_path() {
        for (text, host, port, target) in [
            ("http://localhost:8080/healthz", "localhost", 8080, "/healthz"),
            ("http://localhost", "localhost", 80, "/"),
            ("http://127.0.0.1?x", "127.0.0.1", 80, "/?x"),
            ("http://[::1]:8080/a?b=c", "::1", 8080, "/a?b=c"),
            ("HTTP://web/", "web", 80, "/"),
        ] {
            let url: ReadyUrl = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port, url.target.to_string().as_str()), (host, port, target), "{text}");
        }
    }
}
