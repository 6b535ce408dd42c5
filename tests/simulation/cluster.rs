//! The server with its clock and its log, shared by all actors of a world.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use podium_test_support::checker::Watched;
use podium_test_support::random::Random;
use podium_test_support::server::{Answer, Request, Resource, Server};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::caches::Caches;

/// The namespace of all objects.
pub const NAMESPACE: &str = "default";

/// The server's initial clock: any current time.
const BEGINNING: i64 = 1_790_000_000;

/// Shared state of all actors.
pub struct Cluster {
    server: Mutex<Server>,
    /// Notifies of every new revision, in the order of the waiters. (A watch channel would wake them in random order.)
    pub revisions: Notify,
    start: Instant,
    log: Mutex<String>,
    requests: AtomicU64,
    caches: Mutex<Caches>,
    /// Input of the checker.
    pub notes: Mutex<Notes>,
}

/// Facts that are not in the history.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// All Elections that ever existed.
    pub watched: Vec<Watched>,
    /// Revisions written to deceive Podium.
    pub forged: BTreeSet<i64>,
}

impl Cluster {
    /// A cluster with this server. Belongs to the current runtime.
    pub fn new(server: Server) -> Self {
        let (revisions, requests) = (Notify::new(), AtomicU64::new(0));
        let (log, notes, caches) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { server: Mutex::new(server), revisions, start: Instant::now(), log, requests, caches, notes }
    }

    /// The server's wall clock.
    pub fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.start.elapsed()).unwrap_or_default();
        Timestamp::constant(BEGINNING, 0).saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    /// Time since the world began.
    pub fn runs(&self) -> std::time::Duration {
        self.start.elapsed()
    }

    /// The instant of this time on the server's wall clock.
    pub fn instant(&self, at: Timestamp) -> Instant {
        let passed = at.duration_since(Timestamp::constant(BEGINNING, 0));
        self.start + std::time::Duration::try_from(passed).unwrap_or_default()
    }

    pub fn server(&self) -> MutexGuard<'_, Server> {
        lock(&self.server)
    }

    pub fn caches(&self) -> MutexGuard<'_, Caches> {
        lock(&self.caches)
    }

    /// Stalls or resumes a watch cache.
    pub fn stall(&self, random: &mut Random) {
        let revision = self.server().revision();
        let what = self.caches().stop_or_go_on(random, revision);
        self.log("apiserver", what);
        self.revisions.notify_waiters();
    }

    /// Resumes all watch caches.
    pub fn go_on(&self) {
        self.caches().go_on();
        self.revisions.notify_waiters();
    }

    /// Adds a line to the log.
    pub fn log(&self, who: &str, what: impl Display) {
        let at = self.start.elapsed();
        let _ = writeln!(lock(&self.log), "{:>7}.{:03} {who}: {what}", at.as_secs(), at.subsec_millis());
    }

    /// Number of requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The log of the world.
    pub fn history(&self) -> String {
        lock(&self.log).clone()
    }

    /// Sends a request without delay.
    pub fn request(&self, caller: &str, request: &Request) -> Answer {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.serve(caller, request)
    }

    fn serve(&self, caller: &str, request: &Request) -> Answer {
        let (answer, before, after) = {
            let mut server = self.server();
            let before = server.revision();
            let answer = server.request(self.now(), request);
            (answer, before, server.revision())
        };
        let outcome = match &answer {
            Answer::Watch(feed) => format!("watching from {}", feed.position),
            Answer::Json(code @ ..400, _) => code.to_string(),
            Answer::Json(code, body) => format!("{code} {}", body["message"].as_str().unwrap_or_default()),
        };
        let Request { method, path, .. } = request;
        self.log(caller, format_args!("{method} {path}: {outcome}"));
        if after > before {
            let words = self.server().history().last().map(describe).unwrap_or_default();
            self.log(caller, words);
            self.revisions.notify_waiters();
        }
        answer
    }

    /// Sends a request without delay. Returns the object, unless the server rejects it.
    pub fn ask(&self, caller: &str, method: &str, (resource, name): (Resource, &str), body: Value) -> Option<Value> {
        self.ask_path(caller, method, resource.path(NAMESPACE, (method != "POST").then_some(name)), body)
    }

    /// Like [`Self::ask`], for requests that are not counted: others than the controllers may send any number.
    pub fn ask_aside(&self, caller: &str, method: &str, (resource, name): (Resource, &str), body: Value) -> Option<Value> {
        let path = resource.path(NAMESPACE, (method != "POST").then_some(name));
        let request = Request { method: method.into(), path, query: BTreeMap::new(), body };
        match self.serve(caller, &request) {
            Answer::Json(..400, body) => Some(body),
            _ => None,
        }
    }

    /// Like [`Self::ask`], for the status.
    pub fn ask_status(&self, caller: &str, (resource, name): (Resource, &str), body: Value) -> Option<Value> {
        self.ask_path(caller, "PATCH", format!("{}/status", resource.path(NAMESPACE, Some(name))), body)
    }

    /// Installs the CRD, which the cleanup reads before it treats an Election as gone.
    pub fn install(&self) {
        let (group, version, plural, kind) = Resource::Elections.names();
        let name = format!("{plural}.{group}");
        let body = json!({
            "metadata": { "name": name },
            "spec": {
                "group": group, "scope": "Namespaced", "names": { "plural": plural, "kind": kind },
                "versions": [{ "name": version, "served": true, "storage": true }],
            },
            "status": { "conditions": [{ "type": "Established", "status": "True" }] },
        });
        self.ask_path("installer", "POST", Resource::Definitions.path("", None), body);
    }

    fn ask_path(&self, caller: &str, method: &str, path: String, body: Value) -> Option<Value> {
        let request = Request { method: method.into(), path, query: BTreeMap::new(), body };
        match self.request(caller, &request) {
            Answer::Json(..400, body) => Some(body),
            _ => None,
        }
    }

    /// Merges metadata into an object, to deceive Podium.
    pub fn forge(&self, caller: &str, what: (Resource, &str), metadata: &Value) {
        let before = self.server().revision();
        self.ask(caller, "PATCH", what, json!({ "metadata": metadata }));
        let after = self.server().revision();
        lock(&self.notes).forged.extend(before + 1..=after);
    }

    /// Objects of one kind by name.
    pub fn all(&self, resource: Resource) -> BTreeMap<String, Value> {
        self.server().all(resource).map(|(id, object)| (id.name.clone(), object.clone())).collect()
    }
}

