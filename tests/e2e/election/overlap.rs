//! Elections that select the same pods: with the same label key, one owns them; with different keys, all do.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use k8s_openapi::jiff::Timestamp;
use podium::api::Election;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::proxy::Proxy;
use crate::harness::waiting::eventually_within;
use crate::harness::writes::Writes;
use crate::harness::{Scenario, eventually, scenario};

/// More than anybody would create on purpose.
const MANY: usize = 200;

fn name(number: usize) -> String {
    format!("web-{number:03}")
}

#[tokio::test]
async fn younger_election_takes_the_pods_of_a_deleted_older_one() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        world.election("older").await;
        let former = world.leader("older").await;
        world.election("younger").await;
        world.condition("younger", "Stalled", "True", "OverlappingElections").await;
        world.delete_election("older").await;
        let leader = world.leader("younger").await;
        assert!(leader.term > former.term);
        world.recovered("younger").await;
    })
    .await;
}

#[tokio::test]
async fn claimed_pods_stay_when_an_older_election_comes_to_match_them() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        let selector = |app: &str| json!({ "selector": { "matchLabels": { "app": app } } });
        let older = world.election_with("older", selector("db")).await;
        let created = older.metadata.creation_timestamp.expect("a time").0;
        eventually("the younger one is younger by the second, too", async || {
            let now = Timestamp::now();
            if now.as_second() > created.as_second() { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
        world.condition("older", "Ready", "False", "NoMatchingPods").await;
        world.election_with("younger", selector("web")).await;
        let leader = world.leader("younger").await;
        world.patch_election("older", selector("web")).await.expect("the selector is changed");
        let message = world.condition("older", "Stalled", "True", "OverlappingElections").await;
        assert!(message.contains("Election younger owns pod web-"), "{message}");
        assert_eq!(world.leader("younger").await, leader);
        // The older Election owns an unclaimed pod, but elects no leader among pods that it cannot fence.
        world.pods(["web-2"]).await;
        let message = world.condition("younger", "Degraded", "True", "OverlappingElections").await;
        assert!(message.contains("Election older owns pod web-2"), "{message}");
        assert_eq!(world.leader("younger").await, leader);
        world.patch_election("older", selector("db")).await.expect("the selector is changed back");
        for election in ["older", "younger"] {
            world.recovered(election).await;
        }
        world.eligible("younger", 3, 3).await;
        assert_eq!(world.leader("younger").await, leader);
    })
    .await;
}

#[tokio::test]
async fn two_hundred_elections_with_one_key_take_over_one_after_another() {
    scenario(async |world| {
        let proxy = Proxy::to(&world.cluster.controllers).await;
        let _controller = world.controller_with(&proxy.kubeconfig(), &[]);
        world.pods(["web-0", "web-1", "web-2"]).await;
        world.election(&name(0)).await;
        let first = world.leader(&name(0)).await;
        let writes = world.writes().await;
        proxy.take();
        let began = Instant::now();
        many(world, 1, MANY, |_| json!({})).await;
        all_stalled(world, MANY - 1).await;
        let took = began.elapsed();
        writes.quiet().await;
        let patches = report("made", took, &proxy, &writes);
        assert!(patches <= 2 * MANY, "{patches} requests");
        assert_eq!(world.leader(&name(0)).await, first);
        // Created, and its status reports the overlap once; its Lease is created and stays blank.
        assert!(writes.most("Election").1 <= 3, "{:?}", writes.most("Election"));
        assert!(writes.most("Lease").1 <= 1, "{:?}", writes.most("Lease"));
        assert_eq!(writes.all("Pod"), 0, "{:?}", writes.counts());

        writes.forget();
        proxy.take();
        let began = Instant::now();
        world.delete_election(&name(0)).await;
        let winner = eventually("another one has a leader", async || {
            let elections = world.api::<Election>().list(&<_>::default()).await.map_err(|error| error.to_string())?;
            let led = elections.items.into_iter().find(|election| {
                election.metadata.deletion_timestamp.is_none()
                    && election.status.as_ref().is_some_and(|status| status.leader.is_some())
            });
            led.and_then(|election| election.metadata.name).ok_or_else(|| "nobody".into())
        })
        .await;
        let second = world.leader(&winner).await;
        assert!(second.term > first.term);
        all_stalled(world, MANY - 2).await;
        let took = began.elapsed();
        writes.quiet().await;
        let patches = report("followed", took, &proxy, &writes);
        assert!(patches <= 3 * MANY, "{patches} requests");
        assert_eq!(world.leader(&winner).await, second);
        assert!(writes.most("Election").1 <= 6, "{:?}", writes.most("Election"));
        // The deleted Election's may be re-created and deleted until the controller observes the deletion.
        assert!(writes.most("Lease").1 <= 3, "{:?}", writes.most("Lease"));
        assert!(writes.all("Lease") <= 5, "the deleted one's and the winner's: {:?}", writes.counts());
        assert!(writes.all("Pod") <= 8, "removed, labeled and fenced: {:?}", writes.counts());
    })
    .await;
}

