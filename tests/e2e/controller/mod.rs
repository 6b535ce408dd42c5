//! The controller process: startup, shutdown, replicas, health, metrics, Events and logs.

mod cleanup;
mod events_and_logs;
mod health;
mod metrics;
mod namespaces;
mod replicas;
mod restart;
mod startup;
