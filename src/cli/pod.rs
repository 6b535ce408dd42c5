//! The pod of this process, from its ServiceAccount token: the host name may differ from the pod's name.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The path of the token that the kubelet mounts.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The pod of this process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Pod {
    pub name: String,
    pub uid: String,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
struct Kubernetes {
    pod: Pod,
}

/// Returns the pod that the token was issued for. `None`: there is no token, or it names no pod.
pub fn own() -> Option<Pod> {
    named_in(&std::fs::read_to_string(TOKEN).ok()?)
}

/// Reads the claims. Nothing is trusted that the pod could not claim by itself, so the signature is not checked.
fn named_in(token: &str) -> Option<Pod> {
    let claims = URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?;
    let Claims { kubernetes: Kubernetes { pod } } = serde_json::from_slice(&claims).ok()?;
    Some(pod).filter(|Pod { name, uid }| !name.is_empty() && !uid.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJl\n", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn pod_is_read_from_its_token() {
        // As issued by the API server.
        let bound = token(
            r#"{"aud":["https://kubernetes.default.svc"],"exp":1795555555,"kubernetes.io":{"namespace":"default","node":{"name":"n1","uid":"n"},"pod":{"name":"web-0","uid":"6e3f0d5e-0000-4000-8000-000000000001"},"serviceaccount":{"name":"default","uid":"s"},"warnafter":1764000000},"sub":"system:serviceaccount:default:default"}"#,
        );
        let expected = Pod { name: "web-0".into(), uid: "6e3f0d5e-0000-4000-8000-000000000001".into() };
        assert_eq!(named_in(&bound), Some(expected));
    }

    #[test]
    fn tokens_without_a_pod_name_none() {
        let legacy = token(r#"{"iss":"kubernetes/serviceaccount","kubernetes.io/serviceaccount/namespace":"default"}"#);
        let bound_to_a_secret = token(r#"{"kubernetes.io":{"namespace":"default","secret":{"name":"x","uid":"y"}}}"#);
        let empty = token(r#"{"kubernetes.io":{"pod":{"name":"","uid":""}}}"#);
        for token in [&legacy, &bound_to_a_secret, &empty, "", "opaque", "a.b.c", "a.%%%.c"] {
            assert_eq!(named_in(token), None, "{token}");
        }
    }
}
