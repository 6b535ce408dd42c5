//! Revisions from the objects of a real API server.

use kube::api::ObjectMeta;

use super::{Kind, Revision};

impl Revision {
    /// The revision with this metadata.
    pub fn of(kind: Kind, metadata: ObjectMeta, gone: bool) -> Self {
        let version = metadata.resource_version.and_then(|version| version.parse().ok());
        Self {
            version: version.expect("resourceVersions are integers"),
            kind,
            name: metadata.name.expect("objects of the API server have names"),
            uid: metadata.uid.expect("objects of the API server have UIDs"),
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            gone,
            altered: false,
        }
    }
}
