//! Accounts with few rights.

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, Kubeconfig};
use serde_json::{Value, json};

use super::scenario::Scenario;

/// What a controller needs in a namespace: API group, resource and verbs.
pub const RIGHTS: [(&str, &str, &[&str]); 5] = [
    ("podium.dev", "elections", &["get", "list", "watch"]),
    ("podium.dev", "elections/status", &["patch"]),
    ("", "pods", &["get", "list", "watch", "patch"]),
    ("coordination.k8s.io", "leases", &["get", "list", "watch", "create", "update"]),
    ("events.k8s.io", "events", &["create"]),
];

impl Scenario {
    /// A ServiceAccount without any rights: the kubeconfig with its token.
    pub async fn account(&self, name: &str) -> Kubeconfig {
        let accounts = self.api::<ServiceAccount>();
        let account = serde_json::from_value(json!({ "metadata": { "name": name } })).expect("an account");
        accounts.create(&PostParams::default(), &account).await.expect("the account is created");
        let binding = json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": self.namespace }],
        });
        let binding = serde_json::from_value(binding).expect("a binding");
        self.api::<RoleBinding>().create(&PostParams::default(), &binding).await.expect("the binding is created");
        let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let token = accounts.create_token_request(name, &PostParams::default(), &request).await.expect("a token");
        let token = token.status.expect("a token").token;
        let mut kubeconfig = self.cluster.kubeconfig.clone();
        let user: AuthInfo = serde_json::from_value(json!({ "token": token })).expect("a user");
        kubeconfig.auth_infos[0].auth_info = Some(user);
        kubeconfig
    }

    /// Gives the account exactly these rights.
    pub async fn grant(&self, name: &str, rights: &[(&str, &str, &[&str])]) {
        let rule = |(group, resource, verbs): &(&str, &str, &[&str])| -> Value {
            json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs })
        };
        let rules: Vec<Value> = rights.iter().map(rule).collect();
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": name }, "rules": rules,
        });
        let how = PatchParams::apply("podium-e2e").force();
        self.api::<Role>().patch(name, &how, &Patch::Apply(role)).await.expect("the role is applied");
    }
}
