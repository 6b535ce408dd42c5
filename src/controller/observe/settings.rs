//! Parses and validates the spec of an Election once.

use k8s_openapi::jiff::SignedDuration;
use kube::core::Selector;

use super::index::Anchor;
use crate::api::{
    ElectionSpec, LeaderFrom, PreemptionPolicy, Preference, Reason, TieBreak, WhenNodeDrains, WhenNoneEligible,
};
use crate::controller::limits::Limits;
use crate::election::snapshot::{self, Problem, Settings};

/// A valid spec, parsed.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Settings for decisions.
    pub settings: Settings,
    /// Selector of the candidates.
    pub selector: Selector,
    /// The weights of the preferences, each with its selector.
    pub preferences: Vec<(i32, Selector)>,
    /// Labels by which the index finds the Election from a pod.
    pub anchors: Vec<Anchor>,
}

/// Parses the spec of the Election called `name` in `namespace`.
///
/// # Errors
/// The condition's reason and a message that names the field and the remedy.
pub fn parse(namespace: &str, name: &str, spec: &ElectionSpec, limits: &Limits) -> Result<Parsed, Problem> {
    let ElectionSpec {
        selector,
        label,
        lease_name,
        ready_condition,
        min_ready_seconds,
        when_none_eligible,
        failover_delay_seconds,
        preferences,
        preemption,
        tie_break,
        when_node_drains,
        node_heartbeat_timeout_seconds,
        leader_deletion_cost,
        leader_from,
        suspend,
    } = spec;
    let problem = |reason, message: String| Err(Problem { reason, message });
    if name.len() > 63 {
        return problem(
            Reason::InvalidSpec,
            "metadata.name must have at most 63 characters: create the Election with a shorter name".into(),
        );
    }
    for (field, seconds) in [
        ("minReadySeconds", min_ready_seconds),
        ("failoverDelaySeconds", failover_delay_seconds),
        ("preemption.delaySeconds", &preemption.delay_seconds),
        ("nodeHeartbeatTimeoutSeconds", &node_heartbeat_timeout_seconds.unwrap_or_default()),
    ] {
        if *seconds < 0 {
            return problem(Reason::InvalidSpec, format!("spec.{field} must not be negative: use 0 or more"));
        }
    }
    if !limits.label_keys.allow(&label.key) {
        let message = format!(
            "spec.label.key {:?} must be one that this controller may write ({}): use one of these, or add it to --allowed-label-keys of the controller",
            label.key,
            limits.label_keys.list(),
        );
        return problem(Reason::LabelKeyNotAllowed, message);
    }
    let lease_name = lease_name.clone().unwrap_or_else(|| name.to_owned());
    if limits.own_lease.as_ref().is_some_and(|(place, own)| place == namespace && *own == lease_name) {
        let message = format!(
            "Lease {lease_name} is that of the controller's own replicas: create the Election with another spec.leaseName"
        );
        return problem(Reason::LeaseConflict, message);
    }
    if let Some(LeaderFrom { lease: followed }) = leader_from {
        let refused = if limits.own_lease.as_ref().is_some_and(|(place, own)| place == namespace && *own == followed.name) {
            Some((
                Reason::LeaseConflict,
                "spec.leaderFrom.lease.name must not be the Lease of the controller's own replicas: name a Lease on which others elect",
            ))
        } else if followed.name == lease_name {
            Some((
                Reason::InvalidSpec,
                "spec.leaderFrom.lease.name must not be the Election's own Lease: create the Election with another spec.leaseName",
            ))
        } else if !preferences.is_empty() {
            Some((
                Reason::InvalidSpec,
                "spec.preferences must be empty with spec.leaderFrom, because the Lease decides who leads: remove one of them",
            ))
        } else if preemption.policy != PreemptionPolicy::Never {
            Some((
                Reason::InvalidSpec,
                "spec.preemption.policy must be Never with spec.leaderFrom, because the Lease decides who leads: remove one of them",
            ))
        } else {
            None
        };
        if let Some((reason, message)) = refused {
            return problem(reason, message.into());
        }
    }
    let anchors = Anchor::of(selector);
    let selector = match selector.parse() {
        Ok(selector) => selector,
        Err(message) => return problem(Reason::InvalidSelector, format!("spec.selector{message}")),
    };
    let mut weighted = Vec::new();
    for (number, Preference { weight, selector }) in preferences.iter().enumerate() {
        match selector.parse() {
            Ok(selector) => weighted.push((*weight, selector)),
            Err(why) => {
                return problem(Reason::InvalidSelector, format!("spec.preferences[{number}].selector{why}"));
            }
        }
    }
    let leader_from = leader_from.as_ref().map(|LeaderFrom { lease: followed }| {
        let set = [
            ("failoverDelaySeconds", *failover_delay_seconds != 0),
            ("tieBreak", *tie_break != TieBreak::default()),
            ("whenNodeDrains", *when_node_drains != WhenNodeDrains::default()),
            ("nodeHeartbeatTimeoutSeconds", node_heartbeat_timeout_seconds.is_some()),
        ];
        let without_effect = set.into_iter().filter_map(|(field, is_set)| is_set.then_some(field)).collect();
        snapshot::LeaderFrom { lease: followed.name.clone(), holder: followed.holder, without_effect }
    });
    // A followed Lease decides alone.
    let elects = leader_from.is_none();
    let seconds = |seconds: i32| SignedDuration::from_secs(seconds.into());
    let preempts = preemption.policy == PreemptionPolicy::PreferHigher;
    let settings = Settings {
        label: label.clone(),
        lease_name,
        ready_condition: ready_condition.clone(),
        min_ready: seconds(*min_ready_seconds),
        retain: *when_none_eligible == WhenNoneEligible::Retain,
        failover_delay: if elects { seconds(*failover_delay_seconds) } else { SignedDuration::ZERO },
        suspend: *suspend,
        preempt_after: preempts.then(|| seconds(preemption.delay_seconds)),
        spread: elects && *tie_break == TieBreak::Spread,
        leave_draining_nodes: elects && *when_node_drains == WhenNodeDrains::Switchover,
        node_timeout: node_heartbeat_timeout_seconds.filter(|_| elects).map(seconds),
        leader_deletion_cost: *leader_deletion_cost,
        leader_from,
    };
    Ok(Parsed { settings, selector, preferences: weighted, anchors })
}
