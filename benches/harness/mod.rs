//! What the benchmarks share: each has it by `mod harness;`.
#![allow(dead_code, unused_imports, reason = "each benchmark uses a part of it")]

pub mod arrivals;
pub mod cluster;
pub mod figures;
pub mod process;

/// A benchmark ends at the first thing that goes wrong, and says it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
