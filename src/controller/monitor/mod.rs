//! Health and metrics of a controller. No decision depends on them, and they cost no request to the API server.

pub mod census;
mod client;
pub mod elections;
pub mod health;
pub mod metrics;
pub mod outcome;
mod process;
pub mod requests;
pub mod silence;
pub mod table;

#[cfg(test)]
mod tests;

pub use client::Monitor;
