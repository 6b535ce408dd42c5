//! Index from a pod to its Elections and back, without trying every selector or every pod. It files each Election under one
//! label that its pods must carry.

use std::collections::{BTreeMap, BTreeSet};

use super::compact::{Name, Pairs};
use crate::api::{LabelSelector, Operator};

/// A label that a selector requires.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anchor {
    /// The label has one of these values.
    OneOf(String, BTreeSet<String>),
    /// The label is there.
    Present(String),
}

impl Anchor {
    /// Returns all anchors of a selector. None: it only excludes labels.
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

    fn key(&self) -> &str {
        match self {
            Self::OneOf(key, _) | Self::Present(key) => key,
        }
    }
}

/// Elections and pods with one value of a label.
#[derive(Clone, Debug, Default)]
struct Bucket {
    /// Elections whose pods must carry it.
    elections: BTreeSet<Name>,
    /// Pods that carry it.
    pods: BTreeSet<Name>,
}

/// A label that some selector requires.
#[derive(Clone, Debug, Default)]
struct Label {
    /// Number of Elections filed under it.
    elections: usize,
    /// Elections whose pods must carry it, with any value.
    present: BTreeSet<Name>,
    /// By its value.
    values: BTreeMap<Box<str>, Bucket>,
}

impl Label {
    /// Number of Elections to try for a pod with this anchor.
    fn crowd(&self, anchor: &Anchor) -> usize {
        match anchor {
            Anchor::OneOf(_, values) => values.iter().map(|value| self.values.get(&**value)).map(crowd).sum(),
            Anchor::Present(_) => self.present.len() + 1,
        }
    }
}

fn crowd(bucket: Option<&Bucket>) -> usize {
    bucket.map_or(1, |bucket| bucket.elections.len() + 1)
}

/// Elections of one namespace by the label that their pods must carry, and pods by these labels.
#[derive(Clone, Debug, Default)]
pub struct LabelIndex {
    labels: BTreeMap<Box<str>, Label>,
    /// Elections without an anchor, tried for every pod.
    anywhere: BTreeSet<Name>,
    placed: BTreeMap<Name, Anchor>,
}

