//! End-to-end tests: `podium controller` as a process, and campaigns, against a real API server.
//!
//! `PODIUM_KUBECONFIG` names the kubeconfig of a cluster with fake nodes; `make test` brings up one of its own. Each test has
//! a namespace, in which every revision of every pod and Lease is recorded and checked against the promises.

mod harness;

mod admission;
mod controller;
mod election;
mod failover;
mod fixtures;
mod labels;
mod lease;
mod permissions;
mod sidecar;
