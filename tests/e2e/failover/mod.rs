//! Failovers, and faults during them.

mod frozen_watch;
mod leader_loss;
pub mod rollouts;
mod write_faults;
