//! Options of a controller, and the errors that end it.

use std::io;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use podium_campaign::{Claimed, Clock, InvalidConfig, Timing};

use super::identity::Identity;
use super::key::Scope;
use super::limits::Limits;

/// Returns the time of the wall clock.
pub type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Options of a controller.
#[derive(Clone)]
pub struct Options {
    /// Namespaces to watch.
    pub scope: Scope,
    /// Limits of what an Election may make it write.
    pub limits: Limits,
    /// Reporting instance of Events.
    pub instance: String,
    /// The wall clock. It tunes stability and dates Events; safety never depends on it.
    pub clock: WallClock,
    /// Election of the active replica. `None`: the controller is always active.
    pub candidacy: Option<Candidacy>,
    /// The HTTP server. `None`: it has none.
    pub http: Option<Http>,
}

/// Changes the log level to these directives, as `--log-level` takes them, or returns why they are invalid.
pub type SetLog = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The HTTP server of a controller.
#[derive(Clone)]
pub struct Http {
    /// Address to listen on: `ADDRESS:PORT`, or `:PORT` for all interfaces.
    pub address: String,
    /// Options of the routes.
    pub telemetry: Telemetry,
}

/// Options of the HTTP routes.
#[derive(Clone)]
pub struct Telemetry {
    /// Changes the log level, for clients on the same machine or in the same pod.
    pub set_log: SetLog,
    /// Adds series for each Election to `/metrics`.
    pub per_election: bool,
}

/// How a replica campaigns to be the active one: on Podium's own Lease, which no Election may use ([`Limits`]).
#[derive(Clone, Debug)]
pub struct Candidacy {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Identity of the replica.
    pub identity: Identity,
    /// Durations of the Lease.
    pub timing: Timing,
    /// Clocks of the campaign.
    pub clock: Clock,
}

/// An error that ends the controller. It waits out everything that the API server does.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// A watch or the campaign ended, which they never should.
    #[error("a watch ended, which is a bug in Podium: restart the controller")]
    Bug,
    /// The HTTP server cannot listen.
    #[error("cannot listen on --http {address}: {error}")]
    Http {
        /// The address.
        address: String,
        /// The error.
        error: io::Error,
    },
    /// The durations of Podium's own Lease contradict each other.
    #[error(transparent)]
    InvalidTiming(#[from] InvalidConfig),
    /// An Election uses Podium's own Lease.
    #[error(
        "{0}: delete that Election or change its spec.leaseName, or set --leader-elect-resource-name of this controller"
    )]
    OwnLease(#[from] Claimed),
}
