//! Decisions of the core, case by case. Each rule of the safety protocol (`docs/design.md`, section 4) has cases here that
//! fail without the rule. Their names begin with its number.

mod candidates;
mod clock;
mod cost;
mod explain;
mod followed;
mod followers;
mod handover;
mod interplay;
mod lease;
mod outcome;
mod ownership;
mod pods;

use super::fixtures::*;
use super::plan::{LabelChange, LeaseWrite, Plan, Then};
use super::snapshot::{Contest, FollowedLease, Pod, PodState, Problem, Settings, Snapshot};
use crate::api::{DEGRADED, Reason, STALLED};
use crate::ids::Version;
use crate::lease::cause::Cause;
use crate::lease::record::Content;

const REMOVE: LabelChange = LabelChange::Remove;
const KEEP: LabelChange = LabelChange::Keep;
const SET: LabelChange = LabelChange::Lead;
const FOLLOW: LabelChange = LabelChange::Follow;

fn guard() -> Version {
    Version { uid: "lease".into(), resource_version: revision(100) }
}

/// Returns the reason and the message of a plan that only reports `Stalled`.
fn stalled(world: &Snapshot) -> (String, String) {
    let plan = world.plan();
    assert_eq!((plan.lease, plan.fence.len(), plan.label), (None, 0, None), "a stalled Election writes nothing else");
    let status = plan.status.unwrap().status;
    let condition = status.condition(STALLED).unwrap();
    assert_eq!(condition.status, "True");
    (condition.reason.clone(), condition.message.clone())
}
