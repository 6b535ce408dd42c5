//! Chaos: three controllers as processes on a real control plane, while they, the API server and etcd are killed, paused and
//! restarted, pods come and go, and people meddle. A seed says what happens; only when exactly it does is the machine's affair.
//!
//! Every revision of every pod and Lease is on record and judged against the promises by the checker, which shares no code
//! with the controller. When the faults stop, every Election must have its leader again. `make chaos` runs it.

#[path = "../checker/mod.rs"]
mod checker;
#[allow(dead_code, reason = "the end-to-end tests use more of it")]
mod harness;
#[path = "../checker/metadata.rs"]
mod metadata;
#[allow(dead_code, reason = "the simulation uses more of it")]
#[path = "../simulation/random.rs"]
mod random;

mod archive;
mod checks;
mod churn;
mod control;
mod controllers;
mod end;
mod figures;
mod leaderless;
mod recorder;
mod setup;
mod story;
mod verdict;
mod world;
