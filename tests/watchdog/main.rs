//! The watchdog's process, and the sidecar's side of it: without a cluster, with the binary that is shipped.
#![cfg(target_os = "linux")]

mod commands;
mod deadlines;
mod files;
mod fixture;
mod locks;
mod reaping;
mod sidecar;

/// Not a test: the process that the tests start, pause and kill.
#[test]
#[ignore = "is started by the other tests"]
fn sidecar_process() {
    let Ok(spec) = std::env::var(sidecar::SPEC) else { return };
    std::process::exit(sidecar::run(&spec));
}
