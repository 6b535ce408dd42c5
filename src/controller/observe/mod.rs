//! Caches of the API server's objects, and the snapshots that decisions use.

pub mod cached;
pub mod compact;
pub mod conditions;
pub mod followed;
pub mod index;
pub mod leftovers;
pub mod managed;
pub mod namespace;
pub mod nodes;
pub mod settings;
pub mod snapshot;
pub mod stream;
pub mod workload;
pub mod world;

#[cfg(test)]
mod tests;
