//! The keeper's process, and the elector's side of it: without a cluster, with the binary that is shipped.
#![cfg(target_os = "linux")]

mod commands;
mod deadlines;
mod elector;
mod files;
mod fixture;
mod locks;
mod reaping;

/// Not a test: the process that the tests start, pause and kill.
#[test]
#[ignore = "is started by the other tests"]
fn an_elector() {
    let Ok(spec) = std::env::var(elector::SPEC) else { return };
    std::process::exit(elector::run(&spec));
}
