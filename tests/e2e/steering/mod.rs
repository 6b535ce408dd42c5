//! Planned changes of the leader, the order that users choose, and nodes that drain or are lost.

mod drains;
mod heartbeats;
mod preferences;
mod spread;
mod switchover;
