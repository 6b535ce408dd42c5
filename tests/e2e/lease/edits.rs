//! Manual edits of Leases, field by field.

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use podium::api::Election;
use serde_json::{Value, json};

use crate::harness::{Leader, Scenario, scenario};

/// The consequence of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The edit has no effect.
    Stays,
    /// The leader stays, in a new term.
    NewTerm,
}

/// Edits of every field of a Lease that the API server allows. `other` and `owner`: metadata of another Election.
fn edits(other: &Election) -> Vec<(&'static str, Value, Outcome)> {
    let annotation =
        |key: &str, value: Value| json!({ "metadata": { "annotations": { format!("podium.dev/{key}"): value } } });
    let spec = |field: &str, value: Value| json!({ "spec": { field: value } });
    let owners = |owners: Value| json!({ "metadata": { "ownerReferences": owners } });
    let owner = |name: &str, uid: &str| json!([{ "apiVersion": "podium.dev/v1beta1", "kind": "Election", "name": name, "uid": uid }]);
    let uid = other.uid().expect("a UID");
    use Outcome::{NewTerm, Stays};
    vec![
        ("no holder", annotation("holder", json!(null)), NewTerm),
        ("a garbled holder", annotation("holder", json!("nonsense")), NewTerm),
        ("another holder", annotation("holder", json!("web-1/no-such-uid")), NewTerm),
        ("no term", annotation("term", json!(null)), NewTerm),
        ("a garbled term", annotation("term", json!("nonsense")), NewTerm),
        ("a term of the future", annotation("term", json!("9223372036854775807")), NewTerm),
        ("a garbled list", annotation("unfenced", json!("a,,b")), NewTerm),
        ("a list of nobody", annotation("unfenced", json!("no-such-uid")), NewTerm),
        ("no checksum", annotation("checksum", json!(null)), NewTerm),
        ("no list", annotation("unfenced", json!(null)), NewTerm),
        ("no reason", annotation("reason", json!(null)), Stays),
        ("another reason", annotation("reason", json!("nonsense")), Stays),
        ("no incarnation", annotation("election", json!(null)), NewTerm),
        ("another incarnation", annotation("election", json!("nonsense")), NewTerm),
        ("somebody's annotation", json!({ "metadata": { "annotations": { "example.com/note": "kept" } } }), Stays),
        ("another identity", spec("holderIdentity", json!("web-1")), NewTerm),
        ("an empty identity", spec("holderIdentity", json!("")), NewTerm),
        ("no identity", spec("holderIdentity", json!(null)), NewTerm),
        ("another duration", spec("leaseDurationSeconds", json!(15)), NewTerm),
        ("no duration", spec("leaseDurationSeconds", json!(null)), NewTerm),
        ("renewed", spec("renewTime", json!("2026-01-01T00:00:00.000000Z")), Stays),
        ("acquired at another time", spec("acquireTime", json!("2001-01-01T00:00:00.000000Z")), Stays),
        ("never acquired", spec("acquireTime", json!(null)), Stays),
        ("many transitions", spec("leaseTransitions", json!(i32::MAX)), Stays),
        ("no transitions", spec("leaseTransitions", json!(null)), Stays),
        ("no spec", json!({ "spec": null }), NewTerm),
        ("no annotations", json!({ "metadata": { "annotations": null } }), NewTerm),
        ("no owner", owners(json!(null)), Stays),
        ("a foreign owner beside it", json!({ "metadata": { "labels": { "example.com/team": "a" } } }), Stays),
        ("a former owner", owners(owner("former", "00000000-0000-0000-0000-000000000000")), NewTerm),
        ("another incarnation of another Election", annotation("election", json!(uid)), NewTerm),
    ]
}

