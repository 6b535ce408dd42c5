//! The server of the simulation is like the real one: the same requests, the same answers.
//!
//! Compared are status codes, what a `Status` says for programs, and of objects what Podium goes by. Messages are for people,
//! and UIDs, times and revisions are each server's own: a script names them by the object that it saw them on.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use podium_test_support::server::Resource::{self, Elections, Events, Leases, Pods};
use podium_test_support::server::{Answer, Request, Server};
use serde_json::{Value, json};

use crate::harness::scenario;

/// One request of the script.
struct Step {
    method: &'static str,
    resource: Resource,
    /// The object; empty for all of them.
    name: &'static str,
    status: bool,
    query: &'static [(&'static str, &'static str)],
    body: Value,
}

fn step(method: &'static str, resource: Resource, name: &'static str, body: Value) -> Step {
    Step { method, resource, name, status: false, query: &[], body }
}

fn status(method: &'static str, resource: Resource, name: &'static str, body: Value) -> Step {
    Step { status: true, ..step(method, resource, name, body) }
}

fn read(resource: Resource, query: &'static [(&'static str, &'static str)]) -> Step {
    Step { query, ..step("GET", resource, "", Value::Null) }
}

/// What one server was seen to have: `uid:<name>`, `now:<name>` (the resourceVersion) and `old:<name>` (the one before).
type Seen = BTreeMap<String, String>;

#[tokio::test]
async fn the_simulated_server_answers_as_the_real_one() {
    scenario(async |s| {
        let mut simulated = Server::new(1000, 500);
        simulated.compact();
        let mut seen_here = Seen::from([("namespace".into(), s.namespace.clone())]);
        let mut seen_there = seen_here.clone();
        let mut differences = Vec::new();
        for (number, step) in script().into_iter().enumerate() {
            let what = format!("step {number}: {} {:?} {} {}", step.method, step.resource, step.name, step.body);
            let request = request(&step, &s.namespace, &seen_there);
            let real = essence(&step, ask(&s.cluster.client, &request).await, &mut seen_there);
            let request = self::request(&step, &s.namespace, &seen_here);
            let ours = essence(&step, ask_simulated(&mut simulated, &request), &mut seen_here);
            if ours != real {
                differences.push(format!("{what}\n  simulated: {ours}\n  real:      {real}"));
            }
        }
        assert!(
            differences.is_empty(),
            "the simulated server answers otherwise than the real one:\n{}",
            differences.join("\n")
        );
    })
    .await;
}

/// The request, with what the server was seen to have in place of `$uid:web`.
fn request(step: &Step, namespace: &str, seen: &Seen) -> Request {
    let fill = |text: &str| match text.strip_prefix('$') {
        Some(name) => seen.get(name).unwrap_or_else(|| panic!("{name} was not seen")).clone(),
        None => text.to_owned(),
    };
    let mut body = step.body.clone();
    fill_in(&mut body, &fill);
    let name = (!step.name.is_empty() && step.method != "POST").then_some(step.name);
    let path = step.resource.path(namespace, name) + if step.status { "/status" } else { "" };
    let query = step.query.iter().map(|(name, value)| ((*name).to_owned(), fill(value))).collect();
    Request { method: step.method.into(), path, query, body }
}

fn fill_in(value: &mut Value, fill: &impl Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = fill(text),
        Value::Array(values) => values.iter_mut().for_each(|value| fill_in(value, fill)),
        Value::Object(fields) => fields.values_mut().for_each(|value| fill_in(value, fill)),
        _ => {}
    }
}

/// Status code and body; of a watch, all its events.
async fn ask(client: &Client, request: &Request) -> (u16, Vec<Value>) {
    let query: Vec<String> = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let kind = if request.method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = if request.body.is_null() { Vec::new() } else { request.body.to_string().into_bytes() };
    let request = http::Request::builder()
        .method(request.method.as_str())
        .uri(format!("{}?{}", request.path, query.join("&")))
        .header("content-type", kind)
        .header("accept-encoding", "identity")
        .body(Body::from(body))
        .expect("a request");
    let response = client.send(request).await.expect("an answer");
    let code = response.status().as_u16();
    let body = response.into_body().collect_bytes().await.expect("a body");
    let events = serde_json::Deserializer::from_slice(&body).into_iter().map_while(Result::ok);
    (code, events.collect())
}

