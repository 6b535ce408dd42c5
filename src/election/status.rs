//! The status as it should read: a projection of the Lease and of the pods.

use k8s_openapi::jiff::Timestamp;

use super::candidate::Ineligible;
use super::plan::{Announcement, StatusWrite};
use super::snapshot::{Pod, PodState, REPAIR_INTERVAL, Settings, Snapshot};
use super::text::first_names;
use crate::api::{DEGRADED, ElectionStatus, READY, Reason, STALLED, condition, whole_second};
use crate::ids::{Term, Version};
use crate::lease::record::{Content, Record};

/// A term that is in force.
#[derive(Clone, Copy, Debug)]
pub struct Leadership<'a> {
    /// The term.
    pub record: &'a Record,
    /// When it began.
    pub acquired: Option<Timestamp>,
    /// The number of changes of leader.
    pub transitions: i32,
}

/// What the status of an Election with a usable spec reports.
#[derive(Clone, Copy, Debug)]
pub struct Outlook<'a> {
    /// Its settings.
    pub settings: &'a Settings,
    /// The term, if there is one.
    pub leadership: Option<Leadership<'a>>,
    /// The holder carries the label with that term once the plan is carried out.
    pub labelled: bool,
    /// The eligible pods.
    pub eligible: &'a [&'a Pod],
    /// The other pods, each with the reason.
    pub ineligible: &'a [(&'a Pod, Ineligible)],
    /// The pod that would be elected if the leader failed.
    pub next: Option<&'a Pod>,
}

/// A reason and its message.
type Why = (Reason, String);

/// What that needs attention, by its weight.
enum Attention {
    /// Elections work all the same.
    Degrades(Why),
    /// No progress without a person.
    Stalls(Why),
}

/// The write that brings the status up to date, if it is not.
pub fn ruled(snapshot: &Snapshot, outlook: Outlook<'_>, now: Timestamp) -> Option<StatusWrite> {
    let before = &snapshot.election.status;
    let matching = snapshot.pods.iter().filter(|pod| pod.matches).count();
    let mut status = before.clone();
    status.leader = None;
    status.leader_uid = None;
    if let Some(Leadership { record, acquired, transitions }) = outlook.leadership {
        status.leader = record.holder.as_ref().map(|holder| holder.name.clone());
        status.leader_uid = record.holder.as_ref().map(|holder| holder.uid.to_string());
        status.term = Some(record.term.number());
        status.acquire_time = acquired.map(whole_second);
        status.leader_transitions = transitions;
    }
    status.candidates = whole(matching);
    status.eligible_candidates = whole(outlook.eligible.len());
    status.lease_name = Some(outlook.settings.lease_name.clone());
    status.next_leader = outlook.next.map(|pod| pod.id.name.clone());

    let ready = readiness(snapshot, &outlook, matching);
    let is_ready = matches!(ready.0, Reason::LeaderElected | Reason::LeaderRetained);
    let announce = outlook.leadership.filter(|leadership| before.term != Some(leadership.record.term.number()));
    let announce = announce.map(|Leadership { record, .. }| Announcement {
        from: before.leader.clone(),
        to: status.leader.clone(),
        term: record.term,
        cause: record.cause,
        reason: record.reason.clone(),
    });
    let write = conclude(snapshot, status, (is_ready, ready), attention(snapshot, &outlook, matching), now)?;
    Some(StatusWrite { announce, ..write })
}

/// The reason of the Ready condition.
fn readiness(snapshot: &Snapshot, outlook: &Outlook<'_>, matching: usize) -> Why {
    let record = outlook.leadership.map(|leadership| leadership.record);
    let Some((record, holder)) = record.and_then(|record| Some((record, record.holder.as_ref()?))) else {
        return match matching {
            _ if outlook.settings.suspend => (Reason::Suspended, "Elections are suspended by spec.suspend".into()),
            0 => (Reason::NoMatchingPods, "No pod matches spec.selector".into()),
            _ => (Reason::NoEligibleCandidate, format!("No candidate is eligible: {}", obstacles(outlook.ineligible))),
        };
    };
    let (name, term) = (&holder.name, record.term);
    let obstacle = outlook.ineligible.iter().find(|(pod, _)| pod.id == *holder).map(|(_, why)| why);
    if snapshot.pod(&holder.uid).is_none() {
        return (Reason::Suspended, format!("Leader {name} is gone, and elections are suspended by spec.suspend"));
    }
    match (outlook.labelled, obstacle) {
        (true, None) => elected(name, term.number()),
        (true, Some(why)) => (Reason::LeaderRetained, format!("Pod {name} {why} and keeps the label (term {term})")),
        (false, None) => {
            (Reason::LeaderNotActive, format!("Pod {name} is elected (term {term}), its label is not confirmed"))
        }
        (false, Some(why)) => {
            (Reason::LeaderNotActive, format!("Pod {name} is elected (term {term}) and not labeled: it {why}"))
        }
    }
}

fn elected(leader: &str, term: i64) -> Why {
    (Reason::LeaderElected, format!("Pod {leader} is the leader (term {term})"))
}

/// The write that says that nothing is done until a person acts. Leader and term stay as they are.
pub fn stalled(snapshot: &Snapshot, settings: Option<&Settings>, why: Why, now: Timestamp) -> Option<StatusWrite> {
    let mut status = snapshot.election.status.clone();
    if let Some(settings) = settings {
        status.lease_name = Some(settings.lease_name.clone());
    }
    status.next_leader = None;
    let ready = confirmed(snapshot, settings).map_or_else(|| (false, why.clone()), |leader| (true, leader));
    conclude(snapshot, status, ready, Some(Attention::Stalls(why)), now)
}

