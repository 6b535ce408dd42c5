//! The server together with its clock and its log: what everybody in a world shares.

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

/// The namespace in which everything happens.
pub const NAMESPACE: &str = "default";

/// The server's clock at the beginning: any time in the present.
const BEGINNING: i64 = 1_790_000_000;

/// What everybody shares.
pub struct Cluster {
    server: Mutex<Server>,
    /// Tells of every new revision, in the order in which it was asked for. (A watch channel would wake in random order.)
    pub revisions: Notify,
    start: Instant,
    log: Mutex<String>,
    requests: AtomicU64,
    caches: Mutex<Caches>,
    /// What the checker is to know.
    pub notes: Mutex<Notes>,
}

/// What the history cannot tell.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// The Elections that there ever were.
    pub watched: Vec<Watched>,
    /// Revisions that were written to deceive Podium.
    pub forged: BTreeSet<i64>,
}

impl Cluster {
    /// A cluster around this server. Belongs to the runtime that it is made in.
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

    /// How long the world has been running.
    pub fn runs(&self) -> std::time::Duration {
        self.start.elapsed()
    }

    /// When the server's wall clock showed this.
    pub fn instant(&self, at: Timestamp) -> Instant {
        let passed = at.duration_since(Timestamp::constant(BEGINNING, 0));
        self.start + std::time::Duration::try_from(passed).unwrap_or_default()
    }

    /// The server.
    pub fn server(&self) -> MutexGuard<'_, Server> {
        lock(&self.server)
    }

    /// The watch caches of the API servers.
    pub fn caches(&self) -> MutexGuard<'_, Caches> {
        lock(&self.caches)
    }

    /// A watch cache stands still from now on, or goes on.
    pub fn stall(&self, random: &mut Random) {
        let revision = self.server().revision();
        let what = self.caches().stop_or_go_on(random, revision);
        self.log("apiserver", what);
        self.revisions.notify_waiters();
    }

    /// All watch caches go on.
    pub fn go_on(&self) {
        self.caches().go_on();
        self.revisions.notify_waiters();
    }

    /// Writes a line into the log.
    pub fn log(&self, who: &str, what: impl Display) {
        let at = self.start.elapsed();
        let _ = writeln!(lock(&self.log), "{:>7}.{:03} {who}: {what}", at.as_secs(), at.subsec_millis());
    }

    /// How many requests there were.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Everything that happened, in words.
    pub fn history(&self) -> String {
        lock(&self.log).clone()
    }

    /// Asks the server, at this very moment.
    pub fn request(&self, caller: &str, request: &Request) -> Answer {
        self.requests.fetch_add(1, Ordering::Relaxed);
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

    /// Asks the server as somebody who is right beside it. Returns the object, unless it is refused.
    pub fn ask(&self, caller: &str, method: &str, (resource, name): (Resource, &str), body: Value) -> Option<Value> {
        self.ask_path(caller, method, resource.path(NAMESPACE, (method != "POST").then_some(name)), body)
    }

    /// As [`Self::ask`], about the status.
    pub fn ask_status(&self, caller: &str, (resource, name): (Resource, &str), body: Value) -> Option<Value> {
        self.ask_path(caller, "PATCH", format!("{}/status", resource.path(NAMESPACE, Some(name))), body)
    }

    /// Installs the Election resource: what the cleanup asks for before it believes that an Election is gone.
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

    /// Merges into an object's metadata, to deceive Podium.
    pub fn forge(&self, caller: &str, what: (Resource, &str), metadata: &Value) {
        let before = self.server().revision();
        self.ask(caller, "PATCH", what, json!({ "metadata": metadata }));
        let after = self.server().revision();
        lock(&self.notes).forged.extend(before + 1..=after);
    }

    /// The objects of one kind, by name.
    pub fn all(&self, resource: Resource) -> BTreeMap<String, Value> {
        self.server().all(resource).map(|(id, object)| (id.name.clone(), object.clone())).collect()
    }
}

/// A revision in words: what elections go by, and nothing else.
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
        Resource::Definitions => {}
    }
    text
}

/// The state behind it, also after a panic elsewhere.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
