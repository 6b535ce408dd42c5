//! Podium: leader election as a Kubernetes resource.
//!
//! An [`Election`](api::Election) names pods by a selector. The controller elects one of the ready ones by compare-and-swap
//! on a Lease, labels it for a Service to select, and writes its name into the Election's status.
//!
//! # Words
//! * **term**: the time of one leader, and the fencing token that stands for it. It is the resourceVersion of the Lease that
//!   the change replaced, so terms grow and no two leaders share one.
//! * **holder**: the pod that the Lease names. It becomes the labelled leader when all its predecessors are fenced.
//! * **claim**: the annotation `term.podium.dev/<election>` on a pod. It says which Election the pod belongs to and holds the
//!   highest term that the pod has seen.
//! * **to fence** a pod: to take the label and write the term in one guarded PATCH. Whatever a paused controller still means to
//!   write to that pod is refused afterwards.
//! * **blank**: a Lease without holder and term, as it is created.
//!
//! # Map
//! * [`api`]: the resource, and the names of labels and annotations.
//! * [`election`]: the pure core. Read it first: it is the safety argument.
//! * [`lease`]: what a Lease says, and how it is written.
//! * [`sidecar`]: tells an application who leads, by HTTP and by a file, and follows Elections or campaigns.
//! * [`watchdog`]: the process beside a leader that ends what must not outlive the lead: the status file, and a command.
//! * [`controller`]: the shell. It observes, lets the core decide, and acts.
//! * [`connect`]: the connections to the API server, on which nothing waits.
//! * [`retry_after`]: when an API server that has too much to do wants to be asked again.
//! * `traces`: the controller's passes for those who collect traces. Only with the feature `otlp`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod api;
pub mod connect;
pub mod controller;
pub mod election;
mod hash;
mod http;
pub mod lease;
mod log_once;
mod proc_stat;
pub mod retry_after;
pub mod sidecar;
mod sync;
#[cfg(feature = "otlp")]
pub mod traces;
pub mod watchdog;

#[cfg(test)]
mod scripted;
