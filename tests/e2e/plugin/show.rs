//! The commands that only read.

use std::fs::{self, File};
use std::process::Stdio;

use serde_json::json;

use super::{command, run};
use crate::harness::{eventually, scenario};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_shows_all_elections_or_one() {
    scenario(async |world| {
        let _controller = world.controller();
        let leader = world.led().await;
        world.next_is("web", Some("web-1")).await;
        world.eligible("web", 2, 2).await;

        let table = run(world, &["status"]).ok();
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["NAME", "LEADER", "READY", "ELIGIBLE", "TRANSITIONS", "SINCE", "REASON"], "{table}");
        assert_eq!(lines[1][..5], ["web", "web-0", "True", "2/2", "0"], "{table}");
        assert_eq!((lines.len(), lines[1][6]), (2, "LeaderElected"), "{table}");
        let wide = run(world, &["status", "web", "--output", "wide"]).ok();
        assert!(wide.contains(&leader.term.to_string()) && wide.contains("NEXT"), "{wide}");

        assert_eq!(run(world, &["status", "-o", "name"]).ok(), "election.podium.dev/web\n");
        let list = run(world, &["status", "-o", "json"]).json();
        assert_eq!((&list["kind"], &list["items"][0]["status"]["leader"]), (&json!("List"), &json!("web-0")));
        let object = run(world, &["status", "web", "-o", "json"]).json();
        assert_eq!((&object["kind"], &object["metadata"]["name"]), (&json!("Election"), &json!("web")));

        let details = run(world, &["status", "web"]).ok();
        for part in [
            "Leader:       web-0\n",
            "Cause:        initial election\n",
            "Next leader:  web-1\n",
            &format!("Pod web-0 is the leader (term {})", leader.term),
        ] {
            assert!(details.contains(part), "{part}: {details}");
        }
        let empty = run(world, &["status", "--selector", "app=none"]);
        assert_eq!(empty.stderr, format!("No Elections found in namespace {}\n", world.namespace));
        assert_eq!(empty.ok(), "");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watched_status_prints_each_change() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        let kubeconfig = world.kubeconfig("watch");
        let path = kubeconfig.with_extension("out");
        let stdout = File::create(&path).expect("a writable directory");
        let mut child = command(world, &kubeconfig, &["status", "--watch"]).stdout(stdout).spawn().expect("podium runs");
        let printed = async |what: &str, leader: &str| {
            eventually(what, async || {
                let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
                let last = text.lines().last().unwrap_or_default().split_whitespace().nth(1);
                if last == Some(leader) { Ok(()) } else { Err(text) }
            })
            .await;
        };
        printed("the table is printed", "web-0").await;
        world.set_ready("web-0", false).await;
        printed("the change is printed", "web-1").await;
        child.kill().expect("it still runs");
        child.wait().expect("it is a child");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_is_printed_for_scripts() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        assert_eq!(run(world, &["leader", "web"]).ok(), "web-0\n");
        for pod in ["web-1", "web-0"] {
            world.set_ready(pod, false).await;
        }
        world.vacancy("web").await;
        let error = run(world, &["leader", "web"]).failed();
        assert!(
            error.contains("has no leader: NoEligibleCandidate: No candidate is eligible: web-0 is not Ready"),
            "{error}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explanation_agrees_with_the_controller() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        world.pod("web-2", json!({ "annotations": { "podium.dev/priority": "5" } })).await;
        world.pod("web-3", json!({})).await;
        world.set_ready("web-3", false).await;
        world.next_is("web", Some("web-2")).await;
        world.eligible("web", 3, 4).await;

        let explanation = run(world, &["explain", "web", "--output", "json"]).json();
        assert_eq!((&explanation["leader"], &explanation["nextLeader"]), (&json!("web-0"), &json!("web-2")));
        let rows = explanation["candidates"].as_array().expect("candidates");
        let pods: Vec<_> = rows.iter().map(|row| row["pod"].as_str().expect("a name")).collect();
        assert_eq!(pods, ["web-0", "web-2", "web-1", "web-3"], "{explanation}");
        let scores = ["score", "priority", "place"].map(|part| &explanation["candidates"][1][part]);
        assert_eq!(scores, [5, 5, 1]);

        let text = run(world, &["explain", "web"]).ok();
        let because =
            "web-2, if the leader's pod went now: it comes before web-1, because the score of web-2 is higher (5 over 0)";
        assert!(text.contains(because), "{text}");
        assert!(text.contains("is not Ready: its condition Ready must become True"), "{text}");
        assert!(text.contains("Now:       nothing changes\n"), "{text}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_lists_terms_with_their_causes() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        world.set_ready("web-0", false).await;
        let second = world.leader_after("web", &first).await;
        let history = eventually("both changes have Events", async || {
            let history = run(world, &["history", "web", "-o", "json"]).json();
            if history.as_array().map(Vec::len) == Some(2) { Ok(history) } else { Err(history.to_string()) }
        })
        .await;
        let parts = |index: usize| ["term", "leader", "cause"].map(|part| history[index][part].clone());
        assert_eq!(parts(0), [json!(first.term), json!("web-0"), json!("initial election")]);
        assert_eq!(parts(1), [json!(second.term), json!("web-1"), json!("previous leader web-0 is not Ready")]);
        let text = run(world, &["history", "web"]);
        assert_eq!(text.stderr, "", "all terms are known");
        assert!(text.ok().starts_with("TIME "));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_pipe_ends_the_command_quietly() {
    scenario(async |world| {
        let kubeconfig = world.kubeconfig("pipe");
        let mut command = command(world, &kubeconfig, &["status", "-o", "json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("podium runs");
        drop(child.stdout.take());
        let ran = super::ran(&child.wait_with_output().expect("it ends"));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    })
    .await;
}
