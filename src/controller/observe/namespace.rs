//! Caches of one namespace, and the relations between its objects. An Election never uses another namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kube::core::SelectorExt;

use super::cached::{CachedElection, CachedLease, CachedPod, Object};
use super::compact::{Name, Pairs};
use super::conditions::Moment;
use super::index::LabelIndex;
use crate::api::LeaderLabel;
use crate::controller::key::Kind;
use crate::ids::{ResourceVersion, Uid, Version};
use crate::lease::record::Lease;

/// A cached object, and the number of the change that stored it.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// The object.
    pub value: T,
    /// The number of the change that stored it.
    pub at: u64,
}

/// A cached pod, and the Elections that match it.
#[derive(Clone, Debug)]
pub struct KnownPod {
    /// The pod.
    pub value: CachedPod,
    /// The number of the change that stored it.
    pub at: u64,
    /// Names of the Elections that match it, sorted. Every decision reads them; they are recomputed only when a selector or
    /// the pod's labels change.
    pub matching: Box<[Name]>,
}

/// An Election whose deletion was observed, until its label is removed.
#[derive(Clone, Debug)]
pub(super) struct Retired {
    pub(super) uid: Uid,
    pub(super) label: LeaderLabel,
    /// The pods that carry its label since then, set by any client.
    pub(super) pods: BTreeSet<Uid>,
}

/// Names of Elections that may need a reconcile.
pub type Affected = BTreeSet<Name>;

/// Cached state of one namespace.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    pub(super) elections: BTreeMap<Name, Stored<CachedElection>>,
    pub(super) leases: BTreeMap<String, Stored<CachedLease>>,
    pub(super) pods: BTreeMap<Name, KnownPod>,
    pub(super) pod_names: HashMap<Uid, Name>,
    /// By Election: the pods that match it or carry its claim.
    pub(super) related: BTreeMap<Name, BTreeSet<Name>>,
    /// By Election: UIDs of its former holders that are known to be deleted.
    pub(super) gone: BTreeMap<String, BTreeSet<Uid>>,
    /// By name: Elections that were observed and are deleted, until their labels are removed or no pod carries their claim.
    pub(super) retired: BTreeMap<String, Retired>,
    /// Names of Elections that may have left a label on a pod.
    pub(super) suspects: BTreeSet<Name>,
    /// By Lease: the Elections that name it.
    lease_users: BTreeMap<String, BTreeSet<Name>>,
    index: LabelIndex,
}

impl Namespace {
    /// Returns whether no object is cached.
    pub fn is_empty(&self) -> bool {
        self.elections.is_empty() && self.leases.is_empty() && self.pods.is_empty()
    }

    /// The version of the cached object of this kind and name.
    pub fn version(&self, kind: Kind, name: &str) -> Option<Version> {
        match kind {
            Kind::Pods => Some(self.pods.get(name)?.value.version.clone()),
            Kind::Leases => Some(self.leases.get(name)?.value.version()),
            Kind::Elections => Some(self.elections.get(name)?.value.version.clone()),
        }
    }

    /// The names and versions of all cached objects of this kind.
    pub fn all(&self, kind: Kind) -> BTreeMap<String, Version> {
        match kind {
            Kind::Pods => self.pods.iter().map(|(name, pod)| (name.to_string(), pod.value.version.clone())).collect(),
            Kind::Leases => self.leases.iter().map(|(name, seen)| (name.clone(), seen.value.version())).collect(),
            Kind::Elections => {
                self.elections.iter().map(|(name, seen)| (name.to_string(), seen.value.version.clone())).collect()
            }
        }
    }

