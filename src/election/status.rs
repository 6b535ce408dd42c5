//! The status of an Election, computed from its Lease and its pods.

use k8s_openapi::jiff::Timestamp;

use super::candidate::{Candidates, Ineligible};
use super::plan::{Announcement, StatusWrite};
use super::snapshot::{Pod, PodState, REPAIR_INTERVAL, Refused, Settings, Snapshot};
use super::text::first_of;
use crate::api::{DEGRADED, ElectionStatus, READY, Reason, STALLED, condition, whole_second};
use crate::ids::{Term, Version};
use crate::lease::record::{Content, Record};

/// The current term, as the status reports it.
#[derive(Clone, Copy, Debug)]
pub struct CurrentTerm<'a> {
    /// The term's record in the Lease.
    pub record: &'a Record,
    /// When it began.
    pub acquired: Option<Timestamp>,
    /// The number of changes of leader.
    pub transitions: i32,
}

/// The input to the status of an Election whose spec is usable.
#[derive(Debug)]
pub struct StatusInput<'a> {
    /// Its settings.
    pub settings: &'a Settings,
    /// The term, if there is one.
    pub current: Option<CurrentTerm<'a>>,
    /// The holder carries the label with that term after the plan is executed.
    pub labeled: bool,
    /// The pods by eligibility.
    pub candidates: &'a Candidates<'a>,
    /// The pod that would be elected if the leader failed.
    pub next: Option<&'a Pod>,
    /// What a planned change of the leader waits for.
    pub pending: Option<String>,
    /// Why a request for a switchover has no effect.
    pub ignored: Option<String>,
    /// Why the followed Lease names no pod.
    pub unnamed: Option<&'a str>,
}

/// A condition's reason and message.
type Explanation = (Reason, String);

/// A problem that needs attention, by severity.
enum Attention {
    /// Elections work nevertheless.
    Degrades(Explanation),
    /// No progress without a person.
    Stalls(Explanation),
}

/// Returns the write that brings the status up to date, or `None` if it is.
pub fn report(snapshot: &Snapshot, input: &StatusInput<'_>, now: Timestamp) -> Option<StatusWrite> {
    let before = &snapshot.election.status;
    let matching = snapshot.pods.iter().filter(|pod| pod.matches).count();
    let mut status = before.clone();
    status.leader = None;
    status.leader_uid = None;
    if let Some(CurrentTerm { record, acquired, transitions }) = input.current {
        status.leader = record.holder.as_ref().map(|holder| holder.name.clone());
        status.leader_uid = record.holder.as_ref().map(|holder| holder.uid.to_string());
        status.term = Some(record.term.number());
        status.acquire_time = acquired.map(whole_second);
        status.leader_transitions = transitions;
    }
    status.candidates = count(matching);
    status.eligible_candidates = count(input.candidates.eligible.len());
    status.lease_name = Some(input.settings.lease_name.clone());
    status.next_leader = input.next.map(|pod| pod.id.name.clone());

    let mut ready = readiness(snapshot, input, matching);
    if let Some(why) = &input.ignored {
        ready.1 = format!("{}. Annotation {why}", ready.1);
    }
    let without_effect = input.settings.leader_from.as_ref().map(|from| from.without_effect.join(", "));
    if let Some(fields) = without_effect.filter(|fields| !fields.is_empty()) {
        ready.1 = format!("{}. Without effect beside spec.leaderFrom: {fields}", ready.1);
    }
    let is_ready = matches!(ready.0, Reason::LeaderElected | Reason::LeaderRetained);
    let announce = input.current.filter(|current| before.term != Some(current.record.term.number()));
    let announce = announce.map(|CurrentTerm { record, .. }| Announcement {
        from: before.leader.clone(),
        to: status.leader.clone(),
        term: record.term,
        cause: record.cause,
        reason: record.reason.clone(),
    });
    let write = write(snapshot, status, (is_ready, ready), attention(snapshot, input, matching), now)?;
    Some(StatusWrite { announce, ..write })
}

