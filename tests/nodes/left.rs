//! Real nodes leave no changes on the machine.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::cluster::{Cluster, finish, succeed};
use crate::harness::{alone, eventually};

/// Machine-wide kernel settings that kubelet wants to change.
const SETTINGS: [&str; 5] =
    ["kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "vm/overcommit_memory", "vm/panic_on_oom"];

#[tokio::test]
async fn nothing_is_left_of_a_cluster_with_real_nodes() {
    let cluster = cluster("left");
    let before = settings();
    succeed(up(&cluster)).await;
    let id = id(&cluster).expect("it has a node");
    assert_eq!(settings(), before, "the machine's own settings are left alone while nodes run");
    for (what, found) in traces(&cluster, &id) {
        assert!(!found.is_empty() || what == "mounts", "this would be no test of what is left: no {what}");
    }
    succeed(cluster.script("down", &[&cluster.name])).await;
    for (what, found) in traces(&cluster, &id) {
        assert_eq!(found, [""; 0], "{what} left");
    }
    assert_eq!(settings(), before);
}

#[tokio::test]
async fn nothing_is_left_of_a_cluster_that_was_killed_while_it_started() {
    let cluster = cluster("killed");
    let mut child = up(&cluster).process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    let id = eventually("a node starts", async || id(&cluster).ok_or_else(|| "no node yet".to_owned())).await;
    eventually("its processes run", async || {
        if traces(&cluster, &id).iter().all(|(what, found)| !found.is_empty() || *what == "mounts") {
            Ok(())
        } else {
            Err("no".to_owned())
        }
    })
    .await;
    let group = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).expect("it is ours");
    child.wait().expect("it ends");
    assert!(!cluster.state().join("kubeconfig").exists(), "it was not yet up");
    succeed(cluster.script("down", &[&cluster.name])).await;
    for (what, found) in traces(&cluster, &id) {
        assert_eq!(found, [""; 0], "{what} left");
    }
}

#[tokio::test]
async fn up_repairs_a_node_and_the_network_that_were_killed() {
    alone(async |world| {
        let state = world.cluster.state();
        let relay = process(&state.join("bin/relay")).expect("the switch has a process");
        rustix::process::kill_process(relay, rustix::process::Signal::KILL).expect("it is ours");
        world.cluster.node(&["kill", "real-2"]).await;
        let repaired = succeed(world.cluster.script("up", &[&world.cluster.name])).await;
        assert_eq!(Path::new(repaired.trim()), world.kubeconfig);
        for node in ["real-1", "real-2"] {
            world.node_is(node, "True").await;
        }
        world.deploy_web(4).await;
        let listed = world.cluster.node(&["list"]).await;
        let how: Vec<_> = listed.lines().map(|line| line.rsplit('\t').next().unwrap_or_default()).collect();
        assert_eq!(how, ["runs", "runs"], "{listed}");
        let processes =
            || fs::read_dir("/proc").expect("/proc").flatten().filter(|entry| owned(&entry.path(), &state)).count();
        let before = (processes(), process(&state.join("bin/relay")));
        succeed(world.cluster.script("up", &[&world.cluster.name])).await;
        assert_eq!((processes(), process(&state.join("bin/relay"))), before, "of a healthy cluster nothing is changed");
    })
    .await;
}

#[tokio::test]
async fn up_fails_with_a_reason_where_real_nodes_are_impossible() {
    let cluster = cluster("refused");
    // Without permission to create network links, as in a container.
    let mut refused = Command::new("setpriv");
    refused.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
    let script = cluster.script("up", &[&cluster.name]);
    refused.arg(script.get_program()).args(script.get_args());
    refused.env("PODIUM_CLUSTER_STATE", &cluster.states).env("PODIUM_REAL_NODES", "1");
    let output = finish(refused).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("this machine cannot run real nodes: it makes no bridge"), "{said}");
    assert!(output.stdout.is_empty() && !cluster.state().exists());
}

#[tokio::test]
async fn listening_ports_are_reachable_from_this_machine_only() {
    let strangers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nodes/strangers");
    let reached = succeed(Command::new(strangers)).await;
    assert_eq!(reached.lines().collect::<Vec<_>>(), ["machine api", "machine kubelet", "neighbor web"]);
}

/// A cluster of this test, not started. Outside the target directory, because the path of a Unix socket must be short.
fn cluster(name: &str) -> Cluster {
    let states = std::env::temp_dir().join(format!("podium-nodes-{name}-{}", std::process::id()));
    Cluster { states, name: name.into() }
}

fn up(cluster: &Cluster) -> Command {
    let mut up = cluster.script("up", &[&cluster.name]);
    up.env("PODIUM_NODES", "0").env("PODIUM_REAL_NODES", "1");
    up
}

/// The machine's name for everything of the cluster's nodes.
fn id(cluster: &Cluster) -> Option<String> {
    let text = fs::read_to_string(cluster.state().join("real/real-1/kubelet.yaml")).ok()?;
    let root = text.lines().find_map(|line| line.strip_prefix("cgroupRoot: /"))?;
    root.split('/').next().map(str::to_owned)
}

/// Traces of the cluster on the machine, by kind.
fn traces(cluster: &Cluster, id: &str) -> Vec<(&'static str, Vec<String>)> {
    let state = cluster.state();
    let processes = paths("/proc").into_iter().filter(|path| owned(path, &state) || belongs(path, id));
    let cgroups = paths("/sys/fs/cgroup").into_iter().chain(["/sys/fs/cgroup".into()]).map(|root| root.join(id));
    let routes = fs::read_to_string("/proc/net/route").expect("routes");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let named = |line: &&str| line.contains(id) || line.contains(&*state.to_string_lossy());
    let show = |paths: Vec<PathBuf>| paths.iter().map(|path| path.display().to_string()).collect();
    let existing = |paths: Vec<PathBuf>| show(paths.into_iter().filter(|path| path.exists()).collect());
    vec![
        ("processes", show(processes.collect())),
        ("cgroups", existing(cgroups.collect())),
        ("links", existing(vec![Path::new("/sys/class/net").join(id)])),
        ("routes", routes.lines().filter(|line| line.starts_with(id)).map(str::to_owned).collect()),
        ("mounts", mounts.lines().filter(named).map(str::to_owned).collect()),
        ("files", existing(vec![state.clone()])),
    ]
}

/// Returns whether the process of this `/proc` directory is in a node's cgroup, such as a pod's.
fn belongs(process: &Path, id: &str) -> bool {
    fs::read_to_string(process.join("cgroup")).is_ok_and(|text| text.contains(id))
}

/// Returns whether its program or an argument is in the state directory.
fn owned(process: &Path, state: &Path) -> bool {
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let state = state.to_string_lossy();
    process.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok())
        && String::from_utf8_lossy(&line).split('\0').any(|word| word.contains(&*state))
}

fn process(program: &Path) -> Option<rustix::process::Pid> {
    paths("/proc").iter().find_map(|path| {
        let line = fs::read(path.join("cmdline")).ok()?;
        let first = line.split(|byte| *byte == 0).next()?;
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        if first == program.as_os_str().as_encoded_bytes() { rustix::process::Pid::from_raw(pid) } else { None }
    })
}

fn paths(directory: &str) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn settings() -> Vec<Option<String>> {
    SETTINGS.iter().map(|setting| fs::read_to_string(Path::new("/proc/sys").join(setting)).ok()).collect()
}
