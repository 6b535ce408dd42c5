//! A campaign: several processes elect a leader among themselves by client-go's protocol, on a Lease or another lock.
//!
//! Interoperates with client-go's `leaderelection` on the same lock, and is stricter in four points: every write carries the
//! lock's UID and resourceVersion, so that a lock that was deleted is never brought back by a late write; whoever saw a lock
//! vanish that somebody held waits as long as for an expiry before it creates it anew; a leader counts its deadline from
//! before it sent the renewal that succeeded, on a clock that does not stand still while the machine is suspended; and a lock
//! that an Election claims is left to it, for good.
//!
//! # What it promises
//! At no moment do two of those who campaign with these rules claim to lead, whatever crashes, pauses, lost answers and late
//! writes there are, as long as clocks go wrong by less than 5 %. Not promised: this, where somebody edits the lock by hand,
//! or deletes it and somebody else starts before the leader has noticed; nor that *work* which was begun under leadership
//! has ended with it. Work that must never overlap needs a fencing token.
//!
//! # Example
//! ```no_run
//! use podium::campaign::{Campaign, LeaseLock, Settings};
//!
//! # async fn serve() {}
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = kube::Config::infer().await?;
//! config.default_retry = false;
//! let client = kube::Client::try_from(config)?;
//! let lock = LeaseLock::new(client, "default", "example");
//! let campaign = Campaign::new(lock, Settings::new(std::env::var("HOSTNAME")?))?;
//! let leadership = campaign.leadership();
//!
//! // Elsewhere, for example where HTTP requests are answered:
//! let answer = move || match leadership.holder() {
//!     _ if leadership.leads() => "it is me".to_owned(),
//!     Some(holder) if !holder.expired => format!("{}, as heard {:?} ago", holder.identity, holder.age),
//!     _ => "nobody, as far as known".to_owned(),
//! };
//! # drop(answer);
//!
//! // Serves while it leads; on Ctrl-C it stops serving first, and then lets somebody else lead.
//! let stop = async { drop(tokio::signal::ctrl_c().await) };
//! campaign.lead(|| async { serve().await }, stop).await?;
//! # Ok(()) }
//! ```
//!
//! # Map
//! The pure part, which knows no client, no runtime and no clock: [`Settings`], [`Record`], and [`Campaigner`], which says
//! what is to be done next. Around it: a [`Lock`], such as [`LeaseLock`]; the [`Campaign`] that drives the one against the
//! other; and [`Leadership`], which tells who leads.

mod action;
mod both;
mod campaigner;
mod clock;
mod driver;
mod endpoints;
#[cfg(test)]
mod fixture;
mod leadership;
mod lease;
mod lock;
mod moment;
mod object;
mod record;
mod settings;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod tests;

pub use action::{Action, Answer};
pub use both::EndpointsAndLeaseLock;
pub use campaigner::Campaigner;
pub use clock::Clock;
pub(crate) use driver::Renewals;
pub use driver::{Campaign, Claimed};
pub use endpoints::EndpointsLock;
pub(crate) use leadership::Standing;
pub use leadership::{Holder, Lead, Leadership};
pub use lease::LeaseLock;
pub use lock::{Failure, Lock};
pub use moment::Moment;
pub(crate) use object::Keeps;
pub use object::ObjectLock;
pub use record::{Record, Seen, Version};
pub use settings::{HasEnded, InvalidSettings, Settings, Timing};
