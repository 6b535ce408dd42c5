//! The permissions that the commands need, and errors that name their remedy.

use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::PostParams;
use serde_json::json;

use super::{run, run_as};
use crate::harness::cluster::{OwnCluster, token};
use crate::harness::{Scenario, scenario};

/// The kubeconfig of a user with one of Kubernetes' own roles in the namespace.
async fn user(world: &Scenario, role: &str, verb: &str) -> PathBuf {
    let accounts = world.api::<ServiceAccount>();
    let account = serde_json::from_value(json!({ "metadata": { "name": role } })).expect("an account");
    accounts.create(&PostParams::default(), &account).await.expect("the account is created");
    let binding = json!({
        "metadata": { "name": role },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "kind": "ServiceAccount", "name": role, "namespace": world.namespace }],
    });
    let binding = serde_json::from_value(binding).expect("a binding");
    world.api::<RoleBinding>().create(&PostParams::default(), &binding).await.expect("the binding is created");
    world.until_allowed_with(role, verb, ("podium.dev", "elections", None), true).await;
    let kubeconfig = world.cluster.kubeconfig_of(&token(&accounts, role).await);
    let path = world.kubeconfig(role);
    fs::write(&path, serde_json::to_string(&kubeconfig).expect("a kubeconfig")).expect("a writable directory");
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_with_role_view_may_read_everything() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        world.next_is("web", Some("web-1")).await;
        let viewer = user(world, "view", "list").await;
        let run = |arguments: &[&str]| run_as(world, &viewer, arguments);
        assert!(run(&["status"]).ok().contains("web-0"));
        assert_eq!(run(&["leader", "web"]).ok(), "web-0\n");
        // The role does not include Leases.
        let explained = run(&["explain", "web", "-o", "json"]).json();
        assert_eq!((&explained["leader"], &explained["nextLeader"]), (&json!("web-0"), &json!("web-1")));
        let unknown = explained["unknown"][0].as_str().expect("it says what it cannot read");
        assert!(unknown.starts_with("Leader and term are those of the status: failed to get Lease "), "{unknown}");
        assert!(run(&["status", "web"]).ok().contains("Leader:       web-0\n"));
        assert!(run(&["history", "web"]).ok().contains("web-0"));
        for command in ["switchover", "suspend"] {
            let error = run(&[command, "web"]).failed();
            assert!(error.contains("failed to patch Election ") && error.contains("is forbidden"), "{error}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_with_role_edit_may_change_elections() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        let editor = user(world, "edit", "patch").await;
        run_as(world, &editor, &["switchover", "web", "--to", "web-1", "--wait"]).ok();
        assert_eq!(world.leader("web").await.name, "web-1");
        run_as(world, &editor, &["suspend", "web", "--wait"]).ok();
        run_as(world, &editor, &["resume", "web", "--wait"]).ok();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_name_the_object_and_the_remedy() {
    scenario(async |world| {
        for command in ["status", "explain", "leader", "history", "switchover", "suspend", "resume"] {
            let error = run(world, &[command, "none"]).failed();
            let expected = format!("Election {}/none not found: `kubectl podium status -A` lists all", world.namespace);
            assert!(error.contains(&expected), "{command}: {error}");
        }
        let error = run(world, &["status", "--context", "none"]).failed();
        assert!(error.contains("no context \"none\": `kubectl config get-contexts` lists"), "{error}");
        let error = run(world, &["status", "--kubeconfig", "/none"]).failed();
        assert!(error.contains("the file of --kubeconfig, /none, is unusable"), "{error}");
        let mut kubeconfig = world.cluster.kubeconfig.clone();
        kubeconfig.clusters[0].cluster.as_mut().expect("a cluster").server = Some("https://127.0.0.1:1".into());
        let path = world.kubeconfig("unreachable");
        fs::write(&path, serde_json::to_string(&kubeconfig).expect("a kubeconfig")).expect("a writable directory");
        let error = run_as(world, &path, &["status"]).failed();
        assert!(error.contains("Connection refused") && error.ends_with("--context and the network"), "{error}");
        assert_eq!(run(world, &["status", "web", "--all-namespaces"]).code, Some(2), "a usage error");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_without_the_resource_is_told_from_a_missing_election() {
    let own = OwnCluster::start().await;
    crate::harness::scenario::scenario_on(own.cluster.clone(), async |world| {
        for arguments in [&["status"][..], &["status", "web"], &["leader", "web"], &["suspend", "web"]] {
            let error = run(world, arguments).failed();
            assert!(error.contains("the Election resource is not installed in this cluster"), "{error}");
        }
    })
    .await;
}
