//! All processes that descend from this one, and their end.
//!
//! A process that left the command's process group, or whose parent has ended, is still a descendant of the keeper, because
//! the keeper is a subreaper. So the whole family is found in `/proc`, whatever it did to hide.

use std::collections::HashMap;
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal};

/// What `/proc/<pid>/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: i32,
    group: i32,
    /// In ticks since the start of the machine: with the number of the process it is unique.
    started: u64,
    is_dead: bool,
}

/// Makes this process the parent of descendants whose own parent has ended.
///
/// # Errors
/// Those of the kernel.
pub(super) fn adopt_orphans() -> io::Result<()> {
    // Any process that exists stands for "yes".
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Sends the signal to all of a process group. A group that is gone is no error.
pub(super) fn signal_group(group: Pid, signal: Signal) {
    // Fails if the group is gone, or if all in it belong to somebody else.
    let _ = kill_process_group(group, signal);
}

/// Sends the signal to every living process that descends from this one, except those in one process group. Returns how
/// many there are.
pub(super) fn signal_descendants(signal: Signal, except: Option<Pid>) -> usize {
    let except = except.map(|group| group.as_raw_nonzero().get());
    let found = descendants();
    let meant = found.iter().filter(|(_, stat)| Some(stat.group) != except);
    meant.filter(|(pid, stat)| signal_one(*pid, *stat, signal)).count()
}

/// Sends the signal to this very process, not to another that has got its number meanwhile.
fn signal_one(pid: i32, seen: Stat, signal: Signal) -> bool {
    let Some(process) = Pid::from_raw(pid) else { return false };
    match pidfd_open(process, PidfdFlags::empty()) {
        Ok(descriptor) => {
            let is_same = stat(pid).is_some_and(|stat| stat.started == seen.started);
            is_same && pidfd_send_signal(descriptor, signal).is_ok()
        }
        // Before Linux 5.3, or a sandbox that has none.
        Err(Errno::NOSYS | Errno::PERM) => kill_process(process, signal).is_ok(),
        Err(_) => false,
    }
}

/// The living descendants of this process.
fn descendants() -> Vec<(i32, Stat)> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let all: HashMap<i32, Stat> = pids.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let descends = |pid: i32| {
        let mut ancestor = pid;
        // The kernel's tree has no circles, but it changes while it is read.
        for _ in 0..all.len() {
            match all.get(&ancestor) {
                Some(stat) if stat.parent == own => return true,
                Some(stat) => ancestor = stat.parent,
                None => return false,
            }
        }
        false
    };
    all.iter().filter(|(pid, stat)| !stat.is_dead && descends(**pid)).map(|(pid, stat)| (*pid, *stat)).collect()
}

fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(line: &str) -> Option<Stat> {
    // The name is in parentheses, and may have any character in it.
    let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // The 20th and the 22nd field; the 6th is next.
    let threads: u32 = fields.nth(14)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    // One whose first thread alone has ended looks dead, and is not.
    let is_dead = state == "X" || state == "Z" && threads <= 1;
    Some(Stat { parent, group, started, is_dead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_name_looks_like_fields_is_read_right() {
        let line = "17 (a) Z (1 2 3) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 2222 23 24";
        assert_eq!(parse(line), Some(Stat { parent: 4, group: 5, started: 2222, is_dead: false }));
        let ended = |threads| format!("17 (x) Z 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 {threads} 21 2222 23 24");
        assert!(parse(&ended(1)).unwrap().is_dead && !parse(&ended(2)).unwrap().is_dead, "other threads of it live");
        for garbage in ["", "17", "17 (x", "17 (x) S", "17 (x) S y 6"] {
            assert_eq!(parse(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn this_process_is_found_in_proc_with_the_time_of_its_start() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let seen = stat(own).unwrap();
        assert!(!seen.is_dead && seen.started > 0);
        assert_eq!(Some(seen.parent), rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()));
    }
}
