//! Log-once for each Election and kind of work: a problem that lasts is logged when it begins, not at every retry.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use super::key::Key;
use crate::log_once::LogOnce;
use crate::sync;

/// The problems that were logged, by Election and kind of work.
#[derive(Debug, Default)]
pub struct ProblemLog(Mutex<HashMap<Key, BTreeMap<&'static str, LogOnce>>>);

impl ProblemLog {
    /// Stores the message. Returns whether it is to be logged: the one before was another, or the problem was over.
    pub fn is_new(&self, key: &Key, work: &'static str, message: &str) -> bool {
        let mut all = self.lock();
        all.entry(key.clone()).or_default().entry(work).or_default().is_new(message)
    }

    /// Forgets the problem, because the work succeeded. Returns whether there was one.
    pub fn clear(&self, key: &Key, work: &'static str) -> bool {
        let mut all = self.lock();
        let Some(problems) = all.get_mut(key) else { return false };
        let had_problem = problems.remove(work).is_some();
        if problems.is_empty() {
            all.remove(key);
        }
        had_problem
    }

    /// Forgets a deleted Election.
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
    fn same_problem_is_logged_once_and_again_after_it_was_over() {
        let log = ProblemLog::default();
        let key = Key { namespace: "default".into(), name: "web".into() };
        assert!(log.is_new(&key, "reconcile", "no permission"));
        assert!(!log.is_new(&key, "reconcile", "no permission"));
        assert!(log.is_new(&key, "cleanup", "no permission"));
        assert!(log.is_new(&key, "reconcile", "no response"));
        assert!(log.clear(&key, "reconcile") && !log.clear(&key, "reconcile"));
        assert!(log.is_new(&key, "reconcile", "no response"));
        log.clear(&key, "reconcile");
        log.forget(&key);
        assert!(log.lock().is_empty(), "nothing is kept of a deleted Election");
    }
}
