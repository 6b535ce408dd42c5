//! The eligibility of a pod.

use std::fmt;

use k8s_openapi::jiff::SignedDuration;

use super::snapshot::{Pod, PodState, Settings};
use crate::lease::cause::Cause;

/// The reason why a pod is ineligible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ineligible {
    /// The selector does not match it.
    NotSelected,
    /// It has a deletionTimestamp.
    Terminating,
    /// It failed or was evicted.
    Failed,
    /// It completed.
    Succeeded,
    /// It is not running yet.
    Pending,
    /// It is annotated with `podium.dev/candidate: "false"`.
    OptedOut,
    /// Another Election owns it under the same label key.
    ClaimedBy(String),
    /// It carries the label's key with a value that is not the Election's.
    ForeignLabel(String),
    /// Its Ready condition is not true.
    NotReady,
    /// Ready, but not for `minReadySeconds` until this time has passed.
    ReadyTooShort(SignedDuration),
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSelected => f.write_str("does not match spec.selector"),
            Self::Terminating => f.write_str("is terminating"),
            Self::Failed => f.write_str("failed"),
            Self::Succeeded => f.write_str("has completed"),
            Self::Pending => f.write_str("is not running"),
            Self::OptedOut => f.write_str("has podium.dev/candidate: \"false\""),
            Self::ClaimedBy(election) => write!(f, "belongs to Election {election}"),
            Self::ForeignLabel(value) => write!(f, "carries the label with the foreign value {value:?}"),
            Self::NotReady => f.write_str("is not Ready"),
            Self::ReadyTooShort(_) => f.write_str("has not been Ready for spec.minReadySeconds"),
        }
    }
}

/// Checks whether the pod is eligible.
///
/// The `incumbent` need not have been Ready for `minReadySeconds`: a controller that did not observe a short
/// NotReady must not depose a healthy leader.
///
/// # Errors
/// The first reason why it is ineligible.
pub fn eligible(pod: &Pod, settings: &Settings, incumbent: bool) -> Result<(), Ineligible> {
    if !pod.matches {
        return Err(Ineligible::NotSelected);
    }
    match pod.state {
        PodState::Terminating => return Err(Ineligible::Terminating),
        PodState::Failed => return Err(Ineligible::Failed),
        PodState::Succeeded => return Err(Ineligible::Succeeded),
        PodState::Pending => return Err(Ineligible::Pending),
        PodState::Running => {}
    }
    if pod.opted_out {
        return Err(Ineligible::OptedOut);
    }
    if let Some(rival) = &pod.rival {
        return Err(Ineligible::ClaimedBy(rival.clone()));
    }
    if let Some(value) = pod.label.as_ref().filter(|value| !settings.label.owns(value)) {
        return Err(Ineligible::ForeignLabel(value.clone()));
    }
    if !pod.ready {
        return Err(Ineligible::NotReady);
    }
    let left = settings.min_ready.saturating_sub(pod.unchanged_for);
    if incumbent || !left.is_positive() { Ok(()) } else { Err(Ineligible::ReadyTooShort(left)) }
}

impl From<&Ineligible> for Cause {
    fn from(why: &Ineligible) -> Self {
        match why {
            Ineligible::NotSelected => Self::NotSelected,
            Ineligible::Terminating => Self::Terminating,
            Ineligible::Failed | Ineligible::Succeeded => Self::Ended,
            Ineligible::Pending => Self::NotRunning,
            Ineligible::OptedOut => Self::OptedOut,
            Ineligible::ClaimedBy(_) => Self::Overlap,
            Ineligible::ForeignLabel(_) => Self::LabelConflict,
            Ineligible::NotReady | Ineligible::ReadyTooShort(_) => Self::NotReady,
        }
    }
}
