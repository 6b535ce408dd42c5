//! Elections that take their leader from the Lease of another elector.
//!
//! `make bench ONLY=followed` takes about 15 minutes; `RUNS=5` is quick. `cost` measures the controller while 1,000 followed Leases
//! are renewed, `faults` the time until the label follows an elector that ends in one of four ways.

// The time until it is ready is not measured here.
#[allow(dead_code)]
#[path = "../scale/controller.rs"]
mod controller;
mod cost;
mod faults;

use podium_test_support::bench::Result;
use podium_test_support::bench::cluster::Cluster;
use podium_test_support::bench::figures::Figures;

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::from_env().await?;
    cluster.define().await?;
    let mut figures = Figures::new("followed");
    cost::measure(&cluster, &mut figures).await?;
    faults::measure(&cluster, &mut figures).await?;
    Ok(figures.finish()?)
}
