//! Test harness: a cluster with real nodes, a namespace for each test, pods that serve, and clients in pods.

pub mod cluster;
pub mod install;
pub mod leads;
pub mod pods;
pub mod poller;
pub mod runs;
pub mod world;

pub use podium_test_support::waiting::{self, eventually};
pub use world::{World, alone, world};
