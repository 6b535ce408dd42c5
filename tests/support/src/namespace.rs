//! A namespace for each test.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::waiting::eventually;

/// Creates a namespace named after the test that accepts pods, and returns its name.
///
/// # Panics
/// If the API server rejects it, or does not complete it in time.
pub async fn create(client: &Client) -> String {
    let test = std::thread::current().name().unwrap_or_default().rsplit("::").next().unwrap_or_default().replace('_', "-");
    let prefix: String = test.chars().take(40).collect();
    let namespace = json!({ "metadata": { "generateName": format!("{prefix}-") } });
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(namespace).expect("a namespace");
    let name = namespaces.create(&PostParams::default(), &namespace).await.expect("a new namespace").name_any();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
    eventually("the namespace has its ServiceAccount", async || {
        accounts.get("default").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    name
}
