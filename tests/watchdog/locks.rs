//! No second command runs while a process of the first one lives.

use rustix::process::Signal;

use crate::fixture::{Dir, Sidecar, until};
use crate::sidecar::Spec;

#[test]
fn second_command_waits_for_all_descendants_of_the_first_after_watchdog_and_sidecar_were_killed() {
    let (first_dir, second_dir) = (Dir::new(), Dir::new());
    let lock = first_dir.0.display().to_string();
    let script = "setsid sh -c 'echo $$ > $D/strayed; exec sleep 1000' & echo $$ > $D/main; exec sleep 1000";
    let spec = |dir: &Dir, script: &str| Spec {
        dir: dir.0.clone(),
        argv: dir.shell(script),
        lock: lock.clone(),
        ..Spec::default()
    };
    let first = Sidecar::start(&spec(&first_dir, script));
    let (main, strayed) = (first_dir.process("main"), first_dir.process("strayed"));
    // Neither can end the command.
    let watchdog = first.process().watchdog();
    first.signal(Signal::STOP);
    watchdog.signal(Signal::KILL);
    drop(first);
    assert!(main.lives() && strayed.lives());

    let mut second = Sidecar::start(&spec(&second_dir, "echo > $D/ran"));
    let waits = || second_dir.read("log").unwrap().matches("still runs").count();
    until("it waits", || waits() == 1);
    main.signal(Signal::KILL);
    until("one has ended", || !main.lives());
    let tried = std::time::Instant::now();
    until("several retries", || tried.elapsed().as_secs() >= 1);
    assert!(!second_dir.path("ran").exists(), "the process that left the process group lives");
    assert_eq!(waits(), 1, "the wait is logged once");
    strayed.signal(Signal::KILL);
    assert_eq!(second.code(), 0);
    assert!(second_dir.path("ran").exists());
}
