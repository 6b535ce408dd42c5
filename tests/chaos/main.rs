//! Chaos: three controllers as processes on a real control plane, while they, the API server and etcd are killed, paused and
//! restarted, pods come and go, and people meddle. A seed says what happens; only when exactly it does is the machine's affair.
//!
//! Every revision of every pod and Lease is on record and judged against the promises by the checker, which shares no code
//! with the controller. When the faults stop, every Election must have its leader again. `make chaos` runs it.

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
