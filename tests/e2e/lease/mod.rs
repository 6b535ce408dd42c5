//! Leases: manual edits, and adoption from other electors.

mod adoption;
mod edits;
