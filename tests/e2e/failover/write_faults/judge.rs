//! Judges a run: the promises at every revision, what the status said when, and whether anything was written needlessly.

use std::collections::{BTreeMap, BTreeSet};

use podium_test_support::checker::{Kind, Revision};
use podium_test_support::checker::{Watched, violations};

use crate::harness::faulty::{Answer, Fault, Noted, Side};
use crate::harness::observer::{Seen, View};

/// How often something was written with effect, by what it was.
pub type Writes = BTreeMap<String, usize>;

/// How many revisions there were, and everything in them that breaks a promise.
pub fn judge(view: &View, forged: &BTreeSet<i64>) -> (usize, Vec<String>) {
    let text = |text: &str| text.to_owned();
    let watched = Watched { election: text("web"), key: text("leader"), value: text("true"), lease: text("web") };
    let mut history = view.history.clone();
    history.sort_by_key(|revision| revision.version);
    let mut found = violations(&history, &[watched], forged);
    // Once in the order of all kinds: a status is judged by what was there before it.
    let (mut named, mut labelled) = (BTreeSet::new(), BTreeSet::new());
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
                    labelled.extend(annotation("term.podium.dev/web").map(|term| (pod, term)));
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
            for (known, what) in [(&named, "the Lease named it"), (&labelled, "it was labelled")] {
                if !known.contains(&leader) {
                    found.push(format!("revision {}: the status names {leader:?} before {what}", seen.version));
                }
            }
        }
    }
    (history.len() + view.statuses.len(), found)
}

/// What Podium wrote with effect after revision `since`, as the watch saw it; the Events as they were answered. `others`: the
/// revisions that somebody else wrote.
pub fn writes(view: &View, others: &BTreeSet<i64>, since: i64, noted: &[Noted]) -> Writes {
    let mut writes = Writes::new();
    let mut count = |what: String| *writes.entry(what).or_default() += 1;
    let ours = |version: i64| version > since && !others.contains(&version);
    let mut history: Vec<&Revision> = view.history.iter().filter(|revision| !revision.gone).collect();
    history.sort_by_key(|revision| revision.version);
    let mut pods = BTreeMap::new();
    for revision in history {
        // Kubernetes marks a pod that terminates without a node, when it comes by: nothing of Podium's.
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

/// What was written otherwise than without the fault. The bound: with whatever fault, each object is written exactly as often
/// as without it. No fault calls for a new term, a second fence or a second label; whoever comes after it goes on from what
/// the Lease says. Only the Event may be missing, where the fault fell between the status and the Event: no later look at
/// the world shows that it is.
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
