//! The sidecar next to a real application, from the same image.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::harness::install::TAG;
use crate::harness::pods::{get, ip, web};
use crate::harness::{World, eventually, world};

#[tokio::test]
async fn every_sidecar_names_the_leader_that_the_controller_elected() {
    world(async |world| {
        world.install_podium().await;
        world.create::<ServiceAccount>(json!({ "metadata": { "name": "web" } })).await;
        world.allow_sidecar("web", "web", "follow").await;
        let mut template = web();
        template["spec"]["serviceAccountName"] = "web".into();
        let containers = template["spec"]["containers"].as_array_mut().expect("containers");
        containers.push(sidecar(&["sidecar", "--election=web", "--http=:4040"]));
        let spec = json!({ "replicas": 3, "selector": { "matchLabels": { "app": "web" } }, "template": template });
        world.create::<Deployment>(json!({ "metadata": { "name": "web" }, "spec": spec })).await;
        world.all_ready("app=web", 3).await;
        let leads = world.record_leads().await;
        world.elect("web", json!({ "matchLabels": { "app": "web" } })).await;
        let first = leads.leader("somebody", |_| true).await;
        agree(world, &first).await;
        let mut clients = Vec::new();
        for pod in world.all_ready("app=web", 3).await.iter().filter(|pod| pod.name_any() != first) {
            let url = format!("http://{}:4040/", ip(pod));
            clients.push(world.poll(&format!("client-{}", pod.name_any()), "real-1", &url).await);
        }
        world.api::<Pod>().delete(&first, &DeleteParams::default()).await.expect("it is deleted");
        let second = leads.leader("another", |pod| pod != first).await;
        let labeled = leads.all().last().expect("a leader").since;
        let named = Ok(format!("{{\"name\":\"{second}\"}}"));
        for client in &clients {
            let answers = client.lately(20, &format!("name {second}"), |answer| answer.from == named).await;
            let first = answers.iter().find(|answer| answer.from == named).expect("there are 20");
            println!("FIGURE sidecar: it names the new leader {:.0} ms after the label", first.known - labeled);
        }
        agree(world, &second).await;
    })
    .await;
}

/// The sidecar container, under the restricted profile.
fn sidecar(arguments: &[&str]) -> Value {
    json!({
        "name": "podium",
        "image": TAG,
        "args": arguments,
        "env": [
            { "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            { "name": "POD_UID", "valueFrom": { "fieldRef": { "fieldPath": "metadata.uid" } } },
        ],
        "securityContext": {
            "runAsNonRoot": true,
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "seccompProfile": { "type": "RuntimeDefault" },
        },
    })
}

/// Waits until every sidecar names this leader, and only the leader's own claims to lead.
async fn agree(world: &World, leader: &str) {
    eventually(&format!("all sidecars name {leader}"), async || {
        let pods = world.all_ready("app=web", 3).await;
        let mut said = BTreeMap::new();
        for pod in &pods {
            let address = format!("{}:4040", ip(pod));
            let name = get(&address, "/").await?;
            let leads = get(&address, "/leader").await?.0;
            let expected = if pod.name_any() == leader { 200 } else { 503 };
            let right = name == (200, format!("{{\"name\":\"{leader}\"}}")) && leads == expected;
            said.insert(pod.name_any(), (name, leads, right));
        }
        if said.values().all(|(.., right)| *right) { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
}
