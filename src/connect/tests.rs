//! Connections to servers on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use podium_test_support::tunnels::{proxy, read_head};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
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
    // The first connection sends one response, and no further one.
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

#[tokio::test]
async fn after_a_request_that_timed_out_idle_connections_are_not_used_either() {
    let server = Server::listen("127.0.0.1:0").await;
    let client = client(server.config()).unwrap();
    let ask = async || client.request_text(Request::get("/").body(Vec::new()).unwrap()).await;
    let (first, second) = tokio::join!(ask(), ask());
    assert_eq!((first.unwrap(), second.unwrap()), ("ok".into(), "ok".into()));
    assert_eq!(server.connections(), 2, "both are idle now");
    // The API server hangs, and another one takes new connections.
    server.hang();
    assert!(timeout(Duration::from_millis(2500), ask()).await.is_err());
    assert_eq!(timeout(Duration::from_millis(1500), ask()).await.expect("another connection").unwrap(), "ok");
}

/// An API server that responds `ok` to requests with the right token.
#[derive(Clone)]
struct Server {
    address: std::net::SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Required `Authorization` header, if any.
    wanted: Mutex<Option<String>>,
    /// Received headers.
    seen: Mutex<Vec<String>>,
    connections: AtomicUsize,
    /// The connections with lower numbers hang.
    hanging: AtomicUsize,
}

impl Server {
    async fn listen(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let each = server.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let number = each.state.connections.fetch_add(1, Ordering::SeqCst);
                let each = each.clone();
                tokio::spawn(async move { each.serve(connection, number).await });
            }
        });
        server
    }

    async fn serve(&self, mut connection: TcpStream, number: usize) {
        while let Some(head) = read_head(&mut connection).await {
            if number < self.state.hanging.load(Ordering::SeqCst) {
                continue;
            }
            let said = head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or_default().to_owned();
            let is_right = self.state.wanted.lock().unwrap().as_ref().is_none_or(|wanted| *wanted == said);
            self.state.seen.lock().unwrap().push(said);
            let status =
                json!({ "kind": "Status", "status": "Failure", "message": "no", "reason": "Unauthorized", "code": 401 });
            let (code, body) = if is_right { ("200 OK", "ok".to_owned()) } else { ("401 Unauthorized", status.to_string()) };
            let answer = format!("HTTP/1.1 {code}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if connection.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn config(&self) -> Config {
        Config::new(self.url().parse().unwrap())
    }

    fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    fn hang(&self) {
        self.state.hanging.store(self.connections(), Ordering::SeqCst);
    }

    fn wants(&self, token: &str) {
        *self.state.wanted.lock().unwrap() = Some(format!("Bearer {token}"));
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.seen.lock().unwrap())
    }

    /// A client with these credentials.
    async fn client(&self, user: Value) -> Result<Client, ConnectError> {
        let kubeconfig: Kubeconfig = serde_json::from_value(json!({
            "clusters": [{ "name": "x", "cluster": { "server": self.url() } }],
            "users": [{ "name": "x", "user": user }],
            "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
            "current-context": "x",
        }))
        .unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        client(config)
    }
}

async fn ask(client: &Client) -> kube::Result<String> {
    client.request_text(Request::get("/").body(Vec::new()).unwrap()).await
}

/// A directory that is removed when this is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("podium-connect-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn exec(token: &Path, expiry: &str) -> Value {
    let script = r#"echo '{"kind": "ExecCredential", "status": {"token": "'$(cat "$0")'"'"$1"'}}'"#;
    json!({ "exec": { "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": "sh",
        "args": ["-c", script, token, expiry] } })
}

