//! Labels and deletion costs that deleted Elections left on the pods of a namespace: the input of the cleanup.
//!
//! A label is left over if Podium set it last, or if the pod carried it when the controller observed the deletion of its
//! Election. A label that another client sets later belongs to that client, across restarts of the controller. A late write
//! of Podium belongs to Podium, however late it is.

use std::collections::BTreeSet;

use super::cached::CachedPod;
use super::compact::Name;
use super::namespace::{KnownPod, Namespace, Retired};
use crate::api::LeaderLabel;
use crate::controller::limits::LabelKeys;
use crate::election::cost::DeletionCost;
use crate::ids::{Uid, Version};

/// What a deleted Election left on a pod.
#[derive(Clone, Debug)]
pub struct Leftover {
    /// The pod's name.
    pub pod: String,
    /// The pod's version with these labels.
    pub version: Version,
    /// The keys of labels to remove.
    pub labels: Vec<String>,
    /// The deletion cost without what the Election demanded, if it demanded one.
    pub cost: Option<DeletionCost>,
    /// Elections with a claim on the pod that are not cached: the labels may be theirs.
    pub unknown: Vec<String>,
}

fn is_of(label: &LeaderLabel, key: &str, value: &str) -> bool {
    label.key == key && label.owns(value)
}

impl Namespace {
    /// Returns what a deleted Election left on the pods with its claim: labels, and its demand of a deletion cost. If its
    /// deletion was observed, the label is its own; otherwise, every label that Podium may write and has set last.
    pub fn leftovers(&self, election: &str, keys: &LabelKeys) -> Vec<Leftover> {
        let retired = self.retired.get(election);
        // Another Election of that name corrects its own values itself.
        let successor = self.elections.get(election).map(|seen| seen.value.parsed.as_ref());
        let is_gone = successor.is_none();
        if !self.is_orphaned(election) || (retired.is_none() && successor.is_some_and(|parsed| parsed.is_err())) {
            return Vec::new();
        }
        let successor = successor.and_then(Result::ok).map(|parsed| &parsed.settings.label);
        let is_left = |pod: &CachedPod, key: &str, value: &str| {
            let ours = keys.allow(key) && pod.ours.contains(key);
            let seen = retired.is_some_and(|retired| retired.pods.contains(&pod.version.uid));
            (ours || seen)
                && retired.is_none_or(|retired| is_of(&retired.label, key, value))
                && !successor.is_some_and(|successor| is_of(successor, key, value))
        };
        let pods = self.related.get(election).into_iter().flatten().filter_map(|name| Some((name, self.pods.get(name)?)));
        // An Election that cannot be parsed may own any of the labels.
        let unreadable = |name: &str| self.elections.get(name).is_some_and(|seen| seen.value.parsed.is_err());
        pods.filter(|(_, known)| known.value.claims.get(election).is_some())
            .filter_map(|(name, known)| {
                let pod = &known.value;
                let readable = !pod.claims.keys().any(|name| name != election && unreadable(name));
                let is_left = |key, value| readable && is_left(pod, key, value) && !self.is_owned(known, key, value);
                let left = pod.labels.iter().filter(|(key, value)| is_left(key, value));
                let labels: Vec<String> = left.map(|(key, _)| key.to_owned()).collect();
                let unknown = pod.claims.keys().filter(|name| *name != election && !self.elections.contains_key(*name));
                let unknown = unknown.map(str::to_owned).collect();
                // Another Election of that name demands what its own spec says, or gives the cost back itself.
                let demand = pod.cost.as_ref().filter(|cost| is_gone && cost.demands().contains_key(election));
                let cost = demand.map(|cost| cost.demanding(election, None));
                let (pod, version) = (name.to_string(), pod.version.clone());
                (!labels.is_empty() || cost.is_some()).then_some(Leftover { pod, version, labels, cost, unknown })
            })
            .collect()
    }

    /// Returns whether an Election owns this label on the pod. It owns none without a claim: an Election that only matches
    /// the pod would wait forever for a key that is in use.
    fn is_owned(&self, known: &KnownPod, key: &str, value: &str) -> bool {
        self.matching(known).any(|(name, election)| {
            let label = election.parsed.as_ref().ok().map(|parsed| &parsed.settings.label);
            known.value.claims.get(name).is_some() && label.is_some_and(|label| is_of(label, key, value))
        })
    }

