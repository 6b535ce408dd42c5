//! Rights that are taken away while the controller runs, one verb at a time.
//!
//! Whatever is missing is named; what needs none of it goes on, here and in other namespaces; and all of it goes on by itself
//! once the right is back.

use std::collections::BTreeSet;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::DeleteParams;
use serde::Deserialize;

use crate::harness::access::RIGHTS;
use crate::harness::controller::Controller;
use crate::harness::proxy::{Fate, Proxy};
use crate::harness::{Leader, Scenario, eventually, scenario};

/// How a missing right shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    /// Nobody can be elected: the status says so.
    InTheStatus,
    /// The election goes on, or the status cannot be written: the log says so.
    InTheLog,
}

/// What makes the controller use the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// The leader is not Ready any more.
    LeaderFails,
    /// The Lease is deleted: it is made again, after everything was read from the server.
    LeaseIsLost,
}

/// Runs the test with a led Election in two namespaces, the second one with all rights.
async fn with_two_namespaces(test: impl AsyncFnOnce(&Scenario, &Proxy, &Controller)) {
    scenario(async |world| {
        scenario(async |other| {
            let account = world.account("podium").await;
            world.grant("podium", &RIGHTS).await;
            other.admit(world, "podium").await;
            let proxy = Proxy::to(&account).await;
            let controller = world.controller_with(&proxy.kubeconfig(), &["--namespaces", &other.namespace]);
            world.led().await;
            other.led().await;
            test(world, &proxy, &controller).await;
            let leader = other.leader("web").await;
            other.set_ready(&leader.name, false).await;
            other.leader_after("web", &leader).await;
        })
        .await;
    })
    .await;
}

async fn use_it(world: &Scenario, how: Use) -> Leader {
    let leader = world.leader("web").await;
    match how {
        Use::LeaderFails => drop(world.set_ready(&leader.name, false).await),
        Use::LeaseIsLost => drop(world.api::<Lease>().delete("web", &DeleteParams::default()).await),
    }
    leader
}

/// Takes the right away, has it used, and gives it back.
async fn lose(world: &Scenario, controller: &Controller, verb: &str, resource: &str, how: Use, shows: Shows) {
    world.grant_all_but("podium", verb, resource).await;
    let leader = use_it(world, how).await;
    let words = format!("cannot {verb} resource \"{resource}\"");
    let line = controller.says(&["WARN", &words, &world.namespace]).await;
    assert!(line.contains("web"), "{line}");
    if shows == Shows::InTheStatus {
        let message = world.condition("web", "Stalled", "True", "WriteRefused").await;
        assert!(message.contains(&words), "{message}");
    }
    world.grant_all("podium", verb, resource).await;
    world.leader_after("web", &leader).await;
    world.condition("web", "Stalled", "False", "AsDeclared").await;
    world.set_ready(&leader.name, true).await;
    world.eligible("web", "2/2").await;
}

#[tokio::test]
async fn a_right_to_write_that_is_lost_is_named_and_nothing_else_suffers() {
    with_two_namespaces(async |world, _, controller| {
        lose(world, controller, "patch", "pods", Use::LeaderFails, Shows::InTheStatus).await;
        lose(world, controller, "update", "leases", Use::LeaderFails, Shows::InTheStatus).await;
        lose(world, controller, "create", "leases", Use::LeaseIsLost, Shows::InTheStatus).await;
        lose(world, controller, "patch", "elections/status", Use::LeaderFails, Shows::InTheLog).await;
        lose(world, controller, "create", "events", Use::LeaderFails, Shows::InTheLog).await;
    })
    .await;
}

#[tokio::test]
async fn a_right_to_read_that_is_lost_is_named_where_the_server_must_be_asked() {
    with_two_namespaces(async |world, proxy, controller| {
        lose(world, controller, "list", "pods", Use::LeaseIsLost, Shows::InTheStatus).await;
        lose(world, controller, "get", "elections", Use::LeaseIsLost, Shows::InTheStatus).await;
        lose(world, controller, "get", "leases", Use::LeaseIsLost, Shows::InTheStatus).await;
        // A pod is read where a write to it was not answered.
        proxy.rule(
            |asked| if asked.method == "PATCH" && asked.path.contains("/pods/") { Fate::Refuse(500) } else { Fate::Forward },
        );
        world.grant_all_but("podium", "get", "pods").await;
        let leader = use_it(world, Use::LeaderFails).await;
        controller.says(&["WARN", "cannot get resource \"pods\"", &world.namespace]).await;
        world.condition("web", "Stalled", "True", "WriteRefused").await;
        proxy.heal();
        world.grant_all("podium", "get", "pods").await;
        world.leader_after("web", &leader).await;
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_may_not_be_continued_is_named_and_continued_once_it_may() {
    with_two_namespaces(async |world, proxy, controller| {
        for (verb, resource) in [("watch", "pods"), ("list", "pods"), ("watch", "leases"), ("watch", "elections")] {
            let told = |log: &str| log.matches(&format!("grant get, list and watch on {resource} in namespace")).count();
            let before = told(&controller.log());
            let leader = world.leader("web").await;
            world.grant_all_but("podium", verb, resource).await;
            if verb == "list" {
                // Only a watch that was lost for good begins with a list.
                proxy.rule(|asked| match asked.is_watch() && asked.path.contains("/pods") {
                    true => Fate::Expire,
                    false => Fate::Forward,
                });
            }
            proxy.cut();
            eventually("the missing right is named", async || {
                let log = controller.log();
                if told(&log) > before { Ok(()) } else { Err(log) }
            })
            .await;
            assert!(controller.log().contains(&format!("{resource} in namespace {}", world.namespace)));
            assert_eq!(world.leader("web").await, leader, "nobody is stripped by a blind controller");
            proxy.heal();
            world.set_ready(&leader.name, false).await;
            world.grant_all("podium", verb, resource).await;
            world.leader_after("web", &leader).await;
            world.set_ready(&leader.name, true).await;
            world.eligible("web", "2/2").await;
        }
    })
    .await;
}

#[test]
fn the_example_grants_what_these_tests_grant_and_nothing_else() {
    let manifests = serde_yaml::Deserializer::from_str(include_str!("../../examples/rbac.yaml"));
    let manifests = manifests.map(|manifest| serde_yaml::Value::deserialize(manifest).expect("a manifest"));
    let role = manifests.into_iter().find(|manifest| manifest["kind"] == "ClusterRole").expect("a ClusterRole");
    let role: ClusterRole = serde_yaml::from_value(role).expect("a ClusterRole");
    let mut granted = BTreeSet::new();
    for rule in role.rules.unwrap_or_default() {
        let (groups, resources) = (rule.api_groups.unwrap_or_default(), rule.resources.unwrap_or_default());
        let named = rule.resource_names.unwrap_or_default().concat();
        for (group, resource) in groups.iter().flat_map(|group| resources.iter().map(move |resource| (group, resource))) {
            let verbs = rule.verbs.iter().map(|verb| (group.clone(), resource.clone(), named.clone(), verb.clone()));
            granted.extend(verbs);
        }
    }
    let owned =
        |group: &str, resource: &str, named: &str, verb: &str| [group, resource, named, verb].map(str::to_owned).into();
    let tested =
        RIGHTS.iter().flat_map(|(group, resource, verbs)| verbs.iter().map(|verb| owned(group, resource, "", verb)));
    // Elsewhere than in a namespace: whether Elections are served at all.
    let served = owned("apiextensions.k8s.io", "customresourcedefinitions", "elections.podium.dev", "get");
    assert_eq!(granted, tested.chain([served]).collect::<BTreeSet<(String, String, String, String)>>());
}
