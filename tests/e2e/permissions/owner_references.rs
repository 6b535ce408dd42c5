//! An API server where changing an object's owners requires permission to delete it, as on OpenShift.

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams, PropagationPolicy};
use podium::api::{Election, custom_resource_definition};
use serde_json::json;

use crate::harness::chart::RIGHTS;
use crate::harness::cluster::OwnCluster;
use crate::harness::scenario::scenario_on;
use crate::harness::{Leader, Scenario};

/// Deletes the Election, orphans its Lease, and re-creates it. Its Lease gets another owner.
async fn make_again(world: &Scenario) {
    let orphan = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    world.api::<Election>().delete("web", &orphan).await.expect("the Election is deleted");
    world.nobody_labeled("leader").await;
    world.election("web").await;
}

/// Cluster-wide permission, required to remove labels of a deleted Election.
async fn see_the_definition(world: &Scenario) {
    let group = "rbac.authorization.k8s.io";
    let rule = json!({ "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"],
        "resourceNames": ["elections.podium.dev"], "verbs": ["get"] });
    let role = json!({ "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": { "name": "definitions" }, "rules": [rule] });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": { "name": "definitions" },
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": "definitions" },
        "subjects": [{ "kind": "ServiceAccount", "name": "podium", "namespace": world.namespace }],
    });
    world.cluster.apply(role).await;
    world.cluster.apply(binding).await;
}

async fn owner_is_the_election(world: &Scenario) {
    let lease = world.api::<Lease>().get("web").await.expect("the Lease is there");
    let election = world.api::<Election>().get("web").await.expect("the Election is there");
    let owners: Vec<&str> = lease.owner_references().iter().map(|owner| owner.uid.as_str()).collect();
    assert_eq!(owners, [election.uid().expect("a UID")]);
}

#[tokio::test]
async fn owner_references_change_where_that_needs_delete_permission() {
    let own = OwnCluster::start_with("OwnerReferencesPermissionEnforcement").await;
    own.cluster.install(custom_resource_definition()).await;
    scenario_on(own.cluster.clone(), async |world| {
        let account = world.account_with("podium", &*RIGHTS).await;
        see_the_definition(world).await;
        let _controller = world.controller_with(&account, &[]);
        let first = world.led().await;
        make_again(world).await;
        let second: Leader = world.leader_after("web", &first).await;
        owner_is_the_election(world).await;

        // Terms of the same Election need no such permission.
        world.grant_all_but("podium", "delete", "leases").await;
        world.set_ready(&second.name, false).await;
        let third = world.leader_after("web", &second).await;
        world.set_ready(&second.name, true).await;
        make_again(world).await;
        let message = world.condition("web", "Stalled", "True", "RequestDenied").await;
        assert!(message.contains("the verb delete on leases"), "{message}");
        world.grant_all("podium", "delete", "leases").await;
        world.leader_after("web", &third).await;
        owner_is_the_election(world).await;
    })
    .await;
    scenario_on(own.cluster.clone(), async |world| {
        let account = world.account_with("podium", &*RIGHTS).await;
        let lease = json!({
            "metadata": { "name": "web", "annotations": { "podium.dev/allow-adoption-by": "web" } }, "spec": { "leaseTransitions": 3 },
        });
        let lease = serde_json::from_value(lease).expect("a Lease");
        world.api::<Lease>().create(&PostParams::default(), &lease).await.expect("the Lease is created");
        let _controller = world.controller_with(&account, &[]);
        world.led().await;
        owner_is_the_election(world).await;
    })
    .await;
}
