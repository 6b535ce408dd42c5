//! `status [NAME]`: a table of Elections, or one Election in detail.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::age;
use super::change::{Seen, watch};
use super::cluster::{Cluster, Fetched};
use super::console::{self, Output};
use super::explain::{place, ready, why};
use super::failure::Failure;
use super::history::{self, Change, changes};
use super::observed::{Observed, observe};
use super::table::{NONE, Table, line};
use crate::api::{DEGRADED, ElectionStatus, READY, Reason, STALLED};
use crate::election::explain::{Candidate, succession};

/// The number of changes that the details of an Election show.
const LAST_CHANGES: usize = 5;

/// What to show.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The Election. `None`: all of the namespace.
    pub name: Option<String>,
    /// All namespaces.
    pub all_namespaces: bool,
    /// A label selector of Elections.
    pub selector: Option<String>,
    /// The form of the data.
    pub output: Output,
    /// Print changes until the command is interrupted.
    pub watch: bool,
}

/// Prints the state of Elections.
///
/// # Errors
/// A request failed, or there is no such Election.
pub async fn run(cluster: &Cluster, options: &Options) -> Result<(), Failure> {
    let Options { name, all_namespaces, selector, output, watch } = options;
    if *watch {
        return watched(cluster, options).await;
    }
    let Some(name) = name else {
        let elections = cluster.list(*all_namespaces, selector.as_deref()).await?;
        if elections.is_empty() && matches!(output, Output::Text | Output::Wide) {
            let place = if *all_namespaces { String::new() } else { format!(" in namespace {}", cluster.namespace) };
            console::talk(&format!("No Elections found{place}"));
            return Ok(());
        }
        return console::data(&listed(&elections, options, Timestamp::now())?);
    };
    let election = cluster.get(name).await?;
    match output {
        Output::Text => details_of(cluster, &election).await,
        Output::Json | Output::Yaml => console::data(&console::document(&election.shown(), *output)?),
        Output::Wide | Output::Name => console::data(&listed(&[election], options, Timestamp::now())?),
    }
}

/// Prints one Election in detail, as far as the caller may read it.
async fn details_of(cluster: &Cluster, election: &Fetched) -> Result<(), Failure> {
    let observed = match observe(cluster, election.name()).await {
        Ok(observed) => Some(observed),
        Err(Failure::Denied(why)) => {
            console::warn(&format!("candidates are not shown: {why}"));
            None
        }
        Err(failure) => return Err(failure),
    };
    let changes = match changes(cluster, election).await {
        Ok(changes) => changes,
        Err(Failure::Denied(why)) => {
            console::warn(&format!("changes are not shown: {why}"));
            Vec::new()
        }
        Err(failure) => return Err(failure),
    };
    let candidates = observed.as_ref().map(|observed| candidates(observed, Timestamp::now()));
    observed.iter().flat_map(|observed| &observed.unknown).for_each(|unknown| console::warn(unknown));
    console::data(&details(election, candidates.as_ref(), &changes, Timestamp::now()))
}

/// Formats one Election.
fn details(election: &Fetched, candidates: Option<&Table>, changes: &[Change], now: Timestamp) -> String {
    let status = election.status();
    let text = |value: Option<String>| value.unwrap_or_else(|| NONE.into());
    let since = status.acquire_time.as_ref().map(|time| format!("{} ({})", age::time(time.0), age::since(time.0, now)));
    let cause = changes.iter().find(|change| Some(change.term) == status.term).and_then(|change| change.cause.clone());
    let mut fields = vec![
        ("Name:", election.name().to_owned()),
        ("Namespace:", election.namespace().to_owned()),
        ("Leader:", text(status.leader.clone())),
        ("Term:", text(status.term.map(|term| term.to_string()))),
        ("Since:", text(since)),
        ("Cause:", cause.unwrap_or_else(|| "<unknown>".into())),
        ("Next leader:", text(status.next_leader.clone())),
        ("Eligible:", counts(&status)),
        ("Transitions:", status.leader_transitions.to_string()),
    ];
    if election.is_suspended() {
        fields.push(("Suspended:", "true".into()));
    }
    let mut shown = String::new();
    for (field, value) in fields {
        let _ = writeln!(shown, "{field:<14}{value}");
    }
    let mut conditions = Table::new(["TYPE", "STATUS", "AGE", "REASON", "MESSAGE"]);
    for condition in status.conditions.iter().flatten() {
        let age = age::since(condition.last_transition_time.0, now);
        let (kind, status) = (condition.type_.clone(), condition.status.clone());
        conditions.row(vec![kind, status, age, condition.reason.clone(), condition.message.clone()]);
    }
    let last = &changes[changes.len().saturating_sub(LAST_CHANGES)..];
    let changes = history::table(last, now);
    let sections = [
        ("Conditions", Some(&conditions)),
        ("Candidates, in the order of succession", candidates),
        ("Last changes", Some(&changes)),
    ];
    for (title, table) in sections {
        match table.filter(|table| !table.is_empty()) {
            Some(table) => drop(write!(shown, "\n{title}:\n{}", table.text("  "))),
            None => drop(write!(shown, "\n{title}: {NONE}\n")),
        }
    }
    shown
}

/// The candidates in the order of succession, each with the reason why it is not eligible.
fn candidates(observed: &Observed, now: Timestamp) -> Table {
    let mut table = Table::new(["PLACE", "POD", "READY", "ELIGIBLE", "WHY"]);
    let Ok(settings) = &observed.snapshot.election.settings else { return table };
    for candidate in succession(&observed.snapshot, settings) {
        let Candidate { pod, obstacle, .. } = &candidate;
        let ready = ready(pod, now);
        let eligible = if obstacle.is_none() { "yes" } else { "no" };
        table.row(vec![place(&candidate), pod.id.name.clone(), ready, eligible.into(), why(&candidate, settings)]);
    }
    table
}

