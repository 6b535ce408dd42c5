//! The status as it should read: a projection of the Lease, and of what is known about the pods.

use k8s_openapi::jiff::Timestamp;

use super::candidate::Ineligible;
use super::decide::{REPAIR_PAUSE, some_of};
use super::plan::{Announcement, StatusWrite};
use super::snapshot::{Pod, PodState, Settings, Snapshot};
use super::term::{Term, Version};
use crate::api::{ElectionStatus, Reason, condition, whole_second};
use crate::lease::record::{Content, Record};

/// A term that is in force.
#[derive(Clone, Copy, Debug)]
pub struct Leadership<'a> {
    /// The term.
    pub record: &'a Record,
    /// When it began.
    pub acquired: Option<Timestamp>,
    /// How often the leader changed.
    pub transitions: i32,
}

/// What there is to say about an Election that can be served.
#[derive(Clone, Copy, Debug)]
pub struct Outlook<'a> {
    /// Its settings.
    pub settings: &'a Settings,
    /// The term, if there is one.
    pub leadership: Option<Leadership<'a>>,
    /// The holder carries the label with that term once the plan is carried out.
    pub labelled: bool,
    /// Who may lead.
    pub eligible: &'a [&'a Pod],
    /// Who may not, and why.
    pub ineligible: &'a [(&'a Pod, Ineligible)],
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
        status.since = acquired.map(whole_second);
        status.transitions = Some(transitions);
    }
    status.candidates = Some(i32::try_from(matching).unwrap_or(i32::MAX));
    status.eligible = Some(format!("{}/{matching}", outlook.eligible.len()));
    status.lease = Some(outlook.settings.lease_name.clone());

    let holder = outlook.leadership.and_then(|leadership| leadership.record.holder.as_ref());
    let obstacle = outlook.ineligible.iter().find(|(pod, _)| Some(&pod.id) == holder);
    let suspended = outlook.settings.suspend;
    let ready = match (&status.leader, matching) {
        (Some(leader), _) if holder.is_none_or(|holder| snapshot.pod(&holder.uid).is_none()) => {
            (Reason::Suspended, format!("spec.suspend is true: {leader} is gone and nobody follows it"))
        }
        (Some(leader), _) if !outlook.labelled => {
            let why = obstacle.map_or_else(String::new, |(_, why)| format!(": it {why}"));
            (Reason::LeaderNotActive, format!("{leader} is elected and does not carry the label{why}"))
        }
        (Some(leader), _) => match obstacle {
            Some((_, why)) => (Reason::LeaderHeld, format!("{leader} {why}, and keeps the label")),
            None => (Reason::LeaderElected, format!("{leader} leads")),
        },
        (None, _) if suspended => (Reason::Suspended, "spec.suspend is true: nobody is elected".into()),
        (None, 0) => (Reason::NoPods, "no pod matches spec.selector".into()),
        (None, _) => {
            (Reason::NoEligiblePod, format!("none of the matching pods may lead: {}", obstacles(outlook.ineligible)))
        }
    };
    let stalled = needs_a_person(snapshot, &outlook);
    let announce = outlook.leadership.filter(|leadership| before.term != Some(leadership.record.term.number()));
    let announce = announce.map(|Leadership { record, .. }| Announcement {
        from: before.leader.clone(),
        to: status.leader.clone(),
        term: record.term,
        reason: record.reason.clone(),
    });
    let well = matches!(ready.0, Reason::LeaderElected | Reason::LeaderHeld);
    let write = conclude(snapshot, status, (well, ready), stalled, now)?;
    Some(StatusWrite { announce, ..write })
}

/// The write that says that nothing is done until a person acts. Leader and term stay as they are.
pub fn stalled(
    snapshot: &Snapshot,
    settings: Option<&Settings>,
    why: (Reason, String),
    now: Timestamp,
) -> Option<StatusWrite> {
    let mut status = snapshot.election.status.clone();
    if let Some(settings) = settings {
        status.lease = Some(settings.lease_name.clone());
    }
    let led = is_confirmed(snapshot, settings);
    conclude(snapshot, status, (led, why.clone()), Some(why), now)
}

/// Whether `status.leader` is seen running with the label under `status.term`, and no Lease of this Election says otherwise.
fn is_confirmed(snapshot: &Snapshot, settings: Option<&Settings>) -> bool {
    let Snapshot { election, lease, .. } = snapshot;
    let (uid, term) = (election.status.leader_uid.as_deref(), election.status.term);
    let ours = lease.as_ref().filter(|lease| lease.incarnation.as_ref() == Some(&election.uid));
    let newer = ours.is_some_and(|lease| match &lease.content {
        Content::Term(record) => Some(record.term.number()) != term,
        Content::Blank | Content::Damaged(_) => false,
    });
    let labelled = |pod: &Pod| {
        let own = pod.term.map(Term::number);
        // Without a usable spec the label's key is not known: what was confirmed last holds while nothing speaks against it.
        let was_ready = || election.status.condition("Ready").is_some_and(|ready| ready.status == "True");
        let carries = settings.map_or_else(was_ready, |settings| pod.is_labelled(&settings.label));
        pod.state == PodState::Running && carries && own.is_some() && own == term
    };
    !newer && snapshot.pods.iter().any(|pod| Some(pod.id.uid.as_ref()) == uid && labelled(pod))
}

