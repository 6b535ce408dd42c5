//! The connections to the API server.

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config, Result};
use tower::{BoxError, ServiceBuilder};

/// The client that kube would make of this configuration, but for two things: requests are sent at once, and none is tried again.
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
    let mut tcp = HttpConnector::new();
    // What is inside TLS is not its business.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
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
