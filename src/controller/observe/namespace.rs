//! The caches of one namespace, and who has to do with whom in it. An Election never looks beyond its namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kube::core::SelectorExt;

use super::cached::{CachedElection, CachedLease, CachedPod, Object};
use super::index::SelectorIndex;
use super::settings::LabelKeys;
use super::stream::Kind;
use crate::api::LeaderLabel;
use crate::election::term::{ResourceVersion, Uid, Version};
use crate::lease::record::Lease;

/// A cached object, and when it was stored, counted in changes of the cache.
#[derive(Clone, Debug)]
pub struct Seen<T> {
    /// The object.
    pub value: T,
    /// The number of the change that stored it.
    pub at: u64,
}

/// Names of Elections that may have to decide again.
pub type Affected = BTreeSet<String>;

/// Everything that is known about one namespace.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    pub(super) elections: BTreeMap<String, Seen<CachedElection>>,
    pub(super) leases: BTreeMap<String, Seen<CachedLease>>,
    pub(super) pods: BTreeMap<String, Seen<CachedPod>>,
    pub(super) pod_names: HashMap<Uid, String>,
    /// By Election: the pods that match it or carry its claim.
    pub(super) related: BTreeMap<String, BTreeSet<String>>,
    /// By Election: UIDs of its former holders that are known to be gone for ever.
    pub(super) gone: BTreeMap<String, BTreeSet<Uid>>,
    /// By name: the UID and the label of an Election that was seen and is gone, until its label is swept.
    retired: BTreeMap<String, (Uid, LeaderLabel)>,
    /// Names that pods still claim to belong to, and that were swept: what is labelled after that is nobody's business here.
    swept: BTreeMap<String, Option<(Uid, LeaderLabel)>>,
    /// By Lease: the Elections that name it.
    lease_users: BTreeMap<String, BTreeSet<String>>,
    selectors: SelectorIndex,
}

impl Namespace {
    /// Whether there is nothing left to know.
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

    /// The names and UIDs of all cached objects of this kind.
    pub fn all(&self, kind: Kind) -> Vec<(String, Uid)> {
        match kind {
            Kind::Pods => self.pods.iter().map(|(name, seen)| (name.clone(), seen.value.version.uid.clone())).collect(),
            Kind::Leases => self.leases.iter().map(|(name, seen)| (name.clone(), seen.value.lease.uid.clone())).collect(),
            Kind::Elections => {
                self.elections.iter().map(|(name, seen)| (name.clone(), seen.value.version.uid.clone())).collect()
            }
        }
    }