/// The reason of the Ready condition.
fn readiness(snapshot: &Snapshot, input: &StatusInput<'_>, matching: usize) -> Explanation {
    let record = input.current.map(|current| current.record);
    let Some((record, holder)) = record.and_then(|record| Some((record, record.holder.as_ref()?))) else {
        return match matching {
            _ if input.settings.suspend => (Reason::Suspended, "Elections are suspended by spec.suspend".into()),
            0 => (Reason::NoMatchingPods, "No pod matches spec.selector".into()),
            _ if let Some(why) = input.unnamed => (Reason::NoEligibleCandidate, why.to_owned()),
            _ => {
                let matching = input.candidates.ineligible.iter().filter(|(pod, _)| pod.matches);
                let each: Vec<String> = matching.map(|(pod, why)| format!("{} {why}", pod.id.name)).collect();
                (Reason::NoEligibleCandidate, format!("No candidate is eligible: {}", first_of(&each)))
            }
        };
    };
    let (name, term) = (&holder.name, record.term);
    let obstacle = input.candidates.ineligible.iter().find(|(pod, _)| pod.id == *holder).map(|(_, why)| why);
    if snapshot.pod(&holder.uid).is_none() {
        return (Reason::Suspended, format!("Leader {name} is gone, and elections are suspended by spec.suspend"));
    }
    match (input.labeled, obstacle) {
        (true, None) => elected(name, term.number()),
        (true, Some(why)) => {
            let because = input.unnamed.map(|unnamed| format!(": {unnamed}")).unwrap_or_default();
            (Reason::LeaderRetained, format!("Pod {name} {why} and keeps the label (term {term}){because}"))
        }
        (false, None) => {
            (Reason::LeaderNotActive, format!("Pod {name} is elected (term {term}), its label is not confirmed"))
        }
        (false, Some(why)) => {
            (Reason::LeaderNotActive, format!("Pod {name} is elected (term {term}) and not labeled: it {why}"))
        }
    }
}

fn elected(leader: &str, term: i64) -> Explanation {
    (Reason::LeaderElected, format!("Pod {leader} is the leader (term {term})"))
}

/// Returns the write that reports no progress until a person acts. Leader and term stay unchanged.
pub fn stalled(snapshot: &Snapshot, settings: Option<&Settings>, why: Explanation, now: Timestamp) -> Option<StatusWrite> {
    let mut status = snapshot.election.status.clone();
    if let Some(settings) = settings {
        status.lease_name = Some(settings.lease_name.clone());
    }
    status.next_leader = None;
    let ready = confirmed(snapshot, settings).map_or_else(|| (false, why.clone()), |leader| (true, leader));
    write(snapshot, status, ready, Some(Attention::Stalls(why)), now)
}

/// The reason for `Ready=True`, if `status.leader` is observed running with the label under `status.term`, and no Lease of this
/// Election names another term.
fn confirmed(snapshot: &Snapshot, settings: Option<&Settings>) -> Option<Explanation> {
    let Snapshot { election, lease, .. } = snapshot;
    let status = &election.status;
    let (leader, uid, term) = (status.leader.as_ref()?, status.leader_uid.as_deref()?, status.term?);
    let ours = lease.as_ref().filter(|lease| lease.incarnation.as_ref() == Some(&election.uid));
    let newer = ours.is_some_and(|lease| match &lease.content {
        Content::Term(record) => record.term.number() != term,
        Content::Blank | Content::Damaged(_) => false,
    });
    // Without a usable spec the label's key is unknown: the last confirmation holds until an observation contradicts it.
    let was_ready = || status.condition(READY).is_some_and(|ready| ready.status == "True");
    let labeled = |pod: &Pod| {
        let carries = settings.map_or_else(was_ready, |settings| pod.is_labeled(&settings.label));
        pod.state == PodState::Running && carries && pod.term.map(Term::number) == Some(term)
    };
    let confirmed = !newer && snapshot.pods.iter().any(|pod| pod.id.uid.as_ref() == uid && labeled(pod));
    confirmed.then(|| elected(leader, term))
}

/// Returns the write that reports a suspended Election with a lost Lease. Leader and term stay unchanged.
pub fn suspended(snapshot: &Snapshot, settings: &Settings, now: Timestamp) -> Option<StatusWrite> {
    let mut status = snapshot.election.status.clone();
    status.next_leader = None;
    let suspended = || (Reason::Suspended, "Elections are suspended by spec.suspend, and the Lease is lost".into());
    let ready = confirmed(snapshot, Some(settings)).map_or_else(|| (false, suspended()), |leader| (true, leader));
    write(snapshot, status, ready, None, now)
}

