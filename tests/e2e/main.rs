//! End-to-end tests: `podium controller` as a process against a real API server.
//!
//! `PODIUM_KUBECONFIG` names the kubeconfig of a cluster with fake nodes; `make test` brings up one of its own. Each test has
//! a namespace, in which every revision of every pod and Lease is recorded and checked against the promises.

#[path = "../checker/mod.rs"]
mod checker;
mod harness;
#[allow(dead_code, reason = "the simulation uses more of it")]
#[path = "../simulation/server/mod.rs"]
mod server;

mod checks;
mod conforms;
mod elects;
mod lives;
mod obstacles;
mod refuses;
mod repairs;
mod replaces;
mod restarts;
mod tells;
mod tunes;
