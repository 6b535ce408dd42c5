//! The watchdog: a process of its own beside the one that leads. It ends what must not outlive the lead, even if the process
//! that leads is paused, killed or cut off from the API server. Linux only.
//!
//! The *sidecar* is the process that campaigns or follows. It starts the *watchdog* and tells it, over a socket, until when
//! this pod leads. The watchdog alone writes and removes the status file, and it is the parent of the command.
//!
//! # What it promises
//! * The status file exists only before the deadline of the lead: it goes 100 ms before it. While this pod leads it is there:
//!   what somebody removes or changes is back with the next renewal, or within 5 s.
//! * Everything that the command has started has ended by the deadline: SIGTERM goes to the command's process group at the
//!   deadline less lateness and grace, SIGKILL to all its descendants at the deadline less lateness. Deadlines are points of
//!   `CLOCK_BOOTTIME`, so a machine that wakes up after its deadline ends them at once.
//! * When the sidecar dies the file is gone at once, and the command at the latest as above.
//! * Nothing waits for a volume that hangs: signals go first, and the file is written and removed beside them.
//! * No second command runs while anything of the first lives, not even that of another sidecar, as long as it has the same
//!   lock's name and network namespace.
//!
//! # What it does not
//! Somebody who pauses the watchdog itself, or kills it together with the sidecar, keeps it from its work: then only the lock
//! is left, and no second command starts on this pod. So does the kernel, which kills all processes of a container with
//! process 1: a file on a volume stays then until the next life removes it. Nor does a process end that the kernel does not
//! let end, nor one in another container.
//!
//! # Map
//! [`WatchdogOptions`] and [`keep`] are all that a sidecar needs. In the watchdog's process: `schedule`, pure, says what is due;
//! [`process`] does it, with `file`, `command`, `family` and `lock`. Between the two: `message`.

mod channel;
mod command;
mod connection;

mod client;
mod descendants;
mod file;
mod file_worker;
mod lock;
mod message;
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
pub use options::{CommandOptions, CommandStatus, Finished, WatchdogError, WatchdogOptions};