    /// Number of cached objects of this kind.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Pods => self.pods.len(),
            Kind::Leases => self.leases.len(),
            Kind::Elections => self.elections.len(),
        }
    }

    /// Stores the object. Returns the Elections that its changes affect; a new version without changes affects none.
    pub fn put(&mut self, name: &str, object: Object, at: u64, now: Moment) -> Affected {
        match object {
            Object::Pod(pod) => self.put_pod(name, pod, at, now),
            Object::Lease(lease) => self.put_lease(name, lease, at),
            Object::Election(election) => self.put_election(name, election, at),
        }
    }

    /// Removes the object. Returns the affected Elections.
    pub fn remove(&mut self, kind: Kind, name: &str) -> Affected {
        match kind {
            Kind::Pods => self.remove_pod(name),
            Kind::Leases => match self.leases.remove(name) {
                Some(_) => self.users(name),
                None => Affected::new(),
            },
            Kind::Elections => {
                let affected = self.remove_election(name);
                let claimed: Vec<Name> = self.related.get(name).into_iter().flatten().cloned().collect();
                claimed.iter().for_each(|pod| self.suspect(pod));
                affected
            }
        }
    }

    /// The Elections whose selector matches the pod.
    pub fn matching<'a>(&'a self, pod: &'a KnownPod) -> impl Iterator<Item = (&'a Name, &'a CachedElection)> {
        pod.matching.iter().filter_map(|name| Some((name, &self.elections.get(name)?.value)))
    }

    /// The names of the Elections whose selector matches these labels, in order.
    fn selecting(&self, labels: &Pairs) -> Box<[Name]> {
        let map = labels.to_map();
        let selects = |name: &&Name| self.elections.get(*name).is_some_and(|election| selects(&election.value, &map));
        let names: BTreeSet<&Name> = self.index.elections(labels).filter(selects).collect();
        names.into_iter().cloned().collect()
    }

    /// The nodes of the Election's pods.
    pub fn nodes_of(&self, election: &str) -> impl Iterator<Item = &str> {
        let pods = self.related.get(election).into_iter().flatten();
        pods.filter_map(|pod| self.pods.get(pod)?.value.node.as_deref())
    }

    /// The Elections that name this Lease.
    pub fn lease_users(&self, lease: &str) -> impl Iterator<Item = (&str, &CachedElection)> {
        let users = self.lease_users.get(lease).into_iter().flatten();
        users.filter_map(|user| Some((&**user, &self.elections.get(user)?.value)))
    }

    /// Records that these UIDs are deleted, for those that the Election's Lease names.
    pub fn note_gone(&mut self, election: &str, uids: impl IntoIterator<Item = Uid>) {
        let asked = former_holders(&self.elections, &self.leases, election);
        let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
            self.gone.remove(election);
            return;
        };
        let gone = self.gone.entry(election.into()).or_default();
        gone.extend(uids.into_iter().filter(|uid| asked.contains(uid)));
        // Entries of a former version of the Lease. Not removed each time: all pods of a long list may be deleted at once.
        if gone.len() > asked.len() {
            gone.retain(|uid| asked.contains(uid));
        }
    }

    /// The holder that the Election's Lease names and those that it lists as unfenced.
    pub fn former_holders(&self, election: &str) -> impl Iterator<Item = &Uid> {
        former_holders(&self.elections, &self.leases, election).into_iter().flatten()
    }

    fn put_pod(&mut self, name: &str, mut pod: CachedPod, at: u64, now: Moment) -> Affected {
        let mut affected = Affected::new();
        let before = self.pods.get(name).map(|known| &known.value).filter(|before| before.version.uid == pod.version.uid);
        pod.conditions.observe(before.map(|before| &before.conditions), now);
        if let Some(before) = self.pods.get_mut(name) {
            if before.value.version.uid != pod.version.uid {
                affected.extend(self.remove_pod(name));
            } else if same_pod(&before.value, &pod) {
                (before.value, before.at) = (pod, at);
                return affected;
            } else {
                affected.extend(before.relations());
            }
        }
        self.note_unlabeled(&pod);
        let claimed = self.claims_of(name);
        self.unrelate(name);
        let name: Name = self.pods.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone());
        self.pod_names.insert(pod.version.uid.clone(), name.clone());
        self.index.insert_pod(&name, &pod.labels);
        let pod = KnownPod { matching: self.selecting(&pod.labels), value: pod, at };
        for election in pod.relations() {
            affected.insert(election.clone());
            self.related.entry(election).or_default().insert(name.clone());
        }
        self.pods.insert(name.clone(), pod);
        self.suspect(&name);
        self.forget_unclaimed(&claimed);
        affected
    }

    fn remove_pod(&mut self, name: &str) -> Affected {
        let claimed = self.claims_of(name);
        self.unrelate(name);
        let Some(known) = self.pods.remove(name) else { return Affected::new() };
        let uid = known.value.version.uid.clone();
        self.pod_names.remove(&uid);
        let relations: Affected = known.relations().collect();
        for election in &relations {
            if !self.related.contains_key(election) {
                self.suspects.remove(election);
            }
            self.note_gone(election, [uid.clone()]);
        }
        self.forget_unclaimed(&claimed);
        relations
    }

    /// Removes the pod from the indices.
    fn unrelate(&mut self, pod: &str) {
        let Some(known) = self.pods.get(pod) else { return };
        self.index.remove_pod(pod, &known.value.labels);
        for election in known.relations() {
            if let Some(pods) = self.related.get_mut(&election) {
                pods.remove(pod);
                if pods.is_empty() {
                    self.related.remove(&election);
                }
            }
        }
    }

    fn put_lease(&mut self, name: &str, lease: CachedLease, at: u64) -> Affected {
        let after = lease.lease.clone();
        let before = self.leases.insert(name.into(), Stored { value: lease, at });
        let unchanged =
            before.is_some_and(|before| Lease { resource_version: after.resource_version, ..before.value.lease } == after);
        if unchanged { Affected::new() } else { self.users(name) }
    }

    fn users(&self, lease: &str) -> Affected {
        self.lease_users.get(lease).cloned().unwrap_or_default()
    }

    fn put_election(&mut self, name: &str, election: CachedElection, at: u64) -> Affected {
        let known = self.elections.get_key_value(name);
        let name: &Name = &known.map_or_else(|| name.into(), |(name, _)| name.clone());
        let before = known.map(|(_, seen)| &seen.value);
        let same_object = before.is_some_and(|before| before.version.uid == election.version.uid);
        let same_spec = same_object && before.is_some_and(|before| before.generation == election.generation);
        let same_status =
            before.is_some_and(|before| before.status == election.status && before.switchover == election.switchover);
        if same_spec {
            self.elections.insert(name.clone(), Stored { value: election, at });
            return if same_status { Affected::new() } else { [name.clone()].into() };
        }
        let mut affected = self.remove_election(name);
        if let Ok(parsed) = &election.parsed {
            let pods = self.pods.iter().map(|(name, pod)| (name, &pod.value.labels));
            self.index.insert(name, &parsed.anchors, pods);
            self.lease_users.entry(parsed.settings.lease_name.clone()).or_default().insert(name.clone());
            // With the same label, the new Election corrects what the former one left.
            if self.retired.get(&**name).is_some_and(|retired| retired.label == parsed.settings.label) {
                self.retired.remove(&**name);
            }
            affected.extend(self.users(&parsed.settings.lease_name));
        }
        self.elections.insert(name.clone(), Stored { value: election, at });
        affected.extend(self.relate(name));
        affected.insert(name.clone());
        affected
    }

    fn remove_election(&mut self, name: &str) -> Affected {
        let Some((name, Stored { value: election, .. })) = self.elections.remove_entry(name) else { return Affected::new() };
        self.index.remove(&name);
        self.gone.remove(&*name);
        if let Ok(parsed) = &election.parsed {
            self.retire(&name, election.version.uid.clone(), parsed.settings.label.clone());
            let lease = &parsed.settings.lease_name;
            if let Some(users) = self.lease_users.get_mut(lease) {
                users.remove(&name);
                if users.is_empty() {
                    self.lease_users.remove(lease);
                }
            }
        }
        // Other Elections may use its pods and its Lease.
        let mut affected: Affected = self.relate(&name);
        affected.extend(election.parsed.iter().flat_map(|parsed| self.users(&parsed.settings.lease_name)));
        affected.insert(name);
        affected
    }

    /// Recomputes the Election's pods. Returns the other Elections related to any of them, before or after.
    fn relate(&mut self, election: &Name) -> Affected {
        let before = self.related.remove(election).unwrap_or_default();
        let matching: BTreeSet<Name> = match self.elections.get(election).filter(|seen| seen.value.parsed.is_ok()) {
            None => BTreeSet::new(),
            Some(seen) => {
                let selected =
                    |name: &&Name| self.pods.get(*name).is_some_and(|pod| selects(&seen.value, &pod.value.labels.to_map()));
                match self.index.pods(election) {
                    Some(pods) => pods.filter(selected).cloned().collect(),
                    None => self.pods.keys().filter(selected).cloned().collect(),
                }
            }
        };
        let mut affected = Affected::new();
        let mut now = BTreeSet::new();
        // `before` has all pods with its claim, even if the Election was not cached.
        for name in before.union(&matching) {
            let Some(pod) = self.pods.get_mut(name) else { continue };
            let others = pod.matching.iter().filter(|other| *other != election);
            let own = matching.contains(name).then_some(election);
            let all: BTreeSet<&Name> = others.chain(own).collect();
            pod.matching = all.into_iter().cloned().collect();
            affected.extend(pod.relations());
            if own.is_some() || pod.value.claims.get(election).is_some() {
                now.insert(name.clone());
            }
        }
        if !now.is_empty() {
            self.related.insert(election.clone(), now);
        }
        affected
    }
}

