//! The chart's admission policies, for one test's account and namespace.

use http::Request;
use http_body_util::BodyExt;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::api::DeleteParams;
use kube::client::Body;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::chart::{self, CLUSTER};
use super::scenario::Scenario;
use super::waiting::eventually;

/// Policies on the controllers' account.
pub const CONTROLLER: [&str; 2] = ["podium-controller-pods", "podium-controller-leases"];

/// Policies on all other accounts.
pub const USERS: [&str; 2] = ["podium-users-terms", "podium-users-labels"];

/// Policies in force in the test's namespace.
pub struct Policies<'a> {
    world: &'a Scenario,
    names: Vec<String>,
}

/// A response of the API server.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub warnings: Vec<String>,
    /// Message of a rejection.
    pub message: String,
}

impl Scenario {
    /// Puts these policies of the chart in force in the test's namespace, with its controllers' account `podium`, these
    /// actions, and these replacements.
    pub async fn policies(&self, policies: &[&str], actions: &[&str], replace: &[(&str, &str)]) -> Policies<'_> {
        let user = format!("system:serviceaccount:{}:podium", self.namespace);
        let own = format!("request.namespace == '{}'", self.namespace);
        let mut names = Vec::new();
        for policy in policies {
            let name = format!("{policy}-{}", self.namespace);
            for kind in ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"] {
                let text = chart::object(CLUSTER, kind, policy).to_string();
                let text = text.replace("system:serviceaccount:podium:podium", &user);
                let text = text.replace("request.namespace == 'podium'", &own);
                let text = replace.iter().fold(text, |text, (old, new)| {
                    assert!(kind.ends_with("Binding") || text.contains(old), "{old} is in {policy}");
                    text.replace(old, new)
                });
                let mut object: Value = serde_json::from_str(&text).expect("JSON");
                object["metadata"]["name"] = json!(name);
                if kind.ends_with("Binding") {
                    object["spec"]["policyName"] = json!(name);
                    object["spec"]["validationActions"] = json!(actions);
                    object["spec"]["matchResources"] =
                        json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": self.namespace } } });
                }
                self.cluster.apply(object).await;
            }
            names.push(name);
        }
        Policies { world: self, names }
    }

    /// Sends a dry-run request on `path` in the test's namespace, such as `pods/web-0`, as this client. Without a name, it
    /// creates.
    pub async fn dry_run(&self, client: &Client, path: &str, body: Value) -> Answer {
        let creates = !path.contains('/') || path.ends_with("/binding") || path.ends_with("/eviction");
        let (method, kind) =
            if creates { ("POST", "application/json") } else { ("PATCH", "application/strategic-merge-patch+json") };
        self.send(client, method, kind, path, body).await
    }

    /// Sends a dry-run request.
    pub async fn send(&self, client: &Client, method: &str, kind: &str, path: &str, body: Value) -> Answer {
        let group = if path.starts_with("leases") { "apis/coordination.k8s.io/v1" } else { "api/v1" };
        let uri = format!("/{group}/namespaces/{}/{path}?dryRun=All", self.namespace);
        let request = Request::builder().method(method).uri(uri).header("Content-Type", kind);
        let request = request.body(Body::from(body.to_string().into_bytes())).expect("a request");
        let answer = client.send(request).await.expect("an answer");
        let warnings = answer.headers().get_all("warning").iter().filter_map(|text| text.to_str().ok().map(str::to_owned));
        let (code, warnings) = (answer.status().as_u16(), warnings.collect());
        let body = answer.into_body().collect().await.expect("an answer").to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = if code < 300 { String::new() } else { body["message"].as_str().unwrap_or_default().to_owned() };
        Answer { code, warnings, message }
    }
}

impl Policies<'_> {
    /// Waits until this dry-run request gets the response of policies in force.
    pub async fn in_force(&self, client: &Client, path: &str, body: Value, shows: impl Fn(&Answer) -> bool) {
        eventually("the policies are in force", async || {
            let answer = self.world.dry_run(client, path, body.clone()).await;
            if shows(&answer) { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }

    pub async fn remove(self) {
        let client = &self.world.cluster.client;
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
        for name in &self.names {
            bindings.delete(name, &DeleteParams::default()).await.expect("the binding is deleted");
            policies.delete(name, &DeleteParams::default()).await.expect("the policy is deleted");
        }
    }
}
