//! File and command end in time, whatever happens to the sidecar.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fixture::{Dir, FAMILY, ProcessId, Sidecar, until};
use crate::sidecar::{GRACE, LATENESS, LOST, RENEW_DEADLINE, Spec};

/// A leading sidecar with a file and a command of several processes.
struct Leading {
    sidecar: Sidecar,
    family: Vec<ProcessId>,
    file: PathBuf,
    dir: Dir,
}

fn leading() -> Leading {
    let dir = Dir::new();
    let file = dir.path("status");
    let lock = dir.0.display().to_string();
    let spec = Spec { dir: dir.0.clone(), file: Some(file.clone()), argv: dir.shell(FAMILY), lock, ..Spec::default() };
    let sidecar = Sidecar::start(&spec);
    let family = dir.family();
    until("the file", || file.exists());
    Leading { sidecar, family, file, dir }
}

impl Leading {
    /// Returns the time until the file is removed, and until all processes have ended.
    fn time_to_end(&self, since: Instant) -> (Duration, Duration) {
        let mut file = None;
        until("the end", || {
            if !self.file.exists() {
                file.get_or_insert(since.elapsed());
            }
            file.is_some() && self.family.iter().all(|process| !process.lives())
        });
        (file.unwrap(), since.elapsed())
    }

    fn was_terminated(&self) -> bool {
        self.dir.path("terminated").exists()
    }
}

#[test]
fn paused_sidecar_loses_file_and_command_by_the_deadline() {
    let mut leading = leading();
    leading.sidecar.signal(Signal::STOP);
    let (file, family) = leading.time_to_end(Instant::now());
    assert!(file <= RENEW_DEADLINE && family <= RENEW_DEADLINE, "file {file:?}, family {family:?}");
    assert!(leading.was_terminated(), "SIGTERM precedes SIGKILL");
    leading.sidecar.signal(Signal::CONT);
    assert_eq!(leading.sidecar.code(), LOST);
    assert!(!leading.file.exists(), "a resumed sidecar does not write the file again");
}

#[test]
fn killed_sidecar_loses_the_file_at_once_and_the_command_within_its_grace() {
    let leading = leading();
    leading.sidecar.signal(Signal::KILL);
    let (file, family) = leading.time_to_end(Instant::now());
    assert!(file <= LATENESS, "at once: {file:?}");
    assert!(family <= GRACE + LATENESS, "{family:?}");
    assert!(leading.was_terminated(), "SIGTERM precedes SIGKILL");
}

#[test]
fn sidecar_behind_a_partition_loses_file_and_command_by_the_deadline() {
    let mut leading = leading();
    leading.dir.write("cut");
    let (file, family) = leading.time_to_end(Instant::now());
    assert!(file <= RENEW_DEADLINE && family <= RENEW_DEADLINE, "file {file:?}, family {family:?}");
    assert_eq!(leading.sidecar.code(), LOST);
}

#[test]
fn replaced_leader_loses_file_and_command_within_the_grace() {
    let mut leading = leading();
    leading.dir.write("taken");
    assert_eq!(leading.sidecar.code(), LOST);
    assert!(!leading.file.exists());
    assert!(leading.family.iter().all(|process| !process.lives()), "no process of the command outlives the sidecar");
    assert!(leading.was_terminated());
}

#[test]
fn stopped_sidecar_exits_after_file_and_command() {
    let mut leading = leading();
    leading.sidecar.signal(Signal::TERM);
    // The processes that ignore SIGTERM would use up the whole grace.
    until("SIGTERM reached the command", || leading.was_terminated());
    assert!(!leading.file.exists(), "the file goes first");
    leading.family[1].signal(Signal::KILL);
    leading.family[2].signal(Signal::KILL);
    assert_eq!(leading.sidecar.code(), 7, "the command's own code");
    assert!(leading.family.iter().all(|process| !process.lives()));
    assert_eq!(leading.dir.read("finished").unwrap(), "Ok(Ended(Code(7)))");
}

#[test]
fn leadership_is_renewed_while_the_command_terminates() {
    let mut leading = leading();
    leading.sidecar.signal(Signal::TERM);
    let asked = Instant::now();
    until("more than the deadline", || asked.elapsed() > RENEW_DEADLINE + LATENESS);
    assert!(leading.family[1].lives() && leading.family[2].lives(), "they have {RENEW_DEADLINE:?} and more");
    leading.family[1].signal(Signal::KILL);
    leading.family[2].signal(Signal::KILL);
    assert_eq!(leading.sidecar.code(), 7);
}

#[test]
fn sidecar_ends_file_and_command_if_the_watchdog_dies() {
    let mut leading = leading();
    leading.sidecar.process().watchdog().signal(Signal::KILL);
    assert_eq!(leading.sidecar.code(), 137, "as if the command had been killed");
    assert!(!leading.file.exists());
    assert!(leading.family.iter().all(|process| !process.lives()), "also the one that left the process group");
}

#[test]
fn sidecar_ends_file_and_command_if_the_watchdog_is_paused() {
    let mut leading = leading();
    leading.sidecar.process().watchdog().signal(Signal::STOP);
    leading.dir.write("taken");
    assert_eq!(leading.sidecar.code(), LOST);
    assert!(!leading.file.exists());
    assert!(leading.family.iter().all(|process| !process.lives()));
}

#[test]
fn watchdog_ignores_signals_for_the_sidecar() {
    let mut leading = leading();
    let watchdog = leading.sidecar.process().watchdog();
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2] {
        watchdog.signal(signal);
    }
    leading.sidecar.signal(Signal::TERM);
    until("SIGTERM reached the command", || leading.was_terminated());
    assert!(watchdog.lives());
    leading.family[1].signal(Signal::KILL);
    leading.family[2].signal(Signal::KILL);
    assert_eq!(leading.sidecar.code(), 7);
}
