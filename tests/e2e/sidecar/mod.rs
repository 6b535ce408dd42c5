//! Sidecars: campaigns, followers, `podium run` and its readiness, compatibility with the replaced electors, network failures.

mod campaign;
mod client_go;
mod compatibility;
mod deployment;
mod examples;
pub mod follow;
mod http_proxy;
mod migration;
mod partition;
mod readiness;
mod run_command;
mod tutorials;
