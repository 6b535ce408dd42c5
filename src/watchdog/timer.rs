//! Wakes the watchdog at a point of `CLOCK_BOOTTIME`, also if the machine was suspended then.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use podium_campaign::Moment;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};

#[derive(Debug)]
pub(super) struct Timer {
    descriptor: OwnedFd,
}

impl Timer {
    pub fn new() -> io::Result<Self> {
        let descriptor = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { descriptor })
    }

    /// Makes the descriptor readable from this moment on; `None`: never.
    pub fn arm(&self, at: Option<Moment>) -> io::Result<()> {
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = at.map_or(none, |at| {
            let since = at - Moment::START;
            // Zero would disarm the timer. A larger time is never reached.
            let tv_nsec = i64::from(since.subsec_nanos()).max(1);
            Timespec { tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), tv_nsec }
        });
        let once = Itimerspec { it_interval: none, it_value };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
