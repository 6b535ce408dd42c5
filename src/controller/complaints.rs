//! What was already said: a trouble that lasts is logged when it begins, not at every attempt.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use super::observe::world::Key;
use crate::log_once::LogOnce;
use crate::sync;

/// The last complaint about each Election and piece of work.
#[derive(Debug, Default)]
pub struct Complaints(Mutex<HashMap<Key, BTreeMap<&'static str, LogOnce>>>);

impl Complaints {
    /// Whether this is news: the last complaint about the same thing was another one, or things went well since.
    pub fn is_news(&self, key: &Key, work: &'static str, message: &str) -> bool {
        let mut all = self.lock();
        all.entry(key.clone()).or_default().entry(work).or_default().is_new(message)
    }

    /// It went well. Returns whether there had been a complaint.
    pub fn settle(&self, key: &Key, work: &'static str) -> bool {
        let mut all = self.lock();
        let Some(complaints) = all.get_mut(key) else { return false };
        let complained = complaints.remove(work).is_some();
        if complaints.is_empty() {
            all.remove(key);
        }
        complained
    }

    /// There is no such Election any more.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, BTreeMap<&'static str, LogOnce>>> {
        sync::lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_news_once_and_again_after_it_was_over() {
        let complaints = Complaints::default();
        let key = Key { namespace: "default".into(), name: "web".into() };
        assert!(complaints.is_news(&key, "electing", "no right"));
        assert!(!complaints.is_news(&key, "electing", "no right"));
        assert!(complaints.is_news(&key, "cleanup", "no right"));
        assert!(complaints.is_news(&key, "electing", "no answer"));
        assert!(complaints.settle(&key, "electing") && !complaints.settle(&key, "electing"));
        assert!(complaints.is_news(&key, "electing", "no answer"));
        complaints.settle(&key, "electing");
        complaints.forget(&key);
        assert!(complaints.lock().is_empty(), "nothing is remembered of what is gone");
    }
}
