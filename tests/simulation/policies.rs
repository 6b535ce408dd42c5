//! Mutating policies and webhooks that a cluster may have: each changes one part of Podium's writes, and the response is a
//! success.

use podium_test_support::random::Random;
use podium_test_support::server::Resource::{self, Elections, Leases, Pods};
use podium_test_support::server::{Admission, Rule};

use crate::cluster::Cluster;

/// Caller in the history.
const WHO: &str = "policy";

/// All policies.
const POLICIES: [(Resource, &[&str], Rule); 14] = [
    (Pods, &["metadata", "labels", "leader"], Rule::Restored),
    (Pods, &["metadata", "labels", "leader"], Rule::NotAdded),
    (Pods, &["metadata", "labels", "leader"], Rule::Kept),
    (Pods, &["metadata", "annotations", "term.podium.dev/e0"], Rule::NotAdded),
    (Pods, &["metadata", "annotations", "term.podium.dev/e0"], Rule::Kept),
    (Leases, &["metadata", "annotations", "podium.dev/holder"], Rule::NotAdded),
    (Leases, &["metadata", "annotations", "podium.dev/holder"], Rule::Kept),
    (Leases, &["metadata", "annotations", "podium.dev/term"], Rule::Kept),
    (Leases, &["metadata", "annotations", "podium.dev/unfenced"], Rule::NotAdded),
    (Leases, &["metadata", "annotations", "podium.dev/election"], Rule::Kept),
    (Leases, &["spec", "holderIdentity"], Rule::Kept),
    (Leases, &["spec"], Rule::Kept),
    (Elections, &["status", "conditions"], Rule::Kept),
    (Elections, &["status", "leader"], Rule::Kept),
];

/// Adds one, usually in place of another, or removes all.
pub fn come_or_go(cluster: &Cluster, random: &mut Random) {
    if random.permille(300) {
        return end(cluster);
    }
    let Some((resource, path, rule)) = random.pick(&POLICIES) else { return };
    let path = path.iter().map(|field| (*field).to_owned()).collect();
    let admission = Admission { resource: *resource, path, rule: *rule };
    cluster.log(WHO, format_args!("comes: {admission:?}"));
    let mut server = cluster.server();
    if random.permille(700) {
        server.admission.clear();
    }
    server.admission.push(admission);
}

/// Removes all policies.
pub fn end(cluster: &Cluster) {
    cluster.log(WHO, "all go");
    cluster.server().admission.clear();
}
