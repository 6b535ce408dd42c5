//! Missing prerequisites at startup: the controller names the remedy, and recovers once it is applied.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::Api;
use kube::api::DeleteParams;
use podium::api::custom_resource_definition;
use serde_json::json;

use crate::harness::access::RIGHTS;
use crate::harness::cluster::OwnCluster;
use crate::harness::door::Door;
use crate::harness::scenario::scenario_on;
use crate::harness::{eventually, scenario};

#[tokio::test]
async fn startup_without_an_api_server_is_reported_and_recovers() {
    scenario(async |world| {
        let mut door = Door::closed(&world.cluster.kubeconfig).await;
        let controller = world.controller_with(&door.through(&world.cluster.controllers), &[]);
        controller.says(&["cannot reach the API server", "retrying"]).await;
        world.pods(["web-0", "web-1"]).await;
        world.election("web").await;
        door.open().await;
        world.leader("web").await;
    })
    .await;
}

#[tokio::test]
async fn api_server_restart_keeps_leaders() {
    scenario(async |world| {
        let mut door = Door::closed(&world.cluster.kubeconfig).await;
        door.open().await;
        let controller = world.controller_with(&door.through(&world.cluster.controllers), &[]);
        let leader = world.led().await;
        door.close().await;
        controller.says(&["cannot reach the API server", "retrying"]).await;
        assert_eq!(world.leader("web").await, leader);
        door.open().await;
        world.pods(["web-2"]).await;
        world.eligible("web", 3, 3).await;
        assert_eq!(world.leader("web").await, leader);
        // Missed changes are observed afterwards.
        door.close().await;
        world.force_delete_pod(&leader.name).await;
        door.open().await;
        world.leader_after("web", &leader).await;
    })
    .await;
}

#[tokio::test]
async fn missing_read_permission_is_reported_and_recovers() {
    scenario(async |world| {
        let account = world.account("podium").await;
        world
            .grant(
                "podium",
                &RIGHTS.map(|(group, resource, verbs)| (group, if resource == "pods" { "none" } else { resource }, verbs)),
            )
            .await;
        let controller = world.controller_with(&account, &[]);
        controller.says(&["missing permission", "pods", "get, list and watch on pods", &world.namespace]).await;
        world.pods(["web-0"]).await;
        world.election("web").await;
        world.grant("podium", &*RIGHTS).await;
        world.leader("web").await;
    })
    .await;
}

#[tokio::test]
async fn missing_write_permission_is_reported_and_recovers() {
    scenario(async |world| {
        let account = world.account("podium").await;
        let reading = RIGHTS.map(|(group, resource, _)| (group, resource, ["get", "list", "watch"].as_slice()));
        world.grant("podium", &reading).await;
        let controller = world.controller_with(&account, &[]);
        world.pods(["web-0"]).await;
        world.election("web").await;
        controller.says(&["WARN", "cannot create resource", "leases"]).await;
        world.grant("podium", &*RIGHTS).await;
        world.leader("web").await;
    })
    .await;
}

#[tokio::test]
async fn rejected_write_is_reported_in_the_status_until_allowed() {
    scenario(async |world| {
        let account = world.account("podium").await;
        let reading: &[&str] = &["get", "list", "watch"];
        let without =
            RIGHTS.map(|(group, resource, verbs)| (group, resource, if resource == "pods" { reading } else { verbs }));
        world.grant("podium", &without).await;
        let _controller = world.controller_with(&account, &[]);
        world.pods(["web-0", "web-1"]).await;
        world.election("web").await;
        let message = world.condition("web", "Stalled", "True", "RequestDenied").await;
        assert!(message.contains("cannot patch resource \"pods\""), "{message}");
        world.grant("podium", &*RIGHTS).await;
        world.leader("web").await;
        world.recovered("web").await;
    })
    .await;
}

#[tokio::test]
async fn missing_crd_is_reported_with_its_remedy_and_recovers() {
    let own = OwnCluster::start().await;
    scenario_on(own.cluster.clone(), async |world| {
        let controller = world.controller();
        controller.says(&["the Election resource is not installed", "podium crd | kubectl apply -f -"]).await;
        world.pods(["web-0", "web-1"]).await;
        world.cluster.install(custom_resource_definition()).await;
        world.election("web").await;
        let leader = world.leader("web").await;

        // A removed CRD does not count as deleted Elections: the leader keeps its label.
        let definitions: Api<CustomResourceDefinition> = Api::all(world.cluster.client.clone());
        definitions.delete("elections.podium.dev", &DeleteParams::default()).await.expect("the resource is removed");
        eventually("the controller misses the resource again", async || {
            let log = controller.log();
            if log.matches("the Election resource is not installed").count() > 1 { Ok(()) } else { Err(log) }
        })
        .await;
        let pod = world.api::<Pod>().get(&leader.name).await.expect("the pod is there");
        assert_eq!(pod.metadata.labels.and_then(|labels| labels.get("leader").cloned()).as_deref(), Some("true"));
        world.cluster.install(custom_resource_definition()).await;
        world.election("web").await;
        world.leader_after("web", &leader).await;
    })
    .await;
}

#[tokio::test]
async fn invalid_election_does_not_block_others() {
    let own = OwnCluster::start().await;
    scenario_on(own.cluster.clone(), async |world| {
        world.cluster.install(without_validations(custom_resource_definition())).await;
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        let invalid = [
            ("empty", json!({ "selector": {} }), "InvalidSelector"),
            (
                "operator",
                json!({ "selector": { "matchExpressions": [{ "key": "app", "operator": "In" }] } }),
                "InvalidSelector",
            ),
            ("number", json!({ "selector": { "matchLabels": { "app": 7 } } }), "InvalidSpec"),
            ("nothing", json!({}), "InvalidSpec"),
        ];
        for (name, spec, _) in &invalid {
            let object =
                json!({ "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": { "name": name }, "spec": spec });
            let object = serde_json::from_value(object).expect("an object");
            world.raw_elections().create(&<_>::default(), &object).await.expect("this API server takes anything");
        }
        world.election("web").await;
        let leader = world.leader("web").await;
        for (name, spec, reason) in invalid {
            eventually(&format!("{name} is stalled for {reason}: {spec}"), async || {
                let election = world.raw_elections().get(name).await.map_err(|error| error.to_string())?;
                let status = &election.data["status"];
                let stalled = status["conditions"].as_array().into_iter().flatten().any(|condition| {
                    condition["type"] == "Stalled" && condition["status"] == "True" && condition["reason"] == reason
                });
                stalled.then_some(()).ok_or_else(|| status.to_string())
            })
            .await;
        }
        assert_eq!(world.leader("web").await, leader);
    })
    .await;
}

/// A CRD without validation.
fn without_validations(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let schema = schema.expect("a schema");
        schema.x_kubernetes_validations = None;
        schema.required = None;
        let anything = JSONSchemaProps {
            type_: Some("object".into()),
            x_kubernetes_preserve_unknown_fields: Some(true),
            ..JSONSchemaProps::default()
        };
        schema.properties.as_mut().expect("properties").insert("spec".into(), anything);
    }
    definition
}