impl LabelIndex {
    /// Files the Election under the anchor with the fewest others, so that a label of every pod costs little. `pods`: all
    /// pods of the namespace, with their labels.
    pub fn insert<'a>(&mut self, election: &Name, anchors: &[Anchor], pods: impl Iterator<Item = (&'a Name, &'a Pairs)>) {
        self.remove(election);
        let crowd = |anchor: &&Anchor| match self.labels.get(anchor.key()) {
            Some(label) => label.crowd(anchor),
            None => 1,
        };
        let Some(anchor) = anchors.iter().min_by_key(crowd) else {
            self.anywhere.insert(election.clone());
            return;
        };
        let key = anchor.key();
        if !self.labels.contains_key(key) {
            let label = self.labels.entry(key.into()).or_default();
            for (pod, labels) in pods {
                if let Some(value) = labels.get(key) {
                    label.values.entry(value.into()).or_default().pods.insert(pod.clone());
                }
            }
        }
        let label = self.labels.entry(key.into()).or_default();
        label.elections += 1;
        match anchor {
            Anchor::Present(_) => drop(label.present.insert(election.clone())),
            Anchor::OneOf(_, values) => {
                for value in values {
                    label.values.entry(value.as_str().into()).or_default().elections.insert(election.clone());
                }
            }
        }
        self.placed.insert(election.clone(), anchor.clone());
    }

    /// Removes the Election.
    pub fn remove(&mut self, election: &str) {
        self.anywhere.remove(election);
        let Some(anchor) = self.placed.remove(election) else { return };
        let Some(label) = self.labels.get_mut(anchor.key()) else { return };
        label.present.remove(election);
        if let Anchor::OneOf(_, values) = &anchor {
            for value in values {
                let Some(bucket) = label.values.get_mut(&**value) else { continue };
                bucket.elections.remove(election);
                if bucket.elections.is_empty() && bucket.pods.is_empty() {
                    label.values.remove(&**value);
                }
            }
        }
        label.elections -= 1;
        if label.elections == 0 {
            self.labels.remove(anchor.key());
        }
    }

    /// Adds a pod with these labels.
    pub fn insert_pod(&mut self, pod: &Name, labels: &Pairs) {
        for (key, value) in labels.iter() {
            if let Some(label) = self.labels.get_mut(key) {
                label.values.entry(value.into()).or_default().pods.insert(pod.clone());
            }
        }
    }

    /// Removes a pod with these labels.
    pub fn remove_pod(&mut self, pod: &str, labels: &Pairs) {
        for (key, value) in labels.iter() {
            let Some(label) = self.labels.get_mut(key) else { continue };
            let Some(bucket) = label.values.get_mut(value) else { continue };
            bucket.pods.remove(pod);
            if bucket.elections.is_empty() && bucket.pods.is_empty() {
                label.values.remove(value);
            }
        }
    }

    /// Returns the Elections that may match a pod with these labels, including all that do.
    pub fn elections<'a>(&'a self, labels: &'a Pairs) -> impl Iterator<Item = &'a Name> {
        let hits = labels.iter().filter_map(|(key, value)| {
            let label = self.labels.get(key)?;
            Some([Some(&label.present), label.values.get(value).map(|bucket| &bucket.elections)])
        });
        hits.flatten().flatten().flatten().chain(&self.anywhere)
    }

    /// Returns the pods that may match the Election, including all that do. `None`: any pod may.
    pub fn pods(&self, election: &str) -> Option<impl Iterator<Item = &Name>> {
        let anchor = self.placed.get(election)?;
        let label = self.labels.get(anchor.key())?;
        let buckets: Box<dyn Iterator<Item = &Bucket>> = match anchor {
            Anchor::OneOf(_, values) => Box::new(values.iter().filter_map(|value| label.values.get(&**value))),
            Anchor::Present(_) => Box::new(label.values.values()),
        };
        Some(buckets.flat_map(|bucket| &bucket.pods))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Pairs {
        Pairs::of(pairs.iter().copied())
    }

    fn one(key: &str, value: &str) -> Anchor {
        Anchor::OneOf(key.into(), [value.into()].into())
    }

    /// An index with these Elections, and with pods that carry these labels.
    fn index(elections: &[(&str, &[Anchor])], pods: &[(&str, &[(&str, &str)])]) -> LabelIndex {
        let mut index = LabelIndex::default();
        for (election, anchors) in elections {
            index.insert(&(*election).into(), anchors, [].into_iter());
        }
        for (pod, pairs) in pods {
            index.insert_pod(&(*pod).into(), &labels(pairs));
        }
        index
    }

    fn elections(index: &LabelIndex, pairs: &[(&str, &str)]) -> Vec<String> {
        index.elections(&labels(pairs)).map(|name| name.to_string()).collect()
    }

    fn pods(index: &LabelIndex, election: &str) -> Option<Vec<String>> {
        Some(index.pods(election)?.map(|name| name.to_string()).collect())
    }

    #[test]
    fn an_election_is_found_by_its_anchor_and_not_by_other_labels() {
        let index = index(&[("web", &[one("app", "web")]), ("any", &[]), ("tier", &[Anchor::Present("tier".into())])], &[]);
        assert_eq!(elections(&index, &[("app", "web")]), ["web", "any"]);
        assert_eq!(elections(&index, &[("app", "db"), ("tier", "x")]), ["tier", "any"]);
        assert_eq!(elections(&index, &[]), ["any"]);
    }

    #[test]
    fn a_label_that_everybody_has_does_not_gather_everybody() {
        let mut index = LabelIndex::default();
        for number in 0..100 {
            let anchors = [one("managed-by", "helm"), one("app", &number.to_string())];
            index.insert(&format!("e{number}").into(), &anchors, [].into_iter());
        }
        let found = elections(&index, &[("managed-by", "helm"), ("app", "42")]);
        assert!(found.len() <= 2 && found.contains(&"e42".into()), "{found:?}");
    }

    #[test]
    fn a_pod_is_found_by_the_anchor_whichever_came_first() {
        let all: [(&str, &[(&str, &str)]); 3] =
            [("a", &[("app", "web")]), ("b", &[("app", "db"), ("tier", "x")]), ("c", &[("other", "web")])];
        let anchors = [("web", vec![one("app", "web")]), ("tier", vec![Anchor::Present("tier".into())]), ("any", vec![])];
        let pods_later = index(&anchors.each_ref().map(|(name, anchors)| (*name, &anchors[..])), &all);
        let mut pods_first = index(&[], &all);
        let known: Vec<(Name, Pairs)> = all.iter().map(|(name, pairs)| ((*name).into(), labels(pairs))).collect();
        for (election, anchors) in &anchors {
            pods_first.insert(&(*election).into(), anchors, known.iter().map(|(name, labels)| (name, labels)));
        }
        for index in [&pods_later, &pods_first] {
            assert_eq!(pods(index, "web"), Some(vec!["a".into()]));
            assert_eq!(pods(index, "tier"), Some(vec!["b".into()]));
            assert_eq!(pods(index, "any"), None);
        }
        let mut index = pods_first;
        index.remove_pod("a", &labels(&[("app", "web")]));
        assert_eq!(pods(&index, "web"), Some(vec![]));
    }

    #[test]
    fn a_removed_election_leaves_nothing_behind() {
        let mut index = index(&[("web", &[one("app", "web")])], &[("a", &[("app", "web")]), ("b", &[("other", "web")])]);
        index.insert(&"web".into(), &[one("other", "web")], [].into_iter());
        assert_eq!(elections(&index, &[("app", "web")]), [""; 0]);
        index.remove("web");
        assert!(index.labels.is_empty() && index.placed.is_empty() && index.anywhere.is_empty());
    }
}
