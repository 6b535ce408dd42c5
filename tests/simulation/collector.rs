//! The garbage collector: it deletes Leases of deleted Elections after some time.

use std::sync::Arc;
use std::time::Duration;

use podium_test_support::random::Random;
use podium_test_support::server::Resource::{Elections, Leases};
use serde_json::json;
use tokio::time::sleep;

use crate::cluster::Cluster;

/// Caller in the history.
const WHO: &str = "collector";

/// Runs forever.
pub async fn run(cluster: Arc<Cluster>, mut random: Random, calm: impl Fn() -> bool) {
    loop {
        let pause = if calm() { Duration::from_secs(2) } else { random.millis(50, 9_000) };
        sleep(pause).await;
        let living: Vec<String> =
            cluster.all(Elections).values().filter_map(|e| Some(e["metadata"]["uid"].as_str()?.to_owned())).collect();
        for (name, lease) in cluster.all(Leases) {
            let owners = lease["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            let gone = |owner: &serde_json::Value| !living.iter().any(|uid| owner["uid"] == uid.as_str());
            if !owners.is_empty() && owners.iter().all(gone) {
                let preconditions =
                    json!({ "uid": lease["metadata"]["uid"], "resourceVersion": lease["metadata"]["resourceVersion"] });
                cluster.ask(WHO, "DELETE", (Leases, &name), json!({ "preconditions": preconditions }));
            }
        }
    }
}
