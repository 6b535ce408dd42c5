//! Judges the record group by group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use podium_test_support::checker::{Kind, violations};

use crate::leaderless::longest;
use crate::recorder::{Entry, Record};
use crate::world::{Group, group_of};

/// Result of a run.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Violations of the guarantees, and gaps in the record.
    pub violations: Vec<String>,
    /// Number of judged revisions of pods and of Leases.
    pub revisions: (usize, usize),
    /// Number of times a Lease named a new holder.
    pub failovers: usize,
    /// Longest time without a leader of each Election, longest first.
    pub leaderless: Vec<(Duration, String)>,
}

/// Judges every revision. `begun`: the time when all Elections had a leader.
pub fn judge(record: &Record, groups: &[Group], begun: Instant) -> Verdict {
    let mut verdict = Verdict { violations: record.gaps.clone(), ..Verdict::default() };
    let mut parts: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
    for entry in &record.entries {
        parts.entry(group_of(&entry.revision.name)).or_default().push(entry.clone());
    }
    // The loop below would skip a pod or Lease of no group.
    let known: BTreeSet<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    let strangers = parts.keys().filter(|name| !known.contains(*name));
    verdict.violations.extend(strangers.map(|name| format!("nobody knows {name}")));
    for group in groups {
        let entries = parts.remove(group.name.as_str()).unwrap_or_default();
        let history: Vec<_> = entries.iter().map(|entry| entry.revision.clone()).collect();
        let found = violations(&history, &group.elections, &record.forged);
        verdict.violations.extend(found.into_iter().map(|violation| format!("{}: {violation}", group.name)));
        let pods = history.iter().filter(|revision| revision.kind == Kind::Pod).count();
        verdict.revisions.0 += pods;
        verdict.revisions.1 += history.len() - pods;
        for election in &group.elections {
            let leases = history.iter().filter(|of| of.kind == Kind::Lease && of.name == election.lease && !of.gone);
            let mut holders: Vec<_> = leases.filter_map(|lease| lease.annotations.get("podium.dev/holder")).collect();
            holders.retain(|holder| !holder.is_empty());
            holders.dedup();
            verdict.failovers += holders.len().saturating_sub(1);
            let time = longest(&entries, election, begun);
            verdict.leaderless.push((time, election.election.clone()));
        }
    }
    verdict.leaderless.sort();
    verdict.leaderless.reverse();
    verdict
}