    /// Returns the UID of the deleted Election of this name, if it was observed.
    pub fn retired(&self, election: &str) -> Option<&Uid> {
        self.retired.get(election).map(|retired| &retired.uid)
    }

    /// Forgets the deleted Election of this name, if nothing of it is left.
    pub fn cleaned_up(&mut self, election: &str, keys: &LabelKeys) {
        if self.leftovers(election, keys).is_empty() {
            self.retired.remove(election);
            self.suspects.remove(election);
        }
    }

    /// Names of Elections that may have left labels.
    pub fn orphaned(&self) -> BTreeSet<String> {
        let suspects = self.suspects.iter().map(|name| name.to_string());
        suspects.chain(self.retired.keys().cloned()).collect()
    }

    /// Returns whether an Election of this name may have left labels.
    pub fn is_orphaned(&self, election: &str) -> bool {
        self.suspects.contains(election) || self.retired.contains_key(election)
    }

    /// Returns whether any pod carries a claim of this Election.
    fn is_claimed(&self, election: &str) -> bool {
        let mut pods = self.related.get(election).into_iter().flatten().filter_map(|name| self.pods.get(name));
        pods.any(|pod| pod.value.claims.get(election).is_some())
    }

    /// Returns the deleted Elections whose claim the pod carries.
    pub(super) fn claims_of(&self, pod: &str) -> Vec<String> {
        let claims = self.pods.get(pod).into_iter().flat_map(|pod| pod.value.claims.keys());
        claims.filter(|election| self.retired.contains_key(*election)).map(str::to_owned).collect()
    }

    /// Forgets deleted Elections whose claim no pod carries: nothing of them is left. Standby replicas forget them, too.
    pub(super) fn forget_unclaimed(&mut self, elections: &[String]) {
        for election in elections {
            if !self.is_claimed(election) {
                self.retired.remove(election);
            }
        }
    }

    /// Records that the Election was deleted. Its pods are still related to it. Without a claim on any, nothing of it is
    /// left.
    pub(super) fn retire(&mut self, election: &str, uid: Uid, label: LeaderLabel) {
        if !self.is_claimed(election) {
            return;
        }
        let pods = self.related.get(election).into_iter().flatten().filter_map(|name| Some(&self.pods.get(name)?.value));
        let led = pods.filter(|pod| pod.claims.get(election).is_some() && has(pod, &label));
        let pods = led.map(|pod| pod.version.uid.clone()).collect();
        self.retired.insert(election.into(), Retired { uid, label, pods });
    }

    /// Records the Elections that may have left a label on the pod: Podium set it, and no cached Election owns it there. Also
    /// those that left a demand of a deletion cost. This detects a write that was in flight during the cleanup.
    pub(super) fn suspect(&mut self, pod: &str) {
        let Some(known) = self.pods.get(pod) else { return };
        let CachedPod { labels, ours, claims, cost, .. } = &known.value;
        let mut ours = labels.iter().filter(|(key, _)| ours.contains(key));
        let labeled = ours.any(|(key, value)| !self.is_owned(known, key, value));
        let demands = cost.iter().flat_map(|cost| cost.demands().into_keys());
        let demands: BTreeSet<&str> = demands.filter(|election| !self.elections.contains_key(*election)).collect();
        let suspects = claims.keys().filter(|election| labeled || demands.contains(election));
        let suspects: Vec<Name> = suspects.map(Name::from).collect();
        self.suspects.extend(suspects);
    }

    /// Records that the pod lost the label of a deleted Election. A label that returns later is judged by its field manager
    /// alone.
    pub(super) fn note_unlabeled(&mut self, pod: &CachedPod) {
        for election in pod.claims.keys() {
            if let Some(retired) = self.retired.get_mut(election).filter(|retired| !has(pod, &retired.label)) {
                retired.pods.remove(&pod.version.uid);
            }
        }
    }
}

fn has(pod: &CachedPod, label: &LeaderLabel) -> bool {
    pod.labels.get(&label.key).is_some_and(|value| label.owns(value))
}
