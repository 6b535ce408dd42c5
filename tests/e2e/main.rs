//! End-to-end tests: `podium controller` as a process, and campaigns, against a real API server.
//!
//! `PODIUM_KUBECONFIG` names the kubeconfig of a cluster with fake nodes; `make test` brings up one of its own. Each test has
//! a namespace, in which every revision of every pod and Lease is recorded and checked against the promises.

mod harness;

mod admission;
mod altered;
mod campaigns;
mod checks;
mod cleanup;
mod compat;
mod conforms;
mod counted;
mod cut_off;
mod election;
mod failover;
mod followers;
mod hostile;
mod labels;
mod lease;
mod moves;
mod neighbours;
mod observed;
mod obstacles;
mod owners;
mod proxies;
mod refusals;
mod refuses;
mod replicas;
mod restarts;
mod rights;
mod runs;
mod sidecars;
mod tells;
mod tutorials;
