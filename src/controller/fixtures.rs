//! Test fixtures: objects, caches, and a scripted API server that records its requests.

#![allow(missing_docs, reason = "test fixtures")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::key::{Key, Kind, Scope};
use super::limits::{LabelKeys, Limits};
use super::monitor::Monitor;
use super::observe::cached::{self, Named};
use super::observe::world::{Changes, World};
use super::options::Options;
use super::server::{ApiServer, Read, Refusal, Write};
use super::shared::Shared;
use crate::api::names;
use crate::ids::{PodRef, Term, Uid};
use crate::lease::cause::Cause;
use crate::lease::record::Record;

pub fn limits() -> Limits {
    Limits { label_keys: LabelKeys::new(["leader".into(), "*/leader".into()]), own_lease: None }
}

pub fn key(name: &str) -> Key {
    Key { namespace: "default".into(), name: name.into() }
}

fn metadata(name: &str, revision: i64) -> Value {
    json!({ "namespace": "default", "name": name, "uid": format!("{name}-uid"), "resourceVersion": revision.to_string() })
}

/// An Election with the selector `app: web`.
pub fn election(name: &str, revision: i64, change: impl FnOnce(&mut Value)) -> Named {
    let mut object = json!({
        "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": metadata(name, revision),
        "spec": { "selector": { "matchLabels": { "app": "web" } } },
    });
    object["metadata"]["generation"] = json!(1);
    change(&mut object);
    let guard: DeserializeGuard<crate::api::Election> = serde_json::from_value(object).unwrap();
    cached::election(guard, &limits()).unwrap()
}

/// A running pod with `app: web`, not Ready.
pub fn pod(name: &str, revision: i64, change: impl FnOnce(&mut Value)) -> Named {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata(name, revision), "status": { "phase": "Running" },
    });
    object["metadata"]["labels"] = json!({ "app": "web" });
    change(&mut object);
    cached::pod(serde_json::from_value(object).unwrap()).unwrap()
}

pub fn ready(object: &mut Value) {
    object["status"]["conditions"] =
        json!([{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
}

/// Ready, and claimed in advance by the Election `web`.
pub fn claimed(object: &mut Value) {
    ready(object);
    object["metadata"]["annotations"] = json!({ names::claim("web"): "0" });
}

/// Makes this field manager the only one of these labels.
pub fn set_by(object: &mut Value, manager: &str, labels: &[&str]) {
    let labels: serde_json::Map<_, _> = labels.iter().map(|key| (format!("f:{key}"), json!({}))).collect();
    object["metadata"]["managedFields"] =
        json!([{ "manager": manager, "fieldsV1": { "f:metadata": { "f:labels": labels } } }]);
}

/// The Lease of the Election `name` as Podium writes it, with this term and holder.
pub fn lease(name: &str, revision: i64, holder: &str, term: i64) -> Named {
    lease_after(name, revision, holder, term, None)
}

/// The same with these unfenced former holders.
pub fn lease_after(name: &str, revision: i64, holder: &str, term: i64, unfenced: Option<&str>) -> Named {
    let mut object = json!({ "metadata": metadata(name, revision), "spec": {
        "holderIdentity": holder, "leaseDurationSeconds": i32::MAX, "leaseTransitions": 0,
    }});
    let incarnation = format!("{name}-uid");
    let record = Record {
        holder: Some(PodRef { name: holder.into(), uid: format!("{holder}-uid").as_str().into() }),
        term: Term::parse(&term.to_string()).unwrap(),
        unfenced: unfenced.iter().flat_map(|uids| uids.split(',')).map(Uid::from).collect(),
        cause: Cause::Unknown,
        reason: String::new(),
    };
    object["metadata"]["uid"] = json!("lease-uid");
    let annotations: BTreeMap<_, _> = record.annotations(&incarnation).into_iter().collect();
    object["metadata"]["annotations"] = json!(annotations);
    object["metadata"]["annotations"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
    object["metadata"]["annotations"][names::INCARNATION] = json!(incarnation);
    cached::lease(serde_json::from_value(object).unwrap()).unwrap()
}

/// Synced caches of these objects.
pub fn world(items: impl IntoIterator<Item = Named>) -> World {
    let mut world = World::new(&Scope::Cluster, Arc::new(Timestamp::now));
    for kind in [Kind::Elections, Kind::Leases, Kind::Pods] {
        world.watched(kind, None, Event::Init);
        world.watched(kind, None, Event::InitDone);
    }
    for item in items {
        apply(&mut world, item);
    }
    world
}

pub fn apply(world: &mut World, item: Named) -> Changes {
    world.watched(item.object.kind(), None, Event::Apply(item))
}

pub fn delete(world: &mut World, item: Named) -> Changes {
    world.watched(item.object.kind(), None, Event::Delete(item))
}

type Answer = Result<Vec<Named>, Refusal>;

/// Scripted API server: responds in order, then with empty successes.
#[derive(Default)]
pub struct Script {
    pub writes: Mutex<Vec<Write>>,
    pub reads: Mutex<Vec<Read>>,
    pub to_writes: Mutex<VecDeque<Answer>>,
    pub to_reads: Mutex<VecDeque<Answer>>,
    pub serves_elections: bool,
}

/// Responses in this order.
pub fn answers<const N: usize>(answers: [Answer; N]) -> Mutex<VecDeque<Answer>> {
    Mutex::new(answers.into())
}

impl ApiServer for Script {
    async fn write(&self, _: &str, write: Write) -> Result<Option<Named>, Refusal> {
        self.writes.lock().unwrap().push(write);
        let answer = self.to_writes.lock().unwrap().pop_front().unwrap_or(Ok(Vec::new()));
        answer.map(|mut items| items.pop())
    }

    async fn read(&self, _: &str, read: Read) -> Answer {
        self.reads.lock().unwrap().push(read);
        self.to_reads.lock().unwrap().pop_front().unwrap_or(Ok(Vec::new()))
    }

    async fn serves_elections(&self) -> Result<bool, Refusal> {
        Ok(self.serves_elections)
    }
}

/// Options for the whole cluster.
pub fn options() -> Options {
    Options {
        scope: Scope::Cluster,
        limits: limits(),
        instance: "test".into(),
        clock: Arc::new(|| Timestamp::from_second(1_790_000_000).unwrap()),
        candidacy: None,
        http: None,
    }
}

/// A controller with these cached objects and this API server.
pub fn shared(script: Script, items: impl IntoIterator<Item = Named>) -> Shared<Script> {
    let options = options();
    let monitor = Monitor::new(&options, false);
    let shared = Shared::new(script, options, monitor);
    for queue in [&shared.elections, &shared.background, &shared.cleanups] {
        queue.open();
    }
    *shared.world() = world(items);
    shared
}

pub fn absent(named: bool) -> Refusal {
    Refusal::NotFound { message: "not found".into(), named }
}
