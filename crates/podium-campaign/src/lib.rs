//! Leader election on Kubernetes Leases: processes campaign for a lock by the protocol of client-go's `leaderelection`.
//!
//! [`Campaign`] competes for a [`Lock`], usually a [`LeaseLock`], and renews it while it leads. [`Leadership`] answers at any
//! moment whether this process leads, who else does, and why not.
//!
//! The crate interoperates with client-go on the same lock, and is stricter in four points:
//! * Every write carries the lock's UID and resourceVersion, so a late write never re-creates a deleted lock.
//! * A lock that vanished while it was held is created again only after its lease duration.
//! * A leader counts its renew deadline from before it sent the renewal that succeeded, on a clock that also counts the time
//!   that the machine is suspended.
//! * A Lease that a Podium Election has claimed is left to it: the campaign ends with [`Claimed`].
//!
//! # Guarantees
//! Of all processes that campaign for a lock with these rules, at most one claims to lead at any moment. That holds whatever
//! crashes, pauses, lost responses and late writes occur, as long as the rates of clocks differ from true time by less than 5 %.
//!
//! Not guaranteed:
//! * The same for a lock that a person edits, or deletes while a process starts that has not observed it.
//! * That *work* which began under leadership has ended with it. Work that must never overlap needs a fencing token:
//!   [`Lead::term`].
//!
//! # Example
//! ```no_run
//! use podium_campaign::{Campaign, CampaignConfig, LeaseLock};
//!
//! # async fn serve() {}
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = kube::Config::infer().await?;
//! // A retried write hides whether the first one was applied.
//! config.default_retry = false;
//! let client = kube::Client::try_from(config)?;
//! let lock = LeaseLock::new(client, "default", "example");
//! let campaign = Campaign::new(lock, CampaignConfig::new(std::env::var("HOSTNAME")?))?;
//!
//! // For example in an HTTP handler:
//! let leadership = campaign.leadership();
//! let leader = move || match leadership.holder() {
//!     _ if leadership.leads() => "this process".to_owned(),
//!     Some(holder) if !holder.expired => format!("{}, {:?} ago", holder.identity, holder.age),
//!     _ => "unknown".to_owned(),
//! };
//! # drop(leader);
//!
//! // Serves while it leads. On Ctrl-C it stops serving, then releases the lock.
//! let stop = async { drop(tokio::signal::ctrl_c().await) };
//! campaign.lead(|| async { serve().await }, stop).await?;
//! # Ok(()) }
//! ```
//!
//! # Map
//! [`CampaignConfig`], [`LeaderElectionRecord`] and [`Campaigner`] are pure: they know no client, no runtime and no clock.
//! [`Campaigner`] decides what to do next, and [`Campaign`] carries it out on a [`Lock`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod action;
mod campaigner;
mod clock;
mod config;
mod driver;
mod leadership;
mod lock;
mod nomination;
mod record;
pub mod retry_after;

#[cfg(test)]
mod tests;

pub use action::{Action, LockResponse};
pub use campaigner::Campaigner;
pub use clock::{Clock, Moment};
pub use config::{CampaignConfig, HasEnded, InvalidConfig, Timing};
pub use driver::{Campaign, Claimed, Renewals};
pub use leadership::{Holder, Lead, Leadership, LeadershipState};
pub use lock::heartbeat::{HeartbeatFormat, HeartbeatLock, RELEASED_ANNOTATION};
pub use lock::lease::{ELECTION_ANNOTATION, ELECTION_GROUP, LeaseFormat, LeaseLock, is_election};
pub use lock::object::{LockFormat, ObjectLock};
pub use lock::{Lock, LockError};
pub use nomination::{Nomination, Nominations};
pub use record::{LeaderElectionRecord, LockState, ObjectVersion};
