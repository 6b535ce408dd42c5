//! What a campaigner asks for, and what it is answered.

use super::moment::Moment;
use super::record::{Record, Seen};

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action<O> {
    /// Read the lock from the server.
    Get,
    /// Create the lock with this record.
    Create(Record),
    /// Replace what the lock was seen to say with this record, guarded by UID and resourceVersion.
    Update(Box<Seen<O>>, Record),
    /// Nothing until this moment, unless something is heard before.
    Wait(Moment),
    /// Nothing any more: released as far as possible, or claimed by an Election.
    Finish,
}

/// How a request was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<O> {
    /// The lock as it is; `None`: there is none.
    Read(Option<Seen<O>>),
    /// The server says that it was written, and that the lock is now so. This may differ from what was asked.
    Written(Seen<O>),
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
