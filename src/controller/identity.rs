//! Identity of a replica, from which a later process can tell whether this one has ended.
//!
//! An identity is `<pod or host>_<space>-<pid>-<start>`. The space identifies the boot of the machine and the PID namespace.
//! A holder of the same space whose process does not exist has certainly ended, and so has a former container of the same
//! pod. So a replica that follows a killed one need not wait until that one's Lease expires.

use std::fmt;
use std::fs;

use crate::hash::fnv;
use crate::proc_stat::ProcStat;

/// The identity of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    is_pod: bool,
    process: ProcessId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ProcessId {
    space: String,
    pid: u32,
    /// In clock ticks since boot. PIDs are reused, but never with the same start.
    start: u64,
}

impl Identity {
    /// This process in a pod of this name.
    pub fn of_pod(name: impl Into<String>) -> Self {
        Self { name: name.into(), is_pod: true, process: ProcessId::this() }
    }

    /// This process on a host of this name.
    pub fn of_host(name: impl Into<String>) -> Self {
        Self { name: name.into(), is_pod: false, process: ProcessId::this() }
    }

    /// Another process, in a pod of this name. `space` identifies the machine and the PID namespace.
    pub fn of_process(pod: impl Into<String>, space: impl Into<String>, pid: u32, start: u64) -> Self {
        Self { name: pod.into(), is_pod: true, process: ProcessId { space: space.into(), pid, start } }
    }

    /// Returns whether the holder of this identity, found when this process starts, is known to have ended.
    pub fn knows_ended(&self, holder: &str) -> bool {
        let Some((name, process)) = parse(holder) else { return false };
        if name != self.name || process == self.process {
            return false;
        }
        // The kubelet starts a container only after the previous one has ended.
        self.is_pod || (process.space == self.process.space && process.has_ended())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, is_pod: _, process: ProcessId { space, pid, start } } = self;
        write!(formatter, "{name}_{space}-{pid}-{start}")
    }
}

fn parse(identity: &str) -> Option<(&str, ProcessId)> {
    let (name, process) = identity.rsplit_once('_')?;
    let mut parts = process.split('-');
    let process =
        ProcessId { space: parts.next()?.to_owned(), pid: parts.next()?.parse().ok()?, start: parts.next()?.parse().ok()? };
    parts.next().is_none().then_some((name, process))
}

impl ProcessId {
    fn this() -> Self {
        let pid = std::process::id();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let space = fnv(boot.bytes().chain(namespace.to_string_lossy().bytes()));
        // Without /proc, a value that differs at each start.
        let start = start_of(pid).unwrap_or_else(|| fnv(format!("{:?}", std::time::SystemTime::now()).bytes()));
        Self { space: format!("{space:016x}"), pid, start }
    }

    /// Returns whether this process of the same space has ended.
    fn has_ended(&self) -> bool {
        // If this process does not find itself in /proc, the absence of another one proves nothing.
        start_of(std::process::id()).is_some() && start_of(self.pid) != Some(self.start)
    }
}

/// Returns when the process of this PID started. `None`: there is none, or it is dead.
fn start_of(pid: u32) -> Option<u64> {
    ProcStat::of(pid).filter(|stat| !stat.is_dead()).map(|stat| stat.start_ticks)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn this() -> Identity {
        Identity::of_host("host")
    }

    #[test]
    fn an_identity_is_read_back_as_it_was_written_whatever_the_host_is_called() {
        for name in ["host", "web_1", "a-b", ""] {
            let identity = Identity::of_host(name);
            let text = identity.to_string();
            assert_eq!(parse(&text), Some((name, identity.process)), "{text}");
        }
        for other in ["", "web-0", "host_1f3a", "host_a-b-c", "host_a-1-2-3", "host_38bcf5a0-bbf1-4a5c-8f3e-1d6c7a9e2b11"] {
            assert_eq!(parse(other), None, "{other}");
            assert!(!this().knows_ended(other));
        }
    }

    #[test]
    fn a_process_of_the_same_space_has_ended_when_it_is_not_there_any_more() {
        let mut child = Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap();
        let mut other = this();
        other.process.pid = child.id();
        other.process.start = start_of(child.id()).expect("Linux has /proc");
        let holder = other.to_string();
        assert!(!this().knows_ended(&holder), "it runs");
        other.process.start += 1;
        assert!(this().knows_ended(&other.to_string()), "another process has that PID now");
        child.kill().unwrap();
        // Until reaped it is a zombie, which counts as dead, too, once the signal is delivered.
        child.wait().unwrap();
        assert!(this().knows_ended(&holder));
    }

    #[test]
    fn nothing_is_known_about_processes_elsewhere_nor_about_oneself() {
        let mut other = this();
        other.process.pid = u32::MAX;
        assert!(this().knows_ended(&other.to_string()), "as far as the PID goes");
        other.process.space = "elsewhere".into();
        assert!(!this().knows_ended(&other.to_string()));
        assert!(!Identity::of_host("another").knows_ended(&Identity { process: this().process, ..other }.to_string()));
        assert!(!this().knows_ended(&this().to_string()));
    }

    #[test]
    fn a_former_container_of_the_own_pod_has_ended() {
        let mut former = Identity::of_pod("podium-0");
        former.process.space = "elsewhere".into();
        assert!(Identity::of_pod("podium-0").knows_ended(&former.to_string()));
        assert!(!Identity::of_pod("podium-1").knows_ended(&former.to_string()));
    }
}
