//! The connections to the API server.

mod credentials;
mod pool;
pub mod proxy;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use kube::client::{AuthError, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, Service, ServiceBuilder};

use credentials::{Reloading, Stack, TokenFile, authorize};
use pool::Pool;

/// The time without an event after which a watch counts as dead.
///
/// The API server sends a bookmark every minute while objects of that kind change anywhere in the cluster.
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(70);

/// TCP keepalive: the idle time before the first probe, the interval and the number of probes.
///
/// A connection without an answer ends after 17 s. A watch sends nothing, so without probes it would never notice a dead peer.
const PROBE_AFTER: Duration = Duration::from_secs(8);
const PROBE_INTERVAL: Duration = Duration::from_secs(3);
const PROBES: u32 = 3;

/// The time for which sent data may stay unacknowledged. By default the kernel resends it for 15 minutes.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(15);

/// Returns the TCP connector of all connections to the API server.
fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    // The URLs are https.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(PROBE_AFTER));
    tcp.set_keepalive_interval(Some(PROBE_INTERVAL));
    tcp.set_keepalive_retries(Some(PROBES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(USER_TIMEOUT));
    tcp
}

/// The reason why a configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An error of kube.
    #[error(transparent)]
    Config(kube::Error),
    /// The plugin does not exist.
    #[error(
        "the kubeconfig's exec plugin cannot be started ({0}): install it beside podium (its image has none), \
         or use a token, a tokenFile or a client certificate"
    )]
    Plugin(io::Error),
    /// The token cannot be read.
    #[error("the tokenFile {path} cannot be used ({error}): write a token into it")]
    TokenFile {
        /// The file.
        path: String,
        /// The error.
        error: String,
    },
    /// The proxy's protocol is not supported.
    #[error("the proxy's protocol is not supported: use http://, https:// or socks5://HOST:PORT")]
    Proxy,
}

impl From<kube::Error> for ConnectError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Auth(AuthError::AuthExecStart(error)) => Self::Plugin(error),
            error => Self::Config(error),
        }
    }
}

/// Returns a client of this configuration. It differs from kube's own:
///
/// * Requests are sent without delay, and an executed request is never sent again.
/// * A connection whose packets vanish ends.
/// * Rejected credentials are reloaded.
///
/// kube leaves Nagle's algorithm on: data smaller than a packet waits until the data before it is acknowledged. On a new
/// connection that is the end of the TLS handshake, which Linux acknowledges after 40 ms. A takeover begins with a new
/// connection, because the watch uses the existing one.
///
/// # Errors
/// An unusable configuration.
pub fn client(config: Config) -> Result<Client, ConnectError> {
    let namespace = config.default_namespace.clone();
    Ok(ClientBuilder::new(Reloading::new(config)?, namespace).build())
}

/// Loads the credentials and returns the service that sends requests with them, directly or through a proxy.
fn stack(config: &Config) -> Result<Stack, ConnectError> {
    let Some(url) = &config.proxy_url else { return over(config, tcp()) };
    let proxy = Matcher::builder().all(url.to_string()).build().intercept(&config.cluster_url);
    let proxy = proxy.ok_or(ConnectError::Proxy)?;
    match proxy.uri().scheme_str() {
        Some("http") => over(config, through(&proxy, tunnel(&proxy, tcp()))),
        Some("https") => {
            let tls = config.rustls_https_connector_with_connector(tcp())?;
            over(config, through(&proxy, tunnel(&proxy, tls)))
        }
        Some("socks5" | "socks5h") => {
            let mut socks = SocksV5::new(with_port(proxy.uri().clone(), 1080), tcp());
            if let Some((user, password)) = proxy.raw_auth() {
                socks = socks.with_auth(user.into(), password.into());
            }
            over(config, through(&proxy, socks))
        }
        _ => Err(ConnectError::Proxy),
    }
}

fn tunnel<C>(proxy: &Intercept, connector: C) -> Tunnel<C> {
    let tunnel = Tunnel::new(proxy.uri().clone(), connector);
    match proxy.basic_auth() {
        Some(credentials) => tunnel.with_auth(credentials.clone()),
        None => tunnel,
    }
}

/// Returns a connector through a proxy. Its errors name the proxy, because the API server is not their cause.
fn through<C>(
    proxy: &Intercept,
    connector: C,
) -> impl Service<Uri, Response = C::Response, Error = ProxyError, Future = impl Send + use<C>> + Clone + Send + Sync + use<C>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Future: Send + 'static,
    C::Error: std::error::Error + Send + Sync + 'static,
{
    let proxy = proxy.uri().to_string();
    ServiceBuilder::new()
        // A tunnel assumes the port of HTTPS for every URL without a port.
        .map_request(|cluster: Uri| {
            let port = proxy::port(&cluster);
            with_port(cluster, port)
        })
        .map_err(move |error: C::Error| ProxyError { proxy: proxy.clone(), error: Box::new(error) })
        .service(connector)
}

/// An error of a proxy.
#[derive(Debug, thiserror::Error)]
#[error("failed to connect through the proxy {proxy}: {}", in_full(&**.error))]
struct ProxyError {
    proxy: String,
    error: BoxError,
}

/// Formats an error with all of its causes.
fn in_full(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Returns the URL with its port.
fn with_port(url: Uri, port: u16) -> Uri {
    let (None, Some(host)) = (url.port(), url.host()) else { return url };
    let full = Uri::builder().scheme(url.scheme_str().unwrap_or("https")).authority(format!("{host}:{port}"));
    full.path_and_query("/").build().unwrap_or(url)
}

fn over<H>(config: &Config, connector: H) -> Result<Stack, ConnectError>
where
    H: Service<Uri> + Clone + Send + Sync + 'static,
    H::Response: Connection + Read + Write + Send + Unpin + 'static,
    H::Future: Send + 'static,
    H::Error: Into<BoxError>,
{
    let mut config = config.clone();
    let token = TokenFile::take(&mut config.auth_info)?.map(Arc::new);
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(connector)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_request(move |request| authorize(token.as_deref(), request))
        .service(Pool::new(connector));
    Ok(Stack::new(service))
}
