//! A spec, parsed once: what comes out can be used without asking again.

use k8s_openapi::jiff::SignedDuration;
use kube::core::Selector;

use super::index::Anchor;
use crate::api::{ElectionSpec, Reason, WhenNoneEligible};
use crate::election::snapshot::{Problem, Settings};

/// What an Election may make this controller do: whoever may create one acts with the controller's rights.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The label keys that may be written.
    pub label_keys: LabelKeys,
    /// Namespace and name of the Lease by which the controller's own replicas elect the active one. No Election gets it.
    pub own_lease: Option<(String, String)>,
}

/// The label keys that this controller may write: exact keys, or `*/name` for any prefix.
#[derive(Clone, Debug)]
pub struct LabelKeys(Vec<String>);

impl LabelKeys {
    /// The patterns as the `--allowed-label-keys` flag has them.
    pub fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        Self(patterns.into_iter().collect())
    }

    /// Whether the key may be written.
    pub fn allow(&self, key: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_prefix("*/") {
            Some(name) => key.split_once('/').is_some_and(|(_, own)| own == name),
            None => pattern == key,
        })
    }

    fn list(&self) -> String {
        self.0.join(", ")
    }
}

/// What a usable spec comes down to.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What the core decides by.
    pub settings: Settings,
    /// Which pods take part.
    pub selector: Selector,
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
        suspend,
    } = spec;
    let problem = |reason, message: String| Err(Problem { reason, message });
    if name.len() > 63 {
        return problem(
            Reason::InvalidSpec,
            "metadata.name has more than 63 characters: create the Election with a shorter one".into(),
        );
    }
    for (field, seconds) in [("minReadySeconds", min_ready_seconds), ("failoverDelaySeconds", failover_delay_seconds)] {
        if *seconds < 0 {
            return problem(Reason::InvalidSpec, format!("spec.{field} is negative: use 0 or more"));
        }
    }
    if !limits.label_keys.allow(&label.key) {
        let message = format!(
            "spec.label.key {:?} is not one that this controller may write ({}): use one of these, or start the controller with --allowed-label-keys",
            label.key,
            limits.label_keys.list(),
        );
        return problem(Reason::LabelKeyNotAllowed, message);
    }
    let lease_name = lease_name.clone().unwrap_or_else(|| name.to_owned());
    if limits.own_lease.as_ref().is_some_and(|(place, own)| place == namespace && *own == lease_name) {
        let message = format!(
            "Lease {lease_name} is the one by which Podium's own replicas elect: create the Election with another spec.leaseName"
        );
        return problem(Reason::LeaseConflict, message);
    }
    let anchors = Anchor::of(selector);
    let selector = match selector.parse() {
        Ok(selector) => selector,
        Err(message) => return problem(Reason::InvalidSelector, message),
    };
    let settings = Settings {
        label: label.clone(),
        lease_name,
        ready_condition: ready_condition.clone(),
        min_ready: SignedDuration::from_secs((*min_ready_seconds).into()),
        retain: *when_none_eligible == WhenNoneEligible::Retain,
        failover_delay: SignedDuration::from_secs((*failover_delay_seconds).into()),
        suspend: *suspend,
    };
    Ok(Parsed { settings, selector, anchors })
}

#[cfg(test)]
mod tests {
    use super::LabelKeys;

    #[test]
    fn a_pattern_allows_any_prefix_but_no_other_name() {
        let keys = LabelKeys::new(["leader".into(), "*/leader".into()]);
        for (key, allowed) in [
            ("leader", true),
            ("example.com/leader", true),
            ("app", false),
            ("example.com/app", false),
            ("leader/app", false),
            ("*/leader", true),
        ] {
            assert_eq!(keys.allow(key), allowed, "{key}");
        }
    }
}
