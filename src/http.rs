//! The HTTP server of the controller and the sidecar.

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
use limits::{ConnectionSlot, Connections, LimitedLog, MAX_CONNECTIONS, Tracked};
use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::time::sleep;
use tracing::debug;

/// The time without a request after which a connection is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// The maximum size of a request's headers, and of the read and write buffers.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// The time for which a client may leave sent data unacknowledged or unread.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// The pause after an error of accept, for example too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The maximum number of connections that wait for accept: the standard library's number.
const BACKLOG: u32 = 128;

/// The maximum number of free IPv4 ports that are tried until one is free on IPv6, too.
const FREE_PORTS: usize = 16;

/// The body of a response.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    /// One per address, at least one.
    listeners: Vec<TcpListener>,
    address: SocketAddr,
}

impl Server {
    /// Listens on `address`: `0.0.0.0:4040`, `[::]:4040`, `localhost:4040` for the loopback addresses of IPv4 and IPv6, or
    /// `:4040` for all interfaces of both.
    ///
    /// # Errors
    /// An invalid address, or one in use.
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

    /// Accepts the next connection on any of the addresses.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        select_all(self.listeners.iter().map(|listener| Box::pin(listener.accept()))).await.0
    }

    /// The first address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves forever. `answer` receives each request and its client's address.
    pub async fn serve<F, R>(self, answer: F) -> Infallible
    where
        F: Fn(Request<Incoming>, SocketAddr) -> R + Clone + Send + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let connections = Connections::new(MAX_CONNECTIONS);
        let accept_errors = LimitedLog::default();
        loop {
            let (connection, peer) = match self.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    accept_errors.warn(|| format!("failed to accept an HTTP connection, retrying: {error}"));
                    sleep(ACCEPT_RETRY).await;
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

/// Binds both loopback addresses, because `localhost` may resolve to either first, or the only one that this machine has.
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

/// Serves one connection until it ends or is evicted.
async fn serve_one<F, R>(connection: TcpStream, peer: SocketAddr, slot: Arc<ConnectionSlot>, answer: F)
where
    F: Fn(Request<Incoming>, SocketAddr) -> R + Send,
    R: Future<Output = Response<Body>> + Send,
{
    // Best effort: without it the connection of a client that vanished stays until it is evicted.
    #[cfg(target_os = "linux")]
    let _ =
        u32::try_from(USER_TIMEOUT.as_millis()).map(|bound| rustix::net::sockopt::set_tcp_user_timeout(&connection, bound));
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
    // The old sidecar wrote header names in title case, and scripts may compare them.
    http.title_case_headers(true).timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT).max_buf_size(MAX_HEADER_BYTES);
    let stream = Tracked { stream: connection, slot: slot.clone() };
    tokio::select! {
        ended = http.serve_connection(TokioIo::new(stream), service) => {
            if let Err(error) = ended {
                debug!("a connection ended: {error}");
            }
        }
        why = slot.ends() => debug!("closing the connection of {peer}: {why}"),
    }
}

/// Listens on one socket for IPv6 and IPv4, independent of the machine's default.
fn all_interfaces(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    set_ipv6_v6only(&socket, false)?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv6Addr::UNSPECIFIED, port).into())?;
    socket.listen(BACKLOG)
}

/// Returns a response of plain text.
pub fn text(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    full(status, "text/plain; charset=utf-8", body.into())
}

/// Returns a response of this content type.
pub fn full(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let length = body.len();
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    // The order of the old sidecar. hyper would put the date last.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
    // A year without four digits cannot be formatted.
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
    async fn port_alone_listens_on_all_interfaces_of_ipv4_and_ipv6() {
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
    async fn port_in_use_and_invalid_address_are_errors() {
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
