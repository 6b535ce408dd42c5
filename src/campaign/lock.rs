//! What a campaign needs of a lock.

use std::future::Future;
use std::time::Duration;

use futures::stream::BoxStream;

use super::record::{Record, Seen};

/// A request that was not answered with success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It was not written: the lock is not as it was seen.
    #[error("the lock changed meanwhile: {0}")]
    Conflict(String),
    /// It was not done, and will not be until somebody acts. Says what to do.
    #[error("{0}")]
    Denied(String),
    /// There is no telling whether it was done.
    #[error("{0}")]
    Unknown(String),
    /// The same, and the server has said when it wants to be asked again.
    #[error("{message}")]
    Busy {
        /// What is wrong.
        message: String,
        /// How long it wants to be left alone.
        after: Duration,
    },
}

/// An object of the API server that holds the record of a leader.
///
/// Its methods are single requests, without retries: a retried write hides whether the first was applied. What they return is
/// the most recent state, never that of a cache. They may be abandoned at any time.
pub trait Lock: Send + Sync + 'static {
    /// The object as it was read, to be written back with everything that others wrote into it.
    type Object: Clone + Send + Sync + 'static;

    /// The smallest difference between two times that the lock can hold. A renewal whose time is not later by as much would
    /// repeat the record before it, and whoever waits for a change would take the holder for dead.
    const TICK: Duration;

    /// What it is and where, for people: `Lease default/web`.
    fn describe(&self) -> String;

    /// Reads the lock. `None`: the server says that there is none.
    fn get(&self) -> impl Future<Output = Result<Option<Seen<Self::Object>>, Failure>> + Send;

    /// Creates the lock; [`Failure::Conflict`] if there is one. Returns what the server says that it stored, which the caller
    /// compares with `record`.
    fn create(&self, record: Record) -> impl Future<Output = Result<Seen<Self::Object>, Failure>> + Send;

    /// Replaces the record; [`Failure::Conflict`] unless the lock is exactly the version that was seen, of the same UID. Returns
    /// what the server says that it stored.
    fn update(
        &self,
        seen: Seen<Self::Object>,
        record: Record,
    ) -> impl Future<Output = Result<Seen<Self::Object>, Failure>> + Send;

    /// Tells of changes, to react sooner than by looking from time to time: the lock as it was; `None`: it was deleted. May be
    /// late, may leave out any, may end. The default knows of none.
    fn changes(&self) -> BoxStream<'static, Option<Seen<Self::Object>>> {
        Box::pin(futures::stream::pending())
    }
}
