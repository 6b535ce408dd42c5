//! The labels of leader and followers, and the repair of manual changes.

mod follower_value;
mod foreign_values;
mod repair;
