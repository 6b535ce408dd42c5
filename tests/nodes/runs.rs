//! Pods that run on real nodes or on fake ones.

use std::collections::BTreeSet;
use std::process::Command;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::harness::cluster::succeed;
use crate::harness::pods::{node, restarts};
use crate::harness::waiting::eventually_within;
use crate::harness::{World, eventually, world};

#[tokio::test]
async fn both_real_nodes_run_pods_and_the_fake_one_gets_none() {
    world(async |world| {
        let nodes: Api<Node> = Api::all(world.client.clone());
        let fake = nodes.list(&ListParams::default().labels("type=kwok")).await.expect("nodes");
        assert_eq!(fake.items.len(), 1, "there is a fake node that pods could be on");
        let pods = world.deploy_web(6).await;
        let used: BTreeSet<String> = pods.iter().map(node).collect();
        assert_eq!(used, BTreeSet::from(["real-1".into(), "real-2".into()]));
    })
    .await;
}

#[tokio::test]
async fn pods_that_want_a_fake_node_get_it() {
    world(async |world| {
        world
            .create::<Pod>(json!({ "metadata": { "name": "fake" }, "spec": {
                "nodeSelector": { "type": "kwok" },
                "tolerations": [{ "key": "kwok.x-k8s.io/node", "operator": "Exists" }],
                "containers": [{ "name": "main", "image": "no-such-image" }],
            }}))
            .await;
        let pod = world.pod_is("fake", "True").await;
        assert!(node(&pod).starts_with("node-"), "{}", node(&pod));
    })
    .await;
}

#[tokio::test]
async fn a_container_whose_process_is_killed_starts_again() {
    world(async |world| {
        let [pod] = world.deploy_web(1).await.try_into().expect("one pod");
        world.signal(&pod, "SIGKILL").await;
        eventually("the container was restarted", async || {
            let pod = world.api::<Pod>().get(&pod.name_any()).await.map_err(|error| error.to_string())?;
            if restarts(&pod) == 1 { Ok(()) } else { Err(format!("{:?}", pod.status)) }
        })
        .await;
        world.pod_is(&pod.name_any(), "True").await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_reaches_the_api_server_with_its_own_token() {
    world(async |world| {
        let url = "https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/apis/authentication.k8s.io/v1";
        once(world, "asks", &["get", url]).await;
        let said = world.log("asks").await;
        let found: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!(found["groupVersion"], "authentication.k8s.io/v1");
    })
    .await;
}

#[tokio::test]
async fn an_annotation_becomes_a_file_of_the_pod() {
    world(async |world| {
        world
            .create::<Pod>(json!({
                "metadata": { "name": "reads", "annotations": { "leader": "no" } },
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "volumes": [{ "name": "podium", "downwardAPI": {
                        "items": [{ "path": "leader", "fieldRef": { "fieldPath": "metadata.annotations['leader']" } }],
                    }}],
                    "containers": [{
                        "name": "main",
                        "image": "localhost/web:test",
                        "args": ["watch", "/podium/leader"],
                        "volumeMounts": [{ "name": "podium", "mountPath": "/podium" }],
                    }],
                },
            }))
            .await;
        world.pod_is("reads", "True").await;
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { "leader": "yes" } } }));
        world.api::<Pod>().patch("reads", &PatchParams::default(), &patch).await.expect("the pod is patched");
        // The kubelet checks about once a minute.
        let patience = std::time::Duration::from_secs(180);
        eventually_within(patience, "the file says so", async || {
            let log = world.log("reads").await;
            let seen: Vec<&str> = log.lines().filter_map(|line| line.split_once(' ').map(|(_, rest)| rest)).collect();
            if seen == [r#"/podium/leader "no""#, r#"/podium/leader "yes""#] { Ok(()) } else { Err(log.clone()) }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn an_image_that_is_loaded_is_there_on_every_node() {
    world(async |world| {
        let tag = format!("localhost/{}:test", world.namespace);
        let state = world.cluster.state();
        let archive = std::env::temp_dir().join(format!("{}.tar", world.namespace));
        let mut make = Command::new(state.join("bin/archive"));
        make.arg(&archive).arg(&tag).arg("/other").arg(format!("{}=other", state.join("bin/web").display()));
        succeed(make).await;
        world.cluster.node(&["load", archive.to_str().expect("a path")]).await;
        std::fs::remove_file(&archive).expect("it is there");
        for node in ["real-1", "real-2"] {
            world
                .create::<Pod>(json!({ "metadata": { "name": node }, "spec": {
                    "nodeName": node,
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{ "name": "main", "image": tag, "imagePullPolicy": "Never", "args": ["serve"] }],
                }}))
                .await;
        }
        for node in ["real-1", "real-2"] {
            world.pod_is(node, "True").await;
        }
    })
    .await;
}

#[tokio::test]
async fn shell_image_runs_shell_scripts() {
    world(async |world| {
        once(world, "shell", &["-c", "echo $(( 6 * 7 )) > /tmp/answer && sed s/4/four/ /tmp/answer"]).await;
        assert_eq!(world.log("shell").await, "four2\n");
    })
    .await;
}

/// Runs a pod until it succeeds.
async fn once(world: &World, name: &str, arguments: &[&str]) {
    let image = if name == "shell" { "localhost/shell:test" } else { "localhost/web:test" };
    world
        .create::<Pod>(json!({ "metadata": { "name": name }, "spec": {
            "restartPolicy": "Never",
            "containers": [{ "name": "main", "image": image, "args": arguments }],
        }}))
        .await;
    eventually(&format!("{name} succeeds"), async || {
        let pod = world.api::<Pod>().get(name).await.map_err(|error| error.to_string())?;
        let status = pod.status.unwrap_or_default();
        assert_ne!(status.phase.as_deref(), Some("Failed"), "{}", world.log(name).await);
        if status.phase.as_deref() == Some("Succeeded") { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}
