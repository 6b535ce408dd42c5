//! Names: of one Election, of the kinds of objects that the controller watches, and of the namespaces that it serves.

use std::collections::BTreeSet;
use std::fmt;

/// An Election, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Watched kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Pods.
    Pods,
    /// Leases.
    Leases,
    /// Elections.
    Elections,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pods, Self::Leases, Self::Elections];

    /// Returns the name of the resource.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Leases => "leases",
            Self::Elections => "elections",
        }
    }
}

/// Namespaces that the controller watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All namespaces, one watch for each kind.
    Cluster,
    /// One watch for each kind and namespace.
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// The namespaces of the single watches; `None` is the whole cluster.
    pub fn watches(&self) -> Vec<Option<String>> {
        match self {
            Self::Cluster => vec![None],
            Self::Namespaces(names) => names.iter().cloned().map(Some).collect(),
        }
    }
}
