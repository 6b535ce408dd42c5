//! The pure core: one Election, its pods, its Lease and the time in; the complete plan out.
//!
//! No file here names a Kubernetes client, an async runtime or a clock, so the same [`decide()`] runs in the controller, in a
//! model checker and in a simulation. A test reads these sources and proves it.
//!
//! Read in this order:
//! * [`ids`](crate::ids): terms, revisions and UIDs.
//! * [`snapshot`]: the input of a decision.
//! * [`followed`]: whom a Lease names on which others elect.
//! * [`candidate`]: which pods are eligible.
//! * [`order`]: which eligible pod is elected first.
//! * [`ownership`]: whether this Election may write its Lease.
//! * [`decide`](mod@decide): the decision.
//! * [`project`]: which labels and claims a Lease requires.
//! * [`cost`]: the deletion cost of the leader's pod.
//! * [`plan`]: the output of a decision.
//! * [`explain`]: the order of succession and the next change of leader, for people.

pub mod candidate;
pub mod cost;
pub mod decide;
pub mod explain;
pub mod followed;
pub mod order;
pub mod ownership;
pub mod plan;
pub mod project;
pub mod snapshot;
pub mod status;
mod text;

pub use decide::decide;
pub use plan::Plan;
pub use snapshot::Snapshot;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tables;
