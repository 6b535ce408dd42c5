//! The cluster under measurement.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Result;

/// Bound on the deletion of a namespace with its objects.
const DEADLINE: Duration = Duration::from_secs(300);

/// A cluster that runs nothing else meanwhile.
pub struct Cluster {
    /// Never retries: a failed request is no measurement.
    pub client: Client,
    /// Passed to the processes that benchmarks start.
    pub kubeconfig: PathBuf,
}

impl Cluster {
    /// Returns the cluster of `PODIUM_KUBECONFIG`, which `benches/run` sets.
    pub async fn from_env() -> Result<Self> {
        let kubeconfig = std::env::var_os("PODIUM_KUBECONFIG")
            .map(PathBuf::from)
            .ok_or("set PODIUM_KUBECONFIG to the kubeconfig of a cluster for benchmarks, for example $(cluster/up bench)")?;
        let client = Self::client(&Kubeconfig::read_from(&kubeconfig)?).await?;
        Ok(Self { client, kubeconfig })
    }

    /// Returns a client with its own connections, so that a peer of Podium is not slower because of its client.
    pub async fn client(kubeconfig: &Kubeconfig) -> Result<Client> {
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }

    /// Returns the API of a kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Applies Podium's CRD and waits until it is established.
    pub async fn define(&self) -> Result<()> {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let definition = include_str!("../../../../crds/elections.podium.dev.yaml");
        let definition = Patch::Apply(serde_yaml::from_str::<Value>(definition)?);
        definitions.patch("elections.podium.dev", &applying(), &definition).await?;
        let established = await_condition(definitions, "elections.podium.dev", conditions::is_crd_established());
        timeout(DEADLINE, established).await??;
        Ok(())
    }

    /// Creates an empty namespace. Removes the one of an earlier run first.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        self.remove(name).await?;
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.patch(name, &applying(), &Patch::Apply(namespace)).await?;
        Ok(())
    }

    /// Deletes a namespace with its objects and waits until it is gone.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let Some(namespace) = namespaces.get_opt(name).await? else { return Ok(()) };
        let uid = namespace.metadata.uid.unwrap_or_default();
        namespaces.delete(name, &DeleteParams::default()).await?;
        timeout(DEADLINE, await_condition(namespaces, name, conditions::is_deleted(&uid))).await??;
        Ok(())
    }

    /// Applies an object from a manifest with kind and name.
    pub async fn apply<K>(&self, namespace: &str, manifest: Value) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + Debug,
    {
        let name = manifest["metadata"]["name"].as_str().ok_or("a manifest without a name")?.to_owned();
        Ok(self.api::<K>(namespace).patch(&name, &applying(), &Patch::Apply(manifest)).await?)
    }
}

fn applying() -> PatchParams {
    PatchParams::apply("bench").force()
}
