//! The watchdog: a second process beside a leader. It ends status file and command with the lead, even if the sidecar is paused,
//! killed or separated from the API server. Linux only.
//!
//! The *sidecar* campaigns or follows. It starts the *watchdog*, and reports each renewal of the lead over a socket. Only the watchdog
//! writes and removes the status file, and it is the parent of the command.
//!
//! # Guarantees
//! * The status file exists only while this pod leads: the watchdog removes it 100 ms before the deadline. A file that was removed
//!   or changed is restored with the next renewal, or within 5 s.
//! * All processes of the command have ended by the deadline. SIGTERM goes to its process group at the deadline less lateness and
//!   grace, SIGKILL to all its descendants at the deadline less lateness. Deadlines are points of `CLOCK_BOOTTIME`: a machine that
//!   resumes after its deadline ends them at once.
//! * When the sidecar dies, the watchdog removes the file at once, and ends the command at the latest as above.
//! * Nothing waits for a volume that hangs: signals go first, and another thread writes and removes the file.
//! * No second command runs while a process of the first one lives. That holds across sidecars with the same lock name and network
//!   namespace.
//! * A check of the command's readiness counts as a process of the command: it ends with it. At most one runs at a time.
//!
//! # Limits
//! * A watchdog that is paused, or killed together with the sidecar, ends nothing. Only the lock is left: no second command starts
//!   in this pod.
//! * The kernel kills all processes of a container with its process 1. A file on a volume then stays until the next start.
//! * A process that the kernel cannot kill does not end, nor does one in another container.
//!
//! # Map
//! [`WatchdogOptions`] and [`supervise`] are the interface of the sidecar. In the process of the watchdog, `schedule`, which is pure,
//! decides what is due, and [`process`] does it with `file`, `command`, `check`, `descendants` and `lock`. Both sides exchange
//! messages: `message`. [`CommandMonitor`] shows the command to the rest of the sidecar.

mod channel;
mod check;
mod client;
mod command;
mod connection;
mod descendants;
mod file;
mod file_worker;
mod lock;
mod message;
mod monitor;
mod options;
pub mod process;
#[cfg(test)]
mod properties;
mod reaper;
mod schedule;
mod signals;
#[cfg(test)]
mod tables;
mod timer;

pub use client::supervise;
pub use monitor::{CommandMonitor, CommandPhase, CommandReporter, CommandState, command_monitor};
pub use options::{CommandOptions, CommandStatus, Finished, WatchdogError, WatchdogOptions};
