//! An API server in memory, with the real one's semantics for all of Podium's requests:
//! `tests/e2e/fixtures/simulated_server.rs` sends the same requests to both.
//!
//! It keeps every revision. It has no clock but the given one, and does not know Podium.

mod admission;
mod managers;
mod read;
mod resource;
mod schema;
mod status;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub use admission::{Admission, Rule};
pub use read::Feed;
pub use resource::{Place, Resource};

/// An HTTP request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`, `PUT`, `PATCH` (always a merge patch), `DELETE`.
    pub method: String,
    /// The path.
    pub path: String,
    /// The query.
    pub query: BTreeMap<String, String>,
    /// The body; null if absent.
    pub body: Value,
}

/// A response.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status code and a JSON body.
    Json(u16, Value),
    /// The start of a watch.
    Watch(Feed),
}

/// The effect of a revision on its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It was deleted.
    Deleted,
}

/// The identity of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// The kind of the object.
    pub resource: Resource,
    /// Its namespace; empty if cluster-scoped.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One revision.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Its number.
    pub number: i64,
    /// Its time on the server's clock.
    pub at: Timestamp,
    /// The object.
    pub id: Id,
    /// Its effect.
    pub verb: Verb,
    /// The object; if deleted, its last state with the number of this revision.
    pub object: Arc<Value>,
}

/// The API server.
#[derive(Debug)]
pub struct Server {
    revision: i64,
    compacted: i64,
    objects: BTreeMap<Id, Arc<Value>>,
    history: Vec<Revision>,
    uids: u64,
    now: Timestamp,
    /// The writer: the field manager of the current request.
    manager: String,
    /// Maximum objects on a page of a list, whatever the request.
    page: usize,
    /// Mutating admission.
    pub admission: Vec<Admission>,
    /// Revisions altered by admission.
    pub altered: BTreeSet<i64>,
}

impl Server {
    /// A server without objects, with this next revision.
    pub fn new(revision: i64, page: usize) -> Self {
        let now = Timestamp::UNIX_EPOCH;
        let (objects, history) = (BTreeMap::new(), Vec::new());
        let (admission, altered) = (Vec::new(), BTreeSet::new());
        let manager = String::new();
        Self { revision, compacted: 0, objects, history, uids: 0, now, manager, page, admission, altered }
    }

    /// Responds to a request. `now`: the server's clock.
    pub fn request(&mut self, now: Timestamp, request: &Request) -> Answer {
        self.now = now;
        // The real server defaults to the client's name.
        self.manager = request.query.get("fieldManager").map_or_else(|| "unnamed".into(), Clone::clone);
        let Some(place) = Place::parse(&request.path) else { return status::no_such_path() };
        let answer = match (request.method.as_str(), &place.name) {
            ("GET", Some(_)) => self.get(&place),
            ("GET", None) if request.query.get("watch").is_some_and(|watch| watch == "true") => {
                return self.watch(&place, request);
            }
            ("GET", None) => self.list(&place, request),
            ("POST", None) => self.create(&place, request.body.clone()),
            ("PUT", Some(_)) => self.replace(&place, request.body.clone()),
            ("PATCH", Some(_)) => self.patch(&place, &request.body),
            ("DELETE", Some(_)) => self.delete(&place, request),
            _ => Err(status::not_allowed()),
        };
        let (code, body) = answer.unwrap_or_else(|refusal| refusal);
        Answer::Json(code, body)
    }

    /// All revisions.
    pub fn history(&self) -> &[Revision] {
        &self.history
    }

    /// The current revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Compacts revisions before the current one.
    pub fn compact(&mut self) {
        self.compacted = self.revision;
    }

    /// The objects of one kind.
    pub fn all(&self, resource: Resource) -> impl Iterator<Item = (&Id, &Value)> {
        self.objects.iter().filter(move |(id, _)| id.resource == resource).map(|(id, object)| (id, &**object))
    }

    fn id(place: &Place) -> Id {
        let name = place.name.clone().unwrap_or_default();
        Id { resource: place.resource, namespace: place.namespace.clone().unwrap_or_default(), name }
    }

    /// Commits a new revision.
    fn commit(&mut self, id: Id, verb: Verb, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let shared = Arc::new(object.clone());
        match verb {
            Verb::Added | Verb::Modified => drop(self.objects.insert(id.clone(), shared.clone())),
            Verb::Deleted => drop(self.objects.remove(&id)),
        }
        self.history.push(Revision { number: self.revision, at: self.now, id, verb, object: shared });
        object
    }
}
