//! What the benchmarks share: each has it by `mod harness;`, or by a `#[path]` to it.
#![allow(dead_code, unused_imports, reason = "each benchmark uses a part of it")]

pub mod arrivals;
pub mod cluster;
pub mod elector;
pub mod events;
pub mod figures;
pub mod process;

#[path = "../../tests/e2e/harness/proxy.rs"]
pub mod proxy;

/// A benchmark ends at the first thing that goes wrong, and says it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
