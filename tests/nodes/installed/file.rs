//! Leadership as a file, without a sidecar: `examples/leadership-file.yaml`.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;

use crate::harness::install::example;
use crate::harness::world;

#[tokio::test]
async fn the_label_becomes_a_file_in_the_leaders_pod() {
    world(async |world| {
        world.install_podium().await;
        let leads = world.record_leads().await;
        // In the example, the application is a shell loop; here it is a program that reports changes of the files.
        let (before, rest) = example("leadership-file.yaml").split_once("          command:").map(own).expect("a command");
        let (_, after) = rest.split_once("          volumeMounts:").map(own).expect("what follows on it");
        let told = "          image: localhost/web:test\n          args: [watch, /etc/podium/leader, /etc/podium/term]\n";
        let before = before.replace("          image: busybox:1\n", told);
        world.apply(&format!("{before}          volumeMounts:{after}")).await;
        let pods = world.all_ready("app=worker", 2).await;
        let first = leads.leader("somebody", |_| true).await;
        let got = seen(world, &first, "/etc/podium/leader \"true\"").await;
        let began = leads.all()[0].since;
        println!("FIGURE file: {:.0} ms after the label, on a new leader that runs for some time", got - began);
        seen(world, &first, "/etc/podium/term \"").await;
        world.api::<Pod>().delete(&first, &DeleteParams::default()).await.expect("it is deleted");
        let second = leads.leader("another", |pod| pod != first).await;
        assert!(pods.iter().any(|pod| pod.name_any() == second) || second != first);
        let got = seen(world, &second, "/etc/podium/leader \"true\"").await;
        println!("FIGURE file: {:.0} ms after the label, on the next leader", got - leads.all()[1].since);
    })
    .await;
}

fn own((one, other): (&str, &str)) -> (String, String) {
    (one.into(), other.into())
}

/// Waits until the pod has seen this in a file. Returns the time, in milliseconds since 1970.
async fn seen(world: &crate::harness::World, pod: &str, what: &str) -> f64 {
    // The kubelet syncs at least once in 90 s.
    let patience = std::time::Duration::from_secs(180);
    crate::harness::waiting::eventually_within(patience, &format!("{pod} sees {what}"), async || {
        let log = world.log(pod).await;
        let line = log.lines().rev().find(|line| line.contains(what)).ok_or_else(|| log.clone())?;
        line.split(' ').next().and_then(|time| time.parse().ok()).ok_or_else(|| log.clone())
    })
    .await
}
