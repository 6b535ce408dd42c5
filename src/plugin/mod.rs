//! The commands of `kubectl podium` that show an Election, and change its leader.
//!
//! A layer above the controller: who is eligible and who is next comes from the controller's own caches and from the pure core, so
//! that the commands cannot disagree with the controller. They read the API server with the caller's permissions.
//!
//! * [`cluster`]: the API server as the caller may use it.
//! * [`failure`]: errors in one line.
//! * [`console`]: data to stdout, and everything else to stderr.
//! * [`table`], [`age`]: the styles of kubectl.
//! * [`observed`]: one Election with its pods and its Lease, as a decision sees them.
//! * [`change`]: how the commands write, and wait for the effect.
//! * [`status`], [`explain`], [`leader`], [`history`], [`switchover`], [`suspend`]: one command each.

pub mod age;
pub mod change;
pub mod cluster;
pub mod console;
pub mod explain;
pub mod failure;
pub mod history;
pub mod leader;
pub mod observed;
pub mod status;
pub mod suspend;
pub mod switchover;
pub mod table;
