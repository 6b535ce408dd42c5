//! Time without a leader although a pod was eligible.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use podium_test_support::checker::{Kind, Watched};

use crate::recorder::Entry;

/// Returns the longest time since `begun` in which a pod of the group was eligible, but no eligible pod had the label, as
/// the watch saw it. Outages of the control plane count.
pub fn longest(entries: &[Entry], watched: &Watched, begun: Instant) -> Duration {
    let mut pods: BTreeMap<&str, bool> = BTreeMap::new();
    let (mut since, mut longest) = (None, Duration::ZERO);
    for Entry { revision, at, eligible } in entries.iter().filter(|entry| entry.revision.kind == Kind::Pod) {
        if *eligible {
            pods.insert(&revision.uid, revision.labels.get(&watched.key) == Some(&watched.value));
        } else {
            pods.remove(revision.uid.as_str());
        }
        let lacks = !pods.is_empty() && pods.values().all(|labeled| !labeled);
        let now = *at.max(&begun);
        longest = longest.max(since.map_or(Duration::ZERO, |since| now.duration_since(since)));
        since = lacks.then(|| since.unwrap_or(now));
    }
    longest
}
