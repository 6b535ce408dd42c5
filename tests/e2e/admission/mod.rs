//! Validation, admission policies, and an API server that rejects or alters writes.

mod limits;
mod mutation;
mod policies;
mod rejected_writes;
mod user_policies;
mod validation;
