//! Test harness: a cluster, a namespace for each test, controllers as processes, and the history.

pub mod access;
pub mod chart;
pub mod cluster;
pub mod door;
pub mod election;
pub mod elector;
pub mod faulty;
pub mod history;
pub mod http;
pub mod inside;
pub mod kubelet;
pub mod label_watch;
pub mod nodes;
pub mod observer;
pub mod policies;
pub mod scenario;
pub mod sidecar;
pub mod survey;
pub mod workloads;
pub mod writes;

pub use election::Leader;
pub use podium_test_support::waiting::eventually;
pub use podium_test_support::{controller, proxy, waiting};
pub use scenario::{Scenario, scenario};