#[tokio::test]
async fn each_edit_of_a_lease_ends_with_one_leader_and_few_writes() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        let other = world.election_with("other", json!({ "label": { "key": "other.example/leader" } })).await;
        let edits = edits(&other);
        // All edits at once: one Election for each, with the same pods.
        let name = |number: usize| format!("e{number}");
        for number in 0..edits.len() {
            world.election_with(&name(number), json!({ "label": { "key": format!("e{number}.example/leader") } })).await;
        }
        let mut leaders: Vec<Leader> = Vec::new();
        for number in 0..edits.len() {
            leaders.push(world.leader_is(&name(number), "web-0").await);
        }
        let writes = world.writes().await;
        for (number, (_, edit, _)) in edits.iter().enumerate() {
            world.forge_lease(&name(number), edit.clone()).await;
        }
        for (number, (what, _, outcome)) in edits.iter().enumerate() {
            if *outcome == Outcome::NewTerm {
                let after = world.leader_after(&name(number), &leaders[number]).await;
                assert_eq!(after.uid, leaders[number].uid, "{what}: the leader stays");
            }
        }
        writes.quiet().await;
        for (number, (what, _, outcome)) in edits.iter().enumerate() {
            let after = world.leader(&name(number)).await;
            let kept = after.term == leaders[number].term;
            assert_eq!(kept, *outcome == Outcome::Stays, "{what}: {after:?}, before {:?}", leaders[number]);
            let (lease, status) = (format!("Lease {}", name(number)), format!("Election {}", name(number)));
            // The edit; emptied, filled; or garbage-collected, created, filled.
            assert!(writes.of(&lease) <= if kept { 1 } else { 5 }, "{what}: {:?}", writes.counts());
            assert!(writes.of(&status) <= 3, "{what}: {:?}", writes.counts());
        }
    })
    .await;
}

#[tokio::test]
async fn lease_of_another_election_is_reported_and_left_alone() {
    scenario(async |world| {
        let _controller = world.controller();
        let leader = world.led().await;
        let other = world.election_with("other", json!({ "label": { "key": "other.example/leader" } })).await;
        let lease = world.api::<Lease>().get("web").await.expect("the Lease is there");
        let theirs =
            json!([{ "apiVersion": "podium.dev/v1beta1", "kind": "Election", "name": "other", "uid": other.uid() }]);
        world.forge_lease("web", json!({ "metadata": { "ownerReferences": theirs } })).await;
        let message = world.condition("web", "Stalled", "True", "LeaseConflict").await;
        assert!(message.contains("belongs to Election other") && message.contains("delete the Lease"), "{message}");
        let writes = world.writes().await;
        writes.quiet().await;
        assert_eq!((writes.of("Lease web"), writes.of("Election web")), (0, 0), "it waits for a person");
        let own = json!({ "metadata": { "ownerReferences": lease.metadata.owner_references } });
        world.forge_lease("web", own).await;
        world.recovered("web").await;
        assert_eq!(world.leader("web").await, leader);
    })
    .await;
}

#[tokio::test]
async fn invalid_numbers_are_rejected_by_the_api_server() {
    scenario(async |world| {
        let _controller = world.controller();
        let leader = world.led().await;
        for field in ["leaseTransitions", "leaseDurationSeconds"] {
            let edit = Patch::Merge(json!({ "spec": { field: -1 } }));
            let answer = world.api::<Lease>().patch("web", &PatchParams::default(), &edit).await;
            let Err(kube::Error::Api(status)) = answer else { panic!("accepted: {field}: {answer:?}") };
            assert!(status.message.contains(field), "{}", status.message);
        }
        assert_eq!(world.leader("web").await, leader);
    })
    .await;
}

#[tokio::test]
async fn a_count_of_transitions_at_its_limit_stays_there() {
    scenario(async |world: &Scenario| {
        let _controller = world.controller();
        world.led().await;
        world.forge_lease("web", json!({ "spec": { "leaseTransitions": i32::MAX } })).await;
        world.leader_when("web", "the count is told", |leader| leader.transitions == i32::MAX).await;
        world.set_ready("web-0", false).await;
        let next = world.leader_is("web", "web-1").await;
        assert_eq!(next.transitions, i32::MAX);
    })
    .await;
}