/// The write that says that elections are suspended and the Lease was lost. Leader and term stay as they are.
pub fn suspended(snapshot: &Snapshot, settings: &Settings, now: Timestamp) -> Option<StatusWrite> {
    let status = snapshot.election.status.clone();
    let leader = status.leader.as_deref().filter(|_| is_confirmed(snapshot, Some(settings)));
    let why = match leader {
        Some(leader) => (Reason::LeaderElected, format!("{leader} leads; spec.suspend is true, and the Lease is lost")),
        None => (Reason::Suspended, "spec.suspend is true: there is no Lease to go by, and nobody is elected".into()),
    };
    let led = leader.is_some();
    conclude(snapshot, status, (led, why), None, now)
}

fn conclude(
    snapshot: &Snapshot,
    mut status: ElectionStatus,
    (well, ready): (bool, (Reason, String)),
    stalled: Option<(Reason, String)>,
    now: Timestamp,
) -> Option<StatusWrite> {
    let election = &snapshot.election;
    let before = &election.status;
    let (person, stalled) = match stalled {
        Some(why) => (true, why),
        None => (false, (Reason::AsDeclared, String::new())),
    };
    status.observed_generation = election.generation;
    status.conditions = Some(vec![
        condition(before.condition("Ready"), "Ready", well, ready, election.generation, now),
        condition(before.condition("Stalled"), "Stalled", person, stalled, election.generation, now),
    ]);
    if status == *before {
        return None;
    }
    let guard = Version { uid: election.uid.clone(), resource_version: election.resource_version };
    let can_wait = merely_counts(before, &status);
    Some(StatusWrite { guard, status, can_wait, announce: None })
}

/// Whether nothing changed but counts and the wording of messages.
fn merely_counts(before: &ElectionStatus, after: &ElectionStatus) -> bool {
    let essence = |status: &ElectionStatus| {
        let mut status = ElectionStatus { candidates: None, eligible: None, ..status.clone() };
        status.conditions.iter_mut().flatten().for_each(|condition| condition.message.clear());
        status
    };
    essence(before) == essence(after)
}

/// That another Election has the better right to this pod, and what to do about it.
pub fn overlap(pod: &Pod, settings: &Settings) -> (Reason, String) {
    let message = format!(
        "Election {} has {} under the same label {}: narrow spec.selector of one of them, or use another spec.label.key",
        pod.rival.as_deref().unwrap_or_default(),
        pod.id.name,
        settings.label.key,
    );
    (Reason::OverlappingElections, message)
}

/// What a person must mend although the election goes on with the other pods.
fn needs_a_person(snapshot: &Snapshot, outlook: &Outlook<'_>) -> Option<(Reason, String)> {
    let foreign: Vec<&str> = outlook
        .ineligible
        .iter()
        .filter(|(_, why)| matches!(why, Ineligible::ForeignLabel(_)))
        .map(|(pod, _)| pod.id.name.as_str())
        .collect();
    let overlapping = snapshot.pods.iter().find(|pod| pod.matches && pod.rival.is_some());
    let key = &outlook.settings.label.key;
    if let Some(pod) = overlapping {
        return Some(overlap(pod, outlook.settings));
    }
    if !foreign.is_empty() {
        let message = format!("{} carries the label {key} with a foreign value: remove it", some_of(&foreign));
        return Some((Reason::LabelConflict, message));
    }
    if snapshot.contest.is_some() {
        let message = format!(
            "the label {key} is changed by others again and again, and restored at most once in {} s: the managedFields of the pods name who changes it; stop that",
            REPAIR_PAUSE.as_secs(),
        );
        return Some((Reason::LabelContested, message));
    }
    let message = format!("the API server refuses a write to a follower: {}", snapshot.refused.as_ref()?);
    // The words may differ each time, and two controllers would wake each other with them.
    let before = snapshot.election.status.condition("Stalled").filter(|before| before.status == "True");
    let before = before.filter(|before| before.reason == format!("{:?}", Reason::WriteRefused));
    Some((Reason::WriteRefused, before.map_or(message, |before| before.message.clone())))
}

fn obstacles(ineligible: &[(&Pod, Ineligible)]) -> String {
    let matching = ineligible.iter().filter(|(pod, _)| pod.matches);
    let each: Vec<String> = matching.map(|(pod, why)| format!("{} {why}", pod.id.name)).collect();
    some_of(&each.iter().map(String::as_str).collect::<Vec<_>>())
}
