//! A small HTTP server: what the sidecar and the controller answer on.

pub mod limits;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::select_all;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::fmt::rfc2822::DateTimePrinter;
use limits::{CONNECTIONS, Complaint, Connections, Noting, Slot};
use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::time::sleep;
use tracing::debug;

/// A connection on which no request arrives for so long is closed.
const IDLE: Duration = Duration::from_secs(120);

/// How long the headers of a request may be. What arrives and what is sent is buffered up to here.
const LARGEST_HEADERS: usize = 16 * 1024;

/// How long a client may leave what it was sent unacknowledged, or unread.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// What to do when no more connections can be taken: there are too many.
const TOO_MANY: Duration = Duration::from_millis(100);

/// How many connections may wait to be taken: the standard library's own number.
const BACKLOG: u32 = 128;

/// How many free ports of IPv4 are tried until one is free on IPv6, too.
const FREE_PORTS: usize = 16;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A server that listens already.
#[derive(Debug)]
pub struct Server {
    /// One for each address; at least one.
    listeners: Vec<TcpListener>,
    address: SocketAddr,
}

impl Server {
    /// Listens on `address`: `0.0.0.0:4040`, `[::]:4040`, `localhost:4040` for the loopback addresses of IPv4 and IPv6, or
    /// `:4040` for all interfaces of both.
    ///
    /// # Errors
    /// An address that does not exist, or is in use.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let number = |port: &str| port.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error));
        let listeners = match address.rsplit_once(':') {
            Some(("", port)) => {
                let port = number(port)?;
                vec![match all_interfaces(port) {
                    // A machine without IPv6.
                    Err(error) if error.kind() != io::ErrorKind::AddrInUse => TcpListener::bind(("0.0.0.0", port)).await?,
                    bound => bound?,
                }]
            }
            Some((host, port)) if is_localhost(host) => loopback(number(port)?).await?,
            _ => {
                let mut found: Vec<SocketAddr> = lookup_host(address).await?.collect();
                found.sort_by_key(SocketAddr::is_ipv6);
                vec![TcpListener::bind(&found[..]).await?]
            }
        };
        let address = listeners[0].local_addr()?;
        Ok(Self { listeners, address })
    }

    /// The next connection, whichever address it is made to.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        select_all(self.listeners.iter().map(|listener| Box::pin(listener.accept()))).await.0
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever. `answer` is given each request, and who asks.
    pub async fn serve<F, R>(self, answer: F) -> Infallible
    where
        F: Fn(Request<Incoming>, SocketAddr) -> R + Clone + Send + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let connections = Connections::new(CONNECTIONS);
        let cannot_accept = Complaint::default();
        loop {
            let (connection, peer) = match self.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    cannot_accept.say(|| format!("cannot take an HTTP connection: {error}"));
                    sleep(TOO_MANY).await;
                    continue;
                }
            };
            let slot = connections.admit().await;
            tokio::spawn(serve_one(connection, peer, Arc::new(slot), answer.clone()));
        }
    }
}

fn is_localhost(host: &str) -> bool {
    host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost")
}

/// Both loopback addresses, because a client takes whichever `localhost` resolves to first; or the one that this machine has.
async fn loopback(port: u16) -> io::Result<Vec<TcpListener>> {
    let bind = |ip: IpAddr, port| TcpListener::bind((ip, port));
    let is_absent = |error: &io::Error| !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied);
    for _ in 0..FREE_PORTS {
        let four = match bind(Ipv4Addr::LOCALHOST.into(), port).await {
            Err(error) if is_absent(&error) => return Ok(vec![bind(Ipv6Addr::LOCALHOST.into(), port).await?]),
            bound => bound?,
        };
        match bind(Ipv6Addr::LOCALHOST.into(), four.local_addr()?.port()).await {
            Ok(six) => return Ok(vec![four, six]),
            Err(error) if is_absent(&error) => return Ok(vec![four]),
            Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Serves one connection until it ends, or has to.
async fn serve_one<F, R>(connection: TcpStream, peer: SocketAddr, slot: Arc<Slot>, answer: F)
where
    F: Fn(Request<Incoming>, SocketAddr) -> R + Send,
    R: Future<Output = Response<Body>> + Send,
{
    // Best effort: without it a client that vanished holds its place until it is evicted.
    #[cfg(target_os = "linux")]
    let _ = u32::try_from(UNACKNOWLEDGED.as_millis())
        .map(|bound| rustix::net::sockopt::set_tcp_user_timeout(&connection, bound));
    let place = slot.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let slot = place.clone();
        slot.requested();
        let response = answer(request, peer);
        async move {
            let response = response.await;
            slot.answered(response.body().size_hint().exact().is_none());
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    // The header names as the old sidecar wrote them: some scripts compare them as they are.
    http.title_case_headers(true).timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(LARGEST_HEADERS);
    let stream = Noting { stream: connection, slot: slot.clone() };
    tokio::select! {
        ended = http.serve_connection(TokioIo::new(stream), service) => {
            if let Err(error) = ended {
                debug!("a connection ended: {error}");
            }
        }
        why = slot.ends() => debug!("closing the connection of {peer}: {why}"),
    }
}

/// One socket for IPv6 and IPv4, whatever the machine's default is.
fn all_interfaces(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    set_ipv6_v6only(&socket, false)?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv6Addr::UNSPECIFIED, port).into())?;
    socket.listen(BACKLOG)
}

/// An answer of plain text.
pub fn text(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    full(status, "text/plain; charset=utf-8", body.into())
}

/// An answer of this content type.
pub fn full(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_alone_means_all_interfaces_of_ipv4_and_ipv6() {
        let server = Server::bind(":0").await.unwrap();
        let port = server.address().port();
        tokio::spawn(server.serve(|_, _| async { text(StatusCode::OK, "ok") }));
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // A machine without IPv6 has no such interface to listen on.
        if TcpListener::bind("[::1]:0").await.is_ok() {
            tokio::net::TcpStream::connect(("::1", port)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn localhost_is_served_on_both_loopback_addresses() {
        let six = TcpListener::bind("[::1]:0").await.is_ok();
        for host in ["localhost", "LocalHost", "localhost."] {
            let server = Server::bind(&format!("{host}:0")).await.unwrap();
            let port = server.address().port();
            assert_eq!(server.listeners.len(), 1 + usize::from(six), "{host}");
            tokio::spawn(server.serve(|_, _| async { text(StatusCode::OK, "ok") }));
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            if six {
                tokio::net::TcpStream::connect(("::1", port)).await.unwrap();
                let taken = TcpListener::bind("[::1]:0").await.unwrap();
                let port = taken.local_addr().unwrap().port();
                let error = Server::bind(&format!("{host}:{port}")).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            }
        }
    }

    #[tokio::test]
    async fn a_port_that_is_in_use_and_one_that_is_none_are_refused() {
        let first = Server::bind("127.0.0.1:0").await.unwrap();
        let second = Server::bind(&first.address().to_string()).await.unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        let everywhere = Server::bind(&format!(":{}", first.address().port())).await.unwrap_err();
        assert_eq!(everywhere.kind(), io::ErrorKind::AddrInUse);
        for address in [":http", ":", "", ":70000", "127.0.0.1", "localhost:", "localhost:http", "localhost"] {
            assert!(Server::bind(address).await.is_err(), "{address:?}");
        }
    }
}
