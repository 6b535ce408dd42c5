//! Labels of requests to the API server: verb, resource and code, never the names of objects.

use hyper::{Method, Request, StatusCode};

/// Verbs of requests.
pub const VERBS: &[&str] = &["get", "list", "watch", "create", "update", "patch", "other"];

/// Resources of requests.
pub const RESOURCES: &[&str] =
    &["elections", "elections/status", "pods", "leases", "events", "customresourcedefinitions", "other"];

/// Returns the verb, as RBAC names it, and the resource.
pub fn describe<B>(request: &Request<B>) -> (&'static str, &'static str) {
    let path = request.uri().path().trim_start_matches('/');
    let mut parts = path.split('/');
    // api/v1/… or apis/<group>/<version>/…
    let skipped = if parts.next() == Some("apis") { 2 } else { 1 };
    let parts: Vec<&str> = parts.skip(skipped).collect();
    let (resource, name, subresource) = match parts[..] {
        ["namespaces", _, resource, ref rest @ ..] | [resource, ref rest @ ..] => {
            (resource, rest.first().copied(), rest.get(1).copied())
        }
        [] => ("", None, None),
    };
    let full = match subresource {
        None => resource.to_owned(),
        Some(subresource) => format!("{resource}/{subresource}"),
    };
    let query = request.uri().query().unwrap_or_default();
    let verb = match *request.method() {
        Method::GET if query.split('&').any(|part| matches!(part, "watch=true" | "watch=1")) => "watch",
        Method::GET if name.is_some() => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        _ => "other",
    };
    let resource = RESOURCES.iter().copied().find(|known| *known == full).unwrap_or("other");
    (verb, resource)
}

/// Returns the code of the response. Unknown codes share one series.
pub fn code(status: Option<StatusCode>) -> String {
    match status {
        None => "none".into(),
        Some(status) if status.canonical_reason().is_some() => status.as_str().into(),
        Some(_) => "other".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_has_a_verb_and_a_resource() {
        for (method, path, expected) in [
            ("GET", "/api/v1/pods?limit=500", ("list", "pods")),
            ("GET", "/api/v1/namespaces/pods/pods?&watch=true&timeoutSeconds=290", ("watch", "pods")),
            ("GET", "/api/v1/namespaces/a/pods/leases", ("get", "pods")),
            ("PATCH", "/api/v1/namespaces/a/pods/web-0?fieldManager=podium", ("patch", "pods")),
            ("GET", "/apis/coordination.k8s.io/v1/leases?", ("list", "leases")),
            ("POST", "/apis/coordination.k8s.io/v1/namespaces/a/leases", ("create", "leases")),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/web", ("update", "leases")),
            ("PATCH", "/apis/podium.dev/v1beta1/namespaces/a/elections/web/status", ("patch", "elections/status")),
            ("POST", "/apis/events.k8s.io/v1/namespaces/a/events", ("create", "events")),
            (
                "GET",
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/elections.podium.dev",
                ("get", "customresourcedefinitions"),
            ),
            ("GET", "/api/v1/namespaces", ("list", "other")),
            ("DELETE", "/api/v1/namespaces/a/secrets/x", ("other", "other")),
            ("GET", "/version", ("list", "other")),
        ] {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            assert_eq!(describe(&request), expected, "{method} {path}");
            assert!(VERBS.contains(&expected.0) && RESOURCES.contains(&expected.1));
        }
        assert_eq!(code(StatusCode::from_u16(409).ok()), "409");
        assert_eq!((code(StatusCode::from_u16(799).ok()), code(None)), ("other".into(), "none".into()));
    }
}
