//! Traces reach a collector, and a failing collector does not delay reconciles. `make otlp`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Condvar, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use podium::traces::Export;
use tokio::net::TcpSocket;
use tracing::{debug, debug_span, field, trace_span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{Layer, fmt, layer::SubscriberExt};

/// Timeout of an expected event.
const SOON: Duration = Duration::from_secs(20);

/// A request to the collector.
#[derive(Debug)]
struct Posted {
    /// Request line and headers, in lower case.
    head: String,
    body: Vec<u8>,
}

impl Posted {
    fn has(&self, part: impl AsRef<[u8]>) -> bool {
        let part = part.as_ref();
        self.body.windows(part.len()).any(|window| window == part)
    }

    /// In protobuf: the field `key` of a KeyValue, and the string in its field `value`.
    fn has_attribute(&self, key: &str, value: &str) -> bool {
        let length = |of: usize| u8::try_from(of).expect("short");
        let string = [&[0x0a, length(value.len())], value.as_bytes()].concat();
        let attribute = [&[0x0a, length(key.len())], key.as_bytes(), &[0x12, length(string.len())], &string].concat();
        self.has(attribute)
    }
}

/// Starts a collector that responds with `status`. Returns its address and received requests.
fn collector(status: &'static str) -> (SocketAddr, Receiver<Posted>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let connection = connection.expect("a connection");
            let posted = receive(&connection);
            (&connection)
                .write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())
                .expect("it listens");
            if sender.send(posted).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

fn receive(connection: &TcpStream) -> Posted {
    let mut reader = BufReader::new(connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).expect("a head"), 0, "it ends in the head: {head}");
    }
    head.make_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().expect("a number")];
    reader.read_exact(&mut body).expect("a body");
    Posted { head, body }
}

fn export(variables: &[(&str, &str)]) -> Result<Option<Export>, String> {
    Export::from_environment(|name| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn export_to(address: SocketAddr) -> Export {
    let endpoint = format!("http://{address}");
    export(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).expect("an endpoint").expect("an export")
}

/// Runs `done` while spans are exported and, as by default, nothing below `info` is logged.
fn observed(export: &Export, done: impl FnOnce()) {
    let lines = fmt::layer().with_writer(std::io::sink).with_filter(LevelFilter::INFO);
    let subscriber = tracing_subscriber::registry().with(lines).with(export.layer());
    tracing::subscriber::with_default(subscriber, done);
}

fn pass() {
    let span = debug_span!(target: "podium::controller::reconcile", "reconcile", election = "web", term = field::Empty);
    let _entered = span.enter();
    span.record("term", 4711);
    debug!(target: "podium::controller::reconcile", "reading from the server");
}

static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static MORE_IS_SAID: Condvar = Condvar::new();

struct Said;

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        SAID.lock().expect("nobody panicked").extend_from_slice(bytes);
        MORE_IS_SAID.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Waits for log lines on `address` by threads without their own subscriber, and returns them.
fn said_of(address: SocketAddr) -> Vec<String> {
    let lines = |said: &[u8]| -> Vec<String> {
        let said = String::from_utf8_lossy(said);
        said.lines().filter(|line| line.contains(&address.to_string())).map(str::to_owned).collect()
    };
    let said = SAID.lock().expect("nobody panicked");
    let (said, _) = MORE_IS_SAID.wait_timeout_while(said, SOON, |said| lines(said).is_empty()).expect("nobody panicked");
    lines(&said)
}

fn listen_to_what_is_said() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| fmt().with_writer(|| Said).with_ansi(false).with_max_level(LevelFilter::INFO).init());
}

#[test]
fn reconcile_trace_arrives_at_log_level_info() {
    let (address, posted) = collector("200 OK");
    let export = export_to(address);
    observed(&export, || {
        pass();
        debug_span!(target: "hyper::client", "of-somebody-else").in_scope(|| {});
        trace_span!(target: "podium::controller::reconcile", "too-small").in_scope(|| {});
    });
    export.end();
    let posted = posted.recv_timeout(SOON).expect("it is sent");
    assert!(posted.head.starts_with("post /v1/traces http/1.1\r\n"), "{}", posted.head);
    assert!(posted.head.contains("\r\ncontent-type: application/x-protobuf\r\n"), "{}", posted.head);
    for part in ["reconcile", "term", "reading from the server"] {
        assert!(posted.has(part), "{part}: {}", posted.body.escape_ascii());
    }
    assert!(posted.has_attribute("election", "web"), "{}", posted.body.escape_ascii());
    assert!(posted.has_attribute("service.name", "podium"), "{}", posted.body.escape_ascii());
    for part in ["of-somebody-else", "too-small"] {
        assert!(!posted.has(part), "{part}: {}", posted.body.escape_ascii());
    }
}

#[test]
fn endpoint_of_traces_takes_precedence_and_is_used_verbatim() {
    let (address, posted) = collector("200 OK");
    let endpoint = format!("http://{address}/collect");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint),
        ("OTEL_SERVICE_NAME", "elections-of-ours"),
    ];
    let export = export(&variables).expect("an endpoint").expect("an export");
    observed(&export, pass);
    export.end();
    let posted = posted.recv_timeout(SOON).expect("it is sent");
    assert!(posted.head.starts_with("post /collect http/1.1\r\n"), "{}", posted.head);
    assert!(posted.has_attribute("service.name", "elections-of-ours"), "{}", posted.body.escape_ascii());
    assert!(!posted.has_attribute("service.name", "podium"), "{}", posted.body.escape_ascii());
}

#[test]
fn without_an_endpoint_nothing_is_exported() {
    assert!(export(&[("OTEL_SERVICE_NAME", "podium")]).expect("nothing to misunderstand").is_none());
    assert!(export(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).expect("nothing to misunderstand").is_none());
}

#[test]
fn endpoint_other_than_plain_http_is_rejected() {
    for endpoint in ["https://collector:4318", "collector:4318", "http://"] {
        let refused = export(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint)]).expect_err(endpoint);
        assert!(refused.contains(endpoint), "{refused}");
    }
}

#[test]
fn hanging_collector_delays_nothing() {
    // Connections are established but not accepted.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let export = export_to(listener.local_addr().expect("its address"));
    let begun = Instant::now();
    // More than fit.
    observed(&export, || (0..4_000).for_each(|_| pass()));
    let passed = begun.elapsed();
    export.end();
    let ended = begun.elapsed() - passed;
    // The export timeout is ten seconds.
    assert!(passed < Duration::from_secs(5), "the passes took {passed:?}");
    assert!(ended < Duration::from_secs(2), "the end took {ended:?}");
}

#[test]
fn rejecting_collector_is_logged_once() {
    listen_to_what_is_said();
    let (address, posted) = collector("400 Bad Request");
    let export = export_to(address);
    // More than two batches.
    observed(&export, || (0..1_100).for_each(|_| pass()));
    export.end();
    for _ in 0..2 {
        posted.recv_timeout(SOON).expect("it is tried again with the next ones");
    }
    let said = said_of(address);
    assert!(matches!(&said[..], [line] if line.contains("the response is 400 Bad Request")), "{said:?}");
}

#[test]
fn unreachable_collector_is_logged_with_the_reason() {
    listen_to_what_is_said();
    // No other process gets this port, and none listens on it.
    let port = TcpSocket::new_v4().expect("a socket");
    port.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let address = port.local_addr().expect("its address");
    let export = export_to(address);
    observed(&export, pass);
    export.end();
    let said = said_of(address);
    assert!(matches!(&said[..], [line] if line.contains("Connection refused")), "{said:?}");
}