/// The reason to be Ready, if `status.leader` is seen running with the label under `status.term`, and no Lease of this Election
/// says otherwise.
fn confirmed(snapshot: &Snapshot, settings: Option<&Settings>) -> Option<Why> {
    let Snapshot { election, lease, .. } = snapshot;
    let status = &election.status;
    let (leader, uid, term) = (status.leader.as_ref()?, status.leader_uid.as_deref()?, status.term?);
    let ours = lease.as_ref().filter(|lease| lease.incarnation.as_ref() == Some(&election.uid));
    let newer = ours.is_some_and(|lease| match &lease.content {
        Content::Term(record) => record.term.number() != term,
        Content::Blank | Content::Damaged(_) => false,
    });
    // Without a usable spec the label's key is not known: what was confirmed last holds while nothing speaks against it.
    let was_ready = || status.condition(READY).is_some_and(|ready| ready.status == "True");
    let labelled = |pod: &Pod| {
        let carries = settings.map_or_else(was_ready, |settings| pod.is_labelled(&settings.label));
        pod.state == PodState::Running && carries && pod.term.map(Term::number) == Some(term)
    };
    let confirmed = !newer && snapshot.pods.iter().any(|pod| pod.id.uid.as_ref() == uid && labelled(pod));
    confirmed.then(|| elected(leader, term))
}

/// The write that says that elections are suspended and the Lease was lost. Leader and term stay as they are.
pub fn suspended(snapshot: &Snapshot, settings: &Settings, now: Timestamp) -> Option<StatusWrite> {
    let mut status = snapshot.election.status.clone();
    status.next_leader = None;
    let suspended = || (Reason::Suspended, "Elections are suspended by spec.suspend, and the Lease is lost".into());
    let ready = confirmed(snapshot, Some(settings)).map_or_else(|| (false, suspended()), |leader| (true, leader));
    conclude(snapshot, status, ready, None, now)
}

fn conclude(
    snapshot: &Snapshot,
    mut status: ElectionStatus,
    (is_ready, ready): (bool, Why),
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
    let can_wait = merely_counts(before, &status);
    Some(StatusWrite { guard, status, can_wait, announce: None })
}

/// Whether nothing changed but counts, the next leader and the wording of messages.
fn merely_counts(before: &ElectionStatus, after: &ElectionStatus) -> bool {
    let essence = |status: &ElectionStatus| {
        let mut status = ElectionStatus { candidates: 0, eligible_candidates: 0, next_leader: None, ..status.clone() };
        status.conditions.iter_mut().flatten().for_each(|condition| condition.message.clear());
        status
    };
    essence(before) == essence(after)
}

/// The reason where another Election owns this pod.
pub fn overlap(pod: &Pod, settings: &Settings) -> Why {
    let message = format!(
        "Election {} owns pod {} under the same label {}: narrow spec.selector of one of them, or use another spec.label.key",
        pod.rival.as_deref().unwrap_or_default(),
        pod.id.name,
        settings.label.key,
    );
    (Reason::OverlappingElections, message)
}

/// What needs attention although the election goes on with the other pods.
fn attention(snapshot: &Snapshot, outlook: &Outlook<'_>, matching: usize) -> Option<Attention> {
    let key = &outlook.settings.label.key;
    let is_foreign = |why: &Ineligible| matches!(why, Ineligible::ForeignLabel(_));
    let foreign = outlook.ineligible.iter().filter(|(pod, why)| pod.matches && is_foreign(why));
    let foreign: Vec<&str> = foreign.map(|(pod, _)| pod.id.name.as_str()).collect();
    let overlapping: Vec<&Pod> = snapshot.pods.iter().filter(|pod| pod.matches && pod.rival.is_some()).collect();
    let conflict = match overlapping.first() {
        Some(pod) => Some(overlap(pod, outlook.settings)),
        None if foreign.is_empty() => None,
        None => {
            let message = format!("{} carries label {key} with a foreign value: remove it", first_names(&foreign));
            Some((Reason::LabelConflict, message))
        }
    };
    if let Some(why) = conflict {
        let has_term = outlook.leadership.is_some() || snapshot.election.status.term.is_some();
        let stalls = !has_term || overlapping.len() + foreign.len() >= matching;
        return Some(if stalls { Attention::Stalls(why) } else { Attention::Degrades(why) });
    }
    if snapshot.contest.is_some() {
        let message = format!(
            "Another client keeps changing label {key}, and the controller restores it at most once in {} s: managedFields of the pods name the client, stop it",
            REPAIR_INTERVAL.as_secs(),
        );
        return Some(Attention::Degrades((Reason::LabelContested, message)));
    }
    let message = format!("The API server refuses a write to a follower: {}", snapshot.refused.as_ref()?);
    // The words may differ each time, and two controllers would wake each other with them.
    let status = &snapshot.election.status;
    let before = status.condition(DEGRADED).filter(|_| status.is(DEGRADED, Reason::FollowersNotLabeled));
    let message = before.map_or(message, |before| before.message.clone());
    Some(Attention::Degrades((Reason::FollowersNotLabeled, message)))
}

fn obstacles(ineligible: &[(&Pod, Ineligible)]) -> String {
    let matching = ineligible.iter().filter(|(pod, _)| pod.matches);
    let each: Vec<String> = matching.map(|(pod, why)| format!("{} {why}", pod.id.name)).collect();
    first_names(&each.iter().map(String::as_str).collect::<Vec<_>>())
}

fn whole(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
