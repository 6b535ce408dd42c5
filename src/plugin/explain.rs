//! `explain NAME`: who is eligible, who is next, why, and what the controller does now.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::age;
use super::cluster::Cluster;
use super::console::{self, Output};
use super::failure::Failure;
use super::observed::{Observed, observe};
use super::table::Table;
use crate::api::{DEGRADED, ElectionStatus, READY, STALLED};
use crate::election::candidate::Ineligible;
use crate::election::explain::{Candidate, foresee, holder, succession};
use crate::election::order::Precedence;
use crate::election::plan::{LeaseWrite, Plan, Then};
use crate::election::snapshot::{Pod, Settings, Snapshot};
use crate::lease::record::{Content, Lease};

/// What `explain` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    election: String,
    leader: Option<String>,
    term: Option<i64>,
    since: Option<String>,
    /// Why this term began.
    cause: Option<String>,
    /// Who would be elected if the leader's pod went now, and why.
    next: String,
    next_leader: Option<String>,
    /// What the controller does now.
    now: String,
    /// What is wrong, and the remedy.
    problems: Vec<String>,
    /// What could not be observed.
    unknown: Vec<String>,
    candidates: Vec<Row>,
}

/// One candidate.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    pod: String,
    leads: bool,
    eligible: bool,
    place: Option<usize>,
    score: i64,
    priority: i64,
    preferences: i64,
    /// `newest` or `outdated`; `None`: its workload has no revisions.
    revision: Option<&'static str>,
    ready: bool,
    ready_since: Option<String>,
    why: String,
    #[serde(skip)]
    cells: [String; 2],
}

/// Prints the explanation.
///
/// # Errors
/// A request failed, or there is no such Election.
pub async fn run(cluster: &Cluster, name: &str, output: Output) -> Result<(), Failure> {
    let observed = observe(cluster, name).await?;
    let now = Timestamp::now();
    let explanation = explanation(&observed, now);
    match output {
        Output::Json | Output::Yaml => console::data(&console::document(&explanation, output)?),
        Output::Text | Output::Wide | Output::Name => {
            explanation.unknown.iter().for_each(|unknown| console::warn(unknown));
            console::data(&text(&explanation))
        }
    }
}

fn explanation(observed: &Observed, now: Timestamp) -> Explanation {
    let Observed { key, world, snapshot, unknown } = observed;
    let plan = foresee(snapshot.clone(), now);
    let status = plan.status.as_ref().map_or(&snapshot.election.status, |write| &write.status);
    let record = snapshot.lease.as_ref().and_then(|lease| match &lease.content {
        Content::Term(record) => Some((record, lease.acquired)),
        Content::Blank | Content::Damaged(_) => None,
    });
    let is_own = |lease: &Lease| lease.incarnation.as_ref() == Some(&snapshot.election.uid);
    let record = record.filter(|_| snapshot.lease.as_ref().is_some_and(is_own));
    let settings = snapshot.election.settings.as_ref().ok();
    let candidates = settings.map(|settings| succession(snapshot, settings)).unwrap_or_default();
    let first = candidates.iter().find(|candidate| candidate.place == Some(1));
    let rows = candidates.iter().filter_map(|candidate| Some((candidate, settings?))).map(|(candidate, settings)| {
        let score = world.score_parts(key, &candidate.pod.id.name);
        let Candidate { pod, leads, obstacle, place: at, behind: _, is_outdated } = candidate;
        let revision = pod.revision.as_ref().map(|_| if *is_outdated { "outdated" } else { "newest" });
        Row {
            pod: pod.id.name.clone(),
            leads: *leads,
            eligible: obstacle.is_none(),
            place: *at,
            score: pod.score,
            priority: score.map_or(0, |score| score.priority),
            preferences: score.map_or(0, |score| score.preferences),
            revision,
            ready: pod.ready,
            ready_since: pod.transitioned.filter(|_| pod.ready).map(age::time),
            why: why(candidate, settings),
            cells: [place(candidate), ready(pod, now)],
        }
    });
    Explanation {
        election: key.to_string(),
        leader: record.and_then(|(record, _)| record.holder.as_ref()).map(|holder| holder.name.clone()),
        term: record.map(|(record, _)| record.term.number()),
        since: record.and_then(|(_, acquired)| acquired).map(age::time),
        cause: record.map(|(record, _)| record.reason.clone()).filter(|reason| !reason.is_empty()),
        next: next(snapshot, settings, &candidates),
        next_leader: first
            .filter(|_| settings.is_some_and(|settings| !settings.suspend))
            .map(|next| next.pod.id.name.clone()),
        now: action(&plan, snapshot),
        problems: problems(status),
        unknown: unknown.iter().cloned().chain(preemption(settings, &candidates)).collect(),
        candidates: rows.collect(),
    }
}

