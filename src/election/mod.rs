//! The pure core: one Election, its pods, its Lease and the time in; the complete plan out.
//!
//! Nothing in here knows a Kubernetes client, an async runtime or a clock, so that the same [`decide()`] runs in the
//! controller, in a model checker and in a simulation. A test reads the sources of this folder and proves it.
//!
//! Read in this order: [`term`] (what a term is), [`snapshot`] (what is seen), [`candidate`] (who may lead),
//! [`order`] (who leads first), [`title`] (whose a Lease is), [`decide`](mod@decide) (what is done about it), [`project`] (what a Lease means for the
//! pods), [`plan`] (the result).

pub mod candidate;
pub mod cause;
pub mod decide;
pub mod order;
pub mod plan;
pub mod project;
pub mod snapshot;
pub mod status;
pub mod term;
pub mod title;

pub use decide::decide;
pub use plan::Plan;
pub use snapshot::Snapshot;
pub use term::{ResourceVersion, Term};

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tables;
