//! Shared state of a run: the namespace, its groups of pods and their Elections.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Pod;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use podium_test_support::checker::Watched;

use crate::figures::Figures;

/// Namespace of the run.
pub const NAMESPACE: &str = "chaos";
/// Pods per group.
pub const PODS: u64 = 3;
/// Annotation of writes that are meant to deceive Podium. Each has a new value.
pub const FORGED: &str = "chaos.example/forged";

/// Settings of a run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Duration of the faults.
    pub seconds: u64,
    /// Decides the faults.
    pub seed: u64,
    /// Number of groups of pods.
    pub groups: u64,
}

impl Settings {
    pub fn read() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
        Self {
            seconds: number("PODIUM_CHAOS_SECONDS", 180),
            seed: number("PODIUM_CHAOS_SEED", now),
            groups: number("PODIUM_CHAOS_GROUPS", 160),
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let Some(value) = std::env::var(variable).ok().filter(|value| !value.is_empty()) else { return default };
    value.parse().unwrap_or_else(|_| panic!("{variable} is {value:?}: a whole number, please"))
}

/// Pods, and the Elections that select them.
#[derive(Clone, Debug)]
pub struct Group {
    /// The pods are `<name>-0` and so on, labeled `app: <name>`.
    pub name: String,
    /// The first Election has the group's name.
    pub elections: Vec<Watched>,
}

impl Group {
    /// Returns the group of this number. Every fourth one has two Elections with different labels.
    pub fn new(number: u64) -> Self {
        let name = format!("g{number:03}");
        let election = |election: String, key: &str| Watched {
            lease: election.clone(),
            election,
            key: key.into(),
            value: "true".into(),
        };
        let mut elections = vec![election(name.clone(), "leader")];
        if number.is_multiple_of(4) {
            elections.push(election(format!("{name}-other"), "chaos.example/leader"));
        }
        Self { name, elections }
    }

    /// The names of its pods.
    pub fn pods(&self) -> impl Iterator<Item = String> {
        (0..PODS).map(|number| format!("{}-{number}", self.name))
    }
}

/// The group of a pod or Lease of this name.
pub fn group_of(name: &str) -> &str {
    name.split('-').next().unwrap_or(name)
}

/// The world of one run.
pub struct World {
    pub settings: Settings,
    /// All groups.
    pub groups: Vec<Group>,
    /// Continues to work while the controllers' API server is down.
    pub client: Client,
    pub figures: Figures,
    /// Directory of the controllers' logs.
    pub directory: PathBuf,
    pub nodes: Vec<String>,
}

impl World {
    /// The objects of a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

/// Returns whether the pod is eligible.
pub fn is_eligible(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    status.and_then(|status| status.phase.as_deref()) == Some("Running")
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        && pod.metadata.deletion_timestamp.is_none()
}
