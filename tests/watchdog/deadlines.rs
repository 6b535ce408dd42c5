//! Whatever becomes of the sidecar, file and command end in time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fixture::{Dir, FAMILY, Process, Sidecar, until};
use crate::sidecar::{GRACE, LATENESS, LOST, RENEW_DEADLINE, Spec};

/// A sidecar that leads, with file and family.
struct Leading {
    sidecar: Sidecar,
    family: Vec<Process>,
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
    /// How long it takes until file and family are gone.
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
fn when_the_elector_is_paused_file_and_command_have_ended_by_the_deadline() {
    let mut leading = leading();
    leading.sidecar.signal(Signal::STOP);
    let (file, family) = leading.time_to_end(Instant::now());
    assert!(file <= RENEW_DEADLINE && family <= RENEW_DEADLINE, "file {file:?}, family {family:?}");
    assert!(leading.was_terminated(), "asked before it was killed");
    leading.sidecar.signal(Signal::CONT);
    assert_eq!(leading.sidecar.code(), LOST);
    assert!(!leading.file.exists(), "a resumed sidecar does not write the file again");
}

#[test]
fn when_the_elector_is_killed_the_file_is_gone_at_once_and_the_command_within_its_grace() {
    let leading = leading();
    leading.sidecar.signal(Signal::KILL);
    let (file, family) = leading.time_to_end(Instant::now());
    assert!(file <= LATENESS, "at once: {file:?}");
    assert!(family <= GRACE + LATENESS, "{family:?}");
    assert!(leading.was_terminated(), "asked before it was killed");
}

#[test]
fn when_the_elector_is_cut_off_file_and_command_have_ended_by_the_deadline_and_it_says_so() {
    let mut leading = leading();
    leading.dir.write("cut");
    let (file, family) = leading.time_to_end(Instant::now());
    assert!(file <= RENEW_DEADLINE && family <= RENEW_DEADLINE, "file {file:?}, family {family:?}");
    assert_eq!(leading.sidecar.code(), LOST);
}

#[test]
fn when_somebody_else_leads_file_and_command_have_ended_within_the_grace() {
    let mut leading = leading();
    leading.dir.write("taken");
    assert_eq!(leading.sidecar.code(), LOST);
    assert!(!leading.file.exists());
    assert!(leading.family.iter().all(|process| !process.lives()), "nothing of it lives when the sidecar has ended");
    assert!(leading.was_terminated());
}

#[test]
fn when_the_elector_is_told_to_stop_nothing_lives_when_it_ends() {
    let mut leading = leading();
    leading.sidecar.signal(Signal::TERM);
    // The stubborn ones would use up the whole time to terminate.
    until("SIGTERM reached the command", || leading.was_terminated());
    assert!(!leading.file.exists(), "the file goes first");
    leading.family[1].signal(Signal::KILL);
    leading.family[2].signal(Signal::KILL);
    assert_eq!(leading.sidecar.code(), 7, "the command's own code");
    assert!(leading.family.iter().all(|process| !process.lives()));
    assert_eq!(leading.dir.read("finished").unwrap(), "Ok(Ended(Code(7)))");
}

#[test]
fn leadership_is_renewed_while_the_command_has_its_time_to_end() {
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
fn when_the_keeper_dies_the_elector_ends_what_it_kept() {
    let mut leading = leading();
    leading.sidecar.process().watchdog().signal(Signal::KILL);
    assert_eq!(leading.sidecar.code(), 137, "as if the command had been killed");
    assert!(!leading.file.exists());
    assert!(leading.family.iter().all(|process| !process.lives()), "the one that left the process group as well");
}

#[test]
fn when_the_keeper_is_paused_the_elector_ends_what_it_kept_soon_after_the_lead() {
    let mut leading = leading();
    leading.sidecar.process().watchdog().signal(Signal::STOP);
    leading.dir.write("taken");
    assert_eq!(leading.sidecar.code(), LOST);
    assert!(!leading.file.exists());
    assert!(leading.family.iter().all(|process| !process.lives()));
}

#[test]
fn a_keeper_survives_signals_that_are_meant_for_others() {
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
