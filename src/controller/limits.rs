//! Limits of this controller: the label keys that it may write, and the Lease that no Election may use.

/// Limits of what an Election may make the controller write: users who may create Elections act with the controller's
/// permissions.
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

    /// Returns whether the key may be written.
    pub fn allow(&self, key: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_prefix("*/") {
            Some(name) => key.split_once('/').is_some_and(|(_, own)| own == name),
            None => pattern == key,
        })
    }

    /// The patterns, as a message lists them.
    pub fn list(&self) -> String {
        self.0.join(", ")
    }
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
