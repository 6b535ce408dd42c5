//! What the tests stand on: a cluster with real nodes, a namespace for each test, pods that serve, and clients in pods.

pub mod cluster;
pub mod install;
pub mod leads;
pub mod pods;
pub mod poller;
#[path = "../../e2e/harness/waiting.rs"]
pub mod waiting;
pub mod world;

pub use waiting::eventually;
pub use world::{World, alone, world};
