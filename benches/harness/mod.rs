//! Shared code of the benchmarks. Each includes it by `mod harness;` or by a `#[path]`.
#![allow(dead_code, unused_imports, reason = "each benchmark uses a part of it")]

pub mod arrivals;
pub mod cluster;
pub mod elector;
pub mod events;
pub mod figures;
pub mod process;

#[path = "../../tests/e2e/harness/proxy.rs"]
pub mod proxy;

/// A benchmark ends at its first error and prints it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
