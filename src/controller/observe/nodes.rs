//! Nodes, observed only while an Election asks for them: which ones drain, and their heartbeats.
//!
//! A heartbeat is a change of the node's Lease in `kube-node-lease`, at the time at which this process observed it. The times in
//! the Lease do not count: they come from the clocks of the nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::SignedDuration;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::watcher::Event;
use serde::Deserialize;
use tokio::time::Instant;

use crate::api::names::DRAIN_TAINTS;
use crate::controller::key::Key;
use crate::election::snapshot::{HEARTBEAT_GAP, NodeHeartbeat};

/// A node with only the fields that elections need.
#[derive(kube::Resource, Clone, Debug, Deserialize)]
#[resource(inherit = "k8s_openapi::api::core::v1::Node")]
pub struct NodeObject {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: NodeSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct NodeSpec {
    #[serde(default)]
    unschedulable: bool,
    #[serde(default)]
    taints: Vec<Taint>,
}

#[derive(Clone, Debug, Deserialize)]
struct Taint {
    key: String,
    effect: String,
}

impl NodeObject {
    /// Returns whether the node is cordoned or has a taint that says that its pods are to leave. Soft taints do not count.
    fn is_draining(&self) -> bool {
        let drains = |taint: &Taint| taint.effect != "PreferNoSchedule" && DRAIN_TAINTS.contains(&taint.key.as_str());
        self.spec.unschedulable || self.spec.taints.iter().any(drains)
    }
}

/// What an Election may ask to observe of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeWatch {
    /// Nodes, to see which ones drain.
    Drains,
    /// The Leases of nodes, to see which ones are silent.
    Heartbeats,
}

impl NodeWatch {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Drains, Self::Heartbeats];
}

/// The renewals of a node's Lease, as this process observed them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heartbeat {
    version: String,
    /// The last renewal, or the first observation.
    renewed: Instant,
    /// Since when renewals follow each other without a gap. `None`: no renewal was observed.
    steady: Option<Instant>,
}

/// All observed nodes, and who asks for them.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    draining: BTreeSet<String>,
    heartbeats: HashMap<String, Heartbeat>,
    /// Nodes in a list that is under way.
    listed: BTreeMap<NodeWatch, BTreeSet<String>>,
    asking: BTreeMap<NodeWatch, BTreeSet<Key>>,
    problems: BTreeMap<NodeWatch, String>,
    /// Another controller seems to observe other nodes, so that one of the two has old ones.
    in_doubt: bool,
}

impl Nodes {
    /// Notes what this Election asks for.
    pub fn ask(&mut self, key: &Key, watches: impl IntoIterator<Item = NodeWatch>) {
        self.forget(key);
        for watch in watches {
            self.asking.entry(watch).or_default().insert(key.clone());
        }
    }

    /// Forgets an Election.
    pub fn forget(&mut self, key: &Key) {
        self.asking.retain(|_, keys| {
            keys.remove(key);
            !keys.is_empty()
        });
    }

    /// The Elections that ask for this.
    pub fn asking(&self, watch: NodeWatch) -> impl Iterator<Item = &Key> {
        self.asking.get(&watch).into_iter().flatten()
    }

    /// Notes that another controller seems to observe other nodes, if this Election depends on them.
    pub fn doubt(&mut self, key: &Key) {
        let depends = self.asking(NodeWatch::Drains).any(|asking| asking == key);
        self.in_doubt |= depends;
    }

