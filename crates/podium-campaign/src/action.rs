//! The requests of a campaigner, and their results.

use super::clock::Moment;
use super::record::{LeaderElectionRecord, LockState};

/// The next step of a campaign.
#[derive(Clone, Debug, PartialEq)]
pub enum Action<O> {
    /// Read the lock from the server.
    Get,
    /// Create the lock with this record.
    Create(LeaderElectionRecord),
    /// Replace the record of the observed lock with this one, guarded by UID and resourceVersion.
    Update(Box<LockState<O>>, LeaderElectionRecord),
    /// Wait until this moment, or until a change.
    Wait(Moment),
    /// The campaign is over: the lock is released as far as possible, or an Election claims it.
    Finish,
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum LockResponse<O> {
    /// The lock; `None`: it does not exist.
    Read(Option<LockState<O>>),
    /// The server reports success, and this is what it stored. It may differ from the request.
    Written(LockState<O>),
    /// Nothing was written, because the lock differs from the observed version.
    Rejected,
    /// The outcome is unknown: there was no response in time, or an ambiguous one.
    Unknown,
}

/// The reason to wait, other than that another process leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitReason {
    /// The lock names this identity, in a record that may be of another process.
    OwnName,
    /// The lock was deleted or replaced, and its holder may still lead.
    Vanished,
}
