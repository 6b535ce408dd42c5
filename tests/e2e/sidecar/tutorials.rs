//! The two popular tutorials for leader election with a sidecar, unmodified, with a process for each pod.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::harness::access::{CONTRIB, SUPPORTTOOLS};
use crate::harness::sidecar::{Connection, Sidecar, split};
use crate::harness::{Scenario, eventually, scenario};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/nodejs-page/page.js");
const PORTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/sidecar/tutorials/ports.js");
const LOOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bash-loop/loop.sh");

/// An application next to a sidecar, killed on drop.
struct Application {
    child: Child,
    output: PathBuf,
}

impl Application {
    fn start(world: &Scenario, pod: &str, command: &mut Command) -> Self {
        let (directory, number) = world.next_process();
        let output = directory.join(format!("application-{number}-{pod}.log"));
        let file = File::create(&output).expect("a writable directory");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file"))
            .stderr(file)
            .spawn()
            .expect("the application runs");
        Self { child, output }
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.child.kill();
        self.child.wait().expect("our own child");
    }
}

/// The page of this sidecar.
struct Page(Application);

impl Page {
    fn start(world: &Scenario, sidecar: &Sidecar) -> Self {
        let ports = json!({ "4040": sidecar.address.port(), "8080": 0 });
        let mut node = Command::new("node");
        node.args(["--require", PORTS, PAGE]).env("PORTS", ports.to_string());
        Self(Application::start(world, &sidecar.name, &mut node))
    }

    /// Waits until the page shows this master.
    async fn tells(&self, master: &str) {
        eventually(&format!("the page tells that {master} is master"), async || {
            let output = self.0.output();
            let port = output.lines().find_map(|line| line.strip_prefix("listening on ")).ok_or_else(|| output.clone())?;
            let address = format!("127.0.0.1:{port}").parse().map_err(|_| output.clone())?;
            let mut visit = Connection::open(address).await.map_err(|error| error.to_string())?;
            let answer = visit.ask("GET", "/").await.map_err(|error| error.to_string())?;
            let told = split(&answer).1;
            if told == format!("Master is {master}") { Ok(()) } else { Err(told) }
        })
        .await;
    }
}

#[tokio::test]
async fn page_of_the_old_sidecar_follows_the_leader() {
    if Command::new("node").arg("--version").output().is_err() {
        eprintln!("SKIPPED: the page needs node, which is not in PATH");
        return;
    }
    scenario(async |world| {
        let account = world.account_with("elector", &CONTRIB).await;
        let mut pods = Vec::new();
        for name in ["page-0", "page-1", "page-2"] {
            let sidecar = world.contrib(name, &account).start().await;
            pods.push((Page::start(world, &sidecar), sidecar));
        }
        let first = pods[0].1.names_when("somebody", |name| !name.is_empty()).await;
        for (page, _) in &pods {
            page.tells(&first).await;
        }
        // Kills the pod with all its processes.
        pods.retain_mut(|(_, sidecar)| sidecar.name != first);
        assert_eq!(pods.len(), 2);
        let second = pods[0].1.names_when("another", |name| !name.is_empty() && name != first).await;
        for (page, _) in &pods {
            page.tells(&second).await;
        }
    })
    .await;
}

/// A pod whose containers share their own /tmp.
struct OwnTmp(PathBuf);

impl OwnTmp {
    fn new(world: &Scenario, pod: &str) -> Self {
        let (directory, number) = world.next_process();
        let directory = directory.join(format!("tmp-{number}-{pod}"));
        fs::create_dir(&directory).expect("a writable directory");
        Self(directory)
    }

    /// Bash in a mount namespace with the pod's /tmp, to run `script`. The files `open` become descriptors from 3 on, the
    /// kubeconfig, if any, 9, even if they are in the outer /tmp.
    fn bash(&self, open: &[&Path], script: &str) -> Command {
        let opened: String = (3..).zip(open).map(|(fd, path)| format!("exec {fd}<'{}'\n", path.display())).collect();
        let mut command = Command::new("unshare");
        let root = rustix::process::geteuid().is_root();
        command.args(if root { &["--mount"][..] } else { &["--user", "--map-root-user", "--mount"] });
        command
            .args([
                "bash",
                "-c",
                &format!(
                    "set -e\n{opened}[[ ! ${{KUBECONFIG-}} ]] || exec 9<\"$KUBECONFIG\"\nmount --bind \"$0\" /tmp\n{script}"
                ),
            ])
            .arg(&self.0);
        command
    }

    fn status(&self) -> Option<String> {
        fs::read_to_string(self.0.join("leader_status")).ok()
    }
}

#[tokio::test]
async fn loop_that_reads_the_file_runs_on_the_leader_only() {
    scenario(async |world| {
        let probe = OwnTmp::new(world, "probe").bash(&[], "true").status();
        if !probe.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: the loop needs a /tmp of its own, and this machine allows no mount namespaces");
            return;
        }
        let account = world.account_with("elector", &SUPPORTTOOLS).await;
        let mut pods = Vec::new();
        for name in ["loop-0", "loop-1", "loop-2"] {
            let tmp = OwnTmp::new(world, name);
            let podium = Path::new(env!("CARGO_BIN_EXE_podium"));
            let script = "KUBECONFIG=/proc/self/fd/9 exec /proc/self/fd/3";
            let sidecar = world
                .sidecar_by(tmp.bash(&[podium], script), name, &account)
                .variable("PATH", &std::env::var("PATH").unwrap_or_default())
                .variable("LEASE_NAME", "example")
                .variable("NAMESPACE", &world.namespace)
                .without("PODIUM_FILE")
                .start()
                .await;
            let mut looping = tmp.bash(&[Path::new(LOOP)], "exec bash /proc/self/fd/3");
            pods.push((Application::start(world, name, &mut looping), sidecar, tmp));
        }
        let says = |output: String| output.lines().last().unwrap_or_default().to_owned();
        let leads = async |pods: &[(Application, Sidecar, OwnTmp)], not: &str| {
            eventually("exactly one loop leads", async || {
                let said: Vec<String> = pods.iter().map(|(application, ..)| says(application.output())).collect();
                let leading: Vec<&String> = said.iter().filter(|line| line.starts_with("leading: ")).collect();
                match leading[..] {
                    [one] if said.iter().filter(|line| *line == "not leading").count() == 2 && !one.ends_with(not) => {
                        Ok(one.trim_start_matches("leading: ").to_owned())
                    }
                    _ => Err(format!("{said:?}")),
                }
            })
            .await
        };
        let first = leads(&pods, "nobody").await;
        for (_, sidecar, tmp) in &mut pods {
            assert_eq!(
                tmp.status(),
                (sidecar.name == first).then(|| first.clone()),
                "the name without a newline, or no file"
            );
            if sidecar.name == first {
                sidecar.kill();
            }
        }
        // The loop of the killed sidecar still runs, and no longer leads.
        let second = leads(&pods, &first).await;
        assert_ne!(first, second);
    })
    .await;
}