fn ask_simulated(server: &mut Server, request: &Request) -> (u16, Vec<Value>) {
    match server.request(Timestamp::now(), request) {
        Answer::Json(code, Value::String(_)) => (code, Vec::new()),
        Answer::Json(code, body) => (code, vec![body]),
        Answer::Watch(feed) => match server.news(&feed, false) {
            Ok(news) => (200, news.iter().map(podium_test_support::server::Revision::event).collect()),
            Err(event) => (200, vec![event]),
        },
    }
}

/// What of an answer must be the same.
fn essence(step: &Step, (code, bodies): (u16, Vec<Value>), seen: &mut Seen) -> Value {
    let bodies = bodies.iter().filter(|body| body["type"] != "BOOKMARK").map(|body| {
        if body["type"].is_string() && body["object"].is_object() {
            // A watch tells of other objects, too: it changes nothing of what was seen.
            return json!({ "type": body["type"], "object": object(step, &body["object"], &mut seen.clone()) });
        }
        object(step, body, seen)
    });
    json!({ "code": code, "bodies": bodies.collect::<Vec<_>>() })
}

fn object(step: &Step, body: &Value, seen: &mut Seen) -> Value {
    let metadata = &body["metadata"];
    if body["kind"] == "Status" {
        let details = &body["details"];
        return json!({
            "code": body["code"], "status": body["status"], "reason": body["reason"],
            "name": details["name"], "group": details["group"], "kind": details["kind"],
        });
    }
    if let Some(items) = body["items"].as_array() {
        let names: Vec<&Value> = items.iter().map(|item| &item["metadata"]["name"]).collect();
        if let Some(token) = metadata["continue"].as_str().filter(|token| !token.is_empty()) {
            seen.insert("continue".into(), token.into());
        }
        seen.insert("list".into(), metadata["resourceVersion"].as_str().unwrap_or_default().into());
        return json!({ "kind": body["kind"], "names": names, "more": metadata["continue"].as_str().is_some_and(|token| !token.is_empty()) });
    }
    let name = metadata["name"].as_str().unwrap_or_default();
    let revision = metadata["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let before = seen.insert(format!("now:{name}"), revision.clone());
    let is_new = before.as_ref() != Some(&revision);
    if let Some(before) = before.filter(|before| *before != revision) {
        seen.insert(format!("old:{name}"), before);
    }
    let uid = metadata["uid"].as_str().unwrap_or_default().to_owned();
    let is_another = seen.insert(format!("uid:{name}"), uid.clone()) != Some(uid);
    // Of whom the others are hangs on the clients' names.
    let labels = metadata["labels"].as_object().into_iter().flatten().map(|(key, _)| key);
    let of_podium: Vec<&String> = labels.filter(|key| manager_of(body, key) == Some("podium")).collect();
    let status = &body["status"];
    let (spec, status) = match step.resource {
        // A real pod has much more of both.
        Pods => (Value::Null, json!({ "phase": status["phase"], "condition": status["conditions"][0]["status"] })),
        _ => (body["spec"].clone(), status.clone()),
    };
    json!({
        "kind": body["kind"], "apiVersion": body["apiVersion"], "name": name, "new revision": is_new, "another": is_another,
        "labels": metadata["labels"], "labels of podium": of_podium, "annotations": metadata["annotations"], "finalizers": metadata["finalizers"],
        "generation": if step.resource == Elections { metadata["generation"].clone() } else { Value::Null },
        "deleting": metadata["deletionTimestamp"].is_string(), "grace": metadata["deletionGracePeriodSeconds"],
        "owners": metadata["ownerReferences"].as_array().map(Vec::len), "spec": spec, "status": status,
    })
}

/// Who set this label of the object last.
fn manager_of<'a>(object: &'a Value, label: &str) -> Option<&'a str> {
    let field = format!("f:{label}");
    let mut entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let entry = entries.find(|entry| !entry["fieldsV1"]["f:metadata"]["f:labels"][&field].is_null())?;
    entry["manager"].as_str()
}

/// Everything that Podium asks of a server, and that people do to what it goes by.
fn script() -> Vec<Step> {
    [leases(), pods(), elections(), lists()].into_iter().flatten().collect()
}

