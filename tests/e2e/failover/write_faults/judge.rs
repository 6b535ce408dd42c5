//! Judges a run: the guarantees at every revision, the status at each time, and needless writes.

use std::collections::{BTreeMap, BTreeSet};

use podium_test_support::checker::{Kind, Revision};
use podium_test_support::checker::{Watched, violations};

use crate::harness::faulty::{Answer, Fault, Noted, Side};
use crate::harness::observer::{Seen, View};

/// Number of effective writes of each object.
pub type Writes = BTreeMap<String, usize>;

/// Returns the number of revisions, and all violations of the guarantees.
pub fn judge(view: &View, forged: &BTreeSet<i64>) -> (usize, Vec<String>) {
    let text = |text: &str| text.to_owned();
    let watched = Watched { election: text("web"), key: text("leader"), value: text("true"), lease: text("web") };
    let mut history = view.history.clone();
    history.sort_by_key(|revision| revision.version);
    let mut found = violations(&history, &[watched], forged);
    // In the order of all kinds: a status is judged by what precedes it.
    let (mut named, mut labeled) = (BTreeSet::new(), BTreeSet::new());
    let mut events = history.iter().peekable();
    let mut statuses: Vec<&Seen> = view.statuses.iter().collect();
    statuses.sort_by_key(|seen| seen.version);
    let mut highest: BTreeMap<&str, i64> = BTreeMap::new();
    for seen in statuses {
        while let Some(revision) = events.next_if(|revision| revision.version < seen.version) {
            let annotation = |name: &str| revision.annotations.get(name).cloned();
            match revision.kind {
                Kind::Lease => named.extend(annotation("podium.dev/holder").zip(annotation("podium.dev/term"))),
                Kind::Pod if revision.labels.contains_key("leader") => {
                    let pod = format!("{}/{}", revision.name, revision.uid);
                    labeled.extend(annotation("term.podium.dev/web").map(|term| (pod, term)));
                }
                Kind::Pod => {}
            }
        }
        let Some(term) = seen.status.term else { continue };
        let before = highest.insert(&seen.uid, term).unwrap_or(term);
        if before > term {
            found.push(format!("revision {}: the status went back from term {before} to {term}", seen.version));
        }
        if let (Some(leader), Some(uid)) = (&seen.status.leader, &seen.status.leader_uid) {
            let leader = (format!("{leader}/{uid}"), term.to_string());
            for (known, what) in [(&named, "the Lease named it"), (&labeled, "it was labeled")] {
                if !known.contains(&leader) {
                    found.push(format!("revision {}: the status names {leader:?} before {what}", seen.version));
                }
            }
        }
    }
    (history.len() + view.statuses.len(), found)
}

/// Counts Podium's effective writes after revision `since`, as the watch delivered them, and Events by their responses.
/// `others`: revisions of other writers.
pub fn writes(view: &View, others: &BTreeSet<i64>, since: i64, noted: &[Noted]) -> Writes {
    let mut writes = Writes::new();
    let mut count = |what: String| *writes.entry(what).or_default() += 1;
    let ours = |version: i64| version > since && !others.contains(&version);
    let mut history: Vec<&Revision> = view.history.iter().filter(|revision| !revision.gone).collect();
    history.sort_by_key(|revision| revision.version);
    let mut pods = BTreeMap::new();
    for revision in history {
        // The pod garbage collector may mark a terminating pod without a node: not Podium's write.
        let podiums = (revision.labels.get("leader"), revision.annotations.get("term.podium.dev/web"));
        let touched = match revision.kind {
            Kind::Pod => pods.insert(&revision.uid, podiums) != Some(podiums),
            Kind::Lease => true,
        };
        if touched && ours(revision.version) {
            count(format!("{:?} {}", revision.kind, revision.name));
        }
    }
    let statuses = view.statuses.iter().filter(|seen| ours(seen.version));
    statuses.for_each(|seen| count(format!("Election {}", seen.name)));
    let events = noted.iter().filter(|noted| noted.what == "Event" && noted.answer == Some(Answer::Applied(None)));
    events.for_each(|noted| count(noted.what.clone()));
    writes
}

/// Returns the differences from the run without a fault. The bound: each object is written exactly as often as without one.
/// No fault requires a new term, a second fence or a second label, because the next controller continues from the Lease.
/// Only the Event may be missing, if the fault fell between status and Event: the state does not show a missing Event.
pub fn needless(expected: &Writes, actual: &Writes, at: &str, fault: Fault) -> Vec<String> {
    let untold = match fault {
        Fault::Die(Side::After) | Fault::Lose(Side::After) => at == "status",
        Fault::Die(Side::Before) | Fault::Lose(Side::Before) => at == "Event",
        Fault::Hang(_) | Fault::Edit => false,
    };
    let count = |writes: &Writes, what: &String| writes.get(what).copied().unwrap_or_default();
    let all: BTreeSet<&String> = expected.keys().chain(actual.keys()).collect();
    let differs = |what: &&&String| {
        let (expected, actual) = (count(expected, what), count(actual, what));
        let missing = untold && what.as_str() == "Event" && actual + 1 == expected;
        expected != actual && !missing
    };
    let different = all.iter().filter(differs);
    different.map(|what| format!("{what}: {} times instead of {}", count(actual, what), count(expected, what))).collect()
}
