//! `/proc/PID/stat`: see proc_pid_stat(5).

use std::fs;

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcStat {
    pub state: char,
    pub parent: i32,
    pub group: i32,
    /// User and system time, in clock ticks.
    pub cpu_ticks: u64,
    pub threads: u64,
    /// In clock ticks since the boot. Two processes with one PID never have the same.
    pub start_ticks: u64,
    pub virtual_bytes: u64,
    pub resident_pages: u64,
}

impl ProcStat {
    /// Reads the process of this PID. `None`: there is none, or no `/proc`.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Returns whether it has ended. A process whose first thread has ended looks like a zombie while its other threads live.
    pub(crate) fn is_dead(&self) -> bool {
        self.state == 'X' || self.state == 'Z' && self.threads <= 1
    }

    /// Reads a line of `/proc/PID/stat`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        // Field 2, the name, is in parentheses and may contain any character.
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |number: usize| field(number)?.parse::<u64>().ok();
        Some(Self {
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            cpu_ticks: number(14)? + number(15)?,
            threads: number(20)?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, state: char, threads: u64) -> String {
        let fields: Vec<String> =
            (4..=52).map(|number: u64| if number == 20 { threads } else { number }.to_string()).collect();
        format!("17 ({name}) {state} {}\n", fields.join(" "))
    }

    #[test]
    fn fields_are_those_of_the_manual_whatever_the_name_contains() {
        for name in ["podium", "a ) b", "a) Z (1 2 3"] {
            let expected = ProcStat {
                state: 'S',
                parent: 4,
                group: 5,
                cpu_ticks: 29,
                threads: 20,
                start_ticks: 22,
                virtual_bytes: 23,
                resident_pages: 24,
            };
            assert_eq!(ProcStat::parse(&line(name, 'S', 20)), Some(expected), "{name}");
        }
        for invalid in ["", "17", "17 (x", "17 (x) S", "17 (x) S y 6"] {
            assert_eq!(ProcStat::parse(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn zombie_with_living_threads_is_not_dead() {
        let is_dead = |state, threads| ProcStat::parse(&line("x", state, threads)).unwrap().is_dead();
        assert!(is_dead('Z', 1) && is_dead('X', 2));
        assert!(!is_dead('Z', 2) && !is_dead('S', 1));
    }

    #[test]
    fn own_process_is_alive() {
        let own = ProcStat::of(std::process::id()).unwrap();
        assert!(!own.is_dead() && own.start_ticks > 0);
        assert_eq!(Some(own.parent), rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()));
        assert_eq!(ProcStat::of(u32::MAX), None);
    }
}