fn leases() -> Vec<Step> {
    let named = |metadata: Value| {
        let mut lease = json!({ "metadata": { "name": "web" }, "spec": { "holderIdentity": "a" } });
        lease["metadata"].as_object_mut().expect("an object").extend(metadata.as_object().cloned().expect("an object"));
        lease
    };
    vec![
        step("GET", Leases, "web", Value::Null),
        step("POST", Leases, "web", json!({ "metadata": { "name": "web", "annotations": { "a": "b" } } })),
        step("POST", Leases, "web", json!({ "metadata": { "name": "web" } })),
        step("GET", Leases, "web", Value::Null),
        step("PUT", Leases, "web", named(json!({ "uid": "$uid:web", "resourceVersion": "$now:web" }))),
        // The same again: nothing is written.
        step("PUT", Leases, "web", named(json!({ "uid": "$uid:web", "resourceVersion": "$now:web" }))),
        step("PUT", Leases, "web", named(json!({ "uid": "$uid:web", "resourceVersion": "$old:web" }))),
        step("PUT", Leases, "web", named(json!({ "uid": "another", "resourceVersion": "$now:web" }))),
        step("PUT", Leases, "web", named(json!({ "uid": "$uid:web" }))),
        step("PATCH", Leases, "web", json!({ "spec": { "leaseDurationSeconds": 15, "holderIdentity": null } })),
        step("PATCH", Leases, "web", json!({ "spec": null, "metadata": { "annotations": { "a": null, "c": "d" } } })),
        step("PATCH", Leases, "none", json!({ "spec": null })),
        step("DELETE", Leases, "web", json!({ "preconditions": { "uid": "another" } })),
        step("DELETE", Leases, "web", json!({ "preconditions": { "resourceVersion": "$old:web" } })),
        step("DELETE", Leases, "web", json!({ "preconditions": { "uid": "$uid:web" } })),
        step("DELETE", Leases, "web", Value::Null),
        // What brings a deleted Lease back, and what does not.
        step("PUT", Leases, "web", named(json!({ "uid": "$uid:web", "resourceVersion": "$now:web" }))),
        step("PUT", Leases, "web", named(json!({ "resourceVersion": "$now:web" }))),
        step("GET", Leases, "web", Value::Null),
        step(
            "POST",
            Events,
            "told",
            json!({
                "metadata": { "name": "told" }, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Elect", "reason": "Test",
                "type": "Normal", "reportingController": "podium.dev/controller", "reportingInstance": "test",
                "regarding": { "apiVersion": "v1", "kind": "Pod", "name": "pod", "namespace": "$namespace" },
            }),
        ),
    ]
}

