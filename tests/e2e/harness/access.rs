//! ServiceAccounts with few permissions.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use serde_json::{Value, json};

pub use super::chart::RIGHTS;
use super::cluster::token;
use super::scenario::Scenario;
use super::waiting::eventually;

/// Permissions of the pods of Kubernetes 1.2's leader-elector, and no more.
pub const CONTRIB: [(&str, &str, &[&str]); 1] = [("", "endpoints", &["get", "create", "update"])];

/// Permissions of SupportTools' leader-elector.
pub const SUPPORTTOOLS: [(&str, &str, &[&str]); 1] = [("coordination.k8s.io", "leases", &["get", "create", "update"])];

impl Scenario {
    /// The kubeconfig of a new ServiceAccount without permissions.
    pub async fn account(&self, name: &str) -> Kubeconfig {
        let accounts = self.api::<ServiceAccount>();
        let account = serde_json::from_value(json!({ "metadata": { "name": name } })).expect("an account");
        accounts.create(&PostParams::default(), &account).await.expect("the account is created");
        self.bind(&self.namespace, name).await;
        self.cluster.kubeconfig_of(&token(&accounts, name).await)
    }

    /// Grants everything but this verb on this resource, and waits until that takes effect.
    pub async fn grant_all_but(&self, name: &str, verb: &str, resource: &str) {
        let rest: Vec<Vec<&str>> = RIGHTS
            .iter()
            .map(|(_, of, verbs)| verbs.iter().copied().filter(|other| *of != resource || *other != verb).collect())
            .collect();
        let rights: Vec<(&str, &str, &[&str])> =
            RIGHTS.iter().zip(&rest).map(|((group, of, _), verbs)| (*group, *of, verbs.as_slice())).collect();
        self.grant(name, &rights).await;
        self.until_allowed(name, verb, resource, false).await;
    }

    /// Grants everything, and waits until this permission takes effect.
    pub async fn grant_all(&self, name: &str, verb: &str, resource: &str) {
        self.grant(name, &*RIGHTS).await;
        self.until_allowed(name, verb, resource, true).await;
    }

    /// The kubeconfig of a new ServiceAccount with exactly these permissions, in effect.
    pub async fn account_with(&self, name: &str, rights: &[(&str, &str, &[&str])]) -> Kubeconfig {
        let kubeconfig = self.account(name).await;
        self.grant(name, rights).await;
        for (_, resource, verbs) in rights {
            if let Some(verb) = verbs.first() {
                self.until_allowed(name, verb, resource, true).await;
            }
        }
        kubeconfig
    }

    /// Waits until the API server allows this to the account, or denies it.
    pub async fn until_allowed(&self, name: &str, verb: &str, resource: &str, allowed: bool) {
        let group = RIGHTS.iter().find(|(_, of, _)| *of == resource).map_or("", |(group, _, _)| group);
        self.until_allowed_with(name, verb, (group, resource, None), allowed).await;
    }

    /// The same for a resource of this group, or one object of it.
    pub async fn until_allowed_with(
        &self,
        account: &str,
        verb: &str,
        (group, resource, name): (&str, &str, Option<&str>),
        allowed: bool,
    ) {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({ "spec": {
            "user": format!("system:serviceaccount:{}:{account}", self.namespace),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{}", self.namespace), "system:authenticated"],
            "resourceAttributes": { "namespace": self.namespace, "verb": verb, "group": group, "resource": resource,
                "subresource": subresource, "name": name },
        }});
        let review: SubjectAccessReview = serde_json::from_value(review).expect("a review");
        let reviews: Api<SubjectAccessReview> = Api::all(self.cluster.client.clone());
        eventually(&format!("{account} may {verb} {resource}: {allowed}"), async || {
            let answer = reviews.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
            let status = answer.status.ok_or("no answer")?;
            if status.allowed == allowed { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    }

    /// Grants an account of another namespace all permissions in this one.
    pub async fn admit(&self, home: &Self, name: &str) {
        self.bind(&home.namespace, name).await;
        self.grant(name, &*RIGHTS).await;
    }

    async fn bind(&self, home: &str, name: &str) {
        let binding = json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": home }],
        });
        let binding = serde_json::from_value(binding).expect("a binding");
        self.api::<RoleBinding>().create(&PostParams::default(), &binding).await.expect("the binding is created");
    }

    /// Grants exactly these permissions.
    pub async fn grant(&self, name: &str, rights: &[(&str, &str, &[&str])]) {
        let rule = |(group, resource, verbs): &(&str, &str, &[&str])| -> Value {
            json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs })
        };
        self.grant_rules(name, rights.iter().filter(|(_, _, verbs)| !verbs.is_empty()).map(rule).collect()).await;
    }

    /// Grants exactly the rules of a Role.
    pub async fn grant_rules(&self, name: &str, rules: Vec<Value>) {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": name }, "rules": rules,
        });
        let how = PatchParams::apply("podium-e2e").force();
        self.api::<Role>().patch(name, &how, &Patch::Apply(role)).await.expect("the role is applied");
    }
}
