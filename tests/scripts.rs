//! Scripts detect missing programs, even if a function, alias or file has the name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs `require package PROGRAM` after `before`, with a fake apt-get. Returns whether the script tried to install the package.
fn installs(case: &str, before: &str, program: &str) -> bool {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scripts").join(case);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let (apt, calls) = (directory.join("apt-get"), directory.join("calls"));
    fs::write(&apt, format!("#!/bin/sh\necho \"$*\" >>'{}'\n", calls.display())).unwrap();
    fs::set_permissions(&apt, fs::Permissions::from_mode(0o755)).unwrap();

    let script = format!(
        "set -euo pipefail\nsay() {{ :; }}\ncannot() {{ echo \"$*\"; exit 3; }}\n{before}\n. tests/packages.sh\nrequire package '{program}'"
    );
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").expect("a PATH"));
    let output = Command::new("bash").args(["-c", &script]).current_dir(ROOT).env("PATH", path).output().expect("bash runs");
    assert!(output.status.success(), "{case}: {output:?}");
    let calls = fs::read_to_string(calls).unwrap_or_default();
    calls.lines().any(|call| call.ends_with("install --yes --no-install-recommends package"))
}

#[test]
fn missing_program_is_installed_whatever_else_has_its_name() {
    for (case, before, program) in [
        ("nothing", "", "no-such-program"),
        ("function", "no-such-program() { :; }", "no-such-program"),
        ("alias", "shopt -s expand_aliases; alias no-such-program=true", "no-such-program"),
        ("builtin", "", "declare"),
        ("file-of-the-project", "", "Cargo.toml"),
        ("directory-of-the-project", "", "image"),
        ("file", "", "/no/such/file"),
        ("name-that-no-compiler-knows", "", ""),
    ] {
        assert!(installs(case, before, program), "{case}: `require` takes something else for the program");
    }
}

#[test]
fn present_program_or_file_is_not_installed() {
    for (case, before, program) in
        [("program", "", "bash"), ("behind-a-function", "bash() { :; }", "bash"), ("present-file", "", "/etc/passwd")]
    {
        assert!(!installs(case, before, program), "{case}: it is there");
    }
}

#[test]
fn readme_names_what_a_fresh_machine_runs() {
    let output = Command::new(Path::new(ROOT).join("tests/fresh/run")).arg("--list").output().expect("tests/fresh/run runs");
    let listed = String::from_utf8(output.stdout).unwrap();
    let (install, commands) = listed.split_once('\n').expect("two lines or more");
    assert!(install.starts_with("apt-get install "), "README does not name the packages: {listed}");
    assert_eq!(commands.lines().collect::<Vec<_>>(), ["make demo", "make test"]);
}

/// Collects every script of the project: files whose `#!` line names a shell, and `*.sh`.
fn scripts(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type().unwrap().is_dir() {
            if !["target", ".git", ".cluster"].contains(&&*name) {
                scripts(&path, found);
            }
        } else if let Ok(text) = fs::read_to_string(&path)
            && (name.ends_with(".sh")
                || text.starts_with("#!") && text.lines().next().is_some_and(|line| line.ends_with("sh")))
        {
            found.push(path);
        }
    }
}

#[test]
fn scripts_look_for_programs_in_path_only() {
    let mut found = Vec::new();
    scripts(Path::new(ROOT), &mut found);
    assert!(found.len() >= 20, "only {} scripts were found", found.len());
    for path in found.into_iter().chain([Path::new(ROOT).join("Makefile")]) {
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let code = if line.trim_start().starts_with('#') { "" } else { line };
            for way in ["command -v", "command -V", "$(which "] {
                assert!(!code.contains(way), "{}:{}: `type -P` finds programs only: {line}", path.display(), number + 1);
            }
        }
    }
}
