//! Checks of the command's readiness, which run in the watchdog.

use std::time::Duration;

use rustix::process::Signal;

use crate::fixture::{Dir, Sidecar, TIMEOUT, until};
use crate::sidecar::Spec;

/// A command that ends when the file `end` exists, and on SIGTERM after the file `may-end` exists.
const COMMAND: &str = "trap 'echo > $D/terminated; until [ -e $D/may-end ]; do sleep 0.01; done; exit 0' TERM; \
                       echo $$ > $D/main; until [ -e $D/end ]; do sleep 0.01; done; exit 4";

/// A check that leaves its PID and that of a child behind, and hangs.
const HANGS: &str = "sh -c 'echo $$ > $D/child; exec sleep 1000' & echo $$ > $D/check; sleep 1000";

fn spec(dir: &Dir, check: &str, limit: Duration) -> Spec {
    let check = format!("export D='{}'; {check}", dir.0.display());
    let (argv, lock) = (dir.shell(COMMAND), dir.0.display().to_string());
    Spec { dir: dir.0.clone(), argv, lock, check: Some((check, limit)), ..Spec::default() }
}

/// Waits for this result of a check.
fn result(dir: &Dir, wanted: &str) {
    until(wanted, || dir.read("checks").unwrap_or_default().lines().any(|line| line == wanted));
}

#[test]
fn check_has_the_environment_of_the_command_and_its_exit_code_is_the_result() {
    let dir = Dir::new();
    let script = "echo $PODIUM_NAME $PODIUM_TERM > $D/environment; echo to stdout; echo to stderr >&2; \
                  [ -e $D/killed ] && kill -9 $$; [ -e $D/well ] || exit 3";
    let mut sidecar = Sidecar::start(&spec(&dir, script, TIMEOUT));
    result(&dir, r#"Err("the ready command exited with code 3")"#);
    // The first version of the lock that named it comes after version 7.
    assert_eq!(dir.read("environment").unwrap(), "web-0 8\n");
    dir.write("well");
    result(&dir, "Ok(())");
    dir.write("killed");
    result(&dir, r#"Err("signal 9 ended the ready command")"#);
    dir.write("end");
    assert_eq!(sidecar.code(), 4, "the command's own code, not that of a check");
    assert!(!dir.read("log").unwrap().contains("to std"), "the output of checks is discarded");
}

#[test]
fn check_that_hangs_is_killed_with_its_process_group() {
    let dir = Dir::new();
    let mut sidecar = Sidecar::start(&spec(&dir, HANGS, Duration::from_millis(300)));
    let (check, child) = (dir.process("check"), dir.process("child"));
    result(&dir, r#"Err("the ready command did not end within 300ms")"#);
    until("the check is gone", || !check.lives() && !child.lives());
    dir.write("end");
    assert_eq!(sidecar.code(), 4);
}

#[test]
fn processes_that_a_check_leaves_behind_are_killed() {
    let dir = Dir::new();
    let script =
        "[ -e $D/child ] || sh -c 'echo $$ > $D/child; exec sleep 1000' & until [ -s $D/child ]; do sleep 0.01; done";
    let mut sidecar = Sidecar::start(&spec(&dir, script, TIMEOUT));
    let child = dir.process("child");
    result(&dir, "Ok(())");
    until("the process left behind is gone", || !child.lives());
    dir.write("end");
    assert_eq!(sidecar.code(), 4);
}

#[test]
fn check_ends_with_the_command() {
    let dir = Dir::new();
    let mut sidecar = Sidecar::start(&spec(&dir, HANGS, TIMEOUT));
    let (check, child) = (dir.process("check"), dir.process("child"));
    dir.write("end");
    assert_eq!(sidecar.code(), 4);
    assert!(!check.lives() && !child.lives());
}

#[test]
fn check_ends_when_the_command_is_stopped() {
    let dir = Dir::new();
    let mut sidecar = Sidecar::start(&spec(&dir, HANGS, TIMEOUT));
    let (check, child) = (dir.process("check"), dir.process("child"));
    sidecar.signal(Signal::TERM);
    until("the command is told to end", || dir.path("terminated").exists());
    until("the check is gone", || !check.lives() && !child.lives());
    assert!(dir.process("main").lives());
    dir.write("may-end");
    assert_eq!(sidecar.code(), 0);
}

#[test]
fn check_outlives_neither_a_killed_sidecar_nor_a_killed_watchdog() {
    for kills_sidecar in [true, false] {
        let dir = Dir::new();
        let sidecar = Sidecar::start(&spec(&dir, HANGS, TIMEOUT));
        let processes = ["check", "child", "main"].map(|name| dir.process(name));
        dir.write("may-end");
        if kills_sidecar {
            sidecar.signal(Signal::KILL);
        } else {
            sidecar.process().watchdog().signal(Signal::KILL);
        }
        until("no process is left", || processes.iter().all(|process| !process.lives()));
    }
}

#[test]
fn phases_of_the_command_are_reported() {
    let dir = Dir::new();
    dir.write("taken");
    let mut sidecar = Sidecar::start(&Spec { restarts: true, ..spec(&dir, "true", TIMEOUT) });
    let phases = || dir.read("phases").unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    result(&dir, r#"Err("the command does not run")"#);
    dir.remove("taken");
    result(&dir, "Ok(())");
    // A renewal that comes too late: the watchdog stops the command by itself.
    dir.write("cut");
    until("the command is stopped", || dir.path("terminated").exists());
    until("that is reported", || phases().iter().any(|phase| phase == "Stopping"));
    dir.write("may-end");
    dir.remove("cut");
    until("the second run", || phases().iter().filter(|phase| *phase == "Running").count() == 2);
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 0);
    let seen = phases();
    assert_eq!(seen[..4], ["Absent", "Starting", "Running", "Stopping"], "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("Stopping"), "{seen:?}");
}
