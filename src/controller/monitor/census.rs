//! In which state the Elections are, by their statuses.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use crate::api::{ElectionStatus, Reason};

/// The states. An Election is in exactly one:
/// `led` has a leader, `held` one that is kept although it is not Ready itself, `no_pods` nobody to lead, `vacant` only pods that may
/// not lead; `suspended` has no leader because it was told so, `stalled` none and needs a person, `new` none because it was not
/// served yet.
pub const STATES: &[&str] = &["led", "held", "no_pods", "vacant", "suspended", "stalled", "new"];

/// Why a person is needed.
pub const STALLS: &[&str] = &[
    "InvalidSelector",
    "InvalidSpec",
    "ForbiddenLabelKey",
    "LabelConflict",
    "LabelContested",
    "OverlappingElections",
    "LeaseConflict",
    "WriteRefused",
    "TooManyPods",
];

/// How many Elections there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// By state.
    pub states: BTreeMap<&'static str, i64>,
    /// That need a person, by reason.
    pub stalled: BTreeMap<&'static str, i64>,
    /// Since when the one has been without a leader that has been so the longest.
    pub vacant_since: Option<Timestamp>,
}

impl Census {
    /// Counts these: when each was created, and its status.
    pub fn of<'a>(elections: impl Iterator<Item = (Timestamp, &'a ElectionStatus)>) -> Self {
        let none = |words: &[&'static str]| words.iter().map(|word| (*word, 0)).collect();
        let mut census = Self { states: none(STATES), stalled: none(STALLS), vacant_since: None };
        for (created, status) in elections {
            let ready = status.condition("Ready");
            let stalled = status.condition("Stalled").filter(|stalled| stalled.status == "True");
            let state = ready.map_or("new", |ready| state(ready.status == "True", &ready.reason, stalled.is_some()));
            *census.states.entry(state).or_default() += 1;
            // Where nobody ever led nothing was lost: that a person is needed is all that there is to say.
            let lacks_a_leader = match state {
                "vacant" | "new" => true,
                "stalled" => status.term.is_some(),
                _ => false,
            };
            if lacks_a_leader {
                let since = ready.map_or(created, |ready| ready.last_transition_time.0);
                census.vacant_since = Some(census.vacant_since.map_or(since, |known| known.min(since)));
            }
            if let Some(reason) = stalled.and_then(|stalled| STALLS.iter().find(|reason| **reason == stalled.reason)) {
                *census.stalled.entry(reason).or_default() += 1;
            }
        }
        census
    }
}

/// The state that the conditions Ready and Stalled say.
fn state(ready: bool, reason: &str, stalled: bool) -> &'static str {
    let is = |one: Reason| reason == format!("{one:?}");
    match ready {
        _ if is(Reason::NoPods) => "no_pods",
        true if is(Reason::LeaderHeld) => "held",
        true => "led",
        false if is(Reason::Suspended) => "suspended",
        // Pods that may not lead because they are another Election's are for a person to sort out.
        false if (is(Reason::NoEligiblePod) || is(Reason::LeaderNotActive)) && !stalled => "vacant",
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

    fn status(since: i64, ready: (bool, Reason), stalled: Option<Reason>) -> ElectionStatus {
        let said = |kind, holds, reason| condition(None, kind, holds, (reason, String::new()), 1, at(since));
        let stalled = said("Stalled", stalled.is_some(), stalled.unwrap_or(Reason::AsDeclared));
        ElectionStatus { conditions: Some(vec![said("Ready", ready.0, ready.1), stalled]), ..ElectionStatus::default() }
    }

    fn census(statuses: &[ElectionStatus]) -> Census {
        Census::of(statuses.iter().map(|status| (at(50), status)))
    }

    #[test]
    fn every_election_is_in_one_state() {
        let statuses = [
            (status(1, (true, Reason::LeaderElected), None), "led"),
            (status(1, (true, Reason::LeaderElected), Some(Reason::OverlappingElections)), "led"),
            (status(1, (true, Reason::LeaseConflict), Some(Reason::LeaseConflict)), "led"),
            (status(1, (true, Reason::LeaderHeld), None), "held"),
            (status(1, (false, Reason::NoPods), None), "no_pods"),
            (status(1, (false, Reason::Suspended), None), "suspended"),
            (status(1, (false, Reason::NoEligiblePod), None), "vacant"),
            (status(1, (false, Reason::LeaderNotActive), None), "vacant"),
            (status(1, (false, Reason::LabelConflict), Some(Reason::LabelConflict)), "stalled"),
            (status(1, (false, Reason::NoEligiblePod), Some(Reason::OverlappingElections)), "stalled"),
            (ElectionStatus::default(), "new"),
        ];
        for (status, expected) in &statuses {
            let counted = census(std::slice::from_ref(status));
            let found: Vec<_> = counted.states.iter().filter(|(_, count)| **count > 0).collect();
            assert_eq!(found, [(expected, &1)]);
        }
        let all: Vec<_> = statuses.into_iter().map(|(status, _)| status).collect();
        let all = census(&all);
        assert_eq!((all.states.len(), all.states.values().sum::<i64>()), (STATES.len(), 11));
        assert_eq!(all.stalled.iter().filter(|(_, count)| **count > 0).count(), 3);
        assert_eq!(all.stalled["OverlappingElections"], 2);
        assert_eq!(all.stalled["LeaseConflict"], 1);
        assert_eq!(all.stalled.len(), STALLS.len());
    }

    #[test]
    fn the_longest_vacancy_is_that_of_an_election_that_should_have_a_leader() {
        let led = status(10, (true, Reason::LeaderElected), None);
        let suspended = status(20, (false, Reason::Suspended), None);
        assert_eq!(census(&[led.clone(), suspended.clone()]).vacant_since, None);
        let vacant = status(30, (false, Reason::NoEligiblePod), None);
        let later = status(40, (false, Reason::NoEligiblePod), None);
        assert_eq!(census(&[later, led, vacant, suspended]).vacant_since, Some(at(30)));
        assert_eq!(census(&[ElectionStatus::default()]).vacant_since, Some(at(50)), "since it was created");
    }

    #[test]
    fn an_election_that_is_stalled_lacks_a_leader_only_if_it_ever_had_one() {
        let stalls = [(Reason::NoEligiblePod, Reason::OverlappingElections), (Reason::LabelConflict, Reason::LabelConflict)];
        for (reason, stalled) in stalls {
            let never = status(30, (false, reason), Some(stalled));
            let once = ElectionStatus { term: Some(7), ..never.clone() };
            assert_eq!(census(std::slice::from_ref(&never)).vacant_since, None, "{stalled:?}");
            assert_eq!(census(&[never, once]).vacant_since, Some(at(30)), "{stalled:?}");
        }
    }

    #[test]
    fn every_reason_to_need_a_person_is_counted() {
        let page = include_str!("../../api/conditions.rs");
        let mut stalls: Vec<&str> = Vec::new();
        let mut told = false;
        for line in page.lines().map(str::trim) {
            match line.strip_prefix("/// ") {
                Some(words) => told |= words.starts_with("Stalled:"),
                None => {
                    stalls.extend(line.strip_suffix(',').filter(|_| told));
                    told = false;
                }
            }
        }
        stalls.sort_unstable();
        let mut counted = STALLS.to_vec();
        counted.sort_unstable();
        assert_eq!(counted, stalls);
    }
}
