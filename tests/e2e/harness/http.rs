//! Asks controllers how they are, by HTTP.

use std::net::SocketAddr;

use super::controller::Controller;
use super::sidecar::{Connection, split};

/// Makes a controller answer HTTP requests.
pub const HTTP: &[&str] = &["--http", "127.0.0.1:0"];

impl Controller {
    /// Where it answers HTTP requests, if it was started with [`HTTP`].
    pub async fn http(&self) -> SocketAddr {
        let line = self.says(&["answering address="]).await;
        let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("an address: {line}"))
    }
}

/// Asks for a path: status and body.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut connection = Connection::open(address).await.expect("it listens");
    split(&connection.ask("GET", path).await.expect("it answers"))
}

/// Puts this there: status and body.
pub async fn put(address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let mut connection = Connection::open(address).await.expect("it listens");
    connection.send_with("PUT", path, body).await.expect("it is sent");
    split(&connection.receive("PUT").await.expect("it answers"))
}
