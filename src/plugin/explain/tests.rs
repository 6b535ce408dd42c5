//! What `explain` says of worlds that the controller's caches hold.

use serde_json::{Value, json};

use super::*;
use crate::controller::fixtures::{self, claimed, election, key, lease, pod};
use crate::controller::observe::cached::Named;
use crate::plugin::observed::snapshot;

fn now() -> Timestamp {
    "2026-01-01T00:05:00Z".parse().unwrap()
}

fn explained(objects: impl IntoIterator<Item = Named>) -> Explanation {
    let world = fixtures::world(objects);
    let key = key("web");
    let snapshot = snapshot(&world, &key).unwrap();
    explanation(&Observed { key, world, snapshot, unknown: Vec::new() }, now())
}

fn why_of<'a>(explanation: &'a Explanation, pod: &str) -> &'a str {
    &explanation.candidates.iter().find(|row| row.pod == pod).unwrap().why
}

/// Ready since this second of 2026.
fn ready_since(object: &mut Value, second: u8) {
    claimed(object);
    object["status"]["conditions"][0]["lastTransitionTime"] = json!(format!("2026-01-01T00:00:{second:02}Z"));
}

#[test]
fn each_candidate_has_its_score_and_its_reason() {
    let spec = |election: &mut Value| {
        let zone = json!({ "weight": 50, "selector": { "matchLabels": { "zone": "a" } } });
        election["spec"]["preferences"] = json!([zone]);
    };
    let in_zone = |object: &mut Value| {
        claimed(object);
        object["metadata"]["labels"]["zone"] = json!("a");
        object["metadata"]["annotations"]["podium.dev/priority"] = json!("7");
    };
    let leader = |object: &mut Value| {
        claimed(object);
        object["metadata"]["annotations"]["term.podium.dev/web"] = json!("10");
        object["metadata"]["labels"]["leader"] = json!("true");
    };
    let opted_out = |object: &mut Value| {
        claimed(object);
        object["metadata"]["annotations"]["podium.dev/candidate"] = json!("false");
    };
    let explanation = explained([
        election("web", 22, spec),
        lease("web", 20, "web-0", 10),
        pod("web-0", 21, leader),
        pod("web-1", 21, |object| ready_since(object, 9)),
        pod("web-2", 21, in_zone),
        pod("web-3", 21, opted_out),
        pod("web-4", 21, |_| {}),
    ]);
    let expected = "\
Election:  default/web
Leader:    web-0 (term 10)
Next:      web-2, if the leader's pod went now: it comes before web-1, because the score of web-2 is higher (57 over 0)
Now:       nothing changes

PLACE    POD     ELIGIBLE   SCORE   PRIORITY   PREFERENCES   REVISION   READY          WHY
leader   web-0   yes        0       0          0             -          True (5m)      leads
1        web-2   yes        57      7          50            -          True (5m)      next
2        web-1   yes        0       0          0             -          True (4m51s)   after web-2: the score of web-2 is higher (57 over 0)
-        web-3   no         0       0          0             -          True (5m)      has podium.dev/candidate: \"false\": kubectl annotate pod web-3 podium.dev/candidate-
-        web-4   no         0       0          0             -          False          is not Ready: its condition Ready must become True, see kubectl describe pod web-4
";
    assert_eq!(text(&explanation), expected);
    assert_eq!(explanation.next_leader.as_deref(), Some("web-2"));
}

#[test]
fn vacancy_names_the_pod_that_the_controller_elects() {
    let explanation = explained([
        election("web", 22, |_| {}),
        lease("web", 20, "gone", 10),
        pod("web-1", 21, |object| ready_since(object, 9)),
        pod("web-0", 21, |object| ready_since(object, 10)),
    ]);
    assert!(
        explanation.now.starts_with("the controller elects web-1: previous leader gone is gone. "),
        "{}",
        explanation.now
    );
    assert_eq!(why_of(&explanation, "web-0"), "after web-1: web-1 has been Ready longer");
}

#[test]
fn nobody_eligible_says_what_would_have_to_change() {
    let explanation = explained([election("web", 22, |_| {}), pod("web-0", 21, |_| {})]);
    assert_eq!(explanation.next, "nobody: no other candidate is eligible");
    assert_eq!(explanation.problems, ["NoEligibleCandidate: No candidate is eligible: web-0 is not Ready"]);
    assert!(why_of(&explanation, "web-0").contains("must become True"));
    let none = explained([election("web", 22, |_| {})]);
    assert_eq!(none.problems, ["NoMatchingPods: No pod matches spec.selector"]);
    assert!(text(&none).ends_with("\nNo candidates\n"));
}

#[test]
fn suspended_election_has_no_next_leader() {
    let explanation = explained([
        election("web", 22, |election| election["spec"]["suspend"] = json!(true)),
        lease("web", 20, "web-0", 10),
        pod("web-0", 21, claimed),
        pod("web-1", 21, claimed),
    ]);
    assert_eq!(explanation.next_leader, None);
    assert_eq!(explanation.next, "nobody while spec.suspend is true; then web-1: no other candidate is eligible");
}

#[test]
fn followed_lease_decides_alone() {
    let follow = |election: &mut Value| {
        election["spec"]["leaseName"] = json!("web-labels");
        election["spec"]["leaderFrom"] = json!({ "lease": { "name": "lock", "holder": "PodName" } });
    };
    let explanation = explained([election("web", 22, follow), pod("web-0", 21, claimed), pod("web-1", 21, claimed)]);
    assert_eq!(explanation.next, "unknown: Lease lock decides who leads");
    assert_eq!(explanation.next_leader, None);
    assert_eq!(why_of(&explanation, "web-1"), "is not named by the Lease of spec.leaderFrom: its elector decides who leads");
}

#[test]
fn preemption_says_what_only_the_controller_knows() {
    let spec =
        |election: &mut Value| election["spec"]["preemption"] = json!({ "policy": "PreferHigher", "delaySeconds": 60 });
    let priority = |object: &mut Value| {
        claimed(object);
        object["metadata"]["annotations"]["podium.dev/priority"] = json!("1");
    };
    let explanation = explained([
        election("web", 22, spec),
        lease("web", 20, "web-0", 10),
        pod("web-0", 21, claimed),
        pod("web-1", 21, priority),
    ]);
    let [unknown] = explanation.unknown.as_slice() else { panic!("{:?}", explanation.unknown) };
    assert!(unknown.starts_with("web-1 outranks the leader, and replaces it when it has done so for 60 s"), "{unknown}");
}

#[test]
fn explanation_is_json_with_the_names_of_the_api() {
    let value = serde_json::to_value(explained([election("web", 22, |_| {}), pod("web-0", 21, claimed)])).unwrap();
    assert_eq!(value["candidates"][0]["readySince"], "2026-01-01T00:00:00Z");
    assert_eq!((&value["nextLeader"], &value["leader"]), (&json!("web-0"), &Value::Null));
}
