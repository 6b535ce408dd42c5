//! Why a command failed, in one line: object, state, cause and remedy.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use kube::core::Status;

/// The time for the response to a request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a command ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The reader of the output closed the pipe. That is no error.
    Closed,
    /// The caller lacks a permission.
    Denied(String),
    /// The object changed since it was read.
    Conflict(String),
    /// Any other error.
    Failed(String),
}

impl Failure {
    /// The message for the user, unless it ended quietly.
    pub fn message(self) -> Option<String> {
        match self {
            Self::Closed => None,
            Self::Denied(message) | Self::Conflict(message) | Self::Failed(message) => Some(message),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(format!("failed to write the output: {error}")),
        }
    }
}

/// A request to the API server, as errors name it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The verb of RBAC.
    pub verb: &'static str,
    /// The resource, in the plural.
    pub resource: &'static str,
    /// The namespace. `None`: all.
    pub namespace: Option<&'a str>,
    /// The object's name, if the request is about one object.
    pub name: Option<&'a str>,
}

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, resource, namespace, name } = self;
        let kind = match *resource {
            "elections" => "Election",
            "leases" => "Lease",
            other => other.strip_suffix('s').unwrap_or(other),
        };
        match (namespace, name) {
            (Some(namespace), Some(name)) => write!(f, "{verb} {kind} {namespace}/{name}"),
            (Some(namespace), None) => write!(f, "{verb} {resource} in namespace {namespace}"),
            (None, _) => write!(f, "{verb} {resource}"),
        }
    }
}

impl Request<'_> {
    /// Awaits the response.
    ///
    /// # Errors
    /// The request failed, or the response took too long.
    pub async fn send<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        match tokio::time::timeout(TIMEOUT, request).await {
            Ok(response) => response.map_err(|error| self.failed(&error)),
            Err(_) => Err(Failure::Failed(format!(
                "failed to {self}: no response from the API server within {} s: check the network and --context",
                TIMEOUT.as_secs()
            ))),
        }
    }

    /// Says why the request failed.
    pub fn failed(&self, error: &kube::Error) -> Failure {
        match error {
            kube::Error::Api(status) => self.refused(status),
            kube::Error::Auth(error) => Failure::Failed(format!(
                "failed to {self}: the kubeconfig's credentials are unusable: {}: log in again",
                cause(error)
            )),
            error => {
                Failure::Failed(format!("failed to {self}: {}: check --kubeconfig, --context and the network", cause(error)))
            }
        }
    }

    fn refused(&self, status: &Status) -> Failure {
        let message = status.message.trim();
        match status.code {
            404 if self.is_named(status) => Failure::Failed(self.not_found()),
            404 if self.resource == "elections" => Failure::Failed(format!(
                "failed to {self}: the Election resource is not installed in this cluster: install Podium, or check --context"
            )),
            401 => Failure::Failed(format!("failed to {self}: {message}: log in again, or check --context")),
            403 => Failure::Denied(format!("failed to {self}: {message}: ask an administrator for this permission")),
            409 => Failure::Conflict(format!("failed to {self}: {message}: try again")),
            _ => Failure::Failed(format!("failed to {self}: {message}")),
        }
    }

    /// Says that the object does not exist.
    pub fn not_found(&self) -> String {
        let (namespace, name) = (self.namespace.unwrap_or_default(), self.name.unwrap_or_default());
        match self.resource {
            "elections" => format!(
                "Election {namespace}/{name} not found: `kubectl podium status -A` lists all Elections, -n selects the namespace"
            ),
            resource => format!("failed to {self}: {resource} {name:?} not found"),
        }
    }

    fn is_named(&self, status: &Status) -> bool {
        let named = status.details.as_ref().filter(|details| details.kind == self.resource);
        self.name.is_some() && named.is_some_and(|details| Some(&*details.name) == self.name)
    }
}

/// The innermost error, which names the cause.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(code: u16, name: &str) -> Failure {
        let status = json!({
            "status": "Failure", "message": "the server's message", "code": code,
            "details": { "kind": "elections", "name": name, "group": "podium.dev" },
        });
        let request = Request { verb: "get", resource: "elections", namespace: Some("default"), name: Some("web") };
        request.refused(&serde_json::from_value(status).unwrap())
    }

    #[test]
    fn a_missing_election_is_told_from_a_missing_resource() {
        let Failure::Failed(missing) = refused(404, "web") else { panic!() };
        assert!(missing.starts_with("Election default/web not found: "), "{missing}");
        let Failure::Failed(resource) = refused(404, "") else { panic!() };
        assert!(resource.contains("not installed in this cluster"), "{resource}");
    }

    #[test]
    fn denied_requests_and_conflicts_are_told_from_other_errors() {
        let Failure::Denied(denied) = refused(403, "web") else { panic!() };
        assert_eq!(
            denied,
            "failed to get Election default/web: the server's message: ask an administrator for this permission"
        );
        assert!(matches!(refused(409, "web"), Failure::Conflict(_)));
        assert!(matches!(refused(500, "web"), Failure::Failed(_)));
    }

    #[test]
    fn closed_pipe_is_no_error() {
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).message(), None);
        assert!(Failure::from(io::Error::from(io::ErrorKind::StorageFull)).message().is_some());
    }
}
