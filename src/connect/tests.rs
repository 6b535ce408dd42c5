//! Connections to servers on this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tower::Service;

use super::*;

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_whose_packets_vanish_end_within_20_s() {
    use rustix::net::sockopt::{socket_keepalive, tcp_keepcnt, tcp_keepidle, tcp_keepintvl, tcp_nodelay, tcp_user_timeout};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let connected = tcp().call(server.parse().unwrap()).await.unwrap();
    let socket = connected.inner();
    assert!(socket_keepalive(socket).unwrap() && tcp_nodelay(socket).unwrap());
    let idle = tcp_keepidle(socket).unwrap() + tcp_keepintvl(socket).unwrap() * tcp_keepcnt(socket).unwrap();
    let unacknowledged = Duration::from_millis(tcp_user_timeout(socket).unwrap().into());
    let bound = Duration::from_secs(20);
    assert!(idle < bound && !unacknowledged.is_zero() && unacknowledged < bound, "{idle:?} {unacknowledged:?}");
}

#[tokio::test]
async fn connection_of_a_request_that_timed_out_is_not_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    // The first connection answers once, and then never again.
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            tokio::spawn(async move {
                let mut answered = 0;
                let mut buffer = [0; 4096];
                while connection.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    if is_first && answered > 0 {
                        continue;
                    }
                    answered += 1;
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    connection.write_all(answer).await.unwrap();
                }
            });
        }
    });
    let client = client(Config::new(server.parse().unwrap())).unwrap();
    let ask = async || {
        let request = Request::get("/").body(Vec::new()).unwrap();
        timeout(Duration::from_millis(500), client.request_text(request)).await
    };
    assert_eq!(ask().await.unwrap().unwrap(), "ok");
    assert!(ask().await.is_err(), "on the same connection, which does not answer any more");
    for _ in 0..3 {
        assert_eq!(ask().await.expect("another connection answers").unwrap(), "ok");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}
