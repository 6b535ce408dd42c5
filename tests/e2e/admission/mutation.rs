//! Mutating admission that changes the controller's writes but answers with success: only the returned object counts.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::scenario::{Scenario, scenario};

const GROUP: &str = "admissionregistration.k8s.io";

/// Returns whether the API server has mutating admission policies (Kubernetes 1.36).
async fn has_mutations(client: &Client) -> bool {
    let resources = client.list_api_group_resources(&format!("{GROUP}/v1")).await.expect("the API group");
    resources.resources.iter().any(|resource| resource.name == "mutatingadmissionpolicies")
}

/// A mutation of one resource of the test's namespace, in force.
struct Mutation<'a> {
    world: &'a Scenario,
    name: String,
}

impl<'a> Mutation<'a> {
    async fn apply(world: &'a Scenario, (group, resource): (&str, &str), condition: &str, change: &str) -> Self {
        let name = format!("altered-{}", world.namespace);
        let version = format!("{GROUP}/v1");
        let rule = json!({ "apiGroups": [group], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": [resource] });
        let own = json!({ "matchLabels": { "kubernetes.io/metadata.name": world.namespace } });
        let policy = json!({
            "apiVersion": version, "kind": "MutatingAdmissionPolicy", "metadata": { "name": name },
            "spec": {
                "matchConstraints": { "resourceRules": [rule], "namespaceSelector": own },
                "matchConditions": [{ "name": "concerned", "expression": condition }],
                "failurePolicy": "Fail", "reinvocationPolicy": "Never",
                "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": change } }],
            },
        });
        let binding = json!({
            "apiVersion": version, "kind": "MutatingAdmissionPolicyBinding", "metadata": { "name": name },
            "spec": { "policyName": name },
        });
        world.cluster.apply(policy).await;
        world.cluster.apply(binding).await;
        Self { world, name }
    }

    /// Waits until the policy leaves the label `leader` of `probe`, a pod of no Election, like this after the change.
    async fn in_force(&self, set: [Value; 2], left: Option<&str>) {
        eventually("the policy is in force", async || {
            for value in &set {
                self.world.patch_pod("probe", json!({ "labels": { "leader": value } })).await;
            }
            let pod = self.world.api::<Pod>().get("probe").await.map_err(|error| error.to_string())?;
            let label = pod.labels().get("leader").map(String::as_str);
            if label == left { Ok(()) } else { Err(format!("{label:?}")) }
        })
        .await;
    }

    async fn remove(self) {
        for kind in ["MutatingAdmissionPolicyBinding", "MutatingAdmissionPolicy"] {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", kind));
            let api: Api<DynamicObject> = Api::all_with(self.world.cluster.client.clone(), &resource);
            api.delete(&self.name, &DeleteParams::default()).await.expect("it is deleted");
        }
    }
}

async fn labeled(world: &Scenario) -> Vec<String> {
    let pods = world.api::<Pod>().list(&ListParams::default().labels("leader=true")).await.expect("a list");
    pods.into_iter().map(|pod| pod.name_any()).collect()
}

#[tokio::test]
async fn no_second_pod_is_labeled_while_a_policy_restores_the_former_label() {
    scenario(async |world| {
        if !has_mutations(&world.cluster.client).await {
            eprintln!("skipped: this API server has no MutatingAdmissionPolicy");
            return;
        }
        // The policy labels a pod with another pod's term. The checker would blame Podium.
        world.abandon();
        let _controller = world.controller();
        let former = world.led().await;
        world.pod("probe", json!({ "labels": { "app": "probe" } })).await;
        let lost =
            "'leader' in oldObject.metadata.?labels.orValue({}) && !('leader' in object.metadata.?labels.orValue({}))";
        let restore = "[JSONPatch{op: 'add', path: '/metadata/labels/leader', value: oldObject.metadata.labels['leader']}]";
        let policy = Mutation::apply(world, ("", "pods"), lost, restore).await;
        policy.in_force([json!("probe"), json!(null)], Some("probe")).await;
        world.set_ready(&former.name, false).await;
        let message = world.condition("web", "Stalled", "True", "RequestDenied").await;
        assert!(message.contains("label leader is true instead of absent"), "{message}");
        world.condition("web", "Ready", "False", "RequestDenied").await;
        assert_eq!(labeled(world).await, std::slice::from_ref(&former.name));
        policy.remove().await;
        let next = world.leader_after("web", &former).await;
        assert_eq!(labeled(world).await, [next.name]);
        world.recovered("web").await;
    })
    .await;
}

#[tokio::test]
async fn an_election_is_not_ready_while_a_policy_drops_the_leaders_label() {
    scenario(async |world| {
        if !has_mutations(&world.cluster.client).await {
            eprintln!("skipped: this API server has no MutatingAdmissionPolicy");
            return;
        }
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        world.pod("probe", json!({ "labels": { "app": "probe" } })).await;
        let labeled = "'leader' in object.metadata.?labels.orValue({})";
        let drop = "[JSONPatch{op: 'remove', path: '/metadata/labels/leader'}]";
        let policy = Mutation::apply(world, ("", "pods"), labeled, drop).await;
        policy.in_force([json!(null), json!("probe")], None).await;
        world.election("web").await;
        let message = world.condition("web", "Stalled", "True", "RequestDenied").await;
        assert!(message.contains("label leader is absent instead of true"), "{message}");
        world.condition("web", "Ready", "False", "RequestDenied").await;
        policy.remove().await;
        world.leader("web").await;
        world.recovered("web").await;
    })
    .await;
}

#[tokio::test]
async fn lease_stripped_of_its_term_by_a_policy_elects_no_pod() {
    scenario(async |world| {
        if !has_mutations(&world.cluster.client).await {
            eprintln!("skipped: this API server has no MutatingAdmissionPolicy");
            return;
        }
        let _controller = world.controller();
        let former = world.led().await;
        let named = "'podium.dev/unfenced' in object.metadata.?annotations.orValue({})";
        let strip = "[JSONPatch{op: 'remove', path: '/metadata/annotations/' + jsonpatch.escapeKey('podium.dev/unfenced')}]";
        let policy = Mutation::apply(world, ("coordination.k8s.io", "leases"), named, strip).await;
        eventually("the policy is in force", async || {
            world.forge_lease("web", json!({ "metadata": { "annotations": { "example.com/probe": "1" } } })).await;
            let lease = world.api::<k8s_openapi::api::coordination::v1::Lease>().get("web").await;
            let lease = lease.map_err(|error| error.to_string())?;
            if lease.annotations().contains_key("podium.dev/unfenced") { Err("not yet".into()) } else { Ok(()) }
        })
        .await;
        let message = world.condition("web", "Stalled", "True", "RequestDenied").await;
        assert!(message.contains("annotation podium.dev/unfenced is absent"), "{message}");
        policy.remove().await;
        world.leader_after("web", &former).await;
        world.recovered("web").await;
    })
    .await;
}
