//! Chaos: three controllers as processes on a real control plane. They, the API server and etcd are killed, paused and
//! restarted, while pods and Leases change. A seed decides what happens, but not the exact times.
//!
//! The checker, which shares no code with the controller, judges every revision of every pod and Lease against the
//! guarantees. When the faults stop, every Election must get a leader again. `make chaos` runs it.

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
