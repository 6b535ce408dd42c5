//! Who may lead.

use std::fmt;

use k8s_openapi::jiff::Timestamp;

use super::snapshot::{Pod, PodState, Settings};

/// Why a pod may not lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ineligible {
    /// The selector does not match it.
    NotSelected,
    /// It has a deletionTimestamp.
    Terminating,
    /// It failed or was evicted.
    Failed,
    /// It ended.
    Succeeded,
    /// It is not running yet.
    Pending,
    /// It says `podium.dev/candidate: "false"`.
    OptedOut,
    /// Another Election has it under the same label key.
    ClaimedBy(String),
    /// It carries the label's key with a value that is not ours.
    ForeignLabel(String),
    /// Its Ready condition is not true.
    NotReady,
    /// Ready, but not for long enough: it will be at this time.
    ReadyTooShort(Timestamp),
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSelected => f.write_str("does not match the selector"),
            Self::Terminating => f.write_str("is terminating"),
            Self::Failed => f.write_str("failed"),
            Self::Succeeded => f.write_str("has ended"),
            Self::Pending => f.write_str("is not running"),
            Self::OptedOut => f.write_str("opted out"),
            Self::ClaimedBy(election) => write!(f, "is claimed by Election {election}"),
            Self::ForeignLabel(value) => write!(f, "carries the label with the foreign value {value:?}"),
            Self::NotReady => f.write_str("is not Ready"),
            Self::ReadyTooShort(_) => f.write_str("has not been Ready for long enough"),
        }
    }
}

/// Whether the pod may lead now. `incumbent`: it does already, so that it need not have been Ready for long; a controller
/// that missed a blip must not depose a leader that is well.
///
/// # Errors
/// The first reason against it.
pub fn eligible(pod: &Pod, settings: &Settings, incumbent: bool, now: Timestamp) -> Result<(), Ineligible> {
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
    let since = pod.ready_since.ok_or(Ineligible::NotReady)?;
    // A time in the future comes from a kubelet whose clock is ahead: it counts as now.
    let long_enough = since.min(now).saturating_add(settings.min_ready).unwrap_or(Timestamp::MAX);
    if incumbent || long_enough <= now { Ok(()) } else { Err(Ineligible::ReadyTooShort(long_enough)) }
}
