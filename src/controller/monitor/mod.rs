//! What a controller tells about itself: whether it lives, whether it is ready, and what it does.
//!
//! Everything here is told by those who act, and read by whoever asks over HTTP. Nothing is decided on it, and nothing is asked
//! of the API server for it.

pub mod census;
mod elections;
pub mod health;
pub mod http;
pub mod metrics;
mod process;
pub mod requests;
pub mod silence;
pub mod table;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::Options;
use health::Health;
use metrics::Metrics;

/// What is known about one controller.
#[derive(Debug)]
pub struct Monitor {
    /// Whether it hears from the API server.
    pub health: Health,
    /// What it does.
    pub metrics: Arc<Metrics>,
    listens: bool,
}

impl Monitor {
    /// Nothing is known yet about a controller with these options. `listens`: whether this stands between it and the API server.
    pub fn new(options: &Options, listens: bool) -> Arc<Self> {
        Arc::new(Self { health: Health::new(options.candidacy.as_ref()), metrics: Arc::default(), listens })
    }
}
