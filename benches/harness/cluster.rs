//! The cluster that is measured on.

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
use podium::api::custom_resource_definition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Result;

/// How long a namespace with everything in it may take to go.
const DEADLINE: Duration = Duration::from_secs(300);

/// A cluster that nobody else uses meanwhile.
pub struct Cluster {
    /// Never tries again by itself: a request that failed is no measurement.
    pub client: Client,
    /// For processes that are started.
    pub kubeconfig: PathBuf,
}

impl Cluster {
    /// The one that `PODIUM_KUBECONFIG` names, as `benches/run` sets it.
    pub async fn from_env() -> Result<Self> {
        let kubeconfig = std::env::var_os("PODIUM_KUBECONFIG")
            .map(PathBuf::from)
            .ok_or("set PODIUM_KUBECONFIG to the kubeconfig of a cluster for benchmarks, for example $(cluster/up bench)")?;
        let client = Self::client(&Kubeconfig::read_from(&kubeconfig)?).await?;
        Ok(Self { client, kubeconfig })
    }

    /// Another client, with connections of its own.
    pub async fn client(kubeconfig: &Kubeconfig) -> Result<Client> {
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }

    /// The objects of a kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Applies Podium's resource definition, and waits until it is served.
    pub async fn define(&self) -> Result<()> {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let definition = Patch::Apply(custom_resource_definition());
        definitions.patch("elections.podium.dev", &applying(), &definition).await?;
        let established = await_condition(definitions, "elections.podium.dev", conditions::is_crd_established());
        timeout(DEADLINE, established).await??;
        Ok(())
    }

    /// Makes a namespace, empty: what an earlier run left is removed first.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        self.remove(name).await?;
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.patch(name, &applying(), &Patch::Apply(namespace)).await?;
        Ok(())
    }

    /// Removes a namespace with everything in it, and waits until it is gone.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let Some(namespace) = namespaces.get_opt(name).await? else { return Ok(()) };
        let uid = namespace.metadata.uid.unwrap_or_default();
        namespaces.delete(name, &DeleteParams::default()).await?;
        timeout(DEADLINE, await_condition(namespaces, name, conditions::is_deleted(&uid))).await??;
        Ok(())
    }

    /// Applies an object from its manifest, which has its kind and name.
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
