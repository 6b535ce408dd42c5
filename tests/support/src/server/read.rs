//! GET, LIST and WATCH.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::status::{self, Reply};
use super::{Answer, Id, Place, Request, Resource, Revision, Server, Verb};

/// A watch and its position.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The watched objects.
    pub resource: Resource,
    namespace: Option<String>,
    without: Option<String>,
    /// All revisions up to this one were delivered.
    pub position: i64,
    /// Its timeout, in seconds.
    pub seconds: u64,
}

impl Feed {
    fn has(&self, id: &Id) -> bool {
        id.resource == self.resource
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == id.namespace)
            && self.without.as_ref() != Some(&id.namespace)
    }

    /// A bookmark: all events of this kind up to this revision were delivered.
    pub fn bookmark(&self, revision: i64) -> Value {
        let (.., kind) = self.resource.names();
        json!({ "type": "BOOKMARK", "object": {
            "kind": kind, "apiVersion": self.resource.api_version(),
            "metadata": { "resourceVersion": revision.to_string(), "creationTimestamp": null },
            "spec": {}, "status": {},
        }})
    }
}

impl Revision {
    /// Its watch event.
    pub fn event(&self) -> Value {
        let verb = match self.verb {
            Verb::Added => "ADDED",
            Verb::Modified => "MODIFIED",
            Verb::Deleted => "DELETED",
        };
        json!({ "type": verb, "object": *self.object })
    }
}

impl Server {
    pub(super) fn get(&self, place: &Place) -> Result<Reply, Reply> {
        let id = Self::id(place);
        let object = self.objects.get(&id).ok_or_else(|| status::not_found(&id))?;
        Ok((200, (**object).clone()))
    }

    pub(super) fn list(&self, place: &Place, request: &Request) -> Result<Reply, Reply> {
        let feed = self.feed(place, request)?;
        let (at, after) = match request.query.get("continue") {
            None => (self.revision, None),
            Some(token) => {
                let (revision, last) =
                    parse_continue(token).ok_or_else(|| status::bad_request("continue key is not valid"))?;
                if revision < self.compacted {
                    return Err(status::expired(
                        "The provided continue parameter is too old to display a consistent list result.",
                    ));
                }
                (revision, Some(last))
            }
        };
        let objects = self.objects_at(&feed, at);
        let rest: Vec<(&Id, &Arc<Value>)> =
            objects.iter().filter(|(id, _)| after.as_ref().is_none_or(|after| key(id) > *after)).collect();
        let limit = request.query.get("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
        let limit = limit.map_or(usize::MAX, |limit: usize| limit.min(self.page));
        let mut metadata = json!({ "resourceVersion": at.to_string() });
        if rest.len() > limit {
            let last = rest.get(limit - 1).map(|(id, _)| key(id)).unwrap_or_default();
            metadata["continue"] = format!("{at}:{last}").into();
            metadata["remainingItemCount"] = (rest.len() - limit).into();
        }
        let items: Vec<Value> = rest.iter().take(limit).map(|(_, object)| (***object).clone()).collect();
        let (.., kind) = place.resource.names();
        let api_version = place.resource.api_version();
        Ok((200, json!({ "kind": format!("{kind}List"), "apiVersion": api_version, "metadata": metadata, "items": items })))
    }

    /// The objects at this revision.
    fn objects_at(&self, feed: &Feed, at: i64) -> BTreeMap<Id, Arc<Value>> {
        if at == self.revision {
            let objects = self.objects.iter().filter(|(id, _)| feed.has(id));
            return objects.map(|(id, object)| (id.clone(), object.clone())).collect();
        }
        let mut objects = BTreeMap::new();
        for revision in self.history.iter().filter(|revision| revision.number <= at && feed.has(&revision.id)) {
            match revision.verb {
                Verb::Added | Verb::Modified => drop(objects.insert(revision.id.clone(), revision.object.clone())),
                Verb::Deleted => drop(objects.remove(&revision.id)),
            }
        }
        objects
    }

    pub(super) fn watch(&self, place: &Place, request: &Request) -> Answer {
        match self.feed(place, request) {
            Ok(feed) => Answer::Watch(feed),
            Err((code, body)) => Answer::Json(code, body),
        }
    }

    fn feed(&self, place: &Place, request: &Request) -> Result<Feed, Reply> {
        let number = |name: &str| request.query.get(name).and_then(|text| text.parse::<i64>().ok());
        let without = match request.query.get("fieldSelector").map(String::as_str) {
            None | Some("") => None,
            Some(selector) => match selector.strip_prefix("metadata.namespace!=") {
                Some(namespace) => Some(namespace.to_owned()),
                None => {
                    return Err(status::bad_request("this server knows no other field selector than metadata.namespace!="));
                }
            },
        };
        if request.query.get("labelSelector").is_some_and(|selector| !selector.is_empty()) {
            return Err(status::bad_request("this server knows no label selectors"));
        }
        Ok(Feed {
            resource: place.resource,
            namespace: place.namespace.clone(),
            without,
            position: number("resourceVersion").unwrap_or(0),
            seconds: number("timeoutSeconds").and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(1800),
        })
    }

    /// Returns the revisions that the watch has not delivered.
    ///
    /// # Errors
    /// If they are compacted: the event that reports it.
    pub fn news(&self, feed: &Feed, started: bool) -> Result<Vec<Revision>, Value> {
        // A running watch has its revisions in memory, regardless of compaction.
        if !started && feed.position < self.compacted {
            let (_, body) = status::expired(&format!("too old resource version: {} ({})", feed.position, self.compacted));
            return Err(json!({ "type": "ERROR", "object": body }));
        }
        let from = self.history.partition_point(|revision| revision.number <= feed.position);
        Ok(self.history[from..].iter().filter(|revision| feed.has(&revision.id)).cloned().collect())
    }
}

fn key(id: &Id) -> String {
    format!("{}/{}", id.namespace, id.name)
}

fn parse_continue(token: &str) -> Option<(i64, String)> {
    let (revision, last) = token.split_once(':')?;
    Some((revision.parse().ok()?, last.into()))
}
