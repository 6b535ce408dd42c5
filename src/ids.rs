//! Terms, revisions and identities, as newtypes that cannot be mixed up.

use std::fmt;
use std::sync::Arc;

/// A position in the API server's history of one resource type: `metadata.resourceVersion` as an integer.
///
/// Kubernetes defines resourceVersions of built-in types as comparable integers since 1.35, and they are integers on every
/// storage in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceVersion(i64);

/// A resourceVersion that is not an integer. Podium cannot work with such an API server.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("resourceVersion {0:?} is not a positive integer; Podium needs an API server whose resourceVersions are integers")]
pub struct NotAnInteger(String);

impl ResourceVersion {
    /// Parses `metadata.resourceVersion`.
    ///
    /// # Errors
    /// [`NotAnInteger`] if the text is not a positive 63-bit integer.
    pub fn parse(text: &str) -> Result<Self, NotAnInteger> {
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self(number)),
            _ => Err(NotAnInteger(text.into())),
        }
    }
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fencing token: the resourceVersion of the Lease that a change of leader replaced.
///
/// Two compare-and-swaps can never replace the same revision, so no two holders share a term; revisions only grow, so terms
/// grow through the deletion of the Lease, the Election and the pods. No clock and no memory is involved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(i64);

impl Term {
    /// The term that begins when the Lease at this revision is replaced.
    pub fn replacing(revision: ResourceVersion) -> Self {
        Self(revision.0)
    }

    /// Parses the term in an annotation. Returns `None` for a text that Podium does not write.
    pub fn parse(text: &str) -> Option<Self> {
        let number: i64 = text.parse().ok()?;
        (number > 0 && number.to_string() == text).then_some(Self(number))
    }

    /// The number, as in the status.
    pub fn number(self) -> i64 {
        self.0
    }

    /// Returns whether a Lease at this revision can have named this term: a term is older than the revision that names it.
    pub fn precedes(self, revision: ResourceVersion) -> bool {
        self.0 < revision.0
    }

    /// Returns whether this term is above every term that existed at this revision.
    pub fn is_beyond(self, revision: ResourceVersion) -> bool {
        self.0 > revision.0
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `metadata.uid`: it differs between an object and one that is recreated under the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(Arc<str>);

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl AsRef<str> for Uid {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One version of one object: the guard of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `metadata.uid`. Without it a PUT of a Lease recreates a deleted one.
    pub uid: Uid,
    /// `metadata.resourceVersion`
    pub resource_version: ResourceVersion,
}

/// One pod: writes address its name and are guarded by its UID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodRef {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: Uid,
}
