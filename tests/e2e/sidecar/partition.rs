//! The worst cases of the old leader-electors, with their permissions only: a partitioned leader, and a paused one.
//!
//! `harness/survey.rs` explains what the tests look for, and why it is a proof.

use kube::config::Kubeconfig;

use crate::harness::access::{CONTRIB, SUPPORTTOOLS};
use crate::harness::door::Door;
use crate::harness::sidecar::{Call, Connection, Sidecar, name_in, split};
use crate::harness::survey::Survey;
use crate::harness::{Scenario, eventually, scenario};

/// The lock of the sidecars.
#[derive(Clone, Copy)]
enum On {
    Endpoints,
    Lease,
}

impl On {
    async fn account(self, world: &Scenario) -> Kubeconfig {
        match self {
            Self::Endpoints => world.account_with("pods", &CONTRIB).await,
            Self::Lease => world.account_with("pods", &SUPPORTTOOLS).await,
        }
    }

    fn call(self, world: &Scenario, name: &str, kubeconfig: &Kubeconfig) -> Call {
        match self {
            Self::Endpoints => world.contrib(name, kubeconfig),
            Self::Lease => world.supporttools(name, kubeconfig),
        }
    }
}

/// Waits until one of these leads, and returns its name.
async fn leader_of(sidecars: &[&Sidecar]) -> String {
    eventually("another one leads", async || {
        for sidecar in sidecars {
            if sidecar.leads().await {
                return Ok(sidecar.name.clone());
            }
        }
        Err("nobody".into())
    })
    .await
}

/// Partitions the leader, until another one takes over.
async fn cut_off(on: On, cut: impl AsyncFn(&mut Door)) {
    scenario(async |world| {
        let account = on.account(world).await;
        let mut door = Door::opened(&account).await;
        let first = on.call(world, "pod-a", &door.through(&account)).start().await;
        first.names("pod-a").await;
        let second = on.call(world, "pod-b", &account).start().await;
        let third = on.call(world, "pod-c", &account).start().await;
        second.names("pod-a").await;
        third.names("pod-a").await;
        let survey = Survey::of([&first, &second, &third]);
        survey.one_by_one(&["pod-a"]).await;
        cut(&mut door).await;
        let next = leader_of(&[&second, &third]).await;
        survey.go_on(&[&first, &second, &third]).await;
        survey.one_by_one(&["pod-a", &next]).await;
        println!("{}", survey.gap("pod-a", &next));
        // It names no leader, not even itself.
        first.names("").await;

        door.open().await;
        first.names(&next).await;
        for sidecar in [&second, &third] {
            sidecar.names(&next).await;
        }
        survey.go_on(&[&first, &second, &third]).await;
        survey.one_by_one(&["pod-a", &next]).await;
    })
    .await;
}

#[tokio::test]
async fn leader_with_refused_connections_stops_claiming_before_its_successor() {
    cut_off(On::Endpoints, Door::close).await;
}

#[tokio::test]
async fn leader_with_reset_connections_stops_claiming_before_its_successor() {
    cut_off(On::Lease, async |door| door.reset()).await;
}

#[tokio::test]
async fn leader_with_dropped_packets_stops_claiming_before_its_successor() {
    cut_off(On::Endpoints, async |door| door.swallow()).await;
}

#[tokio::test]
async fn leader_on_a_lease_with_dropped_packets_stops_claiming_before_its_successor() {
    cut_off(On::Lease, async |door| door.swallow()).await;
}

/// Pauses the leader until another one leads. Its first responses claim nothing.
async fn pause(on: On) {
    scenario(async |world| {
        let account = on.account(world).await;
        let first = on.call(world, "pod-a", &account).start().await;
        first.names("pod-a").await;
        let second = on.call(world, "pod-b", &account).start().await;
        second.names("pod-a").await;
        let survey = Survey::of([&first, &second]);
        survey.one_by_one(&["pod-a"]).await;
        let mut before = Connection::open(first.address).await.expect("it listens");
        before.ask("GET", "/leader").await.expect("it answers");

        first.signal("STOP");
        second.names("pod-b").await;
        // Requested while it is paused, on open and new connections: it reads these first when it resumes.
        before.send("GET", "/leader").await.expect("it is sent");
        let mut asked = Vec::new();
        for path in ["/", "/leader", "/status", "/events"] {
            let mut connection = Connection::open(first.address).await.expect("the system takes it");
            connection.send("GET", path).await.expect("it is sent");
            asked.push((path, connection));
        }
        first.signal("CONT");
        assert_eq!(split(&before.receive("GET").await.expect("an answer")).0, 503);
        for (path, mut connection) in asked {
            let answer = match path {
                "/events" => connection.event().await.expect("an event").to_string(),
                _ => connection.receive("GET").await.expect("an answer"),
            };
            match path {
                "/" => assert_ne!(name_in(&split(&answer).1), "pod-a"),
                "/leader" => assert_eq!(split(&answer).0, 503),
                _ => assert!(answer.contains(r#""isLeader":false"#) && !answer.contains("pod-a"), "{answer}"),
            }
        }
        first.names("pod-b").await;
        survey.go_on(&[&first, &second]).await;
        survey.one_by_one(&["pod-a", "pod-b"]).await;
        println!("{}", survey.gap("pod-a", "pod-b"));
    })
    .await;
}

#[tokio::test]
async fn resumed_leader_does_not_claim() {
    pause(On::Endpoints).await;
}

#[tokio::test]
async fn resumed_leader_on_a_lease_does_not_claim() {
    pause(On::Lease).await;
}

#[tokio::test]
async fn no_leader_is_reported_without_an_api_server_and_sigterm_works() {
    scenario(async |world| {
        let account = On::Endpoints.account(world).await;
        let mut door = Door::opened(&account).await;
        let through = door.through(&account);
        let mut first = On::Endpoints.call(world, "pod-a", &through).start().await;
        first.names("pod-a").await;
        let mut second = On::Endpoints.call(world, "pod-b", &through).start().await;
        second.names("pod-a").await;
        let survey = Survey::of([&first, &second]);
        door.swallow();
        first.names("").await;
        second.names("").await;
        assert!(first.status().await["age"].as_f64().is_some_and(|age| age >= 5.0), "its age says why");
        assert!(second.terminate().await.success());
        door.open().await;
        first.names("pod-a").await;
        survey.one_by_one(&["pod-a"]).await;
        door.swallow();
        assert!(first.terminate().await.success());
    })
    .await;
}
