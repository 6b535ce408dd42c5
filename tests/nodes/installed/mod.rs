//! Podium as the chart installs it, on real nodes.

mod controllers;
mod file;
mod installation;
mod leaders;
mod losses;
mod sidecars;
mod tutorials;
