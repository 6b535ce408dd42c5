//! Rejections of the server: `Status` objects.

use serde_json::{Value, json};

use super::{Answer, Id};

/// A status code and a body.
pub type Reply = (u16, Value);

/// The `Status` of a failure.
pub fn failure(code: u16, reason: &str, message: &str) -> Reply {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (code, body)
}

/// The same for an object.
fn about(id: &Id, code: u16, reason: &str, message: &str) -> Reply {
    let (group, _, plural, _) = id.resource.names();
    let (code, mut body) = failure(code, reason, message);
    body["details"] = json!({ "name": id.name, "kind": plural });
    if !group.is_empty() {
        body["details"]["group"] = group.into();
    }
    (code, body)
}

/// `leases.coordination.k8s.io "web"`.
fn title(id: &Id) -> String {
    let (group, _, plural, _) = id.resource.names();
    let dot = if group.is_empty() { "" } else { "." };
    format!("{plural}{dot}{group} {:?}", id.name)
}

/// No object has this name.
pub fn not_found(id: &Id) -> Reply {
    about(id, 404, "NotFound", &format!("{} not found", title(id)))
}

/// An object has this name.
pub fn exists(id: &Id) -> Reply {
    about(id, 409, "AlreadyExists", &format!("{} already exists", title(id)))
}

/// The resourceVersion is outdated.
pub fn outdated(id: &Id) -> Reply {
    let message = format!(
        "Operation cannot be fulfilled on {}: the object has been modified; please apply your changes to the latest version and try again",
        title(id)
    );
    about(id, 409, "Conflict", &message)
}

/// The UID or resourceVersion of the preconditions is not the object's.
pub fn precondition(id: &Id, what: &str, wanted: &str, found: &str) -> Reply {
    let message = format!(
        "Operation cannot be fulfilled on {}: Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}",
        title(id)
    );
    about(id, 409, "Conflict", &message)
}

/// The same for DELETE, which names the object's kind.
pub fn precondition_of_delete(id: &Id, what: &str, wanted: &str, found: &str) -> Reply {
    let (code, mut body) = precondition(id, what, wanted, found);
    body["details"]["kind"] = id.resource.names().3.into();
    (code, body)
}

/// An update without a resourceVersion, of a kind that requires one.
pub fn unconditional(id: &Id) -> Reply {
    let why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
    about(id, 422, "Invalid", &format!("{} is invalid: {why}", title(id)))
}

/// A field is invalid.
pub fn invalid(id: &Id, why: &str) -> Reply {
    let (_, _, _, kind) = id.resource.names();
    let (code, mut body) = about(id, 422, "Invalid", &format!("{kind} {:?} is invalid: {why}", id.name));
    body["details"]["kind"] = kind.into();
    (code, body)
}

/// The request is malformed.
pub fn bad_request(message: &str) -> Reply {
    failure(400, "BadRequest", message)
}

/// The path does not allow the verb.
pub fn not_allowed() -> Reply {
    failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

/// A page of a list, or a watch, requires compacted revisions.
pub fn expired(message: &str) -> Reply {
    failure(410, "Expired", message)
}

/// Success without an object.
pub fn done(id: &Id, uid: &str) -> Reply {
    let (group, _, plural, _) = id.resource.names();
    let mut details = json!({ "name": id.name, "kind": plural, "uid": uid });
    if !group.is_empty() {
        details["group"] = group.into();
    }
    (200, json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details }))
}

/// Nothing is served at this path: not even a `Status`.
pub fn no_such_path() -> Answer {
    Answer::Json(404, Value::String("404 page not found\n".into()))
}
