//! What `status` prints.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::*;
use crate::controller::fixtures;
use crate::plugin::observed::snapshot;

fn now() -> Timestamp {
    "2026-01-01T00:05:00Z".parse().unwrap()
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

fn election(name: &str, change: impl FnOnce(&mut Value)) -> Fetched {
    let mut object = json!({
        "metadata": { "namespace": "default", "name": name, "uid": format!("{name}-uid"), "resourceVersion": "22", "generation": 1 },
        "spec": { "selector": { "matchLabels": { "app": "web" } } },
        "status": {
            "observedGeneration": 1, "leader": "web-0", "leaderUID": "web-0-uid", "term": 10, "nextLeader": "web-1",
            "acquireTime": "2026-01-01T00:00:00Z", "leaderTransitions": 3, "candidates": 3, "eligibleCandidates": 2,
            "conditions": [condition("Ready", "True", "LeaderElected", "Pod web-0 is the leader (term 10)")],
        },
    });
    change(&mut object);
    Fetched::of(serde_json::from_value::<DynamicObject>(object).unwrap())
}

fn shown(elections: &[Fetched], options: &Options) -> String {
    listed(elections, options, now()).unwrap()
}

#[test]
fn table_has_a_row_for_each_election() {
    let degraded = |election: &mut Value| {
        let pending = condition("Degraded", "True", "SwitchoverPending", "it waits");
        election["status"]["conditions"].as_array_mut().unwrap().push(pending);
    };
    let stalled = |election: &mut Value| {
        let conflict = |kind, status| condition(kind, status, "LeaseConflict", "it is foreign");
        election["status"] = json!({ "conditions": [conflict("Ready", "False"), conflict("Stalled", "True")] });
    };
    let elections = [
        election("web", |_| {}),
        election("db", degraded),
        election("new", |election| election["status"] = json!({ "observedGeneration": -1 })),
        election("stuck", stalled),
        election("idle", |election| election["spec"]["suspend"] = json!(true)),
    ];
    let expected = "\
NAME    LEADER   READY     ELIGIBLE   TRANSITIONS   SINCE    REASON
web     web-0    True      2/3        3             5m       LeaderElected
db      web-0    True      2/3        3             5m       LeaderElected,SwitchoverPending
new     <none>   Unknown   0/0        0             <none>   <unknown>
stuck   <none>   False     0/0        0             <none>   LeaseConflict
idle    web-0    True      2/3        3             5m       LeaderElected,Suspended
";
    assert_eq!(shown(&elections, &Options::default()), expected);
}

#[test]
fn all_namespaces_and_wide_add_columns() {
    let options = Options { all_namespaces: true, output: Output::Wide, ..Options::default() };
    let expected = "\
NAMESPACE   NAME   LEADER   READY   ELIGIBLE   TRANSITIONS   SINCE   REASON          NEXT    TERM   LABEL    LEASE
default     web    web-0    True    2/3        3             5m      LeaderElected   web-1   10     leader   web
";
    assert_eq!(shown(&[election("web", |_| {})], &options), expected);
}

#[test]
fn names_and_documents_are_printed_as_kubectl_does() {
    let managed = |election: &mut Value| election["metadata"]["managedFields"] = json!([{ "manager": "x" }]);
    let elections = [election("web", managed)];
    let with = |output| shown(&elections, &Options { output, ..Options::default() });
    assert_eq!(with(Output::Name), "election.podium.dev/web\n");
    let list: Value = serde_json::from_str(&with(Output::Json)).unwrap();
    assert_eq!((&list["kind"], &list["items"][0]["kind"]), (&json!("List"), &json!("Election")));
    assert_eq!(list["items"][0]["status"]["leader"], "web-0");
    assert_eq!(list["items"][0]["metadata"]["managedFields"], Value::Null);
    assert_eq!(serde_yaml::from_str::<Value>(&with(Output::Yaml)).unwrap(), list);
}

#[test]
fn details_show_candidates_conditions_and_changes() {
    let object = election("web", |_| {});
    let world = fixtures::world([
        fixtures::election("web", 22, |_| {}),
        fixtures::lease("web", 20, "web-0", 10),
        fixtures::pod("web-0", 21, fixtures::claimed),
        fixtures::pod("web-1", 21, fixtures::claimed),
        fixtures::pod("web-2", 21, |_| {}),
    ]);
    let key = fixtures::key("web");
    let snapshot = snapshot(&world, &key).unwrap();
    let table = candidates(&Observed { key, world, snapshot, unknown: Vec::new() }, now());
    let (time, leader, cause) = (Some("2026-01-01T00:00:00Z".into()), Some("web-0".into()), Some("initial election".into()));
    let changes = [Change { time, term: 10, leader, cause }];
    let expected = "\
Name:         web
Namespace:    default
Leader:       web-0
Term:         10
Since:        2026-01-01T00:00:00Z (5m)
Cause:        initial election
Next leader:  web-1
Eligible:     2/3
Transitions:  3

Conditions:
  TYPE    STATUS   AGE   REASON          MESSAGE
  Ready   True     5m    LeaderElected   Pod web-0 is the leader (term 10)

Candidates, in the order of succession:
  PLACE    POD     READY       ELIGIBLE   WHY
  leader   web-0   True (5m)   yes        leads
  1        web-1   True (5m)   yes        next
  -        web-2   False       no         is not Ready: its condition Ready must become True, see kubectl describe pod web-2

Last changes:
  TIME                   AGE   TERM   LEADER   CAUSE
  2026-01-01T00:00:00Z   5m    10     web-0    initial election
";
    assert_eq!(details(&object, Some(&table), &changes, now()), expected);
}

#[test]
fn details_without_permissions_show_the_status() {
    let shown = details(&election("web", |_| {}), None, &[], now());
    assert!(shown.contains("Leader:       web-0\n") && shown.contains("Cause:        <unknown>\n"), "{shown}");
    assert!(shown.contains("\nCandidates, in the order of succession: <none>\n"), "{shown}");
}
