//! HTTP requests to controllers.

use std::net::SocketAddr;

pub use super::controller::HTTP;
use super::sidecar::{Connection, split};

/// Sends a GET request. Returns status and body.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut connection = Connection::open(address).await.expect("it listens");
    split(&connection.ask("GET", path).await.expect("it answers"))
}

/// Sends a PUT request. Returns status and body.
pub async fn put(address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let mut connection = Connection::open(address).await.expect("it listens");
    connection.send_with("PUT", path, body).await.expect("it is sent");
    split(&connection.receive("PUT").await.expect("it answers"))
}
