//! A thread for the status file: a volume that hangs holds up neither signals nor the clock.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::file::StatusFile;

/// What to do with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileTask {
    Write,
    Remove,
    Check,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct FileDone {
    pub task: FileTask,
    /// Of a look: whether the file is as it was written.
    pub result: io::Result<bool>,
}

/// The thread that does one thing with the file after the other.
#[derive(Debug)]
pub(super) struct FileWorker {
    tasks: Sender<FileTask>,
    done: Receiver<FileDone>,
}

impl FileWorker {
    /// Starts the thread. It writes a byte into `wake` whenever something is done.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn start(file: StatusFile, mut wake: UnixStream) -> io::Result<Self> {
        let (tasks, asked) = channel();
        let (tell, done) = channel();
        thread::Builder::new().name("status-file".into()).spawn(move || {
            for task in asked {
                let result = match task {
                    FileTask::Write => file.write().map(|()| true),
                    FileTask::Remove => file.remove().map(|()| false),
                    FileTask::Check => Ok(file.is_intact()),
                };
                // Both fail only when nobody listens any more.
                if tell.send(FileDone { task, result }).is_err() || wake.write_all(b"f").is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { tasks, done })
    }

    /// Begins this. One at a time.
    pub fn begin(&self, task: FileTask) {
        // The thread ends only with the process.
        let _ = self.tasks.send(task);
    }

    /// What is done meanwhile.
    pub fn done(&self) -> Option<FileDone> {
        self.done.try_recv().ok()
    }
}
