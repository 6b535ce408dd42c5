//! The two tutorials of `examples/`, with real pods.

use std::path::PathBuf;
use std::process::Command;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, LogParams};
use kube::{Api, ResourceExt};

use crate::harness::cluster::succeed;
use crate::harness::pods::{get, ip};
use crate::harness::{World, eventually, world};

#[tokio::test]
async fn page_of_the_old_sidecar_follows_the_leader() {
    let Some(node) = program("node") else {
        println!("SKIPPED: the page needs node, which is not in PATH");
        return;
    };
    world(async |world| {
        world.install_podium().await;
        image(world, "docker.io/library/node:20", &[node]).await;
        // The lock is in the namespace `default` unless configured, and so are its permissions.
        let world = &world.at("default");
        run_example(world, "nodejs-page", "page").await;
        let pods = world.all_ready("app=page", 3).await;
        let first = masters(world, "").await;
        assert!(pods.iter().any(|pod| pod.name_any() == first), "{first}");
        world.api::<Pod>().delete(&first, &DeleteParams::default()).await.expect("it is deleted");
        let second = masters(world, &first).await;
        assert_ne!(second, first);
        forget_example(world, "nodejs-page", "page").await;
    })
    .await;
}

/// Waits until all pages show one master, other than `not`.
async fn masters(world: &World, not: &str) -> String {
    eventually("all pages tell of one master", async || {
        let pods = world.all_ready("app=page", 3).await;
        let mut told = Vec::new();
        for pod in &pods {
            told.push(get(&format!("{}:8080", ip(pod)), "/").await?.1);
        }
        let master = told[0].strip_prefix("Master is ").unwrap_or_default().to_owned();
        let one = told.iter().all(|line| *line == told[0]) && pods.iter().any(|pod| pod.name_any() == master);
        if one && master != not { Ok(master) } else { Err(format!("{told:?}")) }
    })
    .await
}

#[tokio::test]
async fn loop_that_reads_the_file_runs_on_the_leader_only() {
    let Some(bash) = program("bash") else {
        println!("SKIPPED: the loop needs bash, which is not in PATH");
        return;
    };
    world(async |world| {
        world.install_podium().await;
        image(
            world,
            "docker.io/library/bash:5",
            &[bash, program("cat").expect("a shell's"), program("sleep").expect("a shell's")],
        )
        .await;
        run_example(world, "bash-loop", "loop").await;
        world.all_ready("app=loop", 3).await;
        let first = leading(world, "").await;
        world.api::<Pod>().delete(&first, &DeleteParams::default()).await.expect("it is deleted");
        leading(world, &first).await;
    })
    .await;
}

/// Waits until exactly one loop leads, with its own pod's name, other than `not`.
async fn leading(world: &World, not: &str) -> String {
    eventually("exactly one loop leads", async || {
        let mut said = Vec::new();
        for pod in world.all_ready("app=loop", 3).await {
            let how = LogParams { container: Some("loop".into()), tail_lines: Some(1), ..LogParams::default() };
            let log = world.api::<Pod>().logs(&pod.name_any(), &how).await.map_err(|error| error.to_string())?;
            said.push((pod.name_any(), log.trim().to_owned()));
        }
        let leads: Vec<_> = said.iter().filter(|(name, log)| *log == format!("leading: {name}")).collect();
        let others = said.iter().filter(|(_, log)| log == "not leading").count();
        match leads[..] {
            [(name, _)] if others == 2 && name != not => Ok(name.clone()),
            _ => Err(format!("{said:?}")),
        }
    })
    .await
}

/// Follows the comment at the top of the example.
async fn run_example(world: &World, example: &str, name: &str) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    let script = std::fs::read_dir(&directory).expect("the example").flatten().map(|entry| entry.path());
    let script =
        script.into_iter().find(|path| path.extension().is_none_or(|extension| extension != "yaml")).expect("a script");
    world.kubectl(&["create", "configmap", name, &format!("--from-file={}", script.display())]).await;
    world.kubectl(&["apply", "--filename", directory.join(format!("{name}.yaml")).to_str().expect("a path")]).await;
}

async fn forget_example(world: &World, example: &str, name: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(example).join(format!("{name}.yaml"));
    world.kubectl(&["delete", "--filename", file.to_str().expect("a path")]).await;
    world.kubectl(&["delete", "configmap", name]).await;
    let pods: Api<Pod> = world.api();
    eventually("its pods are gone", async || {
        let left = pods.list_metadata(&ListParams::default().labels(&format!("app={name}"))).await;
        let left = left.map_err(|error| error.to_string())?.items.len();
        if left == 0 { Ok(()) } else { Err(format!("{left}")) }
    })
    .await;
}

/// Path of the program.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())?;
    found.canonicalize().ok()
}

/// Loads an image onto the nodes, made of this machine's programs and their libraries.
async fn image(world: &World, tag: &str, programs: &[PathBuf]) {
    let mut files: Vec<String> = Vec::new();
    for program in programs {
        let name = program.file_name().expect("a program").to_string_lossy();
        files.push(format!("{}=bin/{name}", program.display()));
        let mut ldd = Command::new("ldd");
        ldd.arg(program);
        for word in succeed(ldd).await.split_whitespace().filter(|word| word.starts_with('/')) {
            files.push(format!("{word}={}", word.trim_start_matches('/')));
        }
    }
    files.sort();
    files.dedup();
    let file = world.cluster.state().join(format!("{}.tar", tag.replace(['/', ':'], "-")));
    let mut make = Command::new(world.cluster.state().join("bin/archive"));
    make.arg(&file).args([tag, "/bin/none"]).args(&files).arg("tmp/");
    succeed(make).await;
    world.cluster.node(&["load", file.to_str().expect("a path")]).await;
}
