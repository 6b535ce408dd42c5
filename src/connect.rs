//! The connections to the API server.

#[cfg(test)]
mod tests;

use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config, Result};
use tower::{BoxError, ServiceBuilder};

/// Silence after which a watch counts as dead: the API server sends a bookmark once a minute while objects of that kind change
/// anywhere in the cluster.
pub const SILENCE: Duration = Duration::from_secs(70);

/// When the kernel asks whether the other side of an idle connection is there, how often it asks again, and how many times:
/// after 17 s without an answer the connection ends. Watches have nothing to send, and would listen to nobody for ever.
const PROBE_AFTER: Duration = Duration::from_secs(8);
const PROBE_INTERVAL: Duration = Duration::from_secs(3);
const PROBES: u32 = 3;

/// How long what was sent may stay unacknowledged. The kernel would resend it for 15 minutes.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// TCP as all connections to the API server use it.
fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    // What is inside TLS is not its business.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(PROBE_AFTER));
    tcp.set_keepalive_interval(Some(PROBE_INTERVAL));
    tcp.set_keepalive_retries(Some(PROBES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp
}

/// The client that kube would make of this configuration, but for three things: requests are sent at once, none is tried again, and
/// a connection whose packets vanish ends.
///
/// kube leaves Nagle's algorithm on: what is smaller than a packet waits until what was sent before is acknowledged. On a new
/// connection that is the end of the TLS handshake, which the other side acknowledges when its timer makes it, after 40 ms on
/// Linux. A new connection is what a take-over begins with, because the one that there was is taken by the watch.
///
/// # Errors
/// A configuration that cannot be used. One with a proxy is, for lack of a client for proxies.
pub fn client(config: Config) -> Result<Client> {
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp())?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}
