//! Signals to all descendants of this process.
//!
//! A process that left the command's process group, or whose parent has ended, is still a descendant of the watchdog, because
//! the watchdog is a subreaper. So `/proc` shows all of them.

use std::collections::HashMap;
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal};

use crate::proc_stat::ProcStat;

/// Makes this process the parent of descendants whose own parent has ended.
///
/// # Errors
/// Errors of the kernel.
pub(super) fn adopt_orphans() -> io::Result<()> {
    // Any existing process means "yes".
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Sends the signal to a process group. A group without processes is no error.
pub(super) fn signal_group(group: Pid, signal: Signal) {
    // Fails if the group has no processes, or only those of other users.
    let _ = kill_process_group(group, signal);
}

/// Sends the signal to every living descendant of this process, except those in one process group. Returns their number.
pub(super) fn signal_descendants(signal: Signal, except: Option<Pid>) -> usize {
    let except = except.map(|group| group.as_raw_nonzero().get());
    let found = descendants();
    let selected = found.iter().filter(|(_, stat)| Some(stat.group) != except);
    selected.filter(|(pid, stat)| signal_one(*pid, *stat, signal)).count()
}

/// Sends the signal to this process, not to a later one with the same PID.
fn signal_one(pid: i32, listed: ProcStat, signal: Signal) -> bool {
    let Some(process) = Pid::from_raw(pid) else { return false };
    match pidfd_open(process, PidfdFlags::empty()) {
        Ok(descriptor) => {
            let is_same = stat(pid).is_some_and(|stat| stat.start_ticks == listed.start_ticks);
            is_same && pidfd_send_signal(descriptor, signal).is_ok()
        }
        // Before Linux 5.3, or a sandbox without pidfds.
        Err(Errno::NOSYS | Errno::PERM) => kill_process(process, signal).is_ok(),
        Err(_) => false,
    }
}

/// Returns the living descendants of this process.
fn descendants() -> Vec<(i32, ProcStat)> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let all: HashMap<i32, ProcStat> = pids.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let descends = |pid: i32| {
        let mut ancestor = pid;
        // The process tree has no cycles, but it changes while it is read.
        for _ in 0..all.len() {
            match all.get(&ancestor) {
                Some(stat) if stat.parent == own => return true,
                Some(stat) => ancestor = stat.parent,
                None => return false,
            }
        }
        false
    };
    all.iter().filter(|(pid, stat)| !stat.is_dead() && descends(**pid)).map(|(pid, stat)| (*pid, *stat)).collect()
}

fn stat(pid: i32) -> Option<ProcStat> {
    ProcStat::of(u32::try_from(pid).ok()?)
}
