//! Deletion of Elections and Leases with finalizers or propagation policies, and restore from a backup.

use std::fmt::Debug;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use podium::api::{Election, custom_resource_definition};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::harness::cluster::OwnCluster;
use crate::harness::proxy::{Fate, Proxy};
use crate::harness::scenario::scenario_on;
use crate::harness::{Scenario, eventually, scenario};

const HELD: &str = "e2e.example/hold";

async fn set_finalizers<K>(world: &Scenario, name: &str, finalizers: Value)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let patch = Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    world.api::<K>().patch(name, &PatchParams::default(), &patch).await.expect("the finalizers are set");
}

#[tokio::test]
async fn terminating_election_is_left_unchanged_until_it_is_gone() {
    scenario(async |world| {
        let _controller = world.controller();
        let leader = world.led().await;
        set_finalizers::<Election>(world, "web", json!([HELD])).await;
        world.delete_election("web").await;
        world.serve_another("another").await;
        let labeled = async || {
            let pods = world.api::<Pod>().list(&ListParams::default().labels("app=web,leader=true")).await;
            pods.expect("pods can be listed").iter().map(ResourceExt::name_any).collect::<Vec<_>>()
        };
        assert_eq!(labeled().await, ["web-0"], "it leads until the Election is gone");

        // No new term: a Kubernetes workload does not replace an object that is being deleted, either.
        let before = world.api::<Lease>().get("web").await.expect("the Lease is there");
        assert_eq!(before.annotations().get("podium.dev/term"), Some(&leader.term.to_string()));
        world.set_ready("web-0", false).await;
        world.serve_another("third").await;
        let after = world.api::<Lease>().get("web").await.expect("the Lease is there");
        assert_eq!(after.resource_version(), before.resource_version());
        assert_eq!(labeled().await, ["web-0"]);

        set_finalizers::<Election>(world, "web", json!(null)).await;
        world.lease_is_gone("web").await;
        eventually("the label is gone", async || {
            let pod = world.api::<Pod>().get("web-0").await.map_err(|error| error.to_string())?;
            if pod.labels().contains_key("leader") { Err(format!("{:?}", pod.labels())) } else { Ok(()) }
        })
        .await;
        world.election("web").await;
        let next = world.leader_after("web", &leader).await;
        assert_eq!(next.name, "web-1");
    })
    .await;
}

#[tokio::test]
async fn recreated_election_has_a_higher_term_for_every_propagation_policy() {
    scenario(async |world| {
        let _controller = world.controller();
        let mut former = world.led().await;
        for policy in [PropagationPolicy::Orphan, PropagationPolicy::Foreground, PropagationPolicy::Background] {
            let lease = world.api::<Lease>().get("web").await.expect("the Lease is there");
            let how = DeleteParams { propagation_policy: Some(policy.clone()), ..DeleteParams::default() };
            world.api::<Election>().delete("web", &how).await.expect("the Election is deleted");
            let pods = world.nobody_labeled("leader").await;
            let claim = pods.iter().find(|pod| pod.uid().as_ref() == Some(&former.uid)).map(|pod| pod.annotations().clone());
            let claim = claim.and_then(|annotations| annotations.get("term.podium.dev/web").cloned());
            assert_eq!(claim, Some(former.term.to_string()), "the term is the fence");
            if policy == PropagationPolicy::Orphan {
                let orphan = world.api::<Lease>().get("web").await.expect("the Lease is an orphan");
                assert_eq!(orphan.uid(), lease.uid());
            } else {
                world.lease_is_gone("web").await;
            }
            world.election("web").await;
            let leader = world.leader_after("web", &former).await;
            assert_eq!(leader.uid, former.uid, "{policy:?}");
            former = leader;
        }
    })
    .await;
}

#[tokio::test]
async fn terminating_lease_serves_until_it_is_gone() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        set_finalizers::<Lease>(world, "web", json!([HELD])).await;
        world.delete_election("web").await;
        eventually("the Lease is going away", async || {
            let lease = world.api::<Lease>().get("web").await.map_err(|error| error.to_string())?;
            lease.metadata.deletion_timestamp.map(drop).ok_or_else(|| "it is not".into())
        })
        .await;
        world.nobody_labeled("leader").await;
        let writes = world.writes().await;
        world.election("web").await;
        let second = world.leader_after("web", &first).await;
        writes.quiet().await;
        assert!(writes.of("Lease web") <= 2, "it is emptied and filled: {:?}", writes.counts());
        assert_eq!(world.leader("web").await, second);

        writes.forget();
        set_finalizers::<Lease>(world, "web", json!(null)).await;
        let third = world.leader_after("web", &second).await;
        assert_eq!((&third.uid, third.transitions), (&second.uid, second.transitions), "the leader did not change");
        writes.quiet().await;
        assert!(writes.of("Lease web") <= 4, "removed twice over, created and filled: {:?}", writes.counts());
    })
    .await;
}

/// The object as in a backup, without fields that only the server sets.
fn backup<K: ResourceExt + Clone>(object: &K) -> K {
    let mut object = object.clone();
    let metadata = object.meta_mut();
    metadata.resource_version = None;
    metadata.managed_fields = None;
    metadata.creation_timestamp = None;
    object
}

