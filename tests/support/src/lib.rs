//! Shared code of several test suites and benchmarks.
//!
//! It does not depend on `podium`: the [`checker`] and the simulated API server ([`server`]) share no code with the program
//! that they judge.

#![forbid(unsafe_code)]

pub mod bench;
pub mod checker;
pub mod controller;
pub mod namespace;
pub mod proxy;
pub mod random;
pub mod recorder;
pub mod server;
pub mod tunnels;
pub mod waiting;
