//! Events and log lines of the controller.

use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::Value;

use crate::harness::{Leader, Scenario, eventually, scenario};

/// An election, a failover and a vacancy; returns all three terms.
async fn three_changes(world: &Scenario) -> (Leader, Leader, i64) {
    let first = world.led().await;
    world.set_ready("web-0", false).await;
    let second = world.leader_is("web", "web-1").await;
    world.set_ready("web-1", false).await;
    let vacancy = world.vacancy("web").await.term.expect("a vacancy has a term");
    (first, second, vacancy)
}

/// The change of leader as each output must report it: from, to, term and reason.
fn expected((first, second, vacancy): (Leader, Leader, i64)) -> [(&'static str, &'static str, i64, &'static str); 3] {
    [
        ("", "web-0", first.term, "initial election"),
        ("web-0", "web-1", second.term, "previous leader web-0 is not Ready"),
        ("web-1", "", vacancy, "previous leader web-1 is not Ready"),
    ]
}

#[tokio::test]
async fn leader_change_is_one_event_with_from_to_term_and_reason() {
    scenario(async |world| {
        let _controller = world.controller();
        let changes = expected(three_changes(world).await);
        let mut events = eventually("there are three Events", async || {
            let events = world.api::<Event>().list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            let ours: Vec<_> = events.into_iter().filter(|event| regards(event, "web")).collect();
            if ours.len() >= changes.len() { Ok(ours) } else { Err(format!("{ours:?}")) }
        })
        .await;
        events.sort_by_key(|event| event.metadata.resource_version.as_ref().and_then(|version| version.parse::<i64>().ok()));
        assert_eq!(events.len(), changes.len(), "{events:?}");
        for (event, (_, to, term, reason)) in events.iter().zip(changes) {
            let note = event.note.as_deref().unwrap_or_default();
            let expected = match to {
                "" => format!("No leader (term {term}): {reason}, and no candidate is eligible"),
                pod => format!("Pod {pod} became leader (term {term}): {reason}"),
            };
            assert_eq!(note, expected);
            assert!(event.series.is_none(), "one object for each change: {event:?}");
            let kind = if to.is_empty() { "Warning" } else { "Normal" };
            assert_eq!(event.type_.as_deref(), Some(kind), "{note}");
        }
    })
    .await;
}

fn regards(event: &Event, election: &str) -> bool {
    let regarding = event.regarding.clone().unwrap_or_default();
    (regarding.kind.as_deref(), regarding.name.as_deref()) == (Some("Election"), Some(election))
        && event.namespace().is_some()
}

#[tokio::test]
async fn leader_change_is_one_log_line_with_from_to_term_and_reason() {
    scenario(async |world| {
        let controller = world.controller();
        let changes = expected(three_changes(world).await);
        let election = format!("{}/web", world.namespace);
        for (from, to, term, reason) in changes {
            let line = controller.says(&["INFO", "leader changed", &format!("term={term}")]).await;
            for part in [&format!("election={election}"), &format!("from=\"{from}\""), &format!("to=\"{to}\""), reason] {
                assert!(line.contains(part), "no {part:?} in {line:?}");
            }
        }
        assert_eq!(controller.log().matches("leader changed").count(), changes.len());
    })
    .await;
}

#[tokio::test]
async fn the_log_is_one_json_object_for_each_line_if_asked_for() {
    scenario(async |world| {
        let controller = world.controller_with(&world.cluster.controllers, &["--log-format", "json"]);
        let changes = expected(three_changes(world).await);
        controller.says(&["leader changed", &format!("{}", changes[2].2)]).await;
        let log = controller.log();
        let lines: Vec<Value> =
            log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
        let told: Vec<_> = lines.iter().filter(|line| line["message"] == "leader changed").collect();
        assert_eq!(told.len(), changes.len(), "{log}");
        for (line, (from, to, term, reason)) in told.into_iter().zip(changes) {
            assert_eq!(line["election"], format!("{}/web", world.namespace));
            assert_eq!((&line["from"], &line["to"]), (&from.into(), &to.into()));
            assert_eq!((&line["term"], &line["reason"]), (&term.into(), &reason.into()));
        }
    })
    .await;
}
