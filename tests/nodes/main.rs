//! Tests on real nodes: pods whose processes run, a kubelet that probes and restarts them, a network that can be cut.
//!
//! `PODIUM_NODES_KUBECONFIG` names the kubeconfig of a cluster by `cluster/up` with two real nodes and one fake one; `make nodes`
//! brings it up, or says why this machine cannot.

mod harness;

mod answers;
mod faults;
mod installed;
mod left;
mod runs;
