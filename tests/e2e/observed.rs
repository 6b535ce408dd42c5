//! What a controller tells about itself: whether it lives, and whether it knows what it decides on.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::harness::controller::Controller;
use crate::harness::door::Door;
use crate::harness::sidecar::{Connection, split};
use crate::harness::{Scenario, eventually, scenario};

/// Where a controller that was started with this answers.
const HTTP: &[&str] = &["--http", "127.0.0.1:0"];

async fn address(controller: &Controller) -> SocketAddr {
    let line = controller.says(&["answering address="]).await;
    let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
    address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("an address: {line}"))
}

/// Status and body.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut connection = Connection::open(address).await.expect("it listens");
    let (status, body) = split(&connection.ask("GET", path).await.expect("it answers"));
    (status, body)
}

async fn until_ready(address: SocketAddr) {
    eventually("it is ready", async || match get(address, "/readyz").await {
        (200, _) => Ok(()),
        (_, why) => Err(why),
    })
    .await;
}

/// Waits until it is not ready for a reason that contains these words.
async fn until_unready(address: SocketAddr, words: &str) -> String {
    eventually(&format!("it is not ready: {words}"), async || match get(address, "/readyz").await {
        (503, why) if why.contains(words) => Ok(why),
        answer => Err(format!("{answer:?}")),
    })
    .await
}

#[tokio::test]
async fn a_controller_without_a_right_says_which_cache_it_lacks_until_it_is_granted() {
    scenario(async |world| {
        let account = world.account("podium").await;
        world.grant_all_but("podium", "list", "pods").await;
        let controller = world.controller_with(&account, HTTP);
        let http = address(&controller).await;
        let why = until_unready(http, "missing rights").await;
        assert!(why.contains(&format!("no list of pods in namespace {} yet", world.namespace)), "{why}");
        assert_eq!(get(http, "/healthz").await, (200, "ok\n".into()), "a restart would not help");
        assert_eq!(get(http, "/").await.0, 404);
        world.grant_all("podium", "list", "pods").await;
        until_ready(http).await;
        assert_eq!(get(http, "/readyz").await, (200, "ok\n".into()));
    })
    .await;
}

/// An active replica and one that stands by, behind a door each, and where they answer.
async fn pair(world: &Scenario) -> [(Controller, Door, SocketAddr); 2] {
    let mut pair = Vec::new();
    for words in ["caches in sync, electing", "caches in sync, standing by"] {
        let door = Door::opened(&world.cluster.kubeconfig).await;
        let controller = world.controller_with(&door.through(&world.cluster.kubeconfig), HTTP);
        controller.says(&[words]).await;
        let http = address(&controller).await;
        until_ready(http).await;
        pair.push((controller, door, http));
    }
    pair.try_into().unwrap_or_else(|_| unreachable!("two were started"))
}

#[tokio::test]
async fn replicas_that_lose_their_api_server_say_so_at_once_keep_the_leader_and_recover() {
    scenario(async |world| {
        let mut replicas = pair(world).await;
        let leader = world.led().await;
        let lost = Instant::now();
        for (_, door, _) in &mut replicas {
            door.close().await;
        }
        for (_, _, http) in &replicas {
            until_unready(*http, "cannot reach the API server").await;
            assert_eq!(get(*http, "/healthz").await.0, 200);
        }
        println!("connections refused: both say so after {:?}", lost.elapsed());
        for (_, door, _) in &mut replicas {
            door.open().await;
        }
        // Nothing happens in this namespace that a watch could deliver: that it was accepted is enough.
        for (_, _, http) in &replicas {
            until_ready(*http).await;
        }
        let after = world.leader_is("web", &leader.name).await;
        assert_eq!((after.name.as_str(), after.term), (leader.name.as_str(), leader.term));
        world.delete_pod(&leader.name).await;
        world.leader_after("web", &leader).await;
    })
    .await;
}

#[tokio::test]
async fn replicas_whose_packets_vanish_say_so_within_the_duration_of_the_lease() {
    scenario(async |world| {
        let replicas = pair(world).await;
        for (_, door, _) in &replicas {
            door.swallow();
        }
        let lost = Instant::now();
        for (_, _, http) in &replicas {
            let why = until_unready(*http, "nothing was heard from the API server").await;
            // 8 s, and 2 s more.
            assert!(lost.elapsed() < Duration::from_secs(20), "{why}");
        }
        println!("packets vanish: both say so after {:?}", lost.elapsed());
        for (mut controller, _, http) in replicas {
            let told = Instant::now();
            assert!(controller.terminate().await.success());
            println!("SIGTERM while nothing is answered: {:?}", told.elapsed());
            assert!(told.elapsed() < Duration::from_secs(5), "{}", controller.log());
            assert!(Connection::open(http).await.is_err(), "nothing listens any more");
        }
    })
    .await;
}

#[tokio::test]
async fn a_port_that_is_in_use_ends_a_controller_at_its_start() {
    scenario(async |world| {
        let first = world.controller_with(&world.cluster.kubeconfig, HTTP);
        let taken = address(&first).await.to_string();
        let mut second = world.controller_with(&world.cluster.kubeconfig, &["--http", &taken]);
        assert_eq!(second.end().await.code(), Some(1));
        second.says(&["cannot listen on --http", &taken, "in use"]).await;
    })
    .await;
}
