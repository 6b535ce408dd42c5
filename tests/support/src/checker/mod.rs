//! The checker: Podium's guarantees on every revision, checked against a recorded history.
//!
//! It parses labels and annotations itself, without the code that writes them. The histories come from a real API server
//! (`tests/e2e`, `tests/chaos`) or a simulated one (`tests/simulation`).

mod metadata;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// The kind of a revision's object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pod.
    Pod,
    /// A Lease.
    Lease,
}

/// One revision of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The resourceVersion, which orders revisions of all kinds.
    pub version: i64,
    /// Pod or Lease.
    pub kind: Kind,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`
    pub annotations: BTreeMap<String, String>,
    /// This revision deleted the object.
    pub gone: bool,
    /// Mutating admission altered the written object.
    pub altered: bool,
}

/// An Election to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The Election's name.
    pub election: String,
    /// The leader label's key.
    pub key: String,
    /// The leader label's value.
    pub value: String,
    /// The Lease's name.
    pub lease: String,
}

/// Returns all violations of the guarantees in the history:
/// 1. at no revision do two pods have an Election's label;
/// 2. a labeled pod has a term with which a Lease named it before;
/// 3. a Lease's terms only grow, and no two holders share one;
/// 4. the term on a living pod is never lowered or removed.
///
/// Several Elections may use the same label on different pods: a label belongs to the Election whose Lease named the pod. Of
/// a revision altered by mutating admission, only the first guarantee counts: label and claim may not agree, but a labeled
/// pod leads. `forged`: revisions written by the test to deceive Podium. They violate nothing, and a forged label counts
/// only once a Lease names its pod.
pub fn violations(history: &[Revision], watched: &[Watched], forged: &BTreeSet<i64>) -> Vec<String> {
    let elections = watched.iter().map(|watched| (watched.clone(), BTreeMap::new())).collect();
    let mut fold = Fold { elections, pods: BTreeMap::new(), found: Vec::new() };
    for revision in history {
        let forged = forged.contains(&revision.version);
        match revision.kind {
            Kind::Lease if revision.gone || forged => {}
            Kind::Lease => fold.lease(revision),
            Kind::Pod if revision.gone => drop(fold.pods.remove(&revision.uid)),
            Kind::Pod => fold.pod(revision, forged),
        }
    }
    fold.found
}

/// All terms of a Lease, with the holder as `name/uid`; "" is none.
type Terms = BTreeMap<i64, String>;

/// The state of a pod in one Election.
#[derive(Clone, Debug, Default)]
struct Stand {
    name: String,
    labeled: bool,
    label_is_forged: bool,
    claim: Option<String>,
    claim_is_forged: bool,
    /// It has the label as this Election's leader.
    leads: bool,
}

struct Fold {
    elections: Vec<(Watched, Terms)>,
    /// By UID: the pod's state in each of the Elections.
    pods: BTreeMap<String, Vec<Stand>>,
    found: Vec<String>,
}

impl Fold {
    fn violation(&mut self, revision: &Revision, what: impl Display) {
        self.found.push(format!("revision {}: {what}", revision.version));
    }

    fn lease(&mut self, revision: &Revision) {
        let Some(term) = revision.annotations.get("podium.dev/term") else { return };
        let holder = revision.annotations.get("podium.dev/holder").cloned().unwrap_or_default();
        let Ok(term) = term.parse::<i64>() else {
            return self.violation(revision, format_args!("the Lease's term {term:?} is not a number"));
        };
        // An Election re-created with another label shares the Lease's name with the former one.
        for election in 0..self.elections.len() {
            if self.elections[election].0.lease == revision.name {
                self.begin(election, revision, term, &holder);
            }
        }
    }

    fn begin(&mut self, election: usize, revision: &Revision, term: i64, holder: &str) {
        let terms = &mut self.elections[election].1;
        let taken = terms.range(term..).next().is_some_and(|(other, first)| *other > term || first != holder);
        if revision.altered && taken {
            return; // Nobody may act on it.
        }
        let highest = terms.last_key_value().map_or(term, |(highest, _)| *highest);
        let first = terms.entry(term).or_insert_with(|| holder.into()).clone();
        if highest > term {
            self.violation(revision, format_args!("the Lease's term went back from {highest} to {term}"));
        }
        if first != holder {
            self.violation(revision, format_args!("the holders {first:?} and {holder:?} share the term {term}"));
        }
    }

    fn pod(&mut self, revision: &Revision, forged: bool) {
        let before = self.pods.remove(&revision.uid).unwrap_or_else(|| vec![Stand::default(); self.elections.len()]);
        let read = self.elections.iter().map(|(watched, _)| Stand {
            name: revision.name.clone(),
            labeled: revision.labels.get(&watched.key) == Some(&watched.value),
            claim: revision.annotations.get(&format!("term.podium.dev/{}", watched.election)).cloned(),
            ..Stand::default()
        });
        let mut now: Vec<Stand> = read.collect();
        let named: Vec<bool> =
            (0..now.len()).map(|election| self.is_named(election, &now[election], &revision.uid)).collect();
        for (election, (before, now)) in before.iter().zip(&mut now).enumerate() {
            now.follow(before, named[election], (forged, revision.altered));
            // A new claim makes it lead again, unless it is for another label: the former one awaits cleanup.
            let renewed = now.claim != before.claim && !self.has_other_label(election);
            let gained = now.labeled && (!before.labeled || renewed);
            let justified =
                now.label_is_forged || forged || revision.altered || self.same_label(election).any(|other| named[other]);
            if gained && !justified {
                let what = format!("{} is labeled with term {:?}, with which no Lease named it", now.name, now.claim);
                self.violation(revision, what);
            }
            if !forged && !revision.altered && lowered(before, now) {
                self.violation(
                    revision,
                    format_args!("the term of {} went from {:?} to {:?}", now.name, before.claim, now.claim),
                );
            }
        }
        self.pods.insert(revision.uid.clone(), now);
        self.count_leaders(revision);
    }

    fn count_leaders(&mut self, revision: &Revision) {
        for election in 0..self.elections.len() {
            let stands = self.pods.values().map(|stands| &stands[election]);
            let leaders: Vec<_> = stands.filter(|stand| stand.leads).map(|stand| stand.name.clone()).collect();
            if leaders.len() > 1 {
                self.violation(revision, format_args!("several pods carry the label: {leaders:?}"));
            }
        }
    }

    fn is_named(&self, election: usize, stand: &Stand, uid: &str) -> bool {
        let holder = number(stand).and_then(|term| self.elections[election].1.get(&term));
        holder.is_some_and(|holder| *holder == format!("{}/{uid}", stand.name))
    }

    /// Returns whether an Election of the same name has another label, before or after.
    fn has_other_label(&self, election: usize) -> bool {
        let watched = &self.elections[election].0;
        self.elections.iter().any(|(other, _)| other.election == watched.election && other.key != watched.key)
    }

    /// The Elections with the same label as this one.
    fn same_label(&self, election: usize) -> impl Iterator<Item = usize> {
        let label = |index: usize| (&self.elections[index].0.key, &self.elections[index].0.value);
        (0..self.elections.len()).filter(move |other| label(*other) == label(election))
    }
}

impl Stand {
    /// Derives the state from the one before, from whether the Lease named the pod with its claim, and from the writer.
    fn follow(&mut self, before: &Self, named: bool, (forged, altered): (bool, bool)) {
        let same_claim = self.claim == before.claim;
        if forged {
            self.label_is_forged = self.labeled && (before.label_is_forged || !before.labeled);
            self.claim_is_forged = before.claim_is_forged || !same_claim;
        } else {
            self.label_is_forged = self.labeled && before.label_is_forged && !named;
            self.claim_is_forged = before.claim_is_forged && same_claim || altered;
        }
        let led = (before.leads || altered) && self.claim_is_forged;
        self.leads = self.labeled && !self.label_is_forged && (named || led);
    }
}

fn lowered(before: &Stand, now: &Stand) -> bool {
    !before.claim_is_forged && before.claim.is_some() && number(now) < number(before)
}

fn number(stand: &Stand) -> Option<i64> {
    stand.claim.as_ref()?.parse().ok()
}