/// Formats a list of Elections.
fn listed(elections: &[Fetched], options: &Options, now: Timestamp) -> Result<String, Failure> {
    let output = options.output;
    match output {
        Output::Text | Output::Wide => {
            let mut table = Table::new(headers(options));
            elections.iter().for_each(|election| table.row(row(election, options, now)));
            Ok(table.text(""))
        }
        Output::Name => Ok(elections.iter().map(|election| format!("{}\n", resource(election))).collect()),
        Output::Json | Output::Yaml => {
            let items: Vec<_> = elections.iter().map(Fetched::shown).collect();
            let list = json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "" }, "items": items });
            console::document(&list, output)
        }
    }
}

/// The Election as kubectl names it.
pub fn resource(election: &Fetched) -> String {
    format!("election.podium.dev/{}", election.name())
}

fn headers(options: &Options) -> Vec<&'static str> {
    let mut headers = vec!["NAME", "LEADER", "READY", "ELIGIBLE", "TRANSITIONS", "SINCE", "REASON"];
    if options.all_namespaces {
        headers.insert(0, "NAMESPACE");
    }
    if options.output == Output::Wide {
        headers.extend(["NEXT", "TERM", "LABEL", "LEASE"]);
    }
    headers
}

fn row(election: &Fetched, options: &Options, now: Timestamp) -> Vec<String> {
    let status = election.status();
    let text = |value: Option<String>| value.unwrap_or_else(|| NONE.into());
    let ready = status.condition(READY).map_or("Unknown", |ready| &ready.status);
    let mut row = vec![
        election.name().to_owned(),
        text(status.leader.clone()),
        ready.to_owned(),
        counts(&status),
        status.leader_transitions.to_string(),
        text(status.acquire_time.as_ref().map(|time| age::since(time.0, now))),
        reasons(election, &status),
    ];
    if options.all_namespaces {
        row.insert(0, election.namespace().to_owned());
    }
    if options.output == Output::Wide {
        let term = status.term.map(|term| term.to_string());
        row.extend([text(status.next_leader), text(term), election.label_key().into(), election.lease_name().into()]);
    }
    row
}

fn counts(status: &ElectionStatus) -> String {
    format!("{}/{}", status.eligible_candidates, status.candidates)
}

/// The reasons of all conditions that need attention, each once.
fn reasons(election: &Fetched, status: &ElectionStatus) -> String {
    let kinds = [READY, STALLED, DEGRADED];
    let mut reasons: Vec<&str> = kinds.iter().filter_map(|kind| Some(&*status.condition(kind)?.reason)).collect();
    if election.is_suspended() {
        reasons.push(Reason::Suspended.as_str());
    }
    let mut shown: Vec<&str> = Vec::new();
    reasons.into_iter().for_each(|reason| {
        if !shown.contains(&reason) {
            shown.push(reason)
        }
    });
    if shown.is_empty() { "<unknown>".into() } else { shown.join(",") }
}

/// Prints the table, and then each Election that changes.
async fn watched(cluster: &Cluster, options: &Options) -> Result<(), Failure> {
    let mut pending: Vec<Fetched> = Vec::new();
    let mut widths: Option<Vec<usize>> = None;
    // The reader needs no line that says the same again, as after a new list.
    let mut printed: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut is_news = move |election: &Fetched| {
        let key = (election.namespace().to_owned(), election.name().to_owned());
        let now = row(election, options, Timestamp::UNIX_EPOCH);
        printed.insert(key, now.clone()) != Some(now)
    };
    watch(cluster, options.all_namespaces, options.selector.as_deref(), options.name.as_deref(), |seen| {
        let now = Timestamp::now();
        let election = match seen {
            Seen::Listed(election) if widths.is_none() => {
                is_news(&election);
                pending.push(election);
                return Ok(ControlFlow::Continue(()));
            }
            Seen::EndOfList if widths.is_none() => {
                let mut table = Table::new(headers(options));
                pending.iter().for_each(|election| table.row(row(election, options, now)));
                widths = Some(table.widths());
                match options.output {
                    Output::Text | Output::Wide => console::data(&table.text(""))?,
                    _ => pending.iter().try_for_each(|election| console::data(&single(election, options)?))?,
                }
                pending.clear();
                return Ok(ControlFlow::Continue(()));
            }
            Seen::EndOfList => return Ok(ControlFlow::Continue(())),
            Seen::Deleted(election) => {
                console::talk(&format!("Election {}/{} was deleted", election.namespace(), election.name()));
                return Ok(ControlFlow::Continue(()));
            }
            Seen::Listed(election) | Seen::Changed(election) => election,
        };
        if is_news(&election) || !matches!(options.output, Output::Text | Output::Wide) {
            let line = line(&row(&election, options, now), widths.as_deref().unwrap_or_default());
            match options.output {
                Output::Text | Output::Wide => console::data(&(line + "\n"))?,
                _ => console::data(&single(&election, options)?)?,
            }
        }
        Ok(ControlFlow::Continue(()))
    })
    .await
}

/// Formats one Election of a watch.
fn single(election: &Fetched, options: &Options) -> Result<String, Failure> {
    match options.output {
        Output::Json => console::document(&election.shown(), Output::Json),
        Output::Yaml => Ok(format!("---\n{}", console::document(&election.shown(), Output::Yaml)?)),
        _ => Ok(format!("{}\n", resource(election))),
    }
}

#[cfg(test)]
mod tests;
