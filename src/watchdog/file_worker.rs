//! A thread for the status file, so that a volume that hangs blocks neither signals nor the clock.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::file::StatusFile;

/// A task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileTask {
    Write,
    Remove,
    Check,
}

/// The result of a task.
#[derive(Debug)]
pub(super) struct FileDone {
    pub task: FileTask,
    /// Of a check: whether the file is unchanged.
    pub result: io::Result<bool>,
}

/// The thread, which does one task after the other.
#[derive(Debug)]
pub(super) struct FileWorker {
    tasks: Sender<FileTask>,
    done: Receiver<FileDone>,
}

impl FileWorker {
    /// Starts the thread. It writes a byte into `wake` after each task.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn start(file: StatusFile, mut wake: UnixStream) -> io::Result<Self> {
        let (tasks, asked) = channel();
        let (results, done) = channel();
        thread::Builder::new().name("status-file".into()).spawn(move || {
            for task in asked {
                let result = match task {
                    FileTask::Write => file.write().map(|()| true),
                    FileTask::Remove => file.remove().map(|()| false),
                    FileTask::Check => Ok(file.is_intact()),
                };
                // Both fail only when the process exits.
                if results.send(FileDone { task, result }).is_err() || wake.write_all(b"f").is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { tasks, done })
    }

    /// Starts a task. The caller waits for its result before the next one.
    pub fn begin(&self, task: FileTask) {
        // The thread lives as long as the process.
        let _ = self.tasks.send(task);
    }

    /// Returns the result of a finished task.
    pub fn done(&self) -> Option<FileDone> {
        self.done.try_recv().ok()
    }
}
