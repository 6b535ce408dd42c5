//! Missing and revoked permissions.

mod owner_references;
mod revoked;
