//! Counters of changes and faults.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Counts of each kind of change, and a diary that helps to explain the result.
#[derive(Debug)]
pub struct Figures {
    counts: Mutex<BTreeMap<&'static str, u64>>,
    begun: Instant,
    diary: File,
}

impl Figures {
    /// The diary is `diary.log` in this directory.
    pub fn new(directory: &Path) -> Self {
        let diary = File::create(directory.join("diary.log")).expect("a writable directory");
        Self { counts: Mutex::default(), begun: Instant::now(), diary }
    }

    pub fn count(&self, what: &'static str, whom: &str) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
        self.note(&format!("{what}: {whom}"));
    }

    pub fn note(&self, what: &str) {
        let line = format!("{:8.3} {what}\n", self.begun.elapsed().as_secs_f64());
        (&self.diary).write_all(line.as_bytes()).expect("a writable diary");
    }

    pub fn lines(&self) -> Vec<String> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(what, times)| format!("  {times:6}  {what}")).collect()
    }
}
