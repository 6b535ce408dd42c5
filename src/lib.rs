//! Podium: leader election as a Kubernetes resource. This library belongs to the `podium` command; it has no stable interface.
//! Programs that elect a leader among themselves use the crate `podium-campaign`.
//!
//! An [`Election`](api::Election) names pods by a selector. The controller elects one of the ready pods by compare-and-swap on
//! a Lease, labels it for a Service to select, and reports it in the Election's status.
//!
//! # Glossary
//! * **term**: the number of one leader's time, and the fencing token. It is the resourceVersion of the Lease that the change
//!   replaced, so terms grow and no two leaders share one.
//! * **holder**: the pod that the Lease names. It becomes the labeled leader when all its predecessors are fenced.
//! * **claim**: the annotation `term.podium.dev/<election>` on a pod. It names the Election that the pod belongs to, and holds
//!   the highest term that was written to the pod.
//! * **fence** a pod: remove the label and raise the term in one guarded PATCH. The API server then rejects every write that a
//!   paused controller still sends for that pod.
//! * **blank**: a Lease without holder and term, as it is created.
//!
//! # Map
//! * [`api`]: the resource, and the names of labels and annotations.
//! * [`ids`]: terms, revisions and UIDs.
//! * [`election`]: the pure core, which is the safety argument. Start here.
//! * [`lease`]: the content of a Lease, and how it is written.
//! * [`sidecar`]: leader information for the application in the same pod, by HTTP and in a file.
//! * [`watchdog`]: the second process beside a leader. It ends the status file and the command before the Lease expires.
//! * [`controller`]: observes, calls the core, and executes its plans.
//! * [`plugin`]: the commands of `kubectl podium` that show an Election, and change its leader.
//! * [`connect`]: the connections to the API server.
//! * [`retry_after`]: pauses that an overloaded API server asks for.
//! * `traces`: traces of reconciles, only with the feature `otlp`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[doc(hidden)]
pub mod api;
#[doc(hidden)]
pub mod connect;
#[doc(hidden)]
pub mod controller;
#[doc(hidden)]
pub mod election;
mod hash;
mod http;
#[doc(hidden)]
pub mod ids;
#[doc(hidden)]
pub mod lease;
mod log_once;
#[doc(hidden)]
pub mod plugin;
mod proc_stat;
#[doc(hidden)]
pub mod retry_after;
#[doc(hidden)]
pub mod sidecar;
mod sync;
#[cfg(feature = "otlp")]
#[doc(hidden)]
pub mod traces;
#[doc(hidden)]
pub mod watchdog;

mod wire_names;

#[cfg(test)]
mod scripted;
