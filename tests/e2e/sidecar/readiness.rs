//! `/readyz` of `podium run`, which the kubelet probes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use kube::config::Kubeconfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::harness::access::SUPPORTTOOLS;
use crate::harness::door::Door;
use crate::harness::sidecar::{Call, Sidecar};
use crate::harness::{Scenario, eventually, scenario};
use crate::sidecar::follow::{FOLLOW, account};

/// The check of a command by HTTP.
struct Health {
    code: Arc<AtomicU16>,
    url: String,
    _server: JoinSet<()>,
}

impl Health {
    /// Answers every request with 500, until told otherwise.
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://localhost:{}/healthz", listener.local_addr().expect("an address").port());
        let (code, mut server) = (Arc::new(AtomicU16::new(500)), JoinSet::new());
        let answered = code.clone();
        server.spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut request = [0; 4096];
                // A client may give up.
                let _ = connection.read(&mut request).await;
                let answer = format!("HTTP/1.1 {} Test\r\nContent-Length: 0\r\n\r\n", answered.load(Ordering::SeqCst));
                let _ = connection.write_all(answer.as_bytes()).await;
            }
        });
        Self { code, url, _server: server }
    }

    fn answers(&self, code: u16) {
        self.code.store(code, Ordering::SeqCst);
    }
}

/// A directory for the files of a command. The command runs until SIGTERM, and then until the file `may-end` exists.
struct Files(PathBuf);

impl Files {
    fn new(world: &Scenario) -> Self {
        let (directory, number) = world.next_process();
        let path = directory.join(format!("command-{number}"));
        fs::create_dir(&path).expect("a writable directory");
        Self(path)
    }

    fn script(&self) -> String {
        format!(
            "cd '{}'; trap 'until [ -e may-end ]; do sleep 0.02; done; exit 0' TERM; echo >> runs; while :; do sleep 0.02; done",
            self.0.display()
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str) {
        fs::write(self.path(name), "").expect("a writable directory");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("it exists");
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.path("runs")).unwrap_or_default().lines().count()
    }
}

fn test_of(file: &Path) -> String {
    format!("test -e '{}'", file.display())
}

/// `podium run` with quick checks.
fn run(world: &Scenario, pod: &str, account: &Kubeconfig, arguments: &[&str], files: &Files) -> Call {
    let call = world.sidecar(pod, account).variable("POD_NAMESPACE", &world.namespace);
    let call = call.arguments(&["run", "--election=web", "--restart", "--ready-interval=100ms", "--ready-timeout=30s"]);
    call.arguments(arguments).arguments(&["--", "/bin/sh", "-c", &files.script()])
}

/// Waits until `/readyz` has this code and these words.
async fn is(sidecar: &Sidecar, code: u16, words: &str) {
    eventually(&format!("/readyz of {} answers {code}: {words}", sidecar.name), async || {
        let (seen, body) = sidecar.get("/readyz").await;
        assert!(body.ends_with('\n') && body.lines().count() == 1, "one line: {body:?}");
        if seen == code && body.contains(words) { Ok(()) } else { Err(format!("{seen} {body}{}", sidecar.log())) }
    })
    .await;
}

#[tokio::test]
async fn campaign_leader_is_as_ready_as_its_command_and_a_standby_is_ready() {
    scenario(async |world| {
        let account = world.account_with("pods", &SUPPORTTOOLS).await;
        let (health, first_files, second_files) = (Health::start().await, Files::new(world), Files::new(world));
        let url = format!("--ready-url={}", health.url);
        let arguments = ["--mode=campaign", &url];
        let mut first = run(world, "web-0", &account, &arguments, &first_files).start().await;
        is(&first, 200, "leader: the command is starting: http://localhost:").await;
        let mut second = run(world, "web-1", &account, &arguments, &second_files).start().await;
        second.names("web-0").await;
        is(&second, 200, "standby: this pod does not lead").await;
        for (code, expected, words) in [
            (204, 200, "leader: the command is ready"),
            (500, 503, "/healthz answered 500"),
            (302, 200, "leader: the command is ready"),
        ] {
            health.answers(code);
            is(&first, expected, words).await;
            let line = format!("podium_sidecar_ready {}", u8::from(expected == 200));
            assert!(first.get("/metrics").await.1.lines().any(|seen| seen == line), "{line}");
            assert_eq!(first.get("/healthz").await, (200, "ok".into()), "podium itself is alive");
        }
        is(&second, 200, "standby: this pod does not lead").await;
        assert_eq!(second.get("/leader").await.0, 503);
        first.signal("TERM");
        is(&first, 503, "stopping: the command is being stopped").await;
        is(&second, 200, "standby: this pod does not lead").await;
        first_files.write("may-end");
        assert!(first.ends().await.success());
        is(&second, 200, "leader: the command is ready").await;
        assert_eq!((first_files.runs(), second_files.runs()), (1, 1));
        second_files.write("may-end");
        assert!(second.terminate().await.success());
    })
    .await;
}

