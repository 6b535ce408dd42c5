//! The lock of a command: the name of an abstract Unix socket, which the command and its descendants inherit.
//!
//! The kernel frees the name when the last copy of the descriptor is closed. So the lock survives watchdog and sidecar, and leaves
//! nothing over. A process that closes unknown descriptors gives up its copy; the watchdog holds one as long as it lives.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use crate::hash::fnv;

/// The longest name of a socket, without the byte that marks it as abstract.
const LONGEST: usize = 107;

/// The lock, held.
#[derive(Debug)]
pub(super) struct RunLock {
    socket: OwnedFd,
}

impl RunLock {
    /// Acquires the lock. `None`: it is held.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn acquire(name: &str) -> io::Result<Option<Self>> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        match bind(&socket, &SocketAddrUnix::new_abstract_name(address(name).as_bytes())?) {
            Ok(()) => Ok(Some(Self { socket })),
            Err(Errno::ADDRINUSE) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Does this work while new processes inherit the lock. No other thread may start processes in that time.
    ///
    /// # Errors
    /// Errors of the kernel, and of the work.
    pub fn inherited<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        fcntl_setfd(&self.socket, FdFlags::empty())?;
        let done = work();
        fcntl_setfd(&self.socket, FdFlags::CLOEXEC)?;
        done
    }
}

/// Returns the name of the socket. Different names have different ones, also if they are long.
fn address(name: &str) -> String {
    let whole = format!("podium/run/{name}");
    if whole.len() <= LONGEST {
        return whole;
    }
    // A long name is truncated and gets a hash.
    let end = (0..=LONGEST - 17).rev().find(|end| whole.is_char_boundary(*end)).unwrap_or_default();
    format!("{}/{:016x}", &whole[..end], fnv(whole.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_acquired_once_and_free_after_it_is_dropped() {
        let name = format!("test/{}", std::process::id());
        let acquired = RunLock::acquire(&name).unwrap();
        assert!(acquired.is_some());
        assert!(RunLock::acquire(&name).unwrap().is_none());
        assert!(RunLock::acquire(&format!("{name}/other")).unwrap().is_some());
        drop(acquired);
        assert!(RunLock::acquire(&name).unwrap().is_some());
    }

    #[test]
    fn long_names_fit_and_stay_different() {
        let long = |last: char| format!("{}{last}", "ä".repeat(200));
        assert!(address(&long('a')).len() <= LONGEST);
        assert_ne!(address(&long('a')), address(&long('b')));
        assert_eq!(address("default/web/web-0"), "podium/run/default/web/web-0");
    }
}
