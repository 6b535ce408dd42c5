//! The sidecar's end of the socket, and the watchdog's process at the other end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::channel::send_with;
use super::message::{Config, FailureKind, FromWatchdog, ToWatchdog, decode, encode};
use super::options::{WatchdogError, WatchdogOptions};

/// How long a watchdog that nothing holds up takes for anything that it is asked, and far more.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A watchdog that is ready.
#[derive(Debug)]
pub(super) struct Connection {
    child: Option<Child>,
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Connection {
    /// Starts a watchdog, and waits until it is ready.
    ///
    /// # Errors
    /// It does not start, or cannot do its options.
    pub async fn open(options: &WatchdogOptions) -> Result<Self, WatchdogError> {
        let failed = |source| WatchdogError::Start { program: options.program.display().to_string(), source };
        let mut connection = Self::start(options).map_err(failed)?;
        connection.give_orders(options).await.map_err(failed)?;
        match timeout(PATIENCE, connection.hear()).await {
            Ok(Some(FromWatchdog::Ready)) => Ok(connection),
            Ok(Some(FromWatchdog::Failed { sentence, why })) => Err(error(sentence, why)),
            Ok(_) => Err(failed(io::Error::other("it ended before it was ready"))),
            Err(_) => {
                connection.kill();
                Err(failed(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    fn start(options: &WatchdogOptions) -> io::Result<Self> {
        let (own, other) = UnixStream::pair()?;
        own.set_nonblocking(true)?;
        let (reader, writer) = tokio::net::UnixStream::from_std(own)?.into_split();
        // A group of its own: what a terminal sends to this process is not for the watchdog.
        let mut command = Command::new(&options.program);
        let child = command.arg("watchdog").process_group(0).stdin(Stdio::from(OwnedFd::from(other))).spawn()?;
        Ok(Self { child: Some(child), lines: BufReader::new(reader).lines(), writer })
    }

    async fn give_orders(&mut self, options: &WatchdogOptions) -> io::Result<()> {
        let line = encode(&ToWatchdog::Configure(Config::new(options)))?;
        // The socket is empty, so that some of it finds room. A standard input that is closed is none.
        let sent = send_with(self.writer.as_ref(), &line, io::stdin().as_fd()).unwrap_or(0);
        timeout(PATIENCE, self.writer.write_all(&line[sent..])).await?
    }

    /// The next message. `None`: the watchdog is gone, or says what is no message. Nothing is lost if it is not waited for.
    pub async fn hear(&mut self) -> Option<FromWatchdog> {
        let line = self.lines.next_line().await.ok()??;
        decode(line.as_bytes()).ok()
    }

    /// Tells the watchdog. `false`: it does not listen.
    pub async fn tell(&mut self, message: &ToWatchdog) -> bool {
        let Ok(line) = encode(message) else { return false };
        matches!(timeout(PATIENCE, self.writer.write_all(&line)).await, Ok(Ok(())))
    }

    /// Ends the watchdog, and waits for so long until it cannot do anything any more.
    pub async fn end(&mut self, patience: Duration) {
        self.kill();
        // The socket is closed when it has made its last step. What it said last does not count.
        let _ = timeout(patience, async { while let Ok(Some(_)) = self.lines.next_line().await {} }).await;
    }

    fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails if it has ended already.
            let _ = child.kill();
        }
    }

    /// Lets the watchdog go, and waits until it is gone.
    pub async fn close(mut self) {
        // Fails if it is gone already.
        let _ = self.writer.shutdown().await;
        if timeout(PATIENCE, async { while self.hear().await.is_some() {} }).await.is_err() {
            self.kill();
        }
        if let Some(mut child) = self.child.take() {
            // Whoever collects orphans may have collected it.
            let _ = tokio::task::spawn_blocking(move || child.wait()).await;
        }
    }
}

impl Drop for Connection {
    /// The socket is closed, and the watchdog ends what it keeps.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Somebody has to collect it. Without a thread it is collected when this process ends.
            let _ = std::thread::Builder::new().spawn(move || child.wait());
        }
    }
}

/// What the watchdog failed at.
pub(super) fn error(sentence: String, why: FailureKind) -> WatchdogError {
    match why {
        FailureKind::File => WatchdogError::File(sentence),
        FailureKind::CommandNotFound => WatchdogError::CommandNotFound(sentence),
        FailureKind::CommandNotExecutable => WatchdogError::CommandNotExecutable(sentence),
        FailureKind::Other => WatchdogError::Failed(sentence),
    }
}
