//! Values of the label `outcome` of `podium_reconcile_duration_seconds`.

/// Nothing is left to do.
pub const DONE: &str = "done";
/// The Election is due again at a known time.
pub const REQUEUED: &str = "requeued";
/// An object had changed, or was gone.
pub const CONFLICT: &str = "conflict";
/// The API server, or a policy, denied a request.
pub const DENIED: &str = "denied";
/// The API server did not respond, or was overloaded.
pub const UNAVAILABLE: &str = "unavailable";
/// Objects kept changing during the reconcile, which backs off.
pub const CONTENDED: &str = "contended";
/// The reconcile was dropped at shutdown, or a bug ended it.
pub const ABANDONED: &str = "abandoned";

/// All values.
pub const OUTCOMES: &[&str] = &[DONE, REQUEUED, CONFLICT, DENIED, UNAVAILABLE, CONTENDED, ABANDONED];
