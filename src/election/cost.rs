//! The deletion cost of the leader's pod, which `spec.leaderDeletionCost` sets: what a write does to it. No safety rule depends
//! on it.
//!
//! A pod has one deletion cost, and several Elections may lead it. So the pod notes what each of them demands, and the cost that
//! it had before: `podium.dev/deletion-costs: "db=50,web=100; original=5"`. Its cost is the highest demand. The last demand that
//! goes restores the original.
//!
//! A cost that is not the highest demand was changed by a user. It stays, also when the demands go. The next write for another
//! reason drops the original from the note: `"db=50,web=100"`. Without an original no write changes the cost until all demands
//! are gone.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::api::names;

/// Separates the demands from the original cost.
const ORIGINAL: &str = "; original=";

/// The annotations of a pod that make its deletion cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletionCost {
    /// `controller.kubernetes.io/pod-deletion-cost`
    pub cost: Option<String>,
    /// `podium.dev/deletion-costs`
    pub note: Option<String>,
}

impl DeletionCost {
    /// Reads the annotations of a pod.
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        let get = |name| annotations.get(name).cloned();
        Self { cost: get(names::POD_DELETION_COST), note: get(names::DELETION_COSTS) }
    }

    /// The annotations with their values. `None`: without this annotation.
    pub fn annotations(&self) -> [(&'static str, Option<&str>); 2] {
        [(names::POD_DELETION_COST, self.cost.as_deref()), (names::DELETION_COSTS, self.note.as_deref())]
    }

    /// The cost that each Election demands.
    pub fn demands(&self) -> BTreeMap<&str, i32> {
        let note = self.note.as_deref().unwrap_or_default();
        let demands = note.split_once(ORIGINAL).map_or(note, |(demands, _)| demands);
        let demands = demands.split(',').filter_map(|demand| demand.split_once('='));
        demands.filter_map(|(election, cost)| Some((election, cost.parse().ok()?))).collect()
    }

    /// The cost before the first demand (`""`: none), unless a user has changed the cost since.
    fn original(&self) -> Option<&str> {
        let (_, original) = self.note.as_deref()?.split_once(ORIGINAL)?;
        let written = self.demands().into_values().max()?.to_string();
        (self.cost.as_ref() == Some(&written)).then_some(original)
    }

    /// Returns the annotations with which the Election demands this cost, or none.
    #[must_use]
    pub fn demanding(&self, election: &str, demand: Option<i32>) -> Self {
        let mut demands = self.demands();
        let original = if demands.is_empty() { self.cost.as_deref().or(Some("")) } else { self.original() };
        let is_demanded = !demands.is_empty();
        match demand {
            Some(demand) => demands.insert(election, demand),
            None => demands.remove(election),
        };
        let Some(highest) = demands.values().max() else {
            let restored = original.filter(|_| is_demanded).map(|original| Some(original).filter(|cost| !cost.is_empty()));
            let cost = restored.map_or_else(|| self.cost.clone(), |cost| cost.map(str::to_owned));
            return Self { cost, note: None };
        };
        let cost = if original.is_some() { Some(highest.to_string()) } else { self.cost.clone() };
        let mut note = String::new();
        for (election, demand) in &demands {
            let comma = if note.is_empty() { "" } else { "," };
            // Writing into a string cannot fail.
            let _ = write!(note, "{comma}{election}={demand}");
        }
        if let Some(original) = original {
            note += ORIGINAL;
            note += original;
        }
        Self { cost, note: Some(note) }
    }

    /// Returns the annotations without any demand.
    #[must_use]
    pub fn without_demands(&self) -> Self {
        self.demands().into_keys().fold(self.clone(), |cost, election| cost.demanding(election, None))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cost(cost: &str, note: &str) -> DeletionCost {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        DeletionCost { cost: text(cost), note: text(note) }
    }

    #[test]
    fn demand_replaces_the_cost_and_the_last_one_that_goes_restores_it() {
        for (own, noted) in [("", "web=100; original="), ("5", "web=100; original=5")] {
            let led = cost(own, "").demanding("web", Some(100));
            assert_eq!(led, cost("100", noted));
            assert_eq!(led.demanding("web", Some(100)), led, "nothing is left to write");
            assert_eq!(led.demanding("web", None), cost(own, ""));
        }
    }

    #[test]
    fn the_highest_demand_counts() {
        let both = cost("5", "").demanding("web", Some(100)).demanding("db", Some(-7));
        assert_eq!(both, cost("100", "db=-7,web=100; original=5"));
        assert_eq!(both.demanding("web", Some(-9)), cost("-7", "db=-7,web=-9; original=5"));
        let one = both.demanding("web", None);
        assert_eq!(one, cost("-7", "db=-7; original=5"));
        assert_eq!(one.demanding("db", None), cost("5", ""));
        assert_eq!(both.without_demands(), cost("5", ""));
    }

    #[test]
    fn changed_cost_is_kept_and_given_back() {
        for changed in ["7", ""] {
            let changed = |note| cost(changed, note);
            let led = changed("web=100; original=5");
            assert_eq!(led.demanding("web", None), changed(""));
            let both = led.demanding("db", Some(7));
            assert_eq!(both, changed("db=7,web=100"));
            assert_eq!(both.demanding("web", None), changed("db=7"), "also if another Election demands the same");
            assert_eq!(both.without_demands(), changed(""));
        }
    }

    #[test]
    fn unreadable_note_demands_nothing() {
        for note in ["", ";", "web", "web=", "web=x", "; original=3", "=,=,"] {
            assert_eq!(cost("5", note).demanding("web", None), cost("5", ""), "{note}");
            assert_eq!(cost("5", note).demanding("web", Some(1)), cost("1", "web=1; original=5"), "{note}");
        }
    }

    proptest! {
        /// Whatever Elections demand and users set: without a demand the cost is the user's last own value.
        #[test]
        fn users_last_value_is_restored(acts in prop::collection::vec((0..4_u8, prop::option::of(0..4)), 0..20)) {
            let mut now = DeletionCost::default();
            let mut own = None;
            for (actor, value) in acts {
                match actor {
                    // Users' values are odd and demands even: the same value would be no change.
                    0 => {
                        own = value.map(|value: i32| (2 * value + 1).to_string());
                        now.cost.clone_from(&own);
                    }
                    actor => now = now.demanding(["web", "db", "x.y"][usize::from(actor) - 1], value.map(|value| 2 * value)),
                }
                let highest = now.demands().into_values().max().map(|highest| highest.to_string());
                prop_assert!(now.cost == own || now.cost == highest);
                let restored = DeletionCost { cost: own.clone(), note: None };
                prop_assert!(highest.is_some() || now == restored);
            }
            prop_assert_eq!(now.without_demands(), DeletionCost { cost: own, note: None });
        }
    }
}
