//! The lock that the command and all that it starts hold as long as one of them lives: a name of an abstract Unix socket.
//!
//! The kernel frees the name when the last copy of the descriptor is closed, so it survives watchdog and sidecar, and nothing
//! stays behind. Whoever closes descriptors that it does not know gives up its share; as long as the watchdog lives, that
//! holds the lock, too.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use crate::hash::fnv;

/// The longest name of a socket, less the byte that says that it is abstract.
const LONGEST: usize = 107;

/// That no other command of the same name runs.
#[derive(Debug)]
pub(super) struct RunLock {
    socket: OwnedFd,
}

impl RunLock {
    /// Takes the lock. `None`: somebody has it.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn take(name: &str) -> io::Result<Option<Self>> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        match bind(&socket, &SocketAddrUnix::new_abstract_name(address(name).as_bytes())?) {
            Ok(()) => Ok(Some(Self { socket })),
            Err(Errno::ADDRINUSE) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Does this while processes that are started inherit the lock. Nothing else may start processes meanwhile.
    ///
    /// # Errors
    /// Those of the kernel, and of the work.
    pub fn inherited<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        fcntl_setfd(&self.socket, FdFlags::empty())?;
        let done = work();
        fcntl_setfd(&self.socket, FdFlags::CLOEXEC)?;
        done
    }
}

/// Unlike for unlike names, however long these are.
fn address(name: &str) -> String {
    let whole = format!("podium/run/{name}");
    if whole.len() <= LONGEST {
        return whole;
    }
    // Of a long name, as many characters as there is place for beside the hash.
    let end = (0..=LONGEST - 17).rev().find(|end| whole.is_char_boundary(*end)).unwrap_or_default();
    format!("{}/{:016x}", &whole[..end], fnv(whole.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_taken_once_and_free_again_when_it_is_dropped() {
        let name = format!("test/{}", std::process::id());
        let taken = RunLock::take(&name).unwrap();
        assert!(taken.is_some());
        assert!(RunLock::take(&name).unwrap().is_none());
        assert!(RunLock::take(&format!("{name}/other")).unwrap().is_some());
        drop(taken);
        assert!(RunLock::take(&name).unwrap().is_some());
    }

    #[test]
    fn long_names_fit_and_stay_unlike() {
        let long = |last: char| format!("{}{last}", "ä".repeat(200));
        assert!(address(&long('a')).len() <= LONGEST);
        assert_ne!(address(&long('a')), address(&long('b')));
        assert_eq!(address("default/web/web-0"), "podium/run/default/web/web-0");
    }
}
