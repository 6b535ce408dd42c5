//! Deterministic simulation: the real controller, from its wiring down to kube's client, against an API server in memory and
//! in virtual time, with all kinds of faults. General worlds have random faults, directed worlds an order of events drawn
//! step by step.
//!
//! The same seed creates the same world, to the byte. `make simulate SEED=7` replays one, `make simulate SEEDS=10000` runs
//! as many.

mod acts;
mod caches;
mod cluster;
mod collector;
mod controller;
mod directed;
mod electors;
mod followed_verdict;
mod general;
mod network;
mod policies;
mod schedule;
mod steering;
mod steering_verdict;
mod tests;
mod user;
mod verdict;
mod workload;
mod world;