#[tokio::test]
async fn election_restored_from_a_backup_continues_with_a_higher_term() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        let saved = backup(&world.api::<Election>().get("web").await.expect("the Election is there"));
        // Two changes after the backup.
        world.set_ready("web-0", false).await;
        let second = world.leader_is("web", "web-1").await;
        world.set_ready("web-0", true).await;
        assert_eq!(saved.status.as_ref().and_then(|status| status.term), Some(first.term));

        world.delete_election("web").await;
        world.api::<Election>().create(&PostParams::default(), &saved).await.expect("the Election is restored");
        let status = Patch::Merge(json!({ "status": saved.status }));
        let restored = world.api::<Election>().patch_status("web", &PatchParams::default(), &status).await;
        assert_ne!(restored.expect("the status is restored").uid(), saved.uid(), "the server gives it a new UID");
        world.leader_after("web", &second).await;
    })
    .await;
}

#[tokio::test]
async fn a_lease_restored_with_a_former_owner_gives_way_to_a_higher_term() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        let saved = backup(&world.api::<Lease>().get("web").await.expect("the Lease is there"));
        world.delete_election("web").await;
        world.lease_is_gone("web").await;
        world.nobody_labeled("leader").await;
        // Its owner is gone, so the garbage collector may delete it at any time.
        let restored = world.api::<Lease>().create(&PostParams::default(), &saved).await.expect("the Lease is restored");
        world.forged(&restored);
        world.election("web").await;
        let second = world.leader_after("web", &first).await;
        let writes = world.writes().await;
        writes.quiet().await;
        let settled = world.leader("web").await;
        assert!(settled.term >= second.term && settled.uid == second.uid);
        let lease = world.api::<Lease>().get("web").await.expect("the Lease is there");
        let owners: Vec<_> = lease.owner_references().iter().map(|owner| owner.uid.clone()).collect();
        let election = world.api::<Election>().get("web").await.expect("the Election is there");
        assert_eq!(owners, [election.uid().expect("a UID")], "nobody collects it any more");
    })
    .await;
}

#[tokio::test]
async fn removed_crd_and_deleted_namespace_remove_only_their_own_objects() {
    let own = OwnCluster::start().await;
    own.cluster.install(custom_resource_definition()).await;
    scenario_on(own.cluster.clone(), async |world| {
        let controller = world.controller_of_the_cluster();
        let leader = world.led().await;
        delete_a_namespace(world).await;
        assert_eq!(world.leader("web").await, leader, "other namespaces are unaffected");
        for trouble in ["ERROR", "WARN"] {
            assert!(!controller.log().contains(trouble), "nothing needs a person");
        }
        remove_and_install_the_resource(world).await;
        world.election("web").await;
        world.leader_after("web", &leader).await;
    })
    .await;
}

/// Creates a namespace with an Election and a leader, and deletes it.
async fn delete_a_namespace(world: &Scenario) {
    let namespaces: Api<Namespace> = Api::all(world.cluster.client.clone());
    scenario_on(world.cluster.clone(), async |other| {
        other.led().await;
        // The history ends here: a terminating namespace accepts no end marker.
        other.abandon();
        namespaces.delete(&other.namespace, &DeleteParams::default()).await.expect("the namespace is deleted");
        eventually("the namespace is gone", async || match namespaces.get_opt(&other.namespace).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    })
    .await;
    world.serve_another("another").await;
}

/// Without the CRD, labels stay. Once it is back, its Elections are known to be deleted.
async fn remove_and_install_the_resource(world: &Scenario) {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.cluster.client.clone());
    definitions.delete("elections.podium.dev", &DeleteParams::default()).await.expect("the resource is removed");
    eventually("the resource is gone", async || match definitions.get_opt("elections.podium.dev").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    world.cluster.install(custom_resource_definition()).await;
    world.nobody_labeled("leader").await;
}

#[tokio::test]
async fn late_label_after_the_election_was_recreated_is_rejected() {
    scenario(async |world| {
        let selects = |app: &str| json!({ "selector": { "matchLabels": { "app": app } } });
        world.pod("old-0", json!({ "labels": { "app": "old" } })).await;
        world.pod("new-0", json!({ "labels": { "app": "new" } })).await;
        let proxy = Proxy::to(&world.cluster.controllers).await;
        let mut elected = false;
        // The label follows the compare-and-swap; the claim precedes it.
        proxy.rule(move |asked| {
            elected |= asked.method == "PUT" && asked.writes("leases/web");
            if elected && asked.writes("pods/old-0") { Fate::Hold } else { Fate::Forward }
        });
        let paused = world.controller_with(&proxy.kubeconfig(), &["--leader-elect=false"]);
        world.election_with("web", selects("old")).await;
        eventually("the label of old-0 is under way", async || {
            let held = proxy.asked(|asked| asked.fate == Fate::Hold);
            if held.is_empty() { Err(String::from("not yet")) } else { Ok(()) }
        })
        .await;
        paused.signal("STOP");
        world.delete_election("web").await;
        world.lease_is_gone("web").await;
        let _controller = world.controller_with(&world.cluster.controllers, &["--leader-elect=false"]);
        world.election_with("web", selects("new")).await;
        let leader = world.leader_is("web", "new-0").await;
        proxy.heal();
        proxy.let_go();
        paused.signal("CONT");
        paused.says(&["a write was not acknowledged", "old-0"]).await;
        assert_eq!(world.leader("web").await, leader);
    })
    .await;
}
