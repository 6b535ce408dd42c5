//! The command: start, environment and end.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::{env, fs};

use rustix::process::Signal;

use crate::fixture::{Dir, Sidecar, eventually, until};
use crate::sidecar::Spec;

fn spec(dir: &Dir, script: &str) -> Spec {
    Spec { dir: dir.0.clone(), argv: dir.shell(script), lock: dir.0.display().to_string(), ..Spec::default() }
}

#[test]
fn exit_code_is_passed_on_after_leftover_processes_have_ended() {
    let dir = Dir::new();
    let script = "(trap '' TERM; setsid sh -c 'echo $$ > $D/strayed; exec sleep 1000') & \
                  until [ -s $D/strayed ]; do sleep 0.01; done; exit 3";
    let mut sidecar = Sidecar::start(&spec(&dir, script));
    let strayed = dir.process("strayed");
    assert_eq!(sidecar.code(), 3);
    assert!(!strayed.lives());
    assert_eq!(dir.read("finished").unwrap(), "Ok(Ended(Code(3)))");
}

#[test]
fn signal_that_ends_the_command_is_passed_on() {
    let dir = Dir::new();
    assert_eq!(Sidecar::start(&spec(&dir, "kill -USR1 $$")).code(), 128 + 10);
}

#[test]
fn command_has_the_environment_of_the_sidecar_plus_name_and_term() {
    let dir = Dir::new();
    let mut sidecar = Sidecar::start(&spec(&dir, "tr '\\0' '\\n' < /proc/self/environ > $D/environment"));
    let environment = |bytes: &str| bytes.lines().map(str::to_owned).collect::<BTreeSet<String>>();
    assert_eq!(sidecar.code(), 0);
    // The sidecar has the environment of this process, and its spec.
    let own = env::vars_os().map(|(name, value)| format!("{}={}\n", name.display(), value.display()));
    let (seen, expected) = (environment(&dir.read("environment").unwrap()), environment(&own.collect::<String>()));
    let added: Vec<&str> = seen.difference(&expected).map(String::as_str).collect();
    let directory = format!("D={}", dir.0.display());
    // PWD and _ are the shell's own.
    let others = [&*directory, "PWD=", "_=", "WATCHDOG_TEST_SIDECAR="];
    let added: Vec<&str> = added.into_iter().filter(|added| !others.iter().any(|other| added.starts_with(other))).collect();
    // The first version of the lock that named it comes after version 7.
    assert_eq!(added, ["PODIUM_NAME=web-0", "PODIUM_TERM=8"]);
    let gone = expected.difference(&seen).filter(|gone| !gone.starts_with("PODIUM_") && !gone.starts_with("_="));
    assert_eq!(gone.count(), 0);
}

#[test]
fn command_inherits_only_the_lock() {
    let dir = Dir::new();
    let mut sidecar = Sidecar::start(&spec(&dir, "exec ls -l /proc/self/fd > $D/descriptors"));
    assert_eq!(sidecar.code(), 0);
    let listed = dir.read("descriptors").unwrap();
    let others: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_once(" -> ").map(|(before, target)| (before.rsplit(' ').next().unwrap(), target)))
        // Without the listed directory.
        .filter(|(number, target)| !matches!(*number, "0" | "1" | "2") && !target.starts_with("/proc/"))
        // Without descriptors that the test process itself inherited.
        .filter(|(number, target)| {
            fs::read_link(format!("/proc/self/fd/{number}")).map_or(true, |own| own.to_str() != Some(target))
        })
        .map(|(_, target)| target)
        .collect();
    assert!(matches!(others[..], [lock] if lock.starts_with("socket:")), "{listed}");
}

#[test]
fn command_reads_the_standard_input_of_the_sidecar() {
    let dir = Dir::new();
    let mut source = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let output = source.stdout.take().unwrap();
    let mut sidecar = Sidecar::start_with(&spec(&dir, "cat > $D/read"), output, None);
    source.stdin.take().unwrap().write_all(b"hello").unwrap();
    assert_eq!(sidecar.code(), 0);
    assert_eq!(dir.read("read").unwrap(), "hello");
    source.wait().unwrap();
}

#[test]
fn missing_or_unexecutable_command_has_the_exit_code_of_shells() {
    let dir = Dir::new();
    let plain = dir.path("plain");
    fs::write(&plain, "no program").unwrap();
    for (program, code) in [(dir.path("nowhere"), 127), (plain, 126)] {
        let program = program.display().to_string();
        let spec = Spec { argv: vec![program.clone()], ..spec(&dir, "") };
        assert_eq!(Sidecar::start(&spec).code(), code);
        assert!(dir.read("log").unwrap().contains(&program));
    }
}

#[test]
fn signals_to_the_sidecar_reach_the_command() {
    let dir = Dir::new();
    let script = "for s in HUP USR1 USR2 QUIT WINCH; do trap \"echo >> $D/$s\" $s; done; trap 'exit 5' TERM; \
                  echo >> $D/ready; while :; do sleep 0.02; done";
    let mut sidecar = Sidecar::start(&spec(&dir, script));
    until("the command is ready", || dir.path("ready").exists());
    let signals = [
        ("HUP", Signal::HUP),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("QUIT", Signal::QUIT),
        ("WINCH", Signal::WINCH),
    ];
    for (name, signal) in signals {
        sidecar.signal(signal);
        until(name, || dir.path(name).exists());
    }
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 5);
}

#[test]
fn restarting_command_runs_again_with_a_larger_term() {
    let dir = Dir::new();
    let script = "trap 'echo end >> $D/lives; exit 0' TERM; echo $PODIUM_TERM >> $D/lives; while :; do sleep 0.02; done";
    let mut sidecar = Sidecar::start(&Spec { restarts: true, ..spec(&dir, script) });
    let lives = || dir.read("lives").unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    until("the first run", || lives().len() == 1);
    dir.write("taken");
    until("its end", || lives().len() == 2);
    dir.remove("taken");
    until("the second run", || lives().len() == 3);
    let terms: Vec<u64> = lives().iter().filter_map(|line| line.parse().ok()).collect();
    assert!(terms[0] < terms[1], "{terms:?}");
    // Also after a renewal that came too late.
    dir.write("cut");
    until("the second end", || lives().len() == 4);
    dir.remove("cut");
    until("the third run", || lives().len() == 5);
    assert_eq!(lives()[3], "end");
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 0);
    assert_eq!(lives().len(), 6);
}

#[test]
fn restarting_command_runs_again_after_its_watchdog_died() {
    let dir = Dir::new();
    let mut sidecar = Sidecar::start(&Spec { restarts: true, ..spec(&dir, "echo $$ >> $D/lives; exec sleep 1000") });
    let lives = || dir.read("lives").unwrap_or_default().lines().count();
    until("the first run", || lives() == 1);
    sidecar.process().watchdog().signal(Signal::KILL);
    until("the second run", || lives() == 2);
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 128 + 15);
}

#[test]
fn sidecar_stopped_before_it_leads_runs_nothing() {
    let dir = Dir::new();
    dir.write("taken");
    let mut sidecar = Sidecar::start(&spec(&dir, "echo >> $D/ran"));
    eventually("a watchdog", || Some(sidecar.process().watchdog()));
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 0);
    assert!(!dir.path("ran").exists());
}
