//! Compact storage of the labels, claims and conditions of every pod of a cluster.
//!
//! A map of strings costs some 600 bytes for its first entry, and a pod has three. Here one string holds all labels of a
//! pod. They are few, so a search is linear.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A name that several indices share.
pub type Name = Arc<str>;

/// Concatenated texts.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Texts {
    all: Box<str>,
    /// End of each text.
    ends: Box<[u32]>,
}

impl Texts {
    pub(super) fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let (mut all, mut ends) = (String::new(), Vec::new());
        for text in texts {
            all.push_str(text);
            // An object has at most a few megabytes.
            ends.push(u32::try_from(all.len()).unwrap_or(u32::MAX));
        }
        Self { all: all.into(), ends: ends.into() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let mut begin = 0;
        self.ends.iter().map(move |end| {
            let end = *end as usize;
            self.all.get(std::mem::replace(&mut begin, end)..end).unwrap_or_default()
        })
    }
}

/// Map of texts, sorted by key: labels or claims.
#[derive(Clone, PartialEq, Eq)]
pub struct Pairs(Texts);

impl Pairs {
    /// Collects these pairs.
    pub fn of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        Self(Texts::new(pairs.flat_map(|(key, value)| [key, value])))
    }

    /// Iterates over the pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut texts = self.0.iter();
        std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }

    /// The value under the key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(own, _)| *own == key).map(|(_, value)| value)
    }

    /// The same as a map, for a selector.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

/// Set of texts, usually empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Option<Box<[Box<str>]>>);

impl Keys {
    /// Collects these texts.
    pub fn of<'a>(keys: impl Iterator<Item = &'a str>) -> Self {
        let keys: Box<[Box<str>]> = keys.map(Into::into).collect();
        Self((!keys.is_empty()).then_some(keys))
    }

    /// Returns whether the set has this text.
    pub fn contains(&self, key: &str) -> bool {
        self.0.iter().flatten().any(|own| **own == *key)
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any texts work: claims are annotations, whose values may be anything.
        #[test]
        fn what_goes_in_comes_out(map in prop::collection::btree_map(".{0,5}", ".{0,5}", 0..6), other in ".{0,5}") {
            let pairs = Pairs::of(map.iter().map(|(key, value)| (key.as_str(), value.as_str())));
            prop_assert_eq!(&pairs.to_map(), &map);
            prop_assert!(pairs.keys().eq(map.keys()));
            for key in map.keys().chain([&other]) {
                prop_assert_eq!(pairs.get(key), map.get(key).map(String::as_str));
            }
        }
    }
}
