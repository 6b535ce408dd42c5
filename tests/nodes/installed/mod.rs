//! Podium as the chart installs it, on real nodes.

mod controllers;
mod drains;
mod file;
mod installation;
mod leaders;
mod losses;
mod outage;
mod planned;
mod readiness;
mod sidecars;
mod tutorials;
