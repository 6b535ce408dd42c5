//! The chart: what is rendered and committed of it, and releases of it on a real API server, installed, upgraded and
//! uninstalled by Helm. The nodes are fake, so what the Deployment would run is run here, by its own arguments and with its
//! account's token.
//!
//! One test after the other, because a cluster has the Election resource once. `make chart` runs them.

mod accepted;
mod installed;
mod namespaced;
mod plain;
mod release;
mod rendered;
mod tools;
mod uninstalled;
mod upgraded;