    /// How many objects of this kind are cached.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Pods => self.pods.len(),
            Kind::Leases => self.leases.len(),
            Kind::Elections => self.elections.len(),
        }
    }

    /// Stores the object. Returns whom its difference from the one before concerns; a mere new version concerns nobody.
    pub fn put(&mut self, name: &str, object: Object, at: u64) -> Affected {
        match object {
            Object::Pod(pod) => self.put_pod(name, pod, at),
            Object::Lease(lease) => self.put_lease(name, lease, at),
            Object::Election(election) => self.put_election(name, election, at),
        }
    }

    /// Forgets the object. Returns whom that concerns.
    pub fn remove(&mut self, kind: Kind, name: &str) -> Affected {
        match kind {
            Kind::Pods => self.remove_pod(name),
            Kind::Leases => match self.leases.remove(name) {
                Some(_) => self.users(name),
                None => Affected::new(),
            },
            Kind::Elections => self.remove_election(name),
        }
    }

    /// The Elections whose selector matches these labels.
    pub fn matching<'a>(
        &'a self,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = (&'a str, &'a CachedElection)> {
        self.selectors.possible(labels).filter_map(|name| {
            let election = &self.elections.get(name)?.value;
            election.parsed.as_ref().is_ok_and(|parsed| parsed.selector.matches(labels)).then_some((name, election))
        })
    }

    /// The pods that carry a claim of an Election of this name that is gone, and the labels on them that may be its own, if
    /// no other Election has that key on this pod. Of one that was seen the label is known; of one that went unseen, it is
    /// every label that we may write.
    pub fn leftovers(&self, election: &str, keys: &LabelKeys) -> Vec<(String, Version, Vec<String>)> {
        let retired = self.retired.get(election).map(|(_, label)| label);
        // Another Election of that name puts its own values right by itself.
        let successor = self.elections.get(election).and_then(|seen| seen.value.parsed.as_ref().ok());
        let successor = successor.map(|parsed| &parsed.settings.label);
        let is_of = |label: &LeaderLabel, key: &str, value: &str| label.key == key && label.owns(value);
        if !self.is_orphaned(election) {
            return Vec::new();
        }
        let is_left = |key: &str, value: &str| match retired {
            Some(label) => is_of(label, key, value) && !successor.is_some_and(|successor| is_of(successor, key, value)),
            None => keys.allow(key),
        };
        let pods =
            self.related.get(election).into_iter().flatten().filter_map(|name| Some((name, &self.pods.get(name)?.value)));
        // An Election that cannot be read may have any of the labels.
        let unreadable = |name: &String| self.elections.get(name).is_some_and(|seen| seen.value.parsed.is_err());
        pods.filter(|(_, pod)| pod.claims.contains_key(election))
            .filter(|(_, pod)| !pod.claims.keys().any(|name| name != election && unreadable(name)))
            .filter_map(|(name, pod)| {
                // A label comes with the claim: an Election that only matches has none here, and would wait for ever for a
                // key that is in use.
                let owners: Vec<&LeaderLabel> = self
                    .matching(&pod.labels)
                    .filter(|(other, _)| *other != election && pod.claims.contains_key(*other))
                    .filter_map(|(_, other)| Some(&other.parsed.as_ref().ok()?.settings.label))
                    .collect();
                let is_owned = |key: &str, value: &str| owners.iter().any(|label| is_of(label, key, value));
                let left = pod.labels.iter().filter(|(key, value)| is_left(key, value) && !is_owned(key, value));
                let labels: Vec<String> = left.map(|(key, _)| key.clone()).collect();
                (!labels.is_empty()).then(|| (name.clone(), pod.version.clone(), labels))
            })
            .collect()
    }

    /// The UID of the Election of this name that is gone, as far as it was seen.
    pub fn retired(&self, election: &str) -> Option<&Uid> {
        self.retired.get(election).map(|(uid, _)| uid)
    }

    /// Nothing of the Election of this name that is gone is left.
    pub fn swept(&mut self, election: &str) {
        let known = self.retired.remove(election);
        if self.is_orphaned(election) {
            self.swept.insert(election.into(), known);
        }
    }

    /// The Elections that name this Lease.
    pub fn lease_users(&self, lease: &str) -> impl Iterator<Item = (&str, &CachedElection)> {
        let users = self.lease_users.get(lease).into_iter().flatten();
        users.filter_map(|user| Some((user.as_str(), &self.elections.get(user)?.value)))
    }

    /// Names of Elections that are gone, or that only pods know: something of theirs may be left.
    pub fn orphaned(&self) -> BTreeSet<String> {
        self.related.keys().chain(self.retired.keys()).filter(|election| self.is_orphaned(election)).cloned().collect()
    }

    /// Whether something may be left of an Election of this name.
    pub fn is_orphaned(&self, election: &str) -> bool {
        let unknown = self.related.contains_key(election) && !self.elections.contains_key(election);
        (unknown && !self.swept.contains_key(election)) || self.retired.contains_key(election)
    }

    /// Remembers that these UIDs do not exist any more, as far as the Election will ask for them.
    pub fn note_gone(&mut self, election: &str, uids: impl IntoIterator<Item = Uid>) {
        let asked = self.former_holders(election);
        if asked.is_empty() {
            self.gone.remove(election);
            return;
        }
        let gone = self.gone.entry(election.into()).or_default();
        gone.extend(uids);
        gone.retain(|uid| asked.contains(uid));
    }

    /// The holder that the Election's Lease names and those that it lists as unfenced.
    pub fn former_holders(&self, election: &str) -> BTreeSet<Uid> {
        let lease = self.elections.get(election).and_then(|seen| seen.value.parsed.as_ref().ok());
        let lease = lease.and_then(|parsed| self.leases.get(&parsed.settings.lease_name));
        lease.map(|seen| seen.value.lease.former.clone()).unwrap_or_default()
    }

    fn put_pod(&mut self, name: &str, pod: CachedPod, at: u64) -> Affected {
        let mut affected = Affected::new();
        if let Some(before) = self.pods.get(name) {
            if before.value.version.uid != pod.version.uid {
                affected.extend(self.remove_pod(name));
            } else if same_pod(&before.value, &pod) {
                self.pods.insert(name.into(), Seen { value: pod, at });
                return affected;
            } else {
                affected.extend(self.relations(name));
            }
        }
        self.note_late_claims(name, &pod);
        self.unrelate(name);
        self.pod_names.insert(pod.version.uid.clone(), name.into());
        let relations: BTreeSet<String> =
            self.matching(&pod.labels).map(|(election, _)| election.to_owned()).chain(pod.claims.keys().cloned()).collect();
        for election in &relations {
            self.related.entry(election.clone()).or_default().insert(name.into());
        }
        self.pods.insert(name.into(), Seen { value: pod, at });
        affected.extend(relations);
        affected
    }

    /// A claim that comes or changes after its name was swept, or a label that comes back beside it, is a write of ours that was
    /// under way: it is swept as well.
    fn note_late_claims(&mut self, name: &str, pod: &CachedPod) {
        let before = self.pods.get(name).map(|seen| &seen.value);
        let owned =
            |pod: &CachedPod, label: &LeaderLabel| pod.labels.get(&label.key).filter(|value| label.owns(value)).cloned();
        // The same leader has the term already: only the label comes back.
        let gains = |label: &LeaderLabel| {
            let now = owned(pod, label);
            now.is_some() && now != before.and_then(|before| owned(before, label))
        };
        let late = pod.claims.iter().filter(|(election, term)| {
            let label = self.swept.get(*election).and_then(|known| Some(&known.as_ref()?.1));
            before.and_then(|before| before.claims.get(*election)) != Some(term) || label.is_some_and(gains)
        });
        let late: Vec<String> = late.map(|(election, _)| election.clone()).collect();
        for election in late {
            if let Some(known) = self.swept.remove(&election).flatten() {
                self.retired.insert(election, known);
            }
        }
    }

    fn remove_pod(&mut self, name: &str) -> Affected {
        let Some(Seen { value: pod, .. }) = self.pods.get(name).cloned() else { return Affected::new() };
        let relations = self.relations(name);
        self.unrelate(name);
        self.pods.remove(name);
        self.pod_names.remove(&pod.version.uid);
        self.swept.retain(|election, _| self.related.contains_key(election));
        for election in &relations {
            self.note_gone(election, [pod.version.uid.clone()]);
        }
        relations
    }

    /// The Elections that a cached pod has to do with.
    fn relations(&self, pod: &str) -> Affected {
        let Some(Seen { value, .. }) = self.pods.get(pod) else { return Affected::new() };
        self.matching(&value.labels).map(|(election, _)| election.to_owned()).chain(value.claims.keys().cloned()).collect()
    }

    fn unrelate(&mut self, pod: &str) {
        for election in self.relations(pod) {
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
        let before = self.leases.insert(name.into(), Seen { value: lease, at });
        let unchanged =
            before.is_some_and(|before| Lease { resource_version: after.resource_version, ..before.value.lease } == after);
        if unchanged { Affected::new() } else { self.users(name) }
    }

    fn users(&self, lease: &str) -> Affected {
        self.lease_users.get(lease).cloned().unwrap_or_default()
    }

    fn put_election(&mut self, name: &str, election: CachedElection, at: u64) -> Affected {
        let before = self.elections.get(name).map(|seen| &seen.value);
        let same_object = before.is_some_and(|before| before.version.uid == election.version.uid);
        let same_spec = same_object && before.is_some_and(|before| before.generation == election.generation);
        let same_status = before.is_some_and(|before| before.status == election.status);
        if same_spec {
            self.elections.insert(name.into(), Seen { value: election, at });
            return if same_status { Affected::new() } else { [name.to_owned()].into() };
        }
        let mut affected = self.remove_election(name);
        if let Ok(parsed) = &election.parsed {
            self.selectors.insert(name, &parsed.anchors);
            self.lease_users.entry(parsed.settings.lease_name.clone()).or_default().insert(name.into());
            self.swept.remove(name);
            // Under the same label the new one repairs what the former one left.
            if self.retired.get(name).is_some_and(|(_, label)| *label == parsed.settings.label) {
                self.retired.remove(name);
            }
            affected.extend(self.users(&parsed.settings.lease_name));
        }
        self.elections.insert(name.into(), Seen { value: election, at });
        affected.extend(self.relate(name));
        affected.insert(name.into());
        affected
    }

    fn remove_election(&mut self, name: &str) -> Affected {
        let Some(Seen { value: election, .. }) = self.elections.remove(name) else { return Affected::new() };
        self.selectors.remove(name);
        self.gone.remove(name);
        if let Ok(parsed) = &election.parsed {
            self.retired.insert(name.into(), (election.version.uid.clone(), parsed.settings.label.clone()));
            let lease = &parsed.settings.lease_name;
            if let Some(users) = self.lease_users.get_mut(lease) {
                users.remove(name);
                if users.is_empty() {
                    self.lease_users.remove(lease);
                }
            }
        }
        // Its pods and its Lease are free for others now.
        let mut affected: Affected = self.relate(name);
        affected.extend(election.parsed.iter().flat_map(|parsed| self.users(&parsed.settings.lease_name)));
        affected.insert(name.into());
        affected
    }

    /// Finds the Election's pods anew. Returns the other Elections that have to do with any of them, now or before.
    fn relate(&mut self, election: &str) -> Affected {
        let before = self.related.remove(election).unwrap_or_default();
        let selector = self.elections.get(election).and_then(|seen| seen.value.parsed.as_ref().ok());
        let now: BTreeSet<String> = self
            .pods
            .iter()
            .filter(|(_, pod)| {
                let matches = selector.is_some_and(|parsed| parsed.selector.matches(&pod.value.labels));
                matches || pod.value.claims.contains_key(election)
            })
            .map(|(name, _)| name.clone())
            .collect();
        let affected = before.union(&now).flat_map(|pod| self.relations(pod)).collect();
        if !now.is_empty() {
            self.related.insert(election.into(), now);
        }
        affected
    }
}

/// Whether two versions of a pod are the same to every Election.
fn same_pod(before: &CachedPod, after: &CachedPod) -> bool {
    *before == CachedPod { version: before.version.clone(), ..after.clone() }
}

/// Whether an arriving version tells nothing that the cached one does not. The name decides, not the UID: what is re-created
/// under a name has a later version, and a watch that lags may still deliver its predecessor.
pub fn is_known(arriving: ResourceVersion, cached: Option<&Version>) -> bool {
    cached.is_some_and(|cached| cached.resource_version >= arriving)
}
