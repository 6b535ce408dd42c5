//! The interface to the API server: all reads and writes of a reconcile go through [`ApiServer`], so that tests can inject
//! faults.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::observe::cached::Named;
use super::queue::Outcome;
use crate::ids::{NotAnInteger, Version};

/// A write. Each is guarded: the API server rejects it unless the object has the version that the decision used.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// POST of a blank Lease.
    CreateLease(Lease),
    /// PUT of a Lease with UID and resourceVersion.
    ReplaceLease(Lease),
    /// Merge PATCH of a pod's metadata, with UID and resourceVersion.
    PatchPod {
        /// The pod's name.
        name: String,
        /// The patch.
        patch: Value,
    },
    /// Merge PATCH of an Election's status, with UID and resourceVersion.
    PatchStatus {
        /// The Election's name.
        name: String,
        /// The patch.
        patch: Value,
    },
    /// POST of an Event.
    CreateEvent(Box<Event>),
}

impl Write {
    /// Returns the merge patch of a pod with these labels and annotations. The API server rejects it for any other version of the pod.
    pub fn pod_patch(name: &str, guard: &Version, mut metadata: Value) -> Self {
        metadata["uid"] = guard.uid.as_ref().into();
        metadata["resourceVersion"] = guard.resource_version.to_string().into();
        Self::PatchPod { name: name.into(), patch: json!({ "metadata": metadata }) }
    }
}

/// A read of the most recent revision, never from a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// All pods of the namespace.
    Pods,
    /// One pod.
    Pod(String),
    /// One Lease.
    Lease(String),
    /// One Election.
    Election(String),
    /// All Elections of the namespace.
    Elections,
}

/// A request without success, by what to do next.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// The object has another version than the one that the decision used: read it and decide again.
    #[error("the object changed: {0}")]
    Outdated(String),
    /// There is no object of that name.
    #[error("not found: {message}")]
    NotFound {
        /// Message of the API server.
        message: String,
        /// The response names the object itself, and not, for example, its resource.
        named: bool,
    },
    /// No response, or an inconclusive one: a write may have been applied. Back off and read.
    #[error("no conclusive response: {0}")]
    Unknown(String),
    /// The same, and the API server requested a pause.
    #[error("the API server is overloaded: {message}")]
    Busy {
        /// Message of the API server.
        message: String,
        /// The requested pause.
        after: Duration,
    },
    /// The namespace is terminating or gone, or this controller stopped all writes.
    #[error("{0}")]
    Ending(String),
    /// Denied until a person acts.
    #[error("{0}")]
    Denied(String),
    /// Success, but the returned object differs from the request: an admission webhook or policy changes writes. The write counts
    /// as failed until a person acts.
    #[error("{0}")]
    Altered(String),
}

impl Refusal {
    /// Returns when to retry: with backoff, and not before the pause that the API server requested.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Busy { after, .. } => Outcome::RetryAfter(Instant::now() + *after),
            // Each retry changes objects, and their events would shorten the backoff.
            Self::Altered(_) => Outcome::StrictBackoff,
            _ => Outcome::Backoff,
        }
    }
}

impl From<NotAnInteger> for Refusal {
    fn from(error: NotAnInteger) -> Self {
        Self::Denied(error.to_string())
    }
}

/// Requests of the controller to an API server.
pub trait ApiServer: Send + Sync + 'static {
    /// Writes, and returns the object as the server has it now; nothing for Events.
    fn write(&self, namespace: &str, write: Write) -> impl Future<Output = Result<Option<Named>, Refusal>> + Send;

    /// Reads.
    fn read(&self, namespace: &str, read: Read) -> impl Future<Output = Result<Vec<Named>, Refusal>> + Send;

    /// Returns whether the Election resource is established and not terminating. Only then does a missing Election mean that it was
    /// deleted.
    fn serves_elections(&self) -> impl Future<Output = Result<bool, Refusal>> + Send;

    /// Wraps every task of the controller. A test that does not poll the wrapper pauses the controller as SIGSTOP does.
    fn around(&self, task: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> + Send + 'static {
        task
    }
}
