//! What a campaigner asks for, and what it is answered.

use super::clock::Moment;
use super::record::{LeaderElectionRecord, LockState};

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action<O> {
    /// Read the lock from the server.
    Get,
    /// Create the lock with this record.
    Create(LeaderElectionRecord),
    /// Replace what the lock was seen to say with this record, guarded by UID and resourceVersion.
    Update(Box<LockState<O>>, LeaderElectionRecord),
    /// Nothing until this moment, unless something is heard before.
    Wait(Moment),
    /// Nothing any more: released as far as possible, or claimed by an Election.
    Finish,
}

/// How a request was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum LockResponse<O> {
    /// The lock as it is; `None`: there is none.
    Read(Option<LockState<O>>),
    /// The server says that it was written, and that the lock is now so. This may differ from what was asked.
    Written(LockState<O>),
    /// It was not written, because the lock is not as it was seen.
    Refused,
    /// There is no telling: no answer in time, or none that says.
    Unknown,
}

/// What is waited for, if it is not that somebody else leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// The lock names the own identity, in a record that may be of another process.
    OwnName,
    /// The lock has vanished or was replaced, and whoever held it may lead.
    Vanished,
}