/// Describes the part of a revision that elections use.
pub fn describe(revision: &podium_test_support::server::Revision) -> String {
    let object = &revision.object;
    let mut text =
        format!("  revision {} {:?} {:?} {}", revision.number, revision.verb, revision.id.resource, revision.id.name);
    let ours = |map: &Value| {
        let entries = map.as_object().into_iter().flatten();
        let entries = entries.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
        entries.collect::<Vec<_>>().join(" ")
    };
    let (labels, annotations) = (ours(&object["metadata"]["labels"]), ours(&object["metadata"]["annotations"]));
    let _ = write!(text, " uid={} [{labels}] [{annotations}]", object["metadata"]["uid"].as_str().unwrap_or_default());
    match revision.id.resource {
        Resource::Pods => {
            let condition = &object["status"]["conditions"][0]["status"];
            let deleting = object["metadata"]["deletionTimestamp"].as_str().map_or("", |_| " terminating");
            let _ = write!(text, " {} ready={condition}{deleting}", object["status"]["phase"]);
        }
        Resource::Leases => drop(write!(text, " {}", object["spec"])),
        Resource::Elections => drop(write!(text, " {} {}", object["spec"], object["status"])),
        Resource::Events => drop(write!(text, " {}", object["note"])),
        Resource::Nodes => drop(write!(text, " {}", object["spec"])),
        Resource::Definitions => {}
    }
    text
}

/// Locks the state, even after a panic elsewhere.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
