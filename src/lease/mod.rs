//! The Lease: the source of truth of an election, and its write-ahead log.

pub mod cause;
pub mod object;
pub mod record;
