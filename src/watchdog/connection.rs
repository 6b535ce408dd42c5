//! The sidecar's end of the socket, and the process of the watchdog.

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

/// The timeout of a response. A healthy watchdog needs far less.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// A running watchdog.
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
    /// It does not start, or reports an error.
    pub async fn open(options: &WatchdogOptions) -> Result<Self, WatchdogError> {
        let failed = |source| WatchdogError::Start { program: options.program.display().to_string(), source };
        let mut connection = Self::start(options).map_err(failed)?;
        connection.configure(options).await.map_err(failed)?;
        match timeout(TIMEOUT, connection.receive()).await {
            Ok(Some(FromWatchdog::Ready)) => Ok(connection),
            Ok(Some(FromWatchdog::Failed { message, kind })) => Err(error(message, kind)),
            Ok(_) => Err(failed(io::Error::other("it exited before it was ready"))),
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
        // A process group of its own: signals of a terminal are not for the watchdog.
        let mut command = Command::new(&options.program);
        let child = command.arg("watchdog").process_group(0).stdin(Stdio::from(OwnedFd::from(other))).spawn()?;
        Ok(Self { child: Some(child), lines: BufReader::new(reader).lines(), writer })
    }

    async fn configure(&mut self, options: &WatchdogOptions) -> io::Result<()> {
        let line = encode(&ToWatchdog::Configure(Config::new(options)))?;
        // The socket is empty, so a part of the message fits. A closed standard input is not passed.
        let sent = send_with(self.writer.as_ref(), &line, io::stdin().as_fd()).unwrap_or(0);
        timeout(TIMEOUT, self.writer.write_all(&line[sent..])).await?
    }

    /// Returns the next message. `None`: the watchdog has exited, or sent an invalid message. Cancel safe.
    pub async fn receive(&mut self) -> Option<FromWatchdog> {
        let line = self.lines.next_line().await.ok()??;
        decode(line.as_bytes()).ok()
    }

    /// Sends a message. `false`: the watchdog does not read.
    pub async fn send(&mut self, message: &ToWatchdog) -> bool {
        let Ok(line) = encode(message) else { return false };
        matches!(timeout(TIMEOUT, self.writer.write_all(&line)).await, Ok(Ok(())))
    }

    /// Kills the watchdog, and waits until it has exited, up to `limit`.
    pub async fn end(&mut self, limit: Duration) {
        self.kill();
        // The kernel closes the socket after the last step of the process. Its last messages do not count.
        let _ = timeout(limit, async { while let Ok(Some(_)) = self.lines.next_line().await {} }).await;
    }

    fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails if it has exited.
            let _ = child.kill();
        }
    }

    /// Closes the socket, and waits until the watchdog has exited.
    pub async fn close(mut self) {
        // Fails if it has exited.
        let _ = self.writer.shutdown().await;
        if timeout(TIMEOUT, async { while self.receive().await.is_some() {} }).await.is_err() {
            self.kill();
        }
        if let Some(mut child) = self.child.take() {
            // The reaper may have reaped it.
            let _ = tokio::task::spawn_blocking(move || child.wait()).await;
        }
    }
}

impl Drop for Connection {
    /// Closes the socket, so that the watchdog ends file and command.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Reaps it. Without a thread it stays a zombie until this process exits.
            let _ = std::thread::Builder::new().spawn(move || child.wait());
        }
    }
}

/// Returns the error that the watchdog reported.
pub(super) fn error(message: String, kind: FailureKind) -> WatchdogError {
    match kind {
        FailureKind::File => WatchdogError::File(message),
        FailureKind::CommandNotFound => WatchdogError::CommandNotFound(message),
        FailureKind::CommandNotExecutable => WatchdogError::CommandNotExecutable(message),
        FailureKind::Other => WatchdogError::Failed(message),
    }
}
