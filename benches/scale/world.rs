//! The objects under measurement: namespaces with Elections, each with its own pods on kwok's nodes.

use std::future::Future;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use podium::api::Election;
use podium_test_support::bench::Result;
use serde_json::{Value, json};

/// Concurrent requests of the benchmark itself.
pub const CONCURRENCY: usize = 16;

/// Pods of each Election.
pub const PODS: usize = 3;

/// Placement of Elections in namespaces.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Prefix of the namespaces' names.
    pub prefix: &'static str,
    /// Number of namespaces.
    pub namespaces: usize,
    /// Elections in each namespace.
    pub each: usize,
}

impl Layout {
    /// Returns the number of Elections.
    pub fn elections(&self) -> usize {
        self.namespaces * self.each
    }

    /// Returns the name of a namespace.
    pub fn namespace(&self, number: usize) -> String {
        format!("{}-{number}", self.prefix)
    }

    /// Returns the names of all namespaces.
    pub fn namespace_names(self) -> impl Iterator<Item = String> {
        (0..self.namespaces).map(move |number| self.namespace(number))
    }

    /// Returns namespace and name of every Election.
    pub fn names(&self) -> impl Iterator<Item = (String, String)> {
        let layout = *self;
        (0..self.elections())
            .map(move |number| (layout.namespace(number / layout.each), format!("e{}", number % layout.each)))
    }

    /// Creates namespaces and pods, and waits until the pods run. Returns the time.
    pub async fn create_pods(&self, client: &Client) -> Result<Duration> {
        let begun = Instant::now();
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default().labels("type=kwok")).await?.items;
        let nodes: Vec<String> = nodes.into_iter().filter_map(|node| node.metadata.name).collect();
        let nodes = &nodes;
        for number in 0..self.namespaces {
            let namespace =
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": self.namespace(number) } });
            Api::<Namespace>::all(client.clone())
                .create(&PostParams::default(), &serde_json::from_value(namespace)?)
                .await?;
        }
        let names: Vec<_> = self.names().collect();
        let pods = names.iter().enumerate().flat_map(|(number, (namespace, election))| {
            (0..PODS).map(move |pod| {
                let node = nodes.get((number + pod) % nodes.len()).cloned().unwrap_or_default();
                (namespace.clone(), pod_object(election, pod, &node))
            })
        });
        let pods: Vec<(String, Value)> = pods.collect();
        concurrently(pods, |(namespace, pod)| async move {
            let pod: Pod = serde_json::from_value(pod)?;
            let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            retrying(|| async { pods.create(&PostParams::default(), &pod).await.map(drop) }).await
        })
        .await?;
        // The server filters for Pending pods, so that the lists stay short.
        let pending = ListParams::default().fields("status.phase!=Running").limit(1);
        for number in 0..self.namespaces {
            let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace(number));
            while !pods.list_metadata(&pending).await?.items.is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(begun.elapsed())
    }

    /// Creates the Elections. Returns the time.
    pub async fn create_elections(&self, client: &Client) -> Result<Duration> {
        let begun = Instant::now();
        concurrently(self.names().collect(), |(namespace, name)| async move {
            let election: Election = serde_json::from_value(json!({
                "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": { "name": name },
                "spec": { "selector": { "matchLabels": { "app": name } } },
            }))?;
            Api::<Election>::namespaced(client.clone(), &namespace).create(&PostParams::default(), &election).await?;
            Ok(())
        })
        .await?;
        Ok(begun.elapsed())
    }
}

/// Creates an empty namespace.
async fn create_namespace(client: &Client, name: &str) -> Result<()> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &serde_json::from_value(namespace)?).await?;
    Ok(())
}

/// Creates a namespace with pods that belong to no Election. They stay Pending.
pub async fn create_unrelated_pods(client: &Client, namespace: &str, number: usize) -> Result<()> {
    create_namespace(client, namespace).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    concurrently((0..number).collect(), |number: usize| {
        let pods = pods.clone();
        async move {
            let mut object = pod_object(&format!("stranger-{}", number / PODS), number % PODS, "");
            object["spec"]["schedulerName"] = "nobody".into();
            let pod: Pod = serde_json::from_value(object)?;
            retrying(|| async { pods.create(&PostParams::default(), &pod).await.map(drop) }).await
        }
    })
    .await
}

/// Deletes namespaces without waiting.
pub async fn remove(client: &Client, names: impl Iterator<Item = String>) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in names {
        namespaces.delete(&name, &DeleteParams::default()).await?;
    }
    Ok(())
}

/// Returns a pod as of a Deployment, bound to its node, so that the scheduler is not part of the measurement.
fn pod_object(election: &str, number: usize, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{election}-{number}"),
            "labels": { "app": election, "pod-template-hash": "5d8c7f9b64", "app.kubernetes.io/part-of": "bench" },
        },
        "spec": {
            "nodeName": node,
            "containers": [{ "name": "app", "image": "registry.example/app:1.0", "env": [{ "name": "MODE", "value": "production" }] }],
        },
    })
}

/// Runs `each` for all items, [`CONCURRENCY`] in parallel.
pub async fn concurrently<T, F>(items: Vec<T>, each: impl Fn(T) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    stream::iter(items).map(each).buffer_unordered(CONCURRENCY).try_collect().await
}

/// Retries a 403 for 10 s: a namespace's ServiceAccount may appear a moment after the namespace.
async fn retrying<F>(request: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = kube::Result<()>>,
{
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match request().await {
            Ok(()) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 403 && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
