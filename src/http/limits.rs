//! Limits for the clients of an HTTP server: the number of connections, and the time for a request's headers.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use crate::sync;

/// The maximum number of open connections. Each needs up to 32 KiB while its headers arrive.
pub const MAX_CONNECTIONS: usize = 256;

/// The maximum time for a request's headers, from their first byte; on a new connection from its accept.
pub const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// The minimum time between two logs of the same warning.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The state of a connection, in the order of eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The headers of a request are arriving, or due on a new connection.
    Receiving,
    /// It is kept alive for the next request.
    Idle,
    /// The request is being answered.
    Answering,
    /// The response is a stream. Streams have a limit of their own.
    Streaming,
    /// It is being closed.
    Evicted,
}

#[derive(Debug)]
struct Entry {
    stage: Stage,
    since: Instant,
    evicted: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

/// The connections of a server.
#[derive(Debug)]
pub struct Connections {
    permits: Arc<Semaphore>,
    open: Mutex<Open>,
    too_many: LimitedLog,
}

impl Connections {
    /// Returns an empty set with room for `most` connections.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { permits: Arc::new(Semaphore::new(most)), open: Mutex::default(), too_many: LimitedLog::default() })
    }

    /// Makes room for a new connection by evicting an old one: the new one may be the kubelet's.
    ///
    /// The oldest of those whose headers are due is evicted. If there is none, the one that was idle the longest.
    pub async fn admit(self: &Arc<Self>) -> ConnectionSlot {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                self.evict();
                // The semaphore is never closed.
                self.permits.clone().acquire_owned().await.ok()
            }
        };
        let evicted = Arc::new(Notify::new());
        let mut open = self.lock();
        open.next += 1;
        let id = open.next;
        let entry = Entry { stage: Stage::Receiving, since: Instant::now(), evicted: evicted.clone() };
        open.entries.insert(id, entry);
        ConnectionSlot { id, evicted, connections: self.clone(), _permit: permit }
    }

    fn evict(&self) {
        let mut open = self.lock();
        let evictable = open.entries.values_mut().filter(|entry| entry.stage < Stage::Streaming);
        if let Some(entry) = evictable.min_by_key(|entry| (entry.stage, entry.since)) {
            entry.stage = Stage::Evicted;
            entry.evicted.notify_one();
            let most = open.entries.len();
            self.too_many.warn(|| format!("more than {most} HTTP connections: closing the oldest that sends no request"));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        sync::lock(&self.open)
    }
}

/// One connection's slot among [`Connections`].
#[derive(Debug)]
pub struct ConnectionSlot {
    id: u64,
    evicted: Arc<Notify>,
    connections: Arc<Connections>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl ConnectionSlot {
    /// The headers of a request are complete.
    pub fn requested(&self) {
        self.becomes(Stage::Answering);
    }

    /// The response is complete. `is_stream`: its body is a stream.
    pub fn answered(&self, is_stream: bool) {
        self.becomes(if is_stream { Stage::Streaming } else { Stage::Idle });
    }

    /// Bytes arrived.
    fn received(&self) {
        if self.stage().is_some_and(|(stage, _)| stage == Stage::Idle) {
            self.becomes(Stage::Receiving);
        }
    }

    /// Completes when the connection must be closed, with the reason.
    pub async fn ends(&self) -> &'static str {
        let overdue = async {
            loop {
                match self.stage() {
                    Some((Stage::Receiving, since)) if since.elapsed() >= HEADERS_TIMEOUT => return,
                    Some((Stage::Receiving, since)) => sleep_until(since + HEADERS_TIMEOUT).await,
                    // Headers that begin meanwhile are due after this.
                    _ => sleep(HEADERS_TIMEOUT).await,
                }
            }
        };
        tokio::select! {
            () = overdue => "its headers took too long",
            () = self.evicted.notified() => "there are too many connections",
        }
    }

    fn stage(&self) -> Option<(Stage, Instant)> {
        self.connections.lock().entries.get(&self.id).map(|entry| (entry.stage, entry.since))
    }

    fn becomes(&self, stage: Stage) {
        if let Some(entry) = self.connections.lock().entries.get_mut(&self.id)
            && entry.stage != Stage::Evicted
        {
            (entry.stage, entry.since) = (stage, Instant::now());
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.lock().entries.remove(&self.id);
    }
}

/// A connection that reports arriving bytes to its slot.
#[derive(Debug)]
pub struct Tracked<S> {
    /// The connection itself.
    pub stream: S,
    /// Its slot.
    pub slot: Arc<ConnectionSlot>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tracked<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.slot.received();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tracked<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A rate-limited log of a warning that clients can cause at any rate.
#[derive(Debug, Default)]
pub struct LimitedLog(Mutex<(Option<Instant>, u64)>);

impl LimitedLog {
    /// Logs the message, unless it was logged less than [`LOG_INTERVAL`] ago.
    pub fn warn(&self, message: impl FnOnce() -> String) {
        let mut state = sync::lock(&self.0);
        let (logged, skipped) = &mut *state;
        if logged.is_some_and(|logged| logged.elapsed() < LOG_INTERVAL) {
            *skipped += 1;
            return;
        }
        let times = std::mem::take(skipped);
        *logged = Some(Instant::now());
        drop(state);
        match times {
            0 => warn!("{}", message()),
            _ => warn!("{} ({times} more since the last log)", message()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn oldest_without_headers_is_evicted_then_the_oldest_idle_and_streams_never() {
        let connections = Connections::new(4);
        let [stream, idle, first, second] =
            [connections.admit().await, connections.admit().await, connections.admit().await, connections.admit().await];
        stream.answered(true);
        idle.answered(false);
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut victims = VecDeque::from([first, second, idle]);
        let mut streams = vec![stream];
        while let Some(victim) = victims.pop_front() {
            let newcomer = connections.admit();
            tokio::pin!(newcomer);
            assert!(newcomer.as_mut().now_or_never().is_none(), "no slot is free yet");
            assert_eq!(victim.ends().now_or_never(), Some("there are too many connections"));
            for other in victims.iter().chain(&streams) {
                assert_eq!(other.ends().now_or_never(), None);
            }
            drop(victim);
            let newcomer = newcomer.await;
            newcomer.answered(true);
            streams.push(newcomer);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn headers_are_due_10_s_after_they_began() {
        let connections = Connections::new(4);
        let slot = connections.admit().await;
        let began = Instant::now();
        slot.ends().await;
        assert_eq!(began.elapsed(), HEADERS_TIMEOUT, "a new connection owes headers from its accept");
        slot.answered(false);
        let idle = async {
            sleep(Duration::from_secs(95)).await;
            slot.received();
            sleep(Duration::from_secs(5)).await;
            slot.received();
        };
        let began = Instant::now();
        tokio::join!(slot.ends(), idle);
        assert_eq!(began.elapsed(), Duration::from_secs(105), "an idle one does not, and more bytes do not extend the time");
    }
}
