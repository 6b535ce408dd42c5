//! The checker: what Podium promises about every revision, checked against a recorded history.
//!
//! It reads labels and annotations by itself and knows nothing of the code that writes them.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Kind, Revision};

/// What a history is checked for.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The Election's name.
    pub election: String,
    /// The key of the leader's label.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The Lease's name.
    pub lease: String,
}

/// Everything in the history that breaks a promise:
/// 1. at no revision do two pods carry the label;
/// 2. a labelled pod carries a term with which the Lease named it before;
/// 3. the Lease's terms only grow, and no two holders share one;
/// 4. the term on a living pod is never lowered or removed.
///
/// `forged`: the revisions that the test itself wrote to deceive Podium. They break nothing, and a label that was forged
/// counts only once the Lease names its pod.
pub fn violations(history: &[Revision], watched: &Watched, forged: &BTreeSet<i64>) -> Vec<String> {
    let mut fold = Fold { watched, pods: BTreeMap::new(), terms: BTreeMap::new(), found: Vec::new() };
    for revision in history {
        let forged = forged.contains(&revision.version);
        match revision.kind {
            Kind::Lease if revision.name == watched.lease && !revision.gone && !forged => fold.lease(revision),
            Kind::Lease => {}
            Kind::Pod => fold.pod(revision, forged),
        }
    }
    fold.found
}

#[derive(Clone, Debug, Default)]
struct Pod {
    name: String,
    labelled: bool,
    label_is_forged: bool,
    claim: Option<String>,
    claim_is_forged: bool,
}

struct Fold<'a> {
    watched: &'a Watched,
    pods: BTreeMap<String, Pod>,
    /// Every term of the Lease, and its holder as `name/uid`; "" is nobody.
    terms: BTreeMap<i64, String>,
    found: Vec<String>,
}

impl Fold<'_> {
    fn violation(&mut self, revision: &Revision, what: impl std::fmt::Display) {
        self.found.push(format!("Election {}, revision {}: {what}", self.watched.election, revision.version));
    }

    fn lease(&mut self, revision: &Revision) {
        let Some(term) = revision.annotations.get("podium.dev/term") else { return };
        let holder = revision.annotations.get("podium.dev/holder").cloned().unwrap_or_default();
        let Ok(term) = term.parse::<i64>() else {
            return self.violation(revision, format_args!("the Lease's term {term:?} is not a number"));
        };
        if let Some((&highest, _)) = self.terms.last_key_value().filter(|(highest, _)| **highest > term) {
            self.violation(revision, format_args!("the Lease's term went back from {highest} to {term}"));
        }
        let first = self.terms.entry(term).or_insert_with(|| holder.clone()).clone();
        if first != holder {
            self.violation(revision, format_args!("the holders {first:?} and {holder:?} share the term {term}"));
        }
    }

    fn pod(&mut self, revision: &Revision, forged: bool) {
        if revision.gone {
            self.pods.remove(&revision.uid);
            return;
        }
        let Watched { election, key, value, .. } = self.watched;
        let before = self.pods.get(&revision.uid).cloned().unwrap_or_default();
        let mut pod = Pod {
            name: revision.name.clone(),
            labelled: revision.labels.get(key) == Some(value),
            claim: revision.annotations.get(&format!("term.podium.dev/{election}")).cloned(),
            ..Pod::default()
        };
        let same_claim = pod.claim == before.claim;
        if forged {
            pod.label_is_forged = pod.labelled && (before.label_is_forged || !before.labelled);
            pod.claim_is_forged = before.claim_is_forged || !same_claim;
        } else {
            pod.claim_is_forged = before.claim_is_forged && same_claim;
            let named = self.is_named(&pod, &revision.uid);
            pod.label_is_forged = pod.labelled && before.label_is_forged && !named;
            if pod.labelled && (!before.labelled || !same_claim) && !pod.label_is_forged && !named {
                let what =
                    format!("{} is labelled with term {:?}, with which the Lease never named it", pod.name, pod.claim);
                self.violation(revision, what);
            }
            if lowered(&before, &pod) {
                self.violation(
                    revision,
                    format_args!("the term of {} went from {:?} to {:?}", pod.name, before.claim, pod.claim),
                );
            }
        }
        self.pods.insert(revision.uid.clone(), pod);
        let leaders: Vec<_> =
            self.pods.values().filter(|pod| pod.labelled && !pod.label_is_forged).map(|pod| &pod.name).collect();
        if leaders.len() > 1 {
            let what = format!("several pods carry the label: {leaders:?}");
            self.violation(revision, what);
        }
    }

    fn is_named(&self, pod: &Pod, uid: &str) -> bool {
        let term = pod.claim.as_ref().and_then(|claim| claim.parse::<i64>().ok());
        term.and_then(|term| self.terms.get(&term)).is_some_and(|holder| *holder == format!("{}/{uid}", pod.name))
    }
}

fn lowered(before: &Pod, after: &Pod) -> bool {
    let number = |pod: &Pod| pod.claim.as_ref().and_then(|claim| claim.parse::<i64>().ok());
    !before.claim_is_forged && before.claim.is_some() && number(after) < number(before)
}
