//! End-to-end tests: `podium controller` as a process, and campaigns, against a real API server.
//!
//! `PODIUM_KUBECONFIG` names the kubeconfig of a cluster with fake nodes; `make test` creates one. Each test has a
//! namespace, where every revision of every pod and Lease is recorded and checked against the guarantees.

mod harness;

mod admission;
mod controller;
mod election;
mod failover;
mod fixtures;
mod labels;
mod leader_from;
mod lease;
mod permissions;
mod plugin;
mod sidecar;
mod steering;
