//! A thread for the status file: a volume that hangs holds up neither signals nor the clock.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::file::StatusFile;

/// What to do with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Show,
    Hide,
    Look,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Done {
    pub job: Job,
    /// Of a look: whether the file is as it was written.
    pub result: io::Result<bool>,
}

/// The thread that does one thing with the file after the other.
#[derive(Debug)]
pub(super) struct Files {
    jobs: Sender<Job>,
    done: Receiver<Done>,
}

impl Files {
    /// Starts the thread. It writes a byte into `wake` whenever something is done.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn start(file: StatusFile, mut wake: UnixStream) -> io::Result<Self> {
        let (jobs, asked) = channel();
        let (tell, done) = channel();
        thread::Builder::new().name("status-file".into()).spawn(move || {
            for job in asked {
                let result = match job {
                    Job::Show => file.show().map(|()| true),
                    Job::Hide => file.hide().map(|()| false),
                    Job::Look => Ok(file.is_intact()),
                };
                // Both fail only when nobody listens any more.
                if tell.send(Done { job, result }).is_err() || wake.write_all(b"f").is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs, done })
    }

    /// Begins this. One at a time.
    pub fn begin(&self, job: Job) {
        // The thread ends only with the process.
        let _ = self.jobs.send(job);
    }

    /// What is done meanwhile.
    pub fn done(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}
