//! What Elections that are gone left on the pods of a namespace: what the cleanup has to know.
//!
//! A label is left over if Podium set it last, or if the controller saw it when it saw its Election go. What somebody else sets
//! afterwards is theirs, however often the controller is restarted; a write of Podium's own that arrives late is Podium's,
//! however late it is.

use std::collections::BTreeSet;

use super::cached::CachedPod;
use super::compact::Name;
use super::namespace::{KnownPod, Namespace};
use crate::api::LeaderLabel;
use crate::controller::limits::LabelKeys;
use crate::ids::{Uid, Version};

/// An Election that was seen to go, until its label is removed.
#[derive(Clone, Debug)]
pub(super) struct Retired {
    pub(super) uid: Uid,
    pub(super) label: LeaderLabel,
    /// The pods that carry its label since then, whoever set it.
    pods: BTreeSet<Uid>,
}

/// Labels to remove from a pod.
#[derive(Clone, Debug)]
pub struct Leftover {
    /// The pod's name.
    pub pod: String,
    /// Its version that carries them.
    pub version: Version,
    /// The labels' keys.
    pub labels: Vec<String>,
    /// Elections that the pod carries a claim of and that no cache knows: the labels might be theirs.
    pub unknown: Vec<String>,
}

fn is_of(label: &LeaderLabel, key: &str, value: &str) -> bool {
    label.key == key && label.owns(value)
}

impl Namespace {
    /// What an Election of this name that is gone left on the pods that carry its claim. Of one that was seen the label is
    /// known; of one that went unseen, it is every label that Podium may write and has set last.
    pub fn leftovers(&self, election: &str, keys: &LabelKeys) -> Vec<Leftover> {
        let retired = self.retired.get(election);
        // Another Election of that name puts its own values right by itself.
        let successor = self.elections.get(election).map(|seen| seen.value.parsed.as_ref());
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
        // An Election that cannot be read may have any of the labels.
        let unreadable = |name: &str| self.elections.get(name).is_some_and(|seen| seen.value.parsed.is_err());
        pods.filter(|(_, known)| known.value.claims.get(election).is_some())
            .filter(|(_, known)| !known.value.claims.keys().any(|name| name != election && unreadable(name)))
            .filter_map(|(name, known)| {
                let pod = &known.value;
                let is_left = |key, value| is_left(pod, key, value) && !self.is_owned(known, key, value);
                let left = pod.labels.iter().filter(|(key, value)| is_left(key, value));
                let labels: Vec<String> = left.map(|(key, _)| key.to_owned()).collect();
                let unknown = pod.claims.keys().filter(|name| *name != election && !self.elections.contains_key(*name));
                let unknown = unknown.map(str::to_owned).collect();
                let (pod, version) = (name.to_string(), pod.version.clone());
                (!labels.is_empty()).then_some(Leftover { pod, version, labels, unknown })
            })
            .collect()
    }

    /// Whether an Election has this label on the pod. A label comes with the claim: one that only matches the pod has none
    /// there, and would wait for ever for a key that is in use.
    fn is_owned(&self, known: &KnownPod, key: &str, value: &str) -> bool {
        self.matching(known).any(|(name, election)| {
            let label = election.parsed.as_ref().ok().map(|parsed| &parsed.settings.label);
            known.value.claims.get(name).is_some() && label.is_some_and(|label| is_of(label, key, value))
        })
    }

    /// The UID of the Election of this name that is gone, as far as it was seen.
    pub fn retired(&self, election: &str) -> Option<&Uid> {
        self.retired.get(election).map(|retired| &retired.uid)
    }

    /// Forgets the Election of this name that is gone, if nothing of it is left.
    pub fn cleaned_up(&mut self, election: &str, keys: &LabelKeys) {
        if self.leftovers(election, keys).is_empty() {
            self.retired.remove(election);
            self.suspects.remove(election);
        }
    }

    /// Names of Elections of which something may be left.
    pub fn orphaned(&self) -> BTreeSet<String> {
        let suspects = self.suspects.iter().map(|name| name.to_string());
        suspects.chain(self.retired.keys().cloned()).collect()
    }

    /// Whether something may be left of an Election of this name.
    pub fn is_orphaned(&self, election: &str) -> bool {
        self.suspects.contains(election) || self.retired.contains_key(election)
    }

    /// Whether any pod carries a claim of an Election of this name.
    fn is_claimed(&self, election: &str) -> bool {
        let mut pods = self.related.get(election).into_iter().flatten().filter_map(|name| self.pods.get(name));
        pods.any(|pod| pod.value.claims.get(election).is_some())
    }

    /// The Elections that are gone of which the pod carries a claim.
    pub(super) fn claims_of(&self, pod: &str) -> Vec<String> {
        let claims = self.pods.get(pod).into_iter().flat_map(|pod| pod.value.claims.keys());
        claims.filter(|election| self.retired.contains_key(*election)).map(str::to_owned).collect()
    }

    /// Of an Election that is gone and of which no pod carries a claim, nothing is left: it is not remembered, also where nobody sweeps.
    pub(super) fn forget_unclaimed(&mut self, elections: &[String]) {
        for election in elections {
            if !self.is_claimed(election) {
                self.retired.remove(election);
            }
        }
    }

    /// Notes that the Election of this name is gone. Its pods are still related to it. Without a claim on any, nothing is left of it.
    pub(super) fn retire(&mut self, election: &str, uid: Uid, label: LeaderLabel) {
        if !self.is_claimed(election) {
            return;
        }
        let pods = self.related.get(election).into_iter().flatten().filter_map(|name| Some(&self.pods.get(name)?.value));
        let led = pods.filter(|pod| pod.claims.get(election).is_some() && has(pod, &label));
        let pods = led.map(|pod| pod.version.uid.clone()).collect();
        self.retired.insert(election.into(), Retired { uid, label, pods });
    }

    /// Notes the Elections that a label on the pod may be left of: Podium set it, and no Election that is known has it there.
    /// A write that was under way when everything was removed is noticed so.
    pub(super) fn suspect(&mut self, pod: &str) {
        let Some(known) = self.pods.get(pod).filter(|known| !known.value.ours.is_empty()) else { return };
        let mut ours = known.value.labels.iter().filter(|(key, _)| known.value.ours.contains(key));
        if ours.any(|(key, value)| !self.is_owned(known, key, value)) {
            let claims: Vec<Name> = known.value.claims.keys().map(Name::from).collect();
            self.suspects.extend(claims);
        }
    }

    /// A pod that lost the label of an Election that is gone: should it ever have it again, that is another matter.
    pub(super) fn note_unlabelled(&mut self, pod: &CachedPod) {
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
