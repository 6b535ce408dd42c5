//! Tests of the Helm chart: the committed manifests, and releases that Helm installs, upgrades and uninstalls on a real API
//! server. The nodes are fake, so the tests run the controller themselves, with the arguments of the Deployment and a token of
//! its ServiceAccount.
//!
//! The tests run one after the other, because they share the Election CRD. `make chart` runs them.

mod accepted;
mod documented;
mod installed;
mod manifest;
mod namespaced;
mod release;
mod rendered;
mod tools;
mod uninstalled;
mod upgraded;
