//! What Elections that are gone left on the pods of a namespace: what the sweep has to know.

use std::collections::BTreeSet;

use super::cached::CachedPod;
use super::namespace::Namespace;
use super::settings::LabelKeys;
use crate::api::LeaderLabel;
use crate::election::term::{Uid, Version};

impl Namespace {
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
        let pods = self.related.get(election).into_iter().flatten().filter_map(|name| Some((name, self.pods.get(name)?)));
        // An Election that cannot be read may have any of the labels.
        let unreadable = |name: &str| self.elections.get(name).is_some_and(|seen| seen.value.parsed.is_err());
        pods.filter(|(_, known)| known.value.claims.get(election).is_some())
            .filter(|(_, known)| !known.value.claims.keys().any(|name| name != election && unreadable(name)))
            .filter_map(|(name, known)| {
                let pod = &known.value;
                // A label comes with the claim: an Election that only matches has none here, and would wait for ever for a
                // key that is in use.
                let owners: Vec<&LeaderLabel> = self
                    .matching(known)
                    .filter(|(other, _)| ***other != *election && pod.claims.get(other).is_some())
                    .filter_map(|(_, other)| Some(&other.parsed.as_ref().ok()?.settings.label))
                    .collect();
                let is_owned = |key: &str, value: &str| owners.iter().any(|label| is_of(label, key, value));
                let left = pod.labels.iter().filter(|(key, value)| is_left(key, value) && !is_owned(key, value));
                let labels: Vec<String> = left.map(|(key, _)| key.to_owned()).collect();
                (!labels.is_empty()).then(|| (name.to_string(), pod.version.clone(), labels))
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

    /// Names of Elections that are gone, or that only pods know: something of theirs may be left.
    pub fn orphaned(&self) -> BTreeSet<String> {
        let known = self.related.keys().map(|name| &**name).chain(self.retired.keys().map(String::as_str));
        known.filter(|election| self.is_orphaned(election)).map(str::to_owned).collect()
    }

    /// Whether something may be left of an Election of this name.
    pub fn is_orphaned(&self, election: &str) -> bool {
        let unknown = self.related.contains_key(election) && !self.elections.contains_key(election);
        (unknown && !self.swept.contains_key(election)) || self.retired.contains_key(election)
    }

    /// A claim that comes or changes after its name was swept, or a label that comes back beside it, is a write of ours that was
    /// under way: it is swept as well.
    pub(super) fn note_late_claims(&mut self, name: &str, pod: &CachedPod) {
        let before = self.pods.get(name).map(|seen| &seen.value);
        let owned = |pod: &CachedPod, label: &LeaderLabel| {
            pod.labels.get(&label.key).filter(|value| label.owns(value)).map(str::to_owned)
        };
        // The same leader has the term already: only the label comes back.
        let gains = |label: &LeaderLabel| {
            let now = owned(pod, label);
            now.is_some() && now != before.and_then(|before| owned(before, label))
        };
        let late = pod.claims.iter().filter(|(election, term)| {
            let label = self.swept.get(*election).and_then(|known| Some(&known.as_ref()?.1));
            before.and_then(|before| before.claims.get(election)) != Some(*term) || label.is_some_and(gains)
        });
        let late: Vec<String> = late.map(|(election, _)| election.to_owned()).collect();
        for election in late {
            if let Some(known) = self.swept.remove(&election).flatten() {
                self.retired.insert(election, known);
            }
        }
    }
}
