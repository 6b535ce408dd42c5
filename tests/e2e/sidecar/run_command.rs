//! `podium run`: a command that runs only while its pod is the leader.

use std::fs;
use std::path::{Path, PathBuf};

use kube::config::Kubeconfig;

use crate::harness::access::SUPPORTTOOLS;
use crate::harness::sidecar::Sidecar;
use crate::harness::{Scenario, eventually, scenario};

/// The log of the commands.
struct Diary(PathBuf);

impl Diary {
    fn new(world: &Scenario, pod: &str) -> Self {
        let (directory, number) = world.next_process();
        Self(directory.join(format!("diary-{number}-{pod}")))
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.0).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    async fn says(&self, line: &str) {
        eventually(&format!("the command says {line:?}"), async || {
            if self.lines().iter().any(|said| said == line) { Ok(()) } else { Err(format!("{:?}", self.lines())) }
        })
        .await;
    }
}

/// Runs a command that logs its name, and its end on SIGTERM.
async fn run(world: &Scenario, pod: &str, account: &Kubeconfig, diary: &Path) -> Sidecar {
    let script = format!(
        "echo started by $PODIUM_NAME >> '{0}'; trap \"echo ended >> '{0}'; exit 3\" TERM; while :; do sleep 0.05; done",
        diary.display()
    );
    let call = world.sidecar(pod, account).variable("POD_NAMESPACE", &world.namespace);
    call.arguments(&["run", "--mode=campaign", "--election=web", "--", "/bin/sh", "-c", &script]).start().await
}

#[tokio::test]
async fn command_runs_on_the_leader_only_and_ends_before_the_release() {
    scenario(async |world| {
        let account = world.account_with("pods", &SUPPORTTOOLS).await;
        let (first_diary, second_diary) = (Diary::new(world, "web-0"), Diary::new(world, "web-1"));
        let mut first = run(world, "web-0", &account, &first_diary.0).await;
        first_diary.says("started by web-0").await;
        let mut second = run(world, "web-1", &account, &second_diary.0).await;
        second.names("web-0").await;
        assert_eq!(second_diary.lines(), [""; 0]);
        assert_eq!(first.terminate().await.code(), Some(3), "the command's own code");
        assert_eq!(first_diary.lines(), ["started by web-0", "ended"]);
        second_diary.says("started by web-1").await;
        assert_eq!(second.terminate().await.code(), Some(3));
    })
    .await;
}

#[tokio::test]
async fn deposed_command_gets_the_short_grace_period() {
    scenario(async |world| {
        let account = world.account_with("pods", &[("coordination.k8s.io", "leases", &["get", "list", "watch"][..])]).await;
        let _controller = world.controller();
        let leader = world.led().await;
        let diary = Diary::new(world, "web-0");
        let script =
            format!("trap 'echo told >> {0}' TERM; echo began >> {0}; while :; do sleep 0.05; done", diary.0.display());
        let call = world.sidecar(&leader.name, &account).variable("POD_NAMESPACE", &world.namespace);
        let arguments =
            ["run", "--election=web", "--allow-overlap", "--termination-grace=1h", "--", "/bin/sh", "-c", &script];
        let mut running = call.arguments(&arguments).start().await;
        diary.says("began").await;
        running.signal("TERM");
        diary.says("told").await;
        assert!(running.runs(), "it has an hour as long as it leads");
        world.set_ready(&leader.name, false).await;
        world.leader_after("web", &leader).await;
        assert_eq!(running.ends().await.code(), Some(137));
    })
    .await;
}

#[tokio::test]
async fn campaign_command_ends_when_an_election_adopts_its_lease() {
    scenario(async |world| {
        let account = world.account_with("pods", &SUPPORTTOOLS).await;
        let _controller = world.controller();
        world.pods(["web-0"]).await;
        let diary = Diary::new(world, "web-0");
        let mut running = run(world, "web-0", &account, &diary.0).await;
        diary.says("started by web-0").await;
        world.election("web").await;
        // Nobody renews an Election's Lease, so nothing would stop the command of a partitioned leader.
        assert_eq!(running.ends().await.code(), Some(1));
        assert_eq!(diary.lines(), ["started by web-0", "ended"]);
        running.says(&["belongs to the Election web", "--allow-overlap"]).await;
        assert_eq!(world.leader("web").await.name, "web-0", "the Election goes on");
    })
    .await;
}
