//! The locks of the leader-elector sidecar of Kubernetes 1.2: an annotation on Endpoints, and the way from there to a Lease.

mod endpoints;
mod endpoints_and_lease;

pub use endpoints::EndpointsLock;
pub use endpoints_and_lease::EndpointsAndLeaseLock;