fn write(
    snapshot: &Snapshot,
    mut status: ElectionStatus,
    (is_ready, ready): (bool, Explanation),
    attention: Option<Attention>,
    now: Timestamp,
) -> Option<StatusWrite> {
    let election = &snapshot.election;
    let before = &election.status;
    let condition = |kind, holds, why| condition(before.condition(kind), kind, holds, why, election.generation, now);
    let attention = attention.map(|attention| match attention {
        Attention::Degrades(why) => condition(DEGRADED, true, why),
        Attention::Stalls(why) => condition(STALLED, true, why),
    });
    status.observed_generation = election.generation;
    status.conditions = Some([condition(READY, is_ready, ready)].into_iter().chain(attention).collect());
    if status == *before {
        return None;
    }
    let guard = Version { uid: election.uid.clone(), resource_version: election.resource_version };
    let can_wait = changes_counts_only(before, &status);
    Some(StatusWrite { guard, status, can_wait, announce: None })
}

/// True if only counts, the next leader and messages changed.
fn changes_counts_only(before: &ElectionStatus, after: &ElectionStatus) -> bool {
    let essence = |status: &ElectionStatus| {
        let mut status = ElectionStatus { candidates: 0, eligible_candidates: 0, next_leader: None, ..status.clone() };
        status.conditions.iter_mut().flatten().for_each(|condition| condition.message.clear());
        status
    };
    essence(before) == essence(after)
}

/// The condition where another Election owns this pod.
pub fn overlap(pod: &Pod, settings: &Settings) -> Explanation {
    let message = format!(
        "Election {} owns pod {} under the same label {}: narrow spec.selector of one of them, or use another spec.label.key",
        pod.rival.as_deref().unwrap_or_default(),
        pod.id.name,
        settings.label.key,
    );
    (Reason::OverlappingElections, message)
}

/// The problem that the Degraded or Stalled condition reports, if there is one.
fn attention(snapshot: &Snapshot, input: &StatusInput<'_>, matching: usize) -> Option<Attention> {
    let key = &input.settings.label.key;
    let is_foreign = |why: &Ineligible| matches!(why, Ineligible::ForeignLabel(_));
    let foreign = input.candidates.ineligible.iter().filter(|(pod, why)| pod.matches && is_foreign(why));
    let foreign: Vec<&str> = foreign.map(|(pod, _)| pod.id.name.as_str()).collect();
    let overlapping: Vec<&Pod> = snapshot.pods.iter().filter(|pod| pod.matches && pod.rival.is_some()).collect();
    let conflict = match overlapping.first() {
        Some(pod) => Some(overlap(pod, input.settings)),
        None if foreign.is_empty() => None,
        None => {
            let message = format!("{} carries label {key} with a foreign value: remove it", first_of(&foreign));
            Some((Reason::LabelConflict, message))
        }
    };
    let conflict = conflict.map(|why| {
        let has_term = input.current.is_some() || snapshot.election.status.term.is_some();
        let stalls = !has_term || overlapping.len() + foreign.len() >= matching;
        if stalls { Attention::Stalls(why) } else { Attention::Degrades(why) }
    });
    if let Some(stalls @ Attention::Stalls(_)) = conflict {
        return Some(stalls);
    }
    if let Some(message) = &input.pending {
        return Some(Attention::Degrades((Reason::SwitchoverPending, message.clone())));
    }
    if conflict.is_some() {
        return conflict;
    }
    if snapshot.contest.is_some() {
        let message = format!(
            "Another client keeps changing label {key}, and the controller restores it at most once in {} s: managedFields of the pods name the client, stop it",
            REPAIR_INTERVAL.as_secs(),
        );
        return Some(Attention::Degrades((Reason::LabelContested, message)));
    }
    if let Some(refused) = &snapshot.refused {
        let (reason, message) = match refused {
            Refused::Follower(denied) => {
                (Reason::FollowersNotLabeled, format!("The API server denies writes to followers: {denied}"))
            }
            Refused::Cost(denied) => (
                Reason::RequestDenied,
                format!("The API server denies the deletion cost of a pod (spec.leaderDeletionCost): {denied}"),
            ),
        };
        // The message may differ each time, and the status writes of two controllers would wake each other.
        let status = &snapshot.election.status;
        let before = status.condition(DEGRADED).filter(|_| status.is(DEGRADED, reason));
        let message = before.map_or(message, |before| before.message.clone());
        return Some(Attention::Degrades((reason, message)));
    }
    let unobserved = snapshot.unobserved.clone()?;
    Some(Attention::Degrades((Reason::RequestDenied, unobserved)))
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
