//! Numbers of Elections by state and reason, from their statuses.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use crate::api::{DEGRADED, ElectionStatus, READY, Reason, STALLED};

/// The states. An Election is in exactly one:
/// * `elected`: it has a leader.
/// * `retained`: its leader is not Ready.
/// * `no_pods`: no pod matches.
/// * `vacant`: no candidate is eligible.
/// * `suspended`: it has no leader because it is suspended.
/// * `stalled`: it has no leader until a person acts.
/// * `pending`: it has no status yet.
pub const STATES: &[&str] = &["elected", "retained", "no_pods", "vacant", "suspended", "stalled", "pending"];

/// Reasons of the condition Stalled.
pub const STALLS: &[&str] = &[
    Reason::InvalidSelector.as_str(),
    Reason::InvalidSpec.as_str(),
    Reason::LabelKeyNotAllowed.as_str(),
    Reason::LabelConflict.as_str(),
    Reason::OverlappingElections.as_str(),
    Reason::LeaseConflict.as_str(),
    Reason::RequestDenied.as_str(),
    Reason::TooManyPods.as_str(),
];

/// Reasons of the condition Degraded.
pub const DEGRADATIONS: &[&str] = &[
    Reason::LabelConflict.as_str(),
    Reason::OverlappingElections.as_str(),
    Reason::SwitchoverPending.as_str(),
    Reason::LabelContested.as_str(),
    Reason::FollowersNotLabeled.as_str(),
    Reason::RequestDenied.as_str(),
];

/// Numbers of Elections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// By state.
    pub states: BTreeMap<&'static str, i64>,
    /// Stalled Elections by reason.
    pub stalled: BTreeMap<&'static str, i64>,
    /// Degraded Elections by reason.
    pub degraded: BTreeMap<&'static str, i64>,
    /// Start of the longest vacancy.
    pub vacant_since: Option<Timestamp>,
}

impl Census {
    /// Counts Elections by creation time and status.
    pub fn of<'a>(elections: impl Iterator<Item = (Timestamp, &'a ElectionStatus)>) -> Self {
        let none = |words: &[&'static str]| words.iter().map(|word| (*word, 0)).collect();
        let mut census =
            Self { states: none(STATES), stalled: none(STALLS), degraded: none(DEGRADATIONS), vacant_since: None };
        for (created, status) in elections {
            let ready = status.condition(READY);
            let holds = |kind: &str| status.condition(kind).filter(|condition| condition.status == "True");
            let stalled = holds(STALLED);
            let state = ready.map_or("pending", |ready| state(ready.status == "True", &ready.reason, stalled.is_some()));
            *census.states.entry(state).or_default() += 1;
            // A stalled Election that never had a leader has no vacancy.
            let lacks_a_leader = match state {
                "vacant" | "pending" => true,
                "stalled" => status.term.is_some(),
                _ => false,
            };
            if lacks_a_leader {
                let since = ready.map_or(created, |ready| ready.last_transition_time.0);
                census.vacant_since = Some(census.vacant_since.map_or(since, |known| known.min(since)));
            }
            for (condition, counts) in [(stalled, &mut census.stalled), (holds(DEGRADED), &mut census.degraded)] {
                let count = condition.and_then(|condition| counts.get_mut(condition.reason.as_str()));
                count.into_iter().for_each(|count| *count += 1);
            }
        }
        census
    }
}