#[tokio::test]
async fn forty_elections_with_different_keys_share_their_pods() {
    share_pods(40).await;
}

#[tokio::test]
#[ignore = "takes a minute: `make scale`"]
async fn two_hundred_elections_with_different_keys_share_their_pods() {
    share_pods(MANY).await;
}

/// This many Elections with different keys label one of two pods, then the other one.
async fn share_pods(count: usize) {
    scenario(async |world| {
        let proxy = Proxy::to(&world.cluster.controllers).await;
        let _controller = world.controller_with(&proxy.kubeconfig(), &[]);
        world.pods(["web-0", "web-1"]).await;
        let writes = world.writes().await;
        let began = Instant::now();
        many(world, 0, count, |number| json!({ "label": { "key": format!("e{number}.example/leader") } })).await;
        all_led_by(world, "web-0", count).await;
        let took = began.elapsed();
        writes.quiet().await;
        // A claim, a fence, a label and a status for each. They write to the same two pods and wait for each other.
        let patches = report("made", took, &proxy, &writes);
        assert!(patches <= 5 * count, "{patches} requests for {count} Elections: most of them were refused");
        assert!(writes.most("Lease").1 <= 2, "{:?}", writes.most("Lease"));
        assert!(writes.most("Election").1 <= 4, "{:?}", writes.most("Election"));
        assert!(writes.all("Pod") <= 3 * count, "a claim, a label and a fence for each: {}", writes.all("Pod"));

        writes.forget();
        let began = Instant::now();
        world.delete_pod("web-0").await;
        all_led_by(world, "web-1", count).await;
        let took = began.elapsed();
        writes.quiet().await;
        let patches = report("failed over", took, &proxy, &writes);
        assert!(patches <= 4 * count, "{patches} requests for {count} Elections: most of them were refused");
        assert!(writes.most("Lease").1 <= 2, "{:?}", writes.most("Lease"));
    })
    .await;
}

/// Creates the Elections of these numbers.
async fn many(world: &Scenario, from: usize, to: usize, fields: impl Fn(usize) -> Value) {
    let creations = (from..to).map(|number| {
        let fields = fields(number);
        async move { world.election_with(&name(number), fields).await }
    });
    stream::iter(creations).buffer_unordered(16).collect::<Vec<_>>().await;
}

/// Waits until this many Elections report the overlap.
async fn all_stalled(world: &Scenario, count: usize) {
    eventually(&format!("{count} Elections are stalled"), async || {
        let elections = world.api::<Election>().list(&<_>::default()).await.map_err(|error| error.to_string())?;
        let stalled = elections.items.iter().filter(|election| {
            let condition = election.status.as_ref().and_then(|status| status.condition("Stalled"));
            condition.is_some_and(|stalled| stalled.status == "True" && stalled.reason == "OverlappingElections")
        });
        let stalled = stalled.count();
        if stalled == count { Ok(()) } else { Err(format!("{stalled}")) }
    })
    .await;
}

async fn all_led_by(world: &Scenario, pod: &str, count: usize) {
    eventually_within(Duration::from_secs(300), &format!("{pod} leads every Election"), async || {
        let elections = world.api::<Election>().list(&<_>::default()).await.map_err(|error| error.to_string())?;
        let led = elections.items.iter().filter_map(|election| election.status.as_ref()?.leader.clone());
        let led = led.filter(|leader| leader == pod).count();
        if led == count { Ok(()) } else { Err(format!("{led}")) }
    })
    .await;
}

/// Prints the requests since the last report. Returns the number of PATCH requests.
fn report(what: &str, took: Duration, proxy: &Proxy, writes: &Writes) -> usize {
    let asked = proxy.take();
    let by = |method: &str| asked.iter().filter(|asked| asked.method == method).count();
    println!(
        "{what} after {:.1} s: GET {}, POST {}, PUT {}, PATCH {}; Elections written {} times, Leases {}, pods {}, Events {}",
        took.as_secs_f64(),
        by("GET"),
        by("POST"),
        by("PUT"),
        by("PATCH"),
        writes.all("Election"),
        writes.all("Lease"),
        writes.all("Pod"),
        writes.all("Event"),
    );
    by("PATCH")
}
