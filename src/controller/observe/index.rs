//! From a pod to its Elections without trying every selector: each Election hangs on one label that its pods must carry.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{LabelSelector, Operator};

/// A label that a selector insists on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anchor {
    /// The label has one of these values.
    OneOf(String, BTreeSet<String>),
    /// The label is there.
    Present(String),
}

impl Anchor {
    /// All anchors that a selector offers. None: it only says what pods must not carry.
    pub fn of(selector: &LabelSelector) -> Vec<Self> {
        let labels = selector.match_labels.iter().flatten();
        let labels = labels.map(|(key, value)| Self::OneOf(key.clone(), [value.clone()].into()));
        let expressions = selector.match_expressions.iter().flatten().filter_map(|requirement| match requirement.operator {
            Operator::In => {
                Some(Self::OneOf(requirement.key.clone(), requirement.values.iter().flatten().cloned().collect()))
            }
            Operator::Exists => Some(Self::Present(requirement.key.clone())),
            Operator::NotIn | Operator::DoesNotExist => None,
        });
        labels.chain(expressions).collect()
    }

    /// The buckets in which an Election with this anchor stands.
    fn buckets(&self) -> Vec<Bucket> {
        match self {
            Self::OneOf(key, values) => values.iter().map(|value| (key.clone(), Some(value.clone()))).collect(),
            Self::Present(key) => vec![(key.clone(), None)],
        }
    }
}

/// A label key with a value, or with any.
type Bucket = (String, Option<String>);

/// The Elections of one namespace by the labels that their pods must carry.
#[derive(Clone, Debug, Default)]
pub struct SelectorIndex {
    buckets: BTreeMap<Bucket, BTreeSet<String>>,
    /// Elections without an anchor: they have to be tried for every pod.
    anywhere: BTreeSet<String>,
    placed: BTreeMap<String, Vec<Bucket>>,
}

impl SelectorIndex {
    /// Puts the Election under the anchor with the fewest others, so that a label that everybody has stays harmless.
    pub fn insert(&mut self, election: &str, anchors: &[Anchor]) {
        self.remove(election);
        let crowd = |anchor: &&Anchor| -> usize {
            anchor.buckets().iter().map(|bucket| 1 + self.buckets.get(bucket).map_or(0, BTreeSet::len)).sum()
        };
        let buckets = anchors.iter().min_by_key(crowd).map(Anchor::buckets).unwrap_or_default();
        if buckets.is_empty() {
            self.anywhere.insert(election.into());
        }
        for bucket in &buckets {
            self.buckets.entry(bucket.clone()).or_default().insert(election.into());
        }
        self.placed.insert(election.into(), buckets);
    }

    /// Forgets the Election.
    pub fn remove(&mut self, election: &str) {
        self.anywhere.remove(election);
        for bucket in self.placed.remove(election).unwrap_or_default() {
            if let Some(elections) = self.buckets.get_mut(&bucket) {
                elections.remove(election);
                if elections.is_empty() {
                    self.buckets.remove(&bucket);
                }
            }
        }
    }

    /// The Elections that may match a pod with these labels. Every one that does is among them.
    pub fn possible<'a>(&'a self, labels: &'a BTreeMap<String, String>) -> impl Iterator<Item = &'a str> {
        let hits = labels.iter().flat_map(|(key, value)| {
            [self.buckets.get(&(key.clone(), Some(value.clone()))), self.buckets.get(&(key.clone(), None))]
        });
        hits.flatten().flatten().chain(&self.anywhere).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn one(key: &str, value: &str) -> Anchor {
        Anchor::OneOf(key.into(), [value.into()].into())
    }

    #[test]
    fn an_election_is_found_by_its_anchor_and_not_by_other_labels() {
        let mut index = SelectorIndex::default();
        index.insert("web", &[one("app", "web")]);
        index.insert("any", &[]);
        index.insert("tier", &[Anchor::Present("tier".into())]);
        let found = |pairs: &[(&str, &str)]| index.possible(&labels(pairs)).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(found(&[("app", "web")]), ["web", "any"]);
        assert_eq!(found(&[("app", "db"), ("tier", "x")]), ["tier", "any"]);
        assert_eq!(found(&[]), ["any"]);
    }

    #[test]
    fn a_label_that_everybody_has_does_not_gather_everybody() {
        let mut index = SelectorIndex::default();
        for number in 0..100 {
            index.insert(&format!("e{number}"), &[one("managed-by", "helm"), one("app", &number.to_string())]);
        }
        let labels = labels(&[("managed-by", "helm"), ("app", "42")]);
        assert!(index.possible(&labels).count() <= 2);
        assert!(index.possible(&labels).any(|election| election == "e42"));
    }

    #[test]
    fn a_removed_election_leaves_nothing_behind() {
        let mut index = SelectorIndex::default();
        index.insert("web", &[one("app", "web")]);
        index.insert("web", &[one("app", "other")]);
        assert_eq!(index.possible(&labels(&[("app", "web")])).count(), 0);
        index.remove("web");
        assert!(index.buckets.is_empty() && index.placed.is_empty() && index.anywhere.is_empty());
    }
}
