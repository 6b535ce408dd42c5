//! Who is elected, and when.

use serde_json::json;

use crate::harness::scenario;

#[tokio::test]
async fn one_of_the_ready_pods_is_elected() {
    scenario(async |world| {
        let _controller = world.controller();
        let [pod, ..] = world.pods(["web-0", "web-1", "web-2"]).await;
        world.election("web").await;
        let leader = world.leader("web").await;
        assert_eq!(
            (leader.name.as_str(), Some(leader.uid.as_str())),
            ("web-0", pod.metadata.uid.as_deref()),
            "the longest Ready, then the name"
        );
        assert_eq!(leader.transitions, 0);
    })
    .await;
}

#[tokio::test]
async fn an_election_older_than_its_pods_elects_the_first_that_comes() {
    scenario(async |world| {
        let _controller = world.controller();
        world.election("web").await;
        world.condition("web", "Ready", "True", "NoPods").await;
        world.pods(["web-0"]).await;
        world.leader_is("web", "web-0").await;
    })
    .await;
}
