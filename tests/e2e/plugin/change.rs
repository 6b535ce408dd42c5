//! The commands that change an Election.

use kube::ResourceExt;
use podium::api::Election;
use serde_json::json;

use super::run;
use crate::harness::{Scenario, scenario};

async fn election(world: &Scenario) -> Election {
    world.api::<Election>().get("web").await.expect("the Election is there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switchover_ends_when_the_next_leader_is_labeled() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        let ran = run(world, &["switchover", "web", "--wait"]);
        assert!(ran.stderr.contains("Pod web-1 is the leader"), "{ran:?}");
        let requested = format!("election.podium.dev/web switchover from web-0 requested (term {})\n", first.term);
        assert_eq!(ran.ok(), requested);
        let leader = world.leader("web").await;
        assert_eq!((leader.name.as_str(), world.cause("web").await.as_str()), ("web-1", "switchover"));
        let election = election(world).await;
        let managers: Vec<_> = election.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect();
        assert!(managers.contains(&"kubectl-podium"), "{managers:?}");

        run(world, &["switchover", "web", "--to", "web-0", "--wait"]).ok();
        assert_eq!(world.leader("web").await.name, "web-0");
        let again = run(world, &["switchover", "web", "--to", "web-0", "--wait"]).ok();
        assert_eq!(again, "election.podium.dev/web unchanged: web-0 leads already\n");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switchover_that_waits_says_for_what() {
    scenario(async |world| {
        let _controller = world.controller();
        let first = world.led().await;
        world.set_ready("web-1", false).await;
        world.eligible("web", 1, 2).await;
        let ran = run(world, &["switchover", "web", "--to", "web-1", "--wait", "--timeout", "3s"]);
        assert!(
            ran.stderr.contains("Warning: pod web-1 is not Ready: the switchover waits until it is eligible"),
            "{ran:?}"
        );
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let error = ran.stderr.lines().last().unwrap_or_default();
        assert!(error.starts_with("podium: timed out after 3 s waiting for a new leader of Election "), "{error}");
        assert!(error.ends_with("The switchover to web-1 waits: that pod is not Ready"), "{error}");
        assert_eq!(world.leader("web").await, first, "the leader stays");
        world.set_ready("web-1", true).await;
        world.leader_is("web", "web-1").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dry_run_changes_nothing() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        for (mode, note) in [("client", "(dry run)"), ("server", "(server dry run)")] {
            let mode = format!("--dry-run={mode}");
            for command in ["switchover", "suspend"] {
                let printed = run(world, &[command, "web", &mode, "--wait"]).ok();
                assert!(printed.trim_end().ends_with(note), "{printed}");
            }
        }
        let election = election(world).await;
        assert!(!election.annotations().contains_key("podium.dev/switchover-term") && !election.spec.suspend);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elections_are_suspended_and_resumed() {
    scenario(async |world| {
        let _controller = world.controller();
        world.led().await;
        world.annotate_election("web", json!({ "argocd.argoproj.io/tracking-id": "web:podium.dev/Election:x/web" })).await;
        let ran = run(world, &["suspend", "web", "--wait"]);
        assert!(ran.stderr.contains("Warning: Argo CD applies Election "), "{ran:?}");
        assert_eq!(ran.ok(), "election.podium.dev/web suspended\n");
        assert!(election(world).await.spec.suspend);
        let again = run(world, &["suspend", "web"]).ok();
        assert_eq!(again, "election.podium.dev/web suspended (no change)\n");
        let table = run(world, &["status", "web", "-o", "wide"]).ok();
        assert!(table.contains("LeaderElected,Suspended"), "{table}");

        world.force_delete_pod("web-0").await;
        world.condition("web", "Ready", "False", "Suspended").await;
        assert_eq!(run(world, &["resume", "web", "--wait"]).ok(), "election.podium.dev/web resumed\n");
        assert_eq!(run(world, &["leader", "web"]).ok(), "web-1\n", "--wait waits for a leader");
    })
    .await;
}
