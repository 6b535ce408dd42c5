//! Pods with servers, and changes to them.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::World;
use super::eventually;

/// The pod template of the web server in `cluster/images/web`, labeled `app: web`. It responds with its pod's name, and is
/// Ready while it reports ok.
pub fn web() -> Value {
    json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": { "matchLabels": { "app": "web" } } }],
            "containers": [{
                "name": "main",
                "image": "localhost/web:test",
                "args": ["serve"],
                "ports": [{ "name": "http", "containerPort": 8080 }],
                "readinessProbe": { "httpGet": { "path": "/ok", "port": "http" }, "periodSeconds": 1, "failureThreshold": 1 },
            }],
        },
    })
}

impl World {
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).expect("an object of that kind");
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Creates a Deployment of web servers, and waits until all are Ready.
    pub async fn deploy_web(&self, replicas: usize) -> Vec<Pod> {
        let spec = json!({ "replicas": replicas, "selector": { "matchLabels": { "app": "web" } }, "template": web() });
        let deployment = json!({ "metadata": { "name": "web" }, "spec": spec });
        self.create::<k8s_openapi::api::apps::v1::Deployment>(deployment).await;
        self.all_ready("app=web", replicas).await
    }

    /// Creates a Service `name` for port 8080 of these pods. Returns its URL, which works only in pods.
    pub async fn service(&self, name: &str, selector: Value) -> String {
        let spec = json!({ "selector": selector, "ports": [{ "port": 80, "targetPort": 8080 }] });
        let service: Service = self.create(json!({ "metadata": { "name": name }, "spec": spec })).await;
        let address = service.spec.and_then(|spec| spec.cluster_ip).expect("a ClusterIP");
        format!("http://{address}/")
    }

    /// Waits until this number of pods match, all Ready.
    pub async fn all_ready(&self, selector: &str, number: usize) -> Vec<Pod> {
        eventually(&format!("{number} pods {selector} are Ready"), async || {
            let pods = self.api::<Pod>().list(&ListParams::default().labels(selector)).await;
            let pods = pods.map_err(|error| error.to_string())?.items;
            let all = pods.len() == number && pods.iter().all(|pod| condition(pod, "Ready") == "True");
            if all { Ok(pods) } else { Err(pods.iter().map(told).collect::<Vec<_>>().join("\n")) }
        })
        .await
    }

    /// Waits for this status of the pod's condition `Ready`.
    pub async fn pod_is(&self, name: &str, ready: &str) -> Pod {
        eventually(&format!("{name} is Ready={ready}"), async || {
            let pod = self.api::<Pod>().get(name).await.map_err(|error| error.to_string())?;
            if condition(&pod, "Ready") == ready { Ok(pod) } else { Err(told(&pod)) }
        })
        .await
    }

    /// Makes a web server report ok or not.
    pub async fn say_ok(&self, pod: &Pod, ok: bool) {
        let answer = post(&format!("{}:8080", ip(pod)), &format!("/ok?is={ok}")).await;
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    }

    /// Sends a signal to process 1 of the pod's only container, from outside like the kernel.
    pub async fn signal(&self, pod: &Pod, signal: &str) {
        let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()).expect("a status");
        let container = status[0].container_id.as_deref().expect("a container");
        let container = container.strip_prefix("containerd://").expect("containerd's");
        let arguments = ["enter", &node(pod), "ctr", "tasks", "kill", "--signal", signal, container];
        self.cluster.node(&arguments).await;
    }
}

/// The status of this condition: `True`, `False`, or empty.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> &'a str {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().find(|condition| condition.type_ == kind).map_or("", |condition| &condition.status)
}

/// The pod's node.
pub fn node(pod: &Pod) -> String {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).expect("it is scheduled")
}

pub fn ip(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|status| status.pod_ip.clone()).expect("it has an address")
}

/// Number of restarts of the pod's containers.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    statuses.iter().map(|status| status.restart_count).sum()
}

fn told(pod: &Pod) -> String {
    format!("{}: {}", pod.name_any(), serde_json::to_string(&pod.status).unwrap_or_default())
}

async fn post(address: &str, path: &str) -> String {
    ask("POST", address, path).await.unwrap_or_else(|error| panic!("{address}: {error}"))
}

/// Requests a path from `ADDRESS:PORT`. Returns status and text without the newline.
///
/// # Errors
/// The failure or response.
pub async fn get(address: &str, path: &str) -> Result<(u16, String), String> {
    let answer = ask("GET", address, path).await.map_err(|error| format!("{address}: {error}"))?;
    let (head, text) = answer.split_once("\r\n\r\n").ok_or_else(|| answer.clone())?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| answer.clone())?;
    Ok((status, text.trim_end().to_owned()))
}

async fn ask(method: &str, address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP 1.0: the response ends with the connection, and is not chunked.
    let request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
