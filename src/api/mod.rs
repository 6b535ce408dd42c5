//! The `Election` resource, and the names of labels and annotations.
//!
//! Doc comments on the fields of the spec and the status are the user manual: `kubectl explain election.spec` prints them.

mod conditions;
mod election;
pub mod names;
mod schema;
mod selector;

pub(crate) use conditions::whole_second;
pub use conditions::{DEGRADED, READY, Reason, STALLED, condition};
pub use election::{
    Election, ElectionSpec, ElectionStatus, FollowedLease, HolderForm, LeaderFrom, LeaderLabel, Preemption,
    PreemptionPolicy, Preference, TieBreak, WhenNodeDrains, WhenNoneEligible,
};
pub use schema::custom_resource_definition;
pub use selector::{LabelSelector, Operator, Requirement};
