//! Tests on real nodes: pods with processes, a kubelet that probes and restarts them, and a network that can fail.
//!
//! `PODIUM_NODES_KUBECONFIG` names the kubeconfig of a cluster by `cluster/up` with two real nodes and a fake one.
//! `make nodes` creates it, or prints why this machine cannot.

mod harness;

mod answers;
mod faults;
mod installed;
mod left;
mod runs;