#[tokio::test]
async fn plugin_is_asked_again_when_its_token_is_refused_whether_it_names_an_expiry_or_not() {
    for (name, expiry) in [("none", ""), ("far", r#", "expirationTimestamp": "2100-01-01T00:00:00Z""#)] {
        let directory = Directory::new(&format!("exec-{name}"));
        let token = directory.write("token", "one");
        let server = Server::listen("127.0.0.1:0").await;
        server.wants("one");
        let client = server.client(exec(&token, expiry)).await.unwrap();
        assert_eq!(ask(&client).await.unwrap(), "ok");
        directory.write("token", "two");
        server.wants("two");
        assert_eq!(ask(&client).await.unwrap(), "ok", "{name}");
        assert_eq!(ask(&client).await.unwrap(), "ok");
        assert_eq!(server.seen(), ["Bearer one", "Bearer one", "Bearer two", "Bearer two"]);
        // The new token is rejected, too: the plugin is not run for each request.
        server.wants("three");
        for _ in 0..3 {
            assert!(matches!(ask(&client).await, Err(kube::Error::Api(status)) if status.code == 401));
        }
        assert_eq!(server.seen().len(), 3);
    }
}

#[tokio::test]
async fn token_of_a_file_is_trimmed_counts_more_than_one_beside_it_and_is_read_again_when_refused() {
    let directory = Directory::new("file");
    let file = directory.write("token", "one\n");
    let server = Server::listen("127.0.0.1:0").await;
    server.wants("one");
    let client = server.client(json!({ "tokenFile": file, "token": "other" })).await.unwrap();
    assert_eq!(ask(&client).await.unwrap(), "ok");
    directory.write("token", "two\n");
    server.wants("two");
    assert_eq!(ask(&client).await.unwrap(), "ok");
    // Rotated in time: the old token is still valid, and not used.
    server.state.wanted.lock().unwrap().take();
    fs::remove_file(&file).unwrap();
    assert_eq!(ask(&client).await.unwrap(), "ok", "the last one stays while there is none");
    assert_eq!(server.seen(), ["Bearer one", "Bearer one", "Bearer two", "Bearer two"]);
}

#[tokio::test]
async fn unusable_credentials_and_proxies_are_errors_with_a_remedy() {
    let server = Server::listen("127.0.0.1:0").await;
    for (user, expected) in [
        (json!({ "exec": { "command": "/no/such/plugin" } }), "exec plugin cannot be started (No such file or directory"),
        (json!({ "tokenFile": "/no/such/token" }), "the tokenFile /no/such/token cannot be used (No such file or directory"),
    ] {
        let error = server.client(user).await.err().expect("no client").to_string();
        assert!(error.contains(expected) && error.contains(": "), "{error}");
    }
    let mut config = server.config();
    config.proxy_url = Some("socks4://127.0.0.1:1".parse().unwrap());
    assert!(client(config).err().unwrap().to_string().contains("use http://, https:// or socks5://"));
}

#[tokio::test]
async fn requests_go_through_http_and_socks5_proxies_with_and_without_a_password() {
    for host in ["127.0.0.1", "[::1]"] {
        let server = Server::listen(&format!("{host}:0")).await;
        let target = format!("{host}:{}", server.address.port());
        for (scheme, credentials) in
            [("http", None), ("http", Some(("user", "p@ss"))), ("socks5", None), ("socks5", Some(("user", "p@ss")))]
        {
            let (address, asked) = proxy(credentials).await;
            let mut config = server.config();
            let user = if credentials.is_some() { "user:p%40ss@" } else { "" };
            config.proxy_url = Some(format!("{scheme}://{user}{address}").parse().unwrap());
            let client = client(config).unwrap();
            assert_eq!(ask(&client).await.unwrap(), "ok", "{scheme} {target} {user}");
            assert_eq!(*asked.lock().unwrap(), [target.as_str()], "{scheme} {user}");
        }
    }
}

#[tokio::test]
async fn proxy_that_does_not_connect_is_named_in_the_error_without_its_password() {
    let (address, _) = proxy(Some(("user", "p@ss"))).await;
    // No process listens on port 9.
    for (proxy, expected) in [
        ("http://127.0.0.1:9".to_owned(), "failed to connect through the proxy http://127.0.0.1:9/: "),
        ("socks5://u:secret@127.0.0.1:9".to_owned(), "failed to connect through the proxy socks5://127.0.0.1:9/: "),
        (format!("http://u:secret@{address}"), "proxy authorization required"),
    ] {
        let mut config = Config::new("http://127.0.0.1:9".parse().unwrap());
        config.proxy_url = Some(proxy.parse().unwrap());
        let error = ask(&client(config).unwrap()).await.unwrap_err();
        let error = in_full(&error);
        assert!(error.contains(expected) && !error.contains("secret"), "{error}");
    }
}
