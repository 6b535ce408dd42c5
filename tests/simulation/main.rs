//! Deterministic simulation: the real controller, from its wiring down to kube's client, against an API server in memory, in
//! virtual time, while everything goes wrong that can: in general worlds by chance, in directed ones in an order of events that
//! is drawn step by step.
//!
//! A world is made from a seed, and the same seed makes the same world to the byte. `make simulate SEED=7` replays one,
//! `make simulate SEEDS=10000` tries as many.

mod acts;
mod caches;
mod cluster;
mod collector;
mod controller;
mod directed;
mod general;
mod network;
mod policies;
mod schedule;
mod tests;
mod user;
mod verdict;
mod workload;
mod world;
