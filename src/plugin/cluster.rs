//! The API server as the caller may use it.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::{Api, Client};
use serde_json::Value;

use super::failure::{Failure, Request};
use crate::api::{Election, ElectionStatus, READY, names};

/// A cluster, and the namespace that the command is about.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

/// An Election as the server sent it. Untyped, so that one which does not fit the type is shown as well.
#[derive(Clone, Debug)]
pub struct Fetched(pub DynamicObject);

impl Cluster {
    /// The Elections of the namespace, or of all.
    pub fn elections(&self, all_namespaces: bool) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<Election>(&());
        match all_namespaces {
            true => Api::all_with(self.client.clone(), &resource),
            false => Api::namespaced_with(self.client.clone(), &self.namespace, &resource),
        }
    }

    /// A request about one Election.
    pub fn request<'a>(&'a self, verb: &'static str, name: &'a str) -> Request<'a> {
        Request { verb, resource: "elections", namespace: Some(&self.namespace), name: Some(name) }
    }

    /// Lists Elections, sorted by namespace and name.
    ///
    /// # Errors
    /// The request failed.
    pub async fn list(&self, all_namespaces: bool, selector: Option<&str>) -> Result<Vec<Fetched>, Failure> {
        let namespace = (!all_namespaces).then_some(self.namespace.as_str());
        let request = Request { verb: "list", resource: "elections", namespace, name: None };
        let how = ListParams { label_selector: selector.map(str::to_owned), ..ListParams::default() };
        let list = request.send(self.elections(all_namespaces).list(&how)).await?;
        // The items of a list do not repeat its types.
        Ok(list.items.into_iter().map(Fetched::of).collect())
    }

    /// Reads one Election.
    ///
    /// # Errors
    /// The request failed, or there is no Election of this name.
    pub async fn get(&self, name: &str) -> Result<Fetched, Failure> {
        let election = self.request("get", name).send(self.elections(false).get(name)).await?;
        Ok(Fetched::of(election))
    }

    /// Reads one Lease, if it exists.
    ///
    /// # Errors
    /// The request failed.
    pub async fn lease(&self, name: &str) -> Result<Option<DeserializeGuard<Lease>>, Failure> {
        let request = Request { verb: "get", resource: "leases", namespace: Some(&self.namespace), name: Some(name) };
        let leases: Api<DeserializeGuard<Lease>> = Api::namespaced(self.client.clone(), &self.namespace);
        request.send(leases.get_opt(name)).await
    }
}

impl Fetched {
    /// Completes an object of a list.
    pub fn of(mut election: DynamicObject) -> Self {
        election.types = Some(kube::core::TypeMeta { api_version: names::API_VERSION.into(), kind: "Election".into() });
        Self(election)
    }

    /// The metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    /// `metadata.name`
    pub fn name(&self) -> &str {
        self.0.metadata.name.as_deref().unwrap_or_default()
    }

    /// `metadata.namespace`
    pub fn namespace(&self) -> &str {
        self.0.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The spec, as the server sent it.
    pub fn spec(&self) -> &Value {
        &self.0.data["spec"]
    }

    /// The label's key.
    pub fn label_key(&self) -> &str {
        self.spec()["label"]["key"].as_str().unwrap_or("leader")
    }

    /// The name of the Election's own Lease.
    pub fn lease_name(&self) -> &str {
        self.spec()["leaseName"].as_str().unwrap_or(self.name())
    }

    /// The name of the Lease that decides who leads, if there is one.
    pub fn followed(&self) -> Option<&str> {
        self.spec()["leaderFrom"]["lease"]["name"].as_str()
    }

    /// `spec.suspend`
    pub fn is_suspended(&self) -> bool {
        self.spec()["suspend"] == true
    }

    /// The status. One that cannot be read counts as none.
    pub fn status(&self) -> ElectionStatus {
        serde_json::from_value(self.0.data["status"].clone()).unwrap_or_default()
    }

    /// The Election in its type, or the reason why it is none.
    pub fn typed(&self) -> DeserializeGuard<Election> {
        let value = serde_json::to_value(&self.0).unwrap_or_default();
        let fallback = || kube::core::error_boundary::InvalidObject {
            error: "it is not an object".into(),
            metadata: self.0.metadata.clone(),
        };
        serde_json::from_value(value).unwrap_or_else(|_| DeserializeGuard(Err(fallback())))
    }

    /// The object for `-o json` and `-o yaml`: without managed fields, as kubectl prints it.
    pub fn shown(&self) -> DynamicObject {
        let mut shown = self.0.clone();
        shown.metadata.managed_fields = None;
        shown
    }
}

/// Whether the API server has confirmed the label of the leader: the condition Ready.
pub fn is_ready(status: &ElectionStatus) -> bool {
    status.condition(READY).is_some_and(|ready| ready.status == "True")
}