impl KnownPod {
    /// The Elections that match the pod, and those whose claim it carries.
    fn relations(&self) -> impl Iterator<Item = Name> {
        self.matching.iter().cloned().chain(self.value.claims.keys().map(Name::from))
    }
}

fn former_holders<'a>(
    elections: &BTreeMap<Name, Stored<CachedElection>>,
    leases: &'a BTreeMap<String, Stored<CachedLease>>,
    election: &str,
) -> Option<&'a BTreeSet<Uid>> {
    let parsed = elections.get(election)?.value.parsed.as_ref().ok()?;
    Some(&leases.get(&parsed.settings.lease_name)?.value.lease.former)
}

/// Returns whether the Election's selector matches these labels.
fn selects(election: &CachedElection, labels: &BTreeMap<String, String>) -> bool {
    election.parsed.as_ref().is_ok_and(|parsed| parsed.selector.matches(labels))
}

/// Returns whether two versions of a pod are equal for every Election. A user's change of the deletion cost requires no write.
fn same_pod(before: &CachedPod, after: &CachedPod) -> bool {
    let (version, cost) = (before.version.clone(), before.cost.clone());
    before.cost_note() == after.cost_note() && *before == CachedPod { version, cost, ..after.clone() }
}

/// Returns whether the cached version is at least as new as the arriving one. Objects compare by name, not by UID: a
/// re-created object has a later version, and a watch that lags may still deliver its predecessor.
pub fn is_known(arriving: ResourceVersion, cached: Option<&Version>) -> bool {
    cached.is_some_and(|cached| cached.resource_version >= arriving)
}