/// Who would lead next, and why that pod.
fn next(snapshot: &Snapshot, settings: Option<&Settings>, candidates: &[Candidate<'_>]) -> String {
    let Some(settings) = settings else { return "nobody: the spec is unusable".into() };
    if let Some(from) = &settings.leader_from {
        return format!("unknown: Lease {} decides who leads", from.lease);
    }
    let first = candidates.iter().find(|candidate| candidate.place == Some(1));
    let Some(first) = first else { return "nobody: no other candidate is eligible".into() };
    let second =
        candidates.iter().find_map(|candidate| candidate.behind.filter(|_| candidate.place == Some(2)).zip(Some(candidate)));
    let because = match second {
        None => "no other candidate is eligible".into(),
        Some(((first, rule), second)) => {
            format!("it comes before {}, because {}", second.pod.id.name, words(rule, first, second.pod))
        }
    };
    let name = &first.pod.id.name;
    match holder(snapshot) {
        _ if settings.suspend => format!("nobody while spec.suspend is true; then {name}: {because}"),
        Some(_) => format!("{name}, if the leader's pod went now: {because}"),
        None => format!("{name}: {because}"),
    }
}

/// What the controller does with this plan.
fn action(plan: &Plan, snapshot: &Snapshot) -> String {
    let hint = "If that stays so, check that a controller runs and serves this namespace";
    match (&plan.lease, &plan.then) {
        (Some(LeaseWrite::Elect { record, .. }), _) => match &record.holder {
            Some(holder) => format!("the controller elects {}: {}. {hint}", holder.name, record.reason),
            None => format!("the controller ends the term without a new leader: {}. {hint}", record.reason),
        },
        (_, Then::Consult(why) | Then::ReadFollowedLease(why)) => {
            format!("the controller reads from the API server before it decides: {why}")
        }
        _ if plan.has_foreground_writes() => {
            let leader = holder(snapshot).map_or("the leader", |holder| &holder.name);
            format!("the controller moves the label to {leader}. {hint}")
        }
        (_, Then::RequeueAfter(wait)) => format!("nothing changes; the controller decides again within {}", whole(*wait)),
        _ => "nothing changes".into(),
    }
}

fn whole(wait: SignedDuration) -> String {
    let seconds = wait.as_secs().saturating_add(i64::from(wait.subsec_nanos() > 0));
    age::human(SignedDuration::from_secs(seconds))
}

/// The messages of conditions that need attention.
fn problems(status: &ElectionStatus) -> Vec<String> {
    let ready = status.condition(READY).filter(|ready| ready.status != "True");
    let all = [ready, status.condition(STALLED), status.condition(DEGRADED)];
    let mut problems: Vec<String> =
        all.into_iter().flatten().map(|condition| format!("{}: {}", condition.reason, condition.message)).collect();
    problems.dedup();
    problems
}

/// What only the controller knows of pods that outrank the leader.
fn preemption(settings: Option<&Settings>, candidates: &[Candidate<'_>]) -> Option<String> {
    let delay = settings?.preempt_after?;
    let leader = candidates.iter().find(|candidate| candidate.leads)?;
    let outranks = |candidate: &&Candidate<'_>| {
        candidate.place.is_some() && candidate.pod.score > leader.pod.score && !candidate.pod.is_draining
    };
    let first = candidates.iter().find(outranks)?;
    Some(format!(
        "{} outranks the leader, and replaces it when it has done so for {} s (spec.preemption.delaySeconds): only the controller knows since when",
        first.pod.id.name,
        delay.as_secs(),
    ))
}

/// The place of a candidate, as a cell.
pub fn place(candidate: &Candidate<'_>) -> String {
    match candidate.place {
        _ if candidate.leads => "leader".into(),
        Some(place) => place.to_string(),
        None => "-".into(),
    }
}

/// Whether the pod is Ready and since when, as a cell.
pub fn ready(pod: &Pod, now: Timestamp) -> String {
    let word = if pod.ready { "True" } else { "False" };
    pod.transitioned.map_or_else(|| word.into(), |since| format!("{word} ({})", age::since(since, now)))
}

/// Why the candidate is at this place, or why it is not eligible and what would have to change.
pub fn why(candidate: &Candidate<'_>, settings: &Settings) -> String {
    let Candidate { pod, leads, obstacle, place, behind, is_outdated: _ } = candidate;
    let state = match (obstacle, behind) {
        (Some(why), _) => format!("{why}: {}", remedy(why, pod, settings)),
        (None, Some((before, rule))) => format!("after {}: {}", before.id.name, words(*rule, before, pod)),
        (None, None) if *leads => return "leads".into(),
        (None, None) if place.is_some() => "next".into(),
        (None, None) => "is named by the Lease of spec.leaderFrom".into(),
    };
    if *leads { format!("leads, but {state}") } else { state }
}

/// Why `first` comes before `second`.
fn words(rule: Precedence, first: &Pod, second: &Pod) -> String {
    match rule {
        Precedence::Node => format!("the node of {} drains", second.id.name),
        Precedence::Score => format!("the score of {} is higher ({} over {})", first.id.name, first.score, second.score),
        Precedence::Revision => format!("the revision of {} is outdated", second.id.name),
        Precedence::Spread => format!("{} has the higher weight of tieBreak Spread", first.id.name),
        Precedence::LongestReady => format!("{} has been Ready longer", first.id.name),
        Precedence::Name => format!("the name of {} comes first", first.id.name),
    }
}

/// What would make the pod eligible.
fn remedy(why: &Ineligible, pod: &Pod, settings: &Settings) -> String {
    let name = &pod.id.name;
    match why {
        Ineligible::NotSelected => "give it the labels of spec.selector".into(),
        Ineligible::Terminating => "its replacement can be elected".into(),
        Ineligible::Failed | Ineligible::Succeeded => format!("it does not run again: delete pod {name}"),
        Ineligible::Pending => format!("it must run, see kubectl describe pod {name}"),
        Ineligible::OptedOut => format!("kubectl annotate pod {name} podium.dev/candidate-"),
        Ineligible::ClaimedBy(_) => "narrow spec.selector of one of the two Elections".into(),
        Ineligible::ForeignLabel(_) => {
            format!("remove the label {} from the pod and from its template", settings.label.key)
        }
        Ineligible::NotReady => {
            format!("its condition {} must become True, see kubectl describe pod {name}", settings.ready_condition)
        }
        Ineligible::ReadyTooShort(left) => format!("eligible in {}", whole(*left)),
        Ineligible::NodeUnreachable => "its node must renew its Lease in kube-node-lease".into(),
        Ineligible::NotNamed => "its elector decides who leads".into(),
    }
}

/// Formats the explanation for people.
fn text(explanation: &Explanation) -> String {
    let Explanation { election, leader, term, since, cause, next, now, problems, candidates, .. } = explanation;
    let term = term.map(|term| format!(" (term {term}")).unwrap_or_default();
    let since = since.as_ref().map(|since| format!(", since {since}")).unwrap_or_default();
    let close = if term.is_empty() { "" } else { ")" };
    let mut lines = vec![("Election:", election.clone())];
    let leader = leader.as_deref().unwrap_or("nobody");
    lines.push(("Leader:", format!("{leader}{term}{since}{close}")));
    lines.extend(cause.iter().map(|cause| ("Because:", cause.clone())));
    lines.push(("Next:", next.clone()));
    lines.push(("Now:", now.clone()));
    lines.extend(problems.iter().map(|problem| ("Problem:", problem.clone())));
    let mut shown: String = lines.into_iter().map(|(field, value)| format!("{field:<11}{value}\n")).collect();
    let mut table = Table::new(["PLACE", "POD", "ELIGIBLE", "SCORE", "PRIORITY", "PREFERENCES", "REVISION", "READY", "WHY"]);
    for row in candidates {
        let [place, ready] = &row.cells;
        let eligible = if row.eligible { "yes" } else { "no" };
        let numbers = [row.score, row.priority, row.preferences].map(|number| number.to_string());
        let revision = row.revision.unwrap_or("-").to_owned();
        let first = [place.clone(), row.pod.clone(), eligible.to_owned()];
        table.row(first.into_iter().chain(numbers).chain([revision, ready.clone(), row.why.clone()]).collect());
    }
    match table.is_empty() {
        true => shown.push_str("\nNo candidates\n"),
        false => shown.push_str(&format!("\n{}", table.text(""))),
    }
    shown
}

#[cfg(test)]
mod tests;