    /// Returns whether the nodes are in doubt, and ends the doubt.
    pub fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.in_doubt)
    }

    /// Forgets what was observed: nobody asks for it any more.
    pub fn clear(&mut self, watch: NodeWatch) {
        match watch {
            NodeWatch::Drains => self.draining.clear(),
            NodeWatch::Heartbeats => self.heartbeats.clear(),
        }
        self.problems.remove(&watch);
    }

    /// Sets why this cannot be observed. Returns whether that changed.
    pub fn set_problem(&mut self, watch: NodeWatch, problem: Option<String>) -> bool {
        let before = match problem.clone() {
            Some(problem) => self.problems.insert(watch, problem),
            None => self.problems.remove(&watch),
        };
        before != problem
    }

    /// Why this cannot be observed.
    pub fn problem(&self, watch: NodeWatch) -> Option<&String> {
        self.problems.get(&watch)
    }

    /// Applies an event of the watch of nodes. Returns the nodes that began or ceased to drain.
    pub fn node(&mut self, event: Event<NodeObject>) -> BTreeSet<String> {
        let name = |node: &NodeObject| node.metadata.name.clone().unwrap_or_default();
        match event {
            Event::Init => drop(self.listed.insert(NodeWatch::Drains, BTreeSet::new())),
            Event::InitApply(node) => {
                if node.is_draining() {
                    self.listed.entry(NodeWatch::Drains).or_default().insert(name(&node));
                }
            }
            Event::InitDone => {
                let now = self.listed.remove(&NodeWatch::Drains).unwrap_or_default();
                let before = std::mem::replace(&mut self.draining, now);
                return before.symmetric_difference(&self.draining).cloned().collect();
            }
            Event::Apply(node) => {
                let name = name(&node);
                let changed = match node.is_draining() {
                    true => self.draining.insert(name.clone()),
                    false => self.draining.remove(&name),
                };
                return changed.then_some(name).into_iter().collect();
            }
            Event::Delete(node) => {
                let name = name(&node);
                return self.draining.remove(&name).then_some(name).into_iter().collect();
            }
        }
        BTreeSet::new()
    }

    /// Applies an event of the watch of the nodes' Leases. It changes no decision: silence does, and that has no event.
    pub fn heartbeat(&mut self, event: Event<PartialObjectMeta<Lease>>, now: Instant) {
        match event {
            Event::Init => drop(self.listed.insert(NodeWatch::Heartbeats, BTreeSet::new())),
            Event::InitApply(lease) => {
                let name = lease.metadata.name.clone().unwrap_or_default();
                self.listed.entry(NodeWatch::Heartbeats).or_default().insert(name);
                self.renewed(lease.metadata, now);
            }
            Event::InitDone => {
                let listed = self.listed.remove(&NodeWatch::Heartbeats).unwrap_or_default();
                self.heartbeats.retain(|name, _| listed.contains(name));
            }
            Event::Apply(lease) => self.renewed(lease.metadata, now),
            Event::Delete(lease) => drop(self.heartbeats.remove(lease.metadata.name.as_deref().unwrap_or_default())),
        }
    }

    fn renewed(&mut self, metadata: ObjectMeta, now: Instant) {
        let (name, version) = (metadata.name.unwrap_or_default(), metadata.resource_version.unwrap_or_default());
        match self.heartbeats.get_mut(&name) {
            None => drop(self.heartbeats.insert(name, Heartbeat { version, renewed: now, steady: None })),
            Some(known) if known.version == version => {}
            Some(known) => {
                let steady = known.steady.unwrap_or(known.renewed);
                let steady = if is_gap(now - known.renewed) { now } else { steady };
                *known = Heartbeat { version, renewed: now, steady: Some(steady) };
            }
        }
    }

    /// Returns whether this node drains.
    pub fn is_draining(&self, node: &str) -> bool {
        self.draining.contains(node)
    }

    /// The heartbeats of this node.
    pub fn heartbeat_of(&self, node: &str, now: Instant) -> Option<NodeHeartbeat> {
        let Heartbeat { renewed, steady, .. } = self.heartbeats.get(node)?;
        let silent_for = now - *renewed;
        let renewing_for = steady.filter(|_| !is_gap(silent_for)).map(|since| duration(now - since));
        Some(NodeHeartbeat { name: node.to_owned(), silent_for: duration(silent_for), renewing_for })
    }

    /// The silent nodes. None if all are silent, because their silence does not count then.
    pub fn silent(&self, now: Instant) -> BTreeSet<&str> {
        let silent = |heartbeat: &Heartbeat| is_gap(now - heartbeat.renewed);
        if self.heartbeats.values().all(silent) {
            return BTreeSet::new();
        }
        self.heartbeats.iter().filter(|(_, heartbeat)| silent(heartbeat)).map(|(name, _)| name.as_str()).collect()
    }
}

fn is_gap(time: std::time::Duration) -> bool {
    duration(time) > HEARTBEAT_GAP
}

fn duration(time: std::time::Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}
