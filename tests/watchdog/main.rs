//! The process of the watchdog and the sidecar's side of it, with the real binary and without a cluster.
#![cfg(target_os = "linux")]

mod checks;
mod commands;
mod deadlines;
mod files;
mod fixture;
mod locks;
mod reaping;
mod sidecar;

/// Not a test: the process that the tests start, pause and kill.
#[test]
#[ignore = "started by the other tests"]
fn sidecar_process() {
    let Ok(spec) = std::env::var(sidecar::SPEC) else { return };
    std::process::exit(sidecar::run(&spec));
}