#[tokio::test]
async fn command_that_never_becomes_ready_is_reported_after_the_startup_timeout_and_not_stopped() {
    scenario(async |world| {
        let account = world.account_with("pods", &SUPPORTTOOLS).await;
        let files = Files::new(world);
        let check = format!("--ready-command={}", test_of(&files.path("well")));
        let arguments = ["--mode=campaign", &check, "--startup-timeout=5s"];
        let sidecar = run(world, "web-0", &account, &arguments, &files).start().await;
        is(&sidecar, 200, "leader: the command is starting: the ready command exited with code 1").await;
        is(&sidecar, 503, "the command was not ready within 5s of its start: the ready command exited with code 1").await;
        sidecar.says(&["WARN", "/readyz answers 503: leader: the command was not ready within 5s"]).await;
        assert!(sidecar.leads().await && files.runs() == 1, "it runs");
        files.write("well");
        is(&sidecar, 200, "leader: the command is ready").await;
        assert_eq!(files.runs(), 1);
    })
    .await;
}

#[tokio::test]
async fn leader_of_an_election_whose_command_is_not_ready_is_replaced() {
    scenario(async |world| {
        let account = account(world, FOLLOW).await;
        let [first_files, second_files] = [Files::new(world), Files::new(world)];
        let start = async |pod: &str, files: &Files| {
            let check = format!("--ready-command={}", test_of(&files.path("well")));
            run(world, pod, &account, &["--allow-overlap", &check], files).start().await
        };
        let first = start("web-0", &first_files).await;
        let second = start("web-1", &second_files).await;
        for sidecar in [&first, &second] {
            is(sidecar, 200, "standby: this pod does not lead").await;
        }
        let _controller = world.controller();
        let leader = world.led().await;
        is(&first, 200, "leader: the command is starting").await;
        first_files.write("well");
        is(&first, 200, "leader: the command is ready").await;
        is(&second, 200, "standby: this pod does not lead").await;
        first_files.remove("well");
        is(&first, 503, "leader: the command is not ready").await;
        // What the kubelet does then.
        world.set_ready("web-0", false).await;
        world.leader_after("web", &leader).await;
        is(&second, 200, "leader: the command is starting").await;
        // The grace of 3 s, because it does not end by itself.
        is(&first, 503, "stopping: the command is being stopped").await;
        is(&first, 200, "standby: this pod does not lead").await;
        second_files.write("well");
        is(&second, 200, "leader: the command is ready").await;
        assert_eq!((first_files.runs(), second_files.runs()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn standby_is_ready_while_the_api_server_is_unreachable_and_so_is_one_that_never_reached_it() {
    scenario(async |world| {
        let campaign = world.account_with("campaign", &SUPPORTTOOLS).await;
        let follow = account(world, FOLLOW).await;
        let mut door = Door::closed(&campaign).await;
        for (pod, account, argument) in [("web-1", &campaign, "--mode=campaign"), ("web-2", &follow, "--allow-overlap")] {
            let files = Files::new(world);
            let sidecar = run(world, pod, &door.through(account), &[argument], &files).start().await;
            is(&sidecar, 200, "standby: this pod does not lead").await;
            sidecar.says(&["WARN"]).await;
            assert_eq!(sidecar.get("/readyz").await.0, 200, "still: {}", sidecar.log());
        }
        let (first_files, second_files) = (Files::new(world), Files::new(world));
        door.open().await;
        let arguments = ["--mode=campaign"];
        let first = run(world, "web-0", &door.through(&campaign), &arguments, &first_files).start().await;
        is(&first, 200, "leader: the command runs").await;
        let second = run(world, "web-1", &door.through(&campaign), &arguments, &second_files).start().await;
        second.names("web-0").await;
        door.close().await;
        // The watchdog stops the command of a leader that cannot renew.
        is(&first, 503, "stopping: the command is being stopped").await;
        is(&first, 200, "standby: this pod does not lead").await;
        second.names("").await;
        is(&second, 200, "standby: this pod does not lead").await;
        door.open().await;
        eventually("a command runs again", async || {
            let runs = first_files.runs() + second_files.runs();
            if runs == 2 { Ok(()) } else { Err(format!("{runs} runs")) }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn only_podium_run_has_readyz() {
    scenario(async |world| {
        let account = account(world, FOLLOW).await;
        let follower = world.follower("web-0", &account).start().await;
        assert_eq!(follower.get("/readyz").await, (200, r#"{"name":""}"#.into()));
        let arguments =
            ["run", "--election=web", "--allow-overlap", "--ready-url=http://localhost/", "--ready-command=true"];
        let (status, _, log) = world.sidecar("web-0", &account).arguments(&arguments).arguments(&["--", "true"]).end().await;
        assert!(!status.success() && log.contains("--ready-url and --ready-command must not be used together"), "{log}");
    })
    .await;
}
