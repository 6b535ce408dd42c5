//! An API server behind a proxy.

use std::process::Command;

use kube::config::Kubeconfig;
use podium_test_support::tunnels::proxy;

use crate::harness::{Scenario, eventually, scenario};

/// The kubeconfig with this proxy.
fn through(kubeconfig: &Kubeconfig, proxy: String) -> Kubeconfig {
    let mut kubeconfig = kubeconfig.clone();
    kubeconfig.clusters[0].cluster.as_mut().expect("a cluster").proxy_url = Some(proxy);
    kubeconfig
}

async fn every_command_goes_through(world: &Scenario, scheme: &str) {
    let (address, asked) = proxy(None).await;
    let kubeconfig = through(&world.cluster.kubeconfig, format!("{scheme}://{address}"));
    let server = kubeconfig.clusters[0].cluster.as_ref().and_then(|cluster| cluster.server.clone()).expect("a server");
    let target = server.trim_start_matches("https://").trim_end_matches('/').to_owned();
    let went = || {
        let went = std::mem::take(&mut *asked.lock().expect("no panic"));
        assert!(went.iter().all(|asked| *asked == target), "{went:?}");
        went.len()
    };
    let controller = world.controller_with(&kubeconfig, &[]);
    controller.elects().await;
    let leader = world.led().await;
    assert!(went() > 0, "the controller");
    let sidecar = world.follower("web-1", &kubeconfig).start().await;
    sidecar.names(&leader.name).await;
    assert!(went() > 0, "the sidecar");
    let (status, out, log) = world
        .sidecar("web-2", &kubeconfig)
        .arguments(&["run", "--mode=campaign", "--election=work", "--", "true"])
        .variable("POD_NAMESPACE", &world.namespace)
        .without("PODIUM_HTTP")
        .without("PODIUM_FILE")
        .end()
        .await;
    assert!(status.success(), "{out} {log}");
    assert!(went() > 0, "run");
    drop(controller);
    let path = world.kubeconfig(scheme);
    std::fs::write(&path, serde_json::to_string(&kubeconfig).expect("a kubeconfig")).expect("a writable directory");
    let mut cleanup = Command::new(env!("CARGO_BIN_EXE_podium"));
    cleanup.args(["cleanup", "--dry-run", "--namespaces", &world.namespace]).env_clear().env("KUBECONFIG", path);
    let mut cleanup = cleanup.spawn().expect("podium runs");
    let status =
        eventually("it ends", async || cleanup.try_wait().expect("our own child").ok_or_else(|| "it runs".to_owned())).await;
    assert!(status.success(), "{status}");
    assert!(went() > 0, "cleanup");
}

#[tokio::test]
async fn every_command_goes_through_an_http_proxy() {
    scenario(async |world| every_command_goes_through(world, "http").await).await;
}

#[tokio::test]
async fn every_command_goes_through_a_socks5_proxy() {
    scenario(async |world| every_command_goes_through(world, "socks5").await).await;
}