fn pods() -> Vec<Step> {
    let pod = json!({
        "metadata": { "name": "pod", "labels": { "app": "web" } },
        // No node of this name has a kubelet that would interfere.
        "spec": { "nodeName": "nowhere", "terminationGracePeriodSeconds": 30, "containers": [{ "name": "a", "image": "a" }] },
    });
    let guarded = |uid: &str, version: &str, metadata: Value| {
        let mut patch = json!({ "metadata": { "uid": uid, "resourceVersion": version } });
        patch["metadata"].as_object_mut().expect("an object").extend(metadata.as_object().cloned().expect("an object"));
        patch
    };
    let label = json!({ "labels": { "leader": "true" }, "annotations": { "term.podium.dev/web": "7" } });
    let by_podium = |value: &str| Step {
        query: &[("fieldManager", "podium")],
        ..step("PATCH", Pods, "pod", json!({ "metadata": { "labels": { "leader": value } } }))
    };
    let ready =
        |holds: &str| json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": holds }] } });
    vec![
        step("PATCH", Pods, "pod", guarded("$uid:web", "$now:web", label.clone())),
        step("POST", Pods, "pod", pod.clone()),
        status("PATCH", Pods, "pod", ready("True")),
        step("PATCH", Pods, "pod", guarded("$uid:pod", "$now:pod", label.clone())),
        step("PATCH", Pods, "pod", guarded("$uid:pod", "$now:pod", label.clone())),
        step("PATCH", Pods, "pod", guarded("$uid:pod", "$old:pod", label.clone())),
        step("PATCH", Pods, "pod", guarded("$uid:web", "$now:pod", label.clone())),
        step("PATCH", Pods, "pod", guarded("$uid:web", "$old:pod", label.clone())),
        step("PATCH", Pods, "pod", json!({ "metadata": { "labels": { "leader": null, "never": null } } })),
        // Whose a label is: whoever changed its value last.
        by_podium("true"),
        step("PATCH", Pods, "pod", json!({ "metadata": { "labels": { "leader": "true" } } })),
        step("PATCH", Pods, "pod", json!({ "metadata": { "labels": { "leader": "other" } } })),
        by_podium("true"),
        step("PATCH", Pods, "pod", json!({ "metadata": { "labels": { "leader": null } } })),
        step("PATCH", Pods, "pod", json!({ "metadata": { "labels": { "leader": "true" } } })),
        by_podium("true"),
        step("PATCH", Pods, "pod", json!({ "metadata": { "labels": { "leader": null } } })),
        step("PATCH", Pods, "pod", json!({ "status": { "phase": "Failed" } })),
        status("PATCH", Pods, "pod", ready("False")),
        step("DELETE", Pods, "pod", json!({ "preconditions": { "uid": "another" } })),
        step("DELETE", Pods, "pod", Value::Null),
        step("DELETE", Pods, "pod", Value::Null),
        step("POST", Pods, "pod", pod.clone()),
        step("DELETE", Pods, "pod", json!({ "gracePeriodSeconds": 5 })),
        step("PATCH", Pods, "pod", guarded("$uid:pod", "$now:pod", label.clone())),
        step("DELETE", Pods, "pod", json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": "$uid:pod" } })),
        step("GET", Pods, "pod", Value::Null),
        // Another one of the same name.
        step("POST", Pods, "pod", pod.clone()),
        step("PATCH", Pods, "pod", guarded("$uid:pod", "$old:pod", label)),
        status("PATCH", Pods, "pod", json!({ "status": { "phase": "Failed" } })),
        step("DELETE", Pods, "pod", Value::Null),
    ]
}

fn elections() -> Vec<Step> {
    let election = json!({
        "apiVersion": "podium.dev/v1beta1", "kind": "Election",
        "metadata": { "name": "el", "finalizers": ["example.com/wait"] }, "spec": { "selector": { "matchLabels": { "a": "b" } } },
    });
    let guarded = |version: &str, status: Value| json!({ "metadata": { "uid": "$uid:el", "resourceVersion": version, "labels": { "no": "no" } }, "status": status });
    let full = json!({ "observedGeneration": 1, "leader": "pod", "term": 7, "conditions": null });
    vec![
        status("PATCH", Elections, "el", json!({ "status": full })),
        step("POST", Elections, "el", election.clone()),
        step("POST", Elections, "el", election),
        status("PATCH", Elections, "el", guarded("$now:el", full.clone())),
        status("PATCH", Elections, "el", guarded("$now:el", full.clone())),
        status("PATCH", Elections, "el", guarded("$old:el", full)),
        status("PATCH", Elections, "el", guarded("$now:el", json!({ "leader": null, "term": 8 }))),
        step("PATCH", Elections, "el", json!({ "spec": { "suspend": true }, "status": { "term": 1 } })),
        step("PATCH", Elections, "el", json!({ "metadata": { "annotations": { "a": "b" } } })),
        status("PATCH", Elections, "el", json!({ "status": null })),
        step("DELETE", Elections, "el", Value::Null),
        step("DELETE", Elections, "el", Value::Null),
        step("GET", Elections, "el", Value::Null),
        step("PATCH", Elections, "el", json!({ "metadata": { "finalizers": null } })),
        step("GET", Elections, "el", Value::Null),
    ]
}

fn lists() -> Vec<Step> {
    let election = |name: &str| {
        json!({
            "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": { "name": name }, "spec": { "selector": { "matchLabels": { "a": "b" } } },
        })
    };
    vec![
        step("POST", Elections, "e1", election("e1")),
        step("POST", Elections, "e2", election("e2")),
        step("POST", Elections, "e3", election("e3")),
        read(Elections, &[("limit", "2")]),
        step("DELETE", Elections, "e3", Value::Null),
        // The list goes on as it was when it began.
        read(Elections, &[("limit", "2"), ("continue", "$continue")]),
        read(Elections, &[]),
        step("PATCH", Elections, "e1", json!({ "metadata": { "annotations": { "a": "b" } } })),
        step("DELETE", Elections, "e2", Value::Null),
        read(
            Elections,
            &[("watch", "true"), ("timeoutSeconds", "2"), ("allowWatchBookmarks", "true"), ("resourceVersion", "$list")],
        ),
        read(Leases, &[("fieldSelector", "metadata.namespace!=kube-node-lease")]),
        // Older than anything that a server remembers of Elections: it began to serve them later. (Of what Kubernetes itself
        // defines, a young cluster remembers everything.)
        read(Elections, &[("watch", "true"), ("timeoutSeconds", "2"), ("resourceVersion", "1")]),
    ]
}