/// Returns the state by the conditions Ready and Stalled.
fn state(ready: bool, reason: &str, stalled: bool) -> &'static str {
    let is = |one: Reason| reason == one.as_str();
    match ready {
        _ if is(Reason::NoMatchingPods) => "no_pods",
        true if is(Reason::LeaderRetained) => "retained",
        true => "elected",
        false if is(Reason::Suspended) => "suspended",
        false if (is(Reason::NoEligibleCandidate) || is(Reason::LeaderNotActive)) && !stalled => "vacant",
        false => "stalled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn status(since: i64, ready: (bool, Reason), attention: Option<(&str, Reason)>) -> ElectionStatus {
        let said = |kind, holds, reason| condition(None, kind, holds, (reason, String::new()), 1, at(since));
        let mut conditions = vec![said(READY, ready.0, ready.1)];
        conditions.extend(attention.map(|(kind, reason)| said(kind, true, reason)));
        ElectionStatus { conditions: Some(conditions), ..ElectionStatus::default() }
    }

    fn census(statuses: &[ElectionStatus]) -> Census {
        Census::of(statuses.iter().map(|status| (at(50), status)))
    }

    #[test]
    fn each_election_is_in_one_state() {
        let stalled = |reason| Some((STALLED, reason));
        let degraded = |reason| Some((DEGRADED, reason));
        let statuses = [
            (status(1, (true, Reason::LeaderElected), None), "elected"),
            (status(1, (true, Reason::LeaderElected), degraded(Reason::OverlappingElections)), "elected"),
            (status(1, (true, Reason::LeaderElected), stalled(Reason::LeaseConflict)), "elected"),
            (status(1, (true, Reason::LeaderRetained), None), "retained"),
            (status(1, (false, Reason::NoMatchingPods), None), "no_pods"),
            (status(1, (false, Reason::Suspended), None), "suspended"),
            (status(1, (false, Reason::NoEligibleCandidate), None), "vacant"),
            (status(1, (false, Reason::LeaderNotActive), degraded(Reason::LabelContested)), "vacant"),
            (status(1, (false, Reason::LabelConflict), stalled(Reason::LabelConflict)), "stalled"),
            (status(1, (false, Reason::NoEligibleCandidate), stalled(Reason::OverlappingElections)), "stalled"),
            (ElectionStatus::default(), "pending"),
        ];
        for (status, expected) in &statuses {
            let counted = census(std::slice::from_ref(status));
            let found: Vec<_> = counted.states.iter().filter(|(_, count)| **count > 0).collect();
            assert_eq!(found, [(expected, &1)]);
        }
        let all: Vec<_> = statuses.into_iter().map(|(status, _)| status).collect();
        let all = census(&all);
        assert_eq!((all.states.len(), all.states.values().sum::<i64>()), (STATES.len(), 11));
        let counted = |counts: &BTreeMap<&'static str, i64>| -> Vec<(&'static str, i64)> {
            counts.iter().filter(|(_, count)| **count > 0).map(|(reason, count)| (*reason, *count)).collect()
        };
        assert_eq!(counted(&all.stalled), [("LabelConflict", 1), ("LeaseConflict", 1), ("OverlappingElections", 1)]);
        assert_eq!(counted(&all.degraded), [("LabelContested", 1), ("OverlappingElections", 1)]);
        assert_eq!((all.stalled.len(), all.degraded.len()), (STALLS.len(), DEGRADATIONS.len()));
    }

    #[test]
    fn longest_vacancy_excludes_led_and_suspended_elections() {
        let led = status(10, (true, Reason::LeaderElected), None);
        let suspended = status(20, (false, Reason::Suspended), None);
        assert_eq!(census(&[led.clone(), suspended.clone()]).vacant_since, None);
        let vacant = status(30, (false, Reason::NoEligibleCandidate), None);
        let later = status(40, (false, Reason::NoEligibleCandidate), None);
        assert_eq!(census(&[later, led, vacant, suspended]).vacant_since, Some(at(30)));
        assert_eq!(census(&[ElectionStatus::default()]).vacant_since, Some(at(50)), "since its creation");
    }

    #[test]
    fn stalled_election_is_vacant_only_if_it_ever_had_a_leader() {
        let stalls =
            [(Reason::NoEligibleCandidate, Reason::OverlappingElections), (Reason::LabelConflict, Reason::LabelConflict)];
        for (reason, stalled) in stalls {
            let never = status(30, (false, reason), Some((STALLED, stalled)));
            let once = ElectionStatus { term: Some(7), ..never.clone() };
            assert_eq!(census(std::slice::from_ref(&never)).vacant_since, None, "{stalled:?}");
            assert_eq!(census(&[never, once]).vacant_since, Some(at(30)), "{stalled:?}");
        }
    }

    #[test]
    fn each_reason_belongs_to_one_condition() {
        let ready = [
            Reason::LeaderElected,
            Reason::LeaderRetained,
            Reason::LeaderNotActive,
            Reason::NoMatchingPods,
            Reason::NoEligibleCandidate,
            Reason::Suspended,
        ];
        for reason in Reason::ALL {
            let counted = STALLS.contains(&reason.as_str()) || DEGRADATIONS.contains(&reason.as_str());
            assert_ne!(counted, ready.contains(reason), "{reason:?}");
        }
    }
}
