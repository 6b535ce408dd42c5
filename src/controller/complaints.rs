//! What was already said: a trouble that lasts is logged when it begins, not at every attempt.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::observe::world::Key;

/// The last complaint about each Election and piece of work.
#[derive(Debug, Default)]
pub struct Complaints(Mutex<HashMap<(Key, &'static str), String>>);

impl Complaints {
    /// Whether this is news: the last complaint about the same thing was another one, or things went well since.
    pub fn is_news(&self, key: &Key, work: &'static str, message: &str) -> bool {
        self.lock().insert((key.clone(), work), message.to_owned()).is_none_or(|before| before != message)
    }

    /// It went well. Returns whether there had been a complaint.
    pub fn settle(&self, key: &Key, work: &'static str) -> bool {
        self.lock().remove(&(key.clone(), work)).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Key, &'static str), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert!(complaints.is_news(&key, "sweeping", "no right"));
        assert!(complaints.is_news(&key, "electing", "no answer"));
        assert!(complaints.settle(&key, "electing") && !complaints.settle(&key, "electing"));
        assert!(complaints.is_news(&key, "electing", "no answer"));
    }
}
