//! The eligibility of a pod.

use std::fmt;

use k8s_openapi::jiff::SignedDuration;

use super::followed::Named;
use super::snapshot::{LEAST_SILENCE, Pod, PodState, Settings};
use crate::ids::Uid;
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
    /// Its node is silent, while that of another candidate renews.
    NodeUnreachable,
    /// The followed Lease does not name it.
    NotNamed,
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
            Self::NodeUnreachable => f.write_str("is on a node without heartbeats"),
            Self::NotNamed => f.write_str("is not named by the Lease of spec.leaderFrom"),
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
    free(pod, settings)?;
    if !pod.ready {
        return Err(Ineligible::NotReady);
    }
    let left = settings.min_ready.saturating_sub(pod.unchanged_for);
    if incumbent || !left.is_positive() { Ok(()) } else { Err(Ineligible::ReadyTooShort(left)) }
}

/// Checks whether the pod that a followed Lease names may be labeled. Its elector knows best: it leads already, also while it is
/// not Ready or terminates.
fn may_lead(pod: &Pod, settings: &Settings) -> Result<(), Ineligible> {
    match pod.state {
        _ if !pod.matches => Err(Ineligible::NotSelected),
        PodState::Failed => Err(Ineligible::Failed),
        PodState::Succeeded => Err(Ineligible::Succeeded),
        PodState::Terminating | PodState::Pending | PodState::Running => free(pod, settings),
    }
}

/// Checks whether a pod that the followed Lease does not name would be eligible otherwise. Of the incumbent, whether it could
/// remain the leader.
fn standby(pod: &Pod, settings: &Settings, incumbent: bool) -> Ineligible {
    let otherwise = match pod.state {
        PodState::Terminating => Err(Ineligible::Terminating),
        _ if incumbent => may_lead(pod, settings),
        _ => eligible(pod, settings, false),
    };
    otherwise.err().unwrap_or(Ineligible::NotNamed)
}

/// Checks whether users, other Elections and other clients leave the pod to this Election.
fn free(pod: &Pod, settings: &Settings) -> Result<(), Ineligible> {
    if pod.opted_out {
        return Err(Ineligible::OptedOut);
    }
    if let Some(rival) = &pod.rival {
        return Err(Ineligible::ClaimedBy(rival.clone()));
    }
    if let Some(value) = pod.label.as_ref().filter(|value| !settings.label.owns(value)) {
        return Err(Ineligible::ForeignLabel(value.clone()));
    }
    Ok(())
}

/// Pods by eligibility.
#[derive(Debug, Default)]
pub struct Candidates<'a> {
    /// The eligible ones.
    pub eligible: Vec<&'a Pod>,
    /// The others, each with the first reason.
    pub ineligible: Vec<(&'a Pod, Ineligible)>,
}

impl<'a> Candidates<'a> {
    /// Checks which of these pods are eligible. `named`: whom the followed Lease names, if the Election follows one.
    pub fn of(
        pods: impl Iterator<Item = &'a Pod>,
        settings: &Settings,
        incumbent: Option<&Uid>,
        named: Option<&Named<'_>>,
    ) -> Self {
        let mut candidates = Self::default();
        for pod in pods {
            let is_incumbent = incumbent == Some(&pod.id.uid);
            let checked = match named {
                None => eligible(pod, settings, is_incumbent),
                Some(Named::Pod(named)) if named.id == pod.id => may_lead(pod, settings),
                Some(_) => Err(standby(pod, settings, is_incumbent)),
            };
            match checked {
                Ok(()) => candidates.eligible.push(pod),
                Err(why) => candidates.ineligible.push((pod, why)),
            }
        }
        if settings.node_timeout.is_some() {
            let left = |pod: &&Pod| unreachable_in(pod, &candidates.eligible, settings);
            let (lost, reachable): (Vec<_>, _) =
                candidates.eligible.iter().partition(|pod| left(pod).is_some_and(|left| !left.is_positive()));
            candidates.eligible = reachable;
            candidates.ineligible.extend(lost.into_iter().map(|pod| (pod, Ineligible::NodeUnreachable)));
        }
        candidates
    }
}

/// Returns the time after which the pod is unreachable if its node remains silent.
///
/// Its node's silence counts only while the node of another eligible candidate renews, and has renewed for as long. So an outage
/// of the API server, of the watch, or of this process makes no pod unreachable.
pub fn unreachable_in(pod: &Pod, eligible: &[&Pod], settings: &Settings) -> Option<SignedDuration> {
    let timeout = settings.node_timeout?.max(LEAST_SILENCE);
    let node = pod.node.as_ref()?;
    let others = eligible.iter().filter_map(|other| other.node.as_ref()).filter(|other| other.name != node.name);
    let renewing_for = others.filter_map(|other| other.renewing_for).max()?;
    Some(timeout.saturating_sub(node.silent_for.min(renewing_for)))
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
            Ineligible::NodeUnreachable => Self::NodeUnreachable,
            Ineligible::NotNamed => Self::HolderChanged,
        }
    }
}
