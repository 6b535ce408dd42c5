//! What everybody here shares: the namespace, its groups of pods and their Elections.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Pod;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use podium_test_support::checker::Watched;

use crate::figures::Figures;

/// The namespace in which it all happens.
pub const NAMESPACE: &str = "chaos";
/// How many pods each group has.
pub const PODS: u64 = 3;
/// What marks a write as one that was to deceive Podium: an annotation with a new value for each of them.
pub const FORGED: &str = "chaos.example/forged";

/// What may be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long the faults go on.
    pub seconds: u64,
    /// Which faults.
    pub seed: u64,
    /// How many groups of pods there are.
    pub groups: u64,
}

impl Settings {
    /// What the environment says.
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

/// Pods, and the Elections that share them.
#[derive(Clone, Debug)]
pub struct Group {
    /// The pods are `<name>-0` and so on, and have the label `app: <name>`.
    pub name: String,
    /// The Elections among them; the first has the group's name.
    pub elections: Vec<Watched>,
}

impl Group {
    /// The group of this number. In every fourth one there are two Elections, with a label each.
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

/// The group that a pod or Lease of this name belongs to.
pub fn group_of(name: &str) -> &str {
    name.split('-').next().unwrap_or(name)
}

/// The world of one run.
pub struct World {
    /// What was chosen.
    pub settings: Settings,
    /// Everybody who is elected.
    pub groups: Vec<Group>,
    /// Reads and writes that go on while the API server of the controllers does not answer.
    pub client: Client,
    /// What was counted.
    pub figures: Figures,
    /// Where the controllers' logs go.
    pub directory: PathBuf,
    /// The fake nodes.
    pub nodes: Vec<String>,
}

impl World {
    /// The objects of one kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

/// Whether the pod may lead.
pub fn is_eligible(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    status.and_then(|status| status.phase.as_deref()) == Some("Running")
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        && pod.metadata.deletion_timestamp.is_none()
}
