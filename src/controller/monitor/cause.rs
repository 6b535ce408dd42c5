//! Why leaders change, as a closed set: the phrases that people read name pods, and a metric must not.

/// All of them, in the order in which they are looked for. `other`: a phrase that was written by another version.
pub const CAUSES: &[&str] = &[
    "first_election",
    "became_eligible",
    "gone",
    "terminating",
    "not_ready",
    "ended",
    "not_running",
    "not_selected",
    "opted_out",
    "label_conflict",
    "overlap",
    "lease_lost",
    "lease_handed_over",
    "terms_repaired",
    "nobody_eligible",
    "other",
];

/// Which of them this phrase is. The Lease carries the phrase, so that whichever controller finishes a change tells the same.
pub fn cause(phrase: &str) -> &'static str {
    match phrase {
        "first election" => return "first_election",
        "the Lease was lost" => return "lease_lost",
        "the Lease was handed over" => return "lease_handed_over",
        "the status names a term above the Lease's" => return "terms_repaired",
        "nobody is eligible" => return "nobody_eligible",
        _ => {}
    }
    // A pod's name has no spaces.
    let Some((_, what)) = phrase.split_once(' ') else { return "other" };
    match what {
        "became eligible" => "became_eligible",
        "is gone" => "gone",
        "is terminating" => "terminating",
        "is not Ready" | "has not been Ready for long enough" => "not_ready",
        "failed" | "has ended" => "ended",
        "is not running" => "not_running",
        "does not match the selector" => "not_selected",
        "opted out" => "opted_out",
        "carries a term above the Lease's" => "terms_repaired",
        _ if what.starts_with("carries the label with the foreign value") => "label_conflict",
        _ if what.starts_with("is claimed by Election") => "overlap",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::jiff::SignedDuration;

    use super::*;
    use crate::election::candidate::Ineligible;

    /// Every one, so that a new one does not compile before it is thought of here.
    fn next(why: &Ineligible) -> Option<Ineligible> {
        Some(match why {
            Ineligible::NotSelected => Ineligible::Terminating,
            Ineligible::Terminating => Ineligible::Failed,
            Ineligible::Failed => Ineligible::Succeeded,
            Ineligible::Succeeded => Ineligible::Pending,
            Ineligible::Pending => Ineligible::OptedOut,
            Ineligible::OptedOut => Ineligible::ClaimedBy("other".into()),
            Ineligible::ClaimedBy(_) => Ineligible::ForeignLabel("mine".into()),
            Ineligible::ForeignLabel(_) => Ineligible::NotReady,
            Ineligible::NotReady => Ineligible::ReadyTooShort(SignedDuration::ZERO),
            Ineligible::ReadyTooShort(_) => return None,
        })
    }

    /// The phrases that `decide` writes as they stand.
    const DECIDE: &str = include_str!("../../election/decide.rs");

    #[test]
    fn every_phrase_that_is_written_has_a_cause_and_every_cause_a_phrase() {
        let mut causes = BTreeSet::from(["other"]);
        let mut why = Some(Ineligible::NotSelected);
        while let Some(reason) = why {
            let phrase = format!("web-0.a {reason}");
            assert_ne!(cause(&phrase), "other", "{phrase}");
            causes.insert(cause(&phrase));
            why = next(&reason);
        }
        for phrase in ["first election", "the Lease was lost", "the Lease was handed over", "nobody is eligible"] {
            assert!(DECIDE.contains(&format!("{phrase:?}")), "{phrase}");
            causes.insert(cause(phrase));
        }
        for rest in ["became eligible", "is gone", "carries a term above the Lease's"] {
            assert!(DECIDE.contains(&format!("{{}} {rest}\"")), "{rest}");
            causes.insert(cause(&format!("web-0 {rest}")));
        }
        assert!(DECIDE.contains("the status names a term above the Lease's"));
        assert_eq!(cause("the status names a term above the Lease's"), "terms_repaired");
        assert_eq!(causes, CAUSES.iter().copied().collect());
        assert_eq!((cause("something new"), cause(""), cause("new")), ("other", "other", "other"));
    }
}
