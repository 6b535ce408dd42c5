//! No zombies are left.

use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::fixture::{Dir, ProcessId, Sidecar, can, eventually, stat, until};
use crate::sidecar::Spec;

/// Leaves an orphan that ends soon, and keeps running.
const ORPHANS: &str = "trap 'exit 5' TERM; sh -c 'sh -c \"echo \\$\\$ > $D/orphan; sleep 0.1\" &'; echo $$ > $D/main; \
                       while :; do sleep 0.05; done";

fn spec(dir: &Dir) -> Spec {
    Spec { dir: dir.0.clone(), argv: dir.shell(ORPHANS), lock: dir.0.display().to_string(), ..Spec::default() }
}

#[test]
fn watchdog_reaps_orphans_while_the_command_runs() {
    let dir = Dir::new();
    let mut sidecar = Sidecar::start(&spec(&dir));
    let (main, orphan) = (dir.process("main"), dir.process("orphan"));
    until("the orphan is reaped", || stat(orphan.0).is_none());
    assert!(main.lives());
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 5);
}

#[test]
fn process_1_reaps_orphans_and_passes_on_the_exit_code() {
    let test = "as_process_1_of_a_container_it_collects_orphans_and_passes_on_how_the_command_ended";
    if !can(test, &["unshare", "--pid", "--fork", "--mount-proc", "nsenter", "--version"]) {
        return;
    }
    let dir = Dir::new();
    let under = ["unshare", "--pid", "--fork", "--mount-proc"];
    let mut unshare = Sidecar::start_with(&spec(&dir), Stdio::null(), Some(&under));
    let first = eventually("process 1", || unshare.process().children().first().copied());
    dir.process("main");
    // A process that enters the container from outside is no descendant of the watchdog.
    let target = first.0.to_string();
    let entered = "sh -c 'sleep 0.1 & echo $!'";
    let output = Command::new("nsenter").args(["-t", &target, "-p", "-m", "sh", "-c", entered]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let dead = |process: &ProcessId| stat(process.0).is_some_and(|(state, _)| state == "Z");
    until("the orphan is reaped", || {
        let children = first.children();
        // Only the watchdog.
        children.len() == 1 && !children.iter().any(dead)
    });
    first.signal(Signal::TERM);
    assert_eq!(unshare.code(), 5);
}
