//! POST, PUT, PATCH and DELETE.

use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::schema::{default_election, merge};
use super::status::{self, Reply};
use super::{Id, Place, Request, Resource, Server, Verb, managers};

/// Metadata that only the server sets.
const OWN: [&str; 5] = ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

fn is_set(object: &Value, field: &str) -> bool {
    object["metadata"].get(field).is_some_and(|value| !value.is_null())
}

fn finalizers(object: &Value) -> usize {
    object["metadata"]["finalizers"].as_array().map_or(0, Vec::len)
}

impl Server {
    pub(super) fn create(&mut self, place: &Place, body: Value) -> Result<Reply, Reply> {
        let mut id = Self::id(place);
        id.name = text(&body, "name").into();
        if id.name.is_empty() {
            return Err(status::invalid(&id, "metadata.name: Required value: name or generateName is required"));
        }
        if !text(&body, "resourceVersion").is_empty() {
            return Err(status::failure(500, "", "resourceVersion should not be set on objects to be created"));
        }
        if self.objects.contains_key(&id) {
            return Err(status::exists(&id));
        }
        self.insert(id, body)
    }

    fn insert(&mut self, id: Id, mut body: Value) -> Result<Reply, Reply> {
        self.uids += 1;
        if body["metadata"].is_null() {
            body["metadata"] = json!({});
        }
        let (.., kind) = id.resource.names();
        body["kind"] = kind.into();
        body["apiVersion"] = id.resource.api_version().into();
        for field in OWN {
            body["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
        }
        body["metadata"]["name"] = id.name.as_str().into();
        if !id.namespace.is_empty() {
            body["metadata"]["namespace"] = id.namespace.as_str().into();
        }
        // Scattered: their order differs from that of the creations.
        let scattered = self.uids.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        body["metadata"]["uid"] = format!("{:08x}-0000-4000-8000-{:012x}", scattered >> 32, self.uids).into();
        body["metadata"]["creationTimestamp"] = self.seconds().into();
        match id.resource {
            Resource::Elections => {
                body["metadata"]["generation"] = 1.into();
                // A creation ignores the status.
                body.as_object_mut().map(|body| body.remove("status"));
                default_election(&mut body);
            }
            Resource::Pods => {
                body.as_object_mut().map(|body| body.remove("status"));
                body["status"] = json!({ "phase": "Pending" });
                managers::note(&Value::Null, &mut body, &self.manager);
            }
            _ => fill_in(&id, &mut body),
        }
        Ok((201, self.commit(id, Verb::Added, body)))
    }

    pub(super) fn replace(&mut self, place: &Place, body: Value) -> Result<Reply, Reply> {
        let id = Self::id(place);
        if text(&body, "name") != id.name {
            return Err(status::bad_request("the name of the object does not match the name on the URL"));
        }
        let uid = text(&body, "uid").to_owned();
        let Some(before) = self.objects.get(&id).cloned() else {
            // A PUT creates a Lease, unless its UID names an existing one.
            return match (id.resource, uid.as_str()) {
                (Resource::Leases, "") => self.insert(id, body),
                (Resource::Leases, uid) => Err(status::precondition(&id, "UID", uid, "")),
                _ => Err(status::not_found(&id)),
            };
        };
        if !uid.is_empty() && uid != text(&before, "uid") {
            return Err(status::precondition(&id, "UID", &uid, text(&before, "uid")));
        }
        let version = text(&body, "resourceVersion");
        if version.is_empty() && id.resource != Resource::Pods {
            return Err(status::unconditional(&id));
        }
        if !version.is_empty() && version != text(&before, "resourceVersion") {
            return Err(status::outdated(&id));
        }
        self.update(place, id, &before, body)
    }

    pub(super) fn patch(&mut self, place: &Place, patch: &Value) -> Result<Reply, Reply> {
        let id = Self::id(place);
        let before = self.objects.get(&id).cloned().ok_or_else(|| status::not_found(&id))?;
        let mut after = (*before).clone();
        merge(&mut after, patch);
        if text(&after, "resourceVersion") != text(&before, "resourceVersion") {
            return Err(status::outdated(&id));
        }
        if text(&after, "uid") != text(&before, "uid") {
            return Err(status::invalid(&id, "metadata.uid: Invalid value: field is immutable"));
        }
        self.update(place, id, &before, after)
    }

    fn update(&mut self, place: &Place, id: Id, before: &Value, body: Value) -> Result<Reply, Reply> {
        let mut after = if place.status {
            // Only the status, whatever else was sent.
            let mut after = before.clone();
            after["status"] = body["status"].clone();
            after
        } else {
            let mut after = body;
            if matches!(id.resource, Resource::Pods | Resource::Elections) {
                after["status"] = before["status"].clone();
            }
            after
        };
        for field in OWN.into_iter().chain(["name", "namespace", "resourceVersion"]) {
            let metadata = after["metadata"].as_object_mut();
            match (metadata, before["metadata"].get(field)) {
                (Some(metadata), Some(value)) => drop(metadata.insert(field.into(), value.clone())),
                (Some(metadata), None) => drop(metadata.remove(field)),
                (None, _) => {}
            }
        }
        for field in ["kind", "apiVersion"] {
            after[field] = before[field].clone();
        }
        let altered = self.admission.iter().filter(|admission| admission.alter(id.resource, before, &mut after)).count();
        prune(&mut after);
        fill_in(&id, &mut after);
        if id.resource == Resource::Pods {
            managers::note(before, &mut after, &self.manager);
        }
        if id.resource == Resource::Elections {
            default_election(&mut after);
            if after["spec"] != before["spec"] {
                after["metadata"]["generation"] = (before["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
            }
        }
        if after == *before {
            return Ok((200, after));
        }
        let gone = is_set(&after, "deletionTimestamp")
            && finalizers(&after) == 0
            && after["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0;
        if gone {
            // The response is the object as last stored.
            let revision = before["metadata"]["resourceVersion"].clone();
            let mut last = self.commit(id, Verb::Deleted, after);
            last["metadata"]["resourceVersion"] = revision;
            return Ok((200, last));
        }
        if altered > 0 {
            self.altered.insert(self.revision + 1);
        }
        Ok((200, self.commit(id, Verb::Modified, after)))
    }

    pub(super) fn delete(&mut self, place: &Place, request: &Request) -> Result<Reply, Reply> {
        let id = Self::id(place);
        let before = self.objects.get(&id).cloned().ok_or_else(|| status::not_found(&id))?;
        let wanted = &request.body["preconditions"];
        for (field, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let found = text(&before, field);
            if let Some(wanted) = wanted[field].as_str().filter(|wanted| *wanted != found) {
                return Err(status::precondition_of_delete(&id, what, wanted, found));
            }
        }
        let grace = if id.resource == Resource::Pods { grace(&before, request) } else { 0 };
        let terminating = is_set(&before, "deletionTimestamp");
        if grace == 0 && finalizers(&before) == 0 {
            let uid = text(&before, "uid").to_owned();
            let mut last = (*before).clone();
            if id.resource == Resource::Pods {
                last["metadata"]["deletionTimestamp"] = self.seconds().into();
                last["metadata"]["deletionGracePeriodSeconds"] = 0.into();
                return Ok((200, self.commit(id, Verb::Deleted, last)));
            }
            self.commit(id.clone(), Verb::Deleted, last);
            return Ok(status::done(&id, &uid));
        }
        let shorter = before["metadata"]["deletionGracePeriodSeconds"].as_i64().is_some_and(|so_far| grace < so_far);
        if terminating && !shorter {
            return Ok((200, (*before).clone()));
        }
        let mut after = (*before).clone();
        let at = self.now.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(self.now);
        after["metadata"]["deletionTimestamp"] = whole(at).into();
        after["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        if let Some(generation) = before["metadata"]["generation"].as_i64() {
            after["metadata"]["generation"] = (generation + 1).into();
        }
        Ok((200, self.commit(id, Verb::Modified, after)))
    }

    fn seconds(&self) -> String {
        whole(self.now)
    }
}

/// The grace period of a pod, in seconds. A pod without a node, or that has ended, needs none.
fn grace(pod: &Value, request: &Request) -> i64 {
    let asked = request.body["gracePeriodSeconds"].as_i64();
    let usual = pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    let over = matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    if pod["spec"]["nodeName"].is_null() || over { 0 } else { asked.unwrap_or(usual) }
}

/// Empty maps and lists in the metadata, and an absent status, are not stored.
fn prune(object: &mut Value) {
    let empty = |value: &Value| {
        value.is_null()
            || value.as_object().is_some_and(serde_json::Map::is_empty)
            || value.as_array().is_some_and(Vec::is_empty)
    };
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|_, value| !empty(value));
    }
    if object["status"].is_null() {
        object.as_object_mut().map(|object| object.remove("status"));
    }
}

/// A Lease always has a spec.
fn fill_in(id: &Id, object: &mut Value) {
    if id.resource == Resource::Leases && object["spec"].is_null() {
        object["spec"] = json!({});
    }
}

fn whole(time: k8s_openapi::jiff::Timestamp) -> String {
    k8s_openapi::jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}
