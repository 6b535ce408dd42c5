//! The status file.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::fixture::{Dir, Sidecar, can, content_and_mode, eventually, until};
use crate::sidecar::Spec;

fn spec(dir: &Dir, file: PathBuf) -> Spec {
    Spec { dir: dir.0.clone(), file: Some(file), ..Spec::default() }
}

#[test]
fn file_of_a_former_process_is_removed_before_a_leader_is_elected() {
    let dir = Dir::new();
    let file = dir.path("status");
    fs::write(&file, "web-9").unwrap();
    dir.write("taken");
    let mut sidecar = Sidecar::start(&spec(&dir, file.clone()));
    until("the old file is gone", || !file.exists());
    dir.remove("taken");
    let seen = eventually("a file", || content_and_mode(&file));
    assert_eq!(seen, ("web-0".into(), 0o644));
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 0);
    assert!(!file.exists());
    assert_eq!(dir.read("finished").unwrap(), "Ok(Stopped)");
}

#[test]
fn file_returns_with_leadership() {
    let dir = Dir::new();
    let file = dir.path("status");
    let _elector = Sidecar::start(&spec(&dir, file.clone()));
    for _ in 0..2 {
        until("leads", || file.exists());
        dir.write("taken");
        until("does not lead", || !file.exists());
        dir.remove("taken");
    }
    until("leads", || file.exists());
}

#[test]
fn removed_or_changed_file_is_restored_while_leading() {
    let dir = Dir::new();
    let file = dir.path("status");
    let mut sidecar = Sidecar::start(&spec(&dir, file.clone()));
    let is_whole = |file: &Path| {
        fs::symlink_metadata(file).is_ok_and(|found| found.is_file())
            && content_and_mode(file) == Some(("web-0".into(), 0o644))
    };
    until("leads", || is_whole(&file));
    type Change = fn(&Path);
    let changes: [(&str, Change); 7] = [
        ("removed", |file| fs::remove_file(file).unwrap()),
        ("emptied", |file| drop(fs::File::create(file).unwrap())),
        ("overwritten", |file| fs::write(file, "web-1").unwrap()),
        ("closed to others", |file| fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap()),
        ("moved", |file| fs::rename(file, file.with_extension("old")).unwrap()),
        ("a directory", |file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }),
        ("a link", |file| {
            fs::remove_file(file).unwrap();
            symlink("/dev/null", file).unwrap();
        }),
    ];
    for (what, change) in changes {
        change(&file);
        until(what, || is_whole(&file));
    }
    // A directory that is not empty is left alone.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    fs::write(file.join("something"), "").unwrap();
    until("the problem is logged", || dir.read("log").is_some_and(|log| log.contains("cannot be written")));
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 0);
    assert!(file.join("something").exists());
}

#[test]
fn path_with_a_trailing_slash_is_created_as_a_directory() {
    let dir = Dir::new();
    let status = dir.path("shared/status");
    let mut sidecar = Sidecar::start(&spec(&dir, format!("{}/", status.display()).into()));
    for _ in 0..2 {
        let seen = eventually("a file", || content_and_mode(&status.join("leader")));
        assert_eq!(seen, ("web-0".into(), 0o644));
        fs::remove_dir_all(&status).unwrap();
    }
    until("it is back", || status.join("leader").exists());
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 0);
    assert_eq!(fs::read_dir(&status).unwrap().count(), 0);
}

#[test]
fn file_in_a_directory_has_the_name_leader() {
    let dir = Dir::new();
    let status = dir.path("status");
    fs::create_dir(&status).unwrap();
    let _elector = Sidecar::start(&spec(&dir, status.clone()));
    assert_eq!(eventually("a file", || content_and_mode(&status.join("leader"))).0, "web-0");
    let all = fs::read_dir(&status).unwrap().count();
    assert_eq!(all, 1, "no other file");
}

#[test]
fn unwritable_path_is_reported_with_the_remedy() {
    let dir = Dir::new();
    let fifo = dir.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for (file, says) in [(dir.path("nowhere/status"), "mount a volume"), (fifo, "is no regular file")] {
        let mut sidecar = Sidecar::start(&spec(&dir, file.clone()));
        assert_eq!(sidecar.code(), 1);
        let log = dir.read("log").unwrap();
        assert!(log.contains(&file.display().to_string()) && log.contains(says), "{log}");
    }
}

#[test]
fn mounted_file_is_written_in_place_and_emptied() {
    let test = "a_file_that_is_a_mount_of_its_own_is_written_in_place_and_emptied";
    if !can(test, &["unshare", "-m", "true"]) {
        return;
    }
    let dir = Dir::new();
    let (file, outside) = (dir.path("status"), dir.path("outside"));
    fs::write(&file, "").unwrap();
    fs::write(&outside, "web-9").unwrap();
    let mount = format!("mount --bind {} {} && exec \"$@\"", outside.display(), file.display());
    let under = ["unshare", "-m", "sh", "-c", &mount, "sh"];
    let mut sidecar = Sidecar::start_with(&spec(&dir, file), Stdio::null(), Some(&under));
    let content = || content_and_mode(&outside).unwrap().0;
    until("leads", || content() == "web-0");
    dir.write("taken");
    until("does not lead", || content().is_empty());
    dir.remove("taken");
    until("leads", || content() == "web-0");
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 0);
    assert_eq!(content(), "");
}

#[test]
fn dead_watchdog_is_replaced() {
    let dir = Dir::new();
    let file = dir.path("status");
    let mut sidecar = Sidecar::start(&spec(&dir, file.clone()));
    until("leads", || file.exists());
    let first = sidecar.process().watchdog();
    first.signal(Signal::KILL);
    until("the first has ended", || !first.lives());
    let second = eventually("another watchdog", || Some(sidecar.process().watchdog()).filter(|watchdog| *watchdog != first));
    until("leads", || file.exists());
    assert!(second.lives());
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 0);
    assert!(!file.exists() && !second.lives());
}

#[test]
fn watchdog_removes_the_file_after_an_invalid_message() {
    let dir = Dir::new();
    let file = dir.path("status");
    let (mut socket, other) = UnixStream::pair().unwrap();
    let mut watchdog =
        Command::new(env!("CARGO_BIN_EXE_podium")).arg("watchdog").stdin(Stdio::from(OwnedFd::from(other))).spawn().unwrap();
    let path: Vec<u8> = file.to_str().unwrap().into();
    let config = serde_json::json!({"Configure": {
        "identity": "web-0", "file": path, "command": null, "lateness": {"secs": 1, "nanos": 0},
    }});
    let lead = serde_json::json!({"Lead": {"until": null, "term": 7, "turn": 1}});
    writeln!(socket, "{config}\n{lead}").unwrap();
    until("leads", || file.exists());
    writeln!(socket, "hello").unwrap();
    assert!(eventually("its end", || watchdog.try_wait().unwrap()).success());
    assert!(!file.exists());
}
