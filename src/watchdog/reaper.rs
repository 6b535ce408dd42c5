//! Reaps orphans: a process whose parent has ended becomes a child of process 1 of the container, or of a subreaper.

use std::io;

use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

/// Reaps all children of this process until it is dropped.
#[derive(Debug)]
pub(super) struct Reaper {
    task: JoinHandle<()>,
}

impl Reaper {
    /// # Errors
    /// Signals cannot be received.
    pub fn start() -> io::Result<Self> {
        let mut ended = signal(SignalKind::child())?;
        let task = tokio::spawn(async move {
            loop {
                // One signal may stand for many.
                while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
                if ended.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(Self { task })
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.task.abort();
    }
}
