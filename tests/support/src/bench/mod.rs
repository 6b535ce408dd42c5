//! Shared code of the benchmarks: the cluster, the measured processes and the figures.

pub mod arrivals;
pub mod cluster;
pub mod elector;
pub mod events;
pub mod figures;
pub mod page;
pub mod process;

/// A benchmark ends at its first error and prints it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
