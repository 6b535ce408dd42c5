//! Sidecars: campaigns, followers, `podium run`, compatibility with the replaced electors, network failures.

mod campaign;
mod client_go;
mod compatibility;
pub mod follow;
mod http_proxy;
mod migration;
mod partition;
mod run_command;
mod tutorials;
