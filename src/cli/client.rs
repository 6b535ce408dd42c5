//! The cluster's configuration, and its client.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use podium::connect::{self, proxy::choose};
use podium::retry_after;

use super::pod::{self, Pod};

/// The namespaces and the pod of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The pod's namespace, if the process runs in a pod.
    pub pod_namespace: Option<String>,
    /// The namespace of the kubeconfig's context.
    pub default_namespace: String,
    /// The pod, if the process runs in a pod of this cluster.
    pub pod: Option<Pod>,
}

/// A source of the cluster's address and credentials. The first that exists is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file that KUBECONFIG names.
    Kubeconfig,
    /// The pod's ServiceAccount.
    InCluster,
    /// `~/.kube/config`
    Home,
}

/// The cluster of KUBECONFIG, or the one that the process runs in. The current context of a user's `~/.kube/config` may be any
/// cluster, so it does not count.
pub const EXPLICIT: &[Source] = &[Source::Kubeconfig, Source::InCluster];

/// Returns a client without retries: they would hide whether the first write was applied.
///
/// # Errors
/// No source exists, or its configuration is unusable.
pub async fn client(sources: &[Source]) -> Result<(Client, Place), String> {
    let (config, in_cluster) = config(sources, None).await?;
    let default_namespace = config.default_namespace.clone();
    let given = std::env::var("POD_NAMESPACE").ok().filter(|namespace| !namespace.is_empty());
    let pod_namespace = given.or_else(|| in_cluster.then(|| default_namespace.clone()));
    Ok((connected(config)?, Place { pod_namespace, default_namespace, pod: in_cluster.then(pod::own).flatten() }))
}

/// Returns the client and the namespace of a user, as kubectl selects them: the file and the context given, or the current context
/// of KUBECONFIG or `~/.kube/config`, or the cluster that the process runs in.
///
/// # Errors
/// As [`client`], or there is no such file or context.
pub async fn of_user(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<(Client, String), String> {
    let config = match kubeconfig {
        Some(path) => {
            let name = format!("the file of --kubeconfig, {},", path.display());
            let file = Kubeconfig::read_from(path).map_err(|error| unusable(&name, &error))?;
            of_kubeconfig(file, context).await?
        }
        None => config(&[Source::Kubeconfig, Source::Home, Source::InCluster], context).await?.0,
    };
    let namespace = config.default_namespace.clone();
    Ok((connected(config)?, namespace))
}

fn connected(mut config: Config) -> Result<Client, String> {
    config.connect_timeout = Some(Duration::from_secs(5));
    // Above the timeout of each request and watch: the server ends a watch after at most 290 s.
    config.read_timeout = Some(Duration::from_secs(300));
    config.reset_reader_on_write = true;
    let client = connect::client(config).map_err(|error| format!("the cluster's configuration is unusable: {error}"))?;
    Ok(retry_after::preserve(&client))
}

/// Returns the configuration, and whether it is a pod's.
async fn config(sources: &[Source], context: Option<&str>) -> Result<(Config, bool), String> {
    let mut why = String::new();
    for source in sources {
        let file = match source {
            Source::Kubeconfig => {
                Kubeconfig::from_env().map_err(|error| unusable("the file that KUBECONFIG names", &error))?
            }
            Source::Home => match home() {
                Some(path) => Some(Kubeconfig::read_from(path).map_err(|error| unusable("~/.kube/config", &error))?),
                None => None,
            },
            Source::InCluster => match Config::incluster() {
                Ok(config) => return Ok((config, true)),
                Err(error) => {
                    why = format!(" ({error})");
                    None
                }
            },
        };
        if let Some(file) = file {
            return Ok((of_kubeconfig(file, context).await?, false));
        }
    }
    let set = if sources.contains(&Source::Kubeconfig) { "set KUBECONFIG to a kubeconfig file, or " } else { "" };
    Err(format!("no cluster is configured: {set}run inside a cluster{why}"))
}

/// Returns the configuration of the kubeconfig's context, by default its current one, as kubectl reads it where kube differs.
async fn of_kubeconfig(mut file: Kubeconfig, context: Option<&str>) -> Result<Config, String> {
    if let Some(name) = context {
        if file.contexts.iter().all(|context| context.name != name) {
            return Err(format!("the kubeconfig has no context {name:?}: `kubectl config get-contexts` lists the contexts"));
        }
        file.current_context = Some(name.to_owned());
    }
    let context = file.contexts.iter().find(|context| Some(&context.name) == file.current_context.as_ref());
    let name = context.and_then(|context| Some(context.context.as_ref()?.cluster.clone()));
    let cluster = file.clusters.iter_mut().find(|cluster| Some(&cluster.name) == name.as_ref());
    let mut proxy_url = None;
    if let Some(cluster) = cluster.and_then(|cluster| cluster.cluster.as_mut()) {
        proxy_url = cluster.proxy_url.take();
        if let Some(server) = cluster.server.as_mut().filter(|server| !server.contains("://")) {
            let secured = cluster.certificate_authority.is_some() || cluster.certificate_authority_data.is_some();
            let scheme = if secured || cluster.insecure_skip_tls_verify == Some(true) { "https" } else { "http" };
            *server = format!("{scheme}://{server}");
        }
    }
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(|error| unusable("the kubeconfig", &error))?;
    // kube compares NO_PROXY with the proxy's address instead of the cluster's.
    config.proxy_url = choose(&config.cluster_url, proxy_url.as_deref(), |name| std::env::var(name).ok())?;
    Ok(config)
}

/// Returns `~/.kube/config`, if it exists.
fn home() -> Option<std::path::PathBuf> {
    let path = std::env::home_dir()?.join(".kube/config");
    path.is_file().then_some(path)
}

fn unusable(what: &str, error: &kube::config::KubeconfigError) -> String {
    format!("{what} is unusable: {error}")
}
