//! Locks: what a campaign needs of one, and the lock on an object of the API server.

pub(crate) mod heartbeat;
pub(crate) mod lease;
pub(crate) mod object;

use std::future::Future;
use std::time::Duration;

use futures::stream::BoxStream;

use crate::record::{LeaderElectionRecord, LockState};

/// A request on a lock that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Nothing was written, because the lock differs from the version that was observed.
    #[error("the lock changed in the meantime: {0}")]
    Conflict(String),
    /// Nothing was written, and the same request will fail until a person acts. Names the remedy.
    #[error("{0}")]
    Denied(String),
    /// The outcome is unknown.
    #[error("{0}")]
    Unknown(String),
    /// The outcome is unknown, and the server asks for a pause.
    #[error("{message}")]
    Busy {
        /// The message of the server.
        message: String,
        /// The pause that it asks for.
        after: Duration,
    },
}

/// An object that holds a leader election record.
///
/// Each method is a single request without retries, because a retried write hides whether the first one was applied. Methods
/// return the most recent state, never that of a cache. Their futures may be dropped at any time.
pub trait Lock: Send + Sync + 'static {
    /// The object as it was read. An update writes it back with everything that others wrote into it.
    type Object: Clone + Send + Sync + 'static;

    /// The smallest difference between two times that the lock can hold. A renewal must be later by that much: otherwise it
    /// repeats the record before it, and the others, which wait for a change, expire the holder.
    const TICK: Duration;

    /// Returns kind, namespace and name for messages: `Lease default/web`.
    fn describe(&self) -> String;

    /// Reads the lock. `None`: it does not exist.
    fn get(&self) -> impl Future<Output = Result<Option<LockState<Self::Object>>, LockError>> + Send;

    /// Creates the lock; [`LockError::Conflict`] if it exists. Returns what the server stored, which the caller compares with
    /// `record`.
    fn create(
        &self,
        record: LeaderElectionRecord,
    ) -> impl Future<Output = Result<LockState<Self::Object>, LockError>> + Send;

    /// Replaces the record; [`LockError::Conflict`] unless the lock has exactly the observed version and UID. Returns what the
    /// server stored.
    fn update(
        &self,
        observed: LockState<Self::Object>,
        record: LeaderElectionRecord,
    ) -> impl Future<Output = Result<LockState<Self::Object>, LockError>> + Send;

    /// Reports changes, so that the campaign reacts sooner than at its next read. `None`: the lock was deleted. Changes may be
    /// late, may be missing, and may end. The default reports none.
    fn changes(&self) -> BoxStream<'static, Option<LockState<Self::Object>>> {
        Box::pin(futures::stream::pending())
    }
}
