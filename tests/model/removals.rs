//! The rules that are removed, each from a world in which that breaks a guarantee.

use crate::explorations::{FIRST, NOT_A, QUIET, elected, follows, fresh, led, protocol};
use crate::mutation::Mutation;
use crate::protocol::Protocol;
use crate::world::{Budget, Content, Record};

/// A rule that is removed from a world.
pub struct Removal {
    pub rule: Mutation,
    pub protocol: fn() -> Protocol,
    pub verdict: Verdict,
}

pub enum Verdict {
    /// A guarantee breaks after this many steps.
    Breaks(usize),
    /// After this many steps, the rest of the steps leads to no leader that stays.
    Unsettled(usize),
    /// Another rule keeps the guarantee.
    Unnoticed(&'static str),
}

fn flips(count: u8, elect: u8) -> Budget {
    Budget { flip: count, elect, ..QUIET }
}

pub const REMOVALS: [Removal; 36] = [
    Removal { rule: Mutation::NoFence, protocol: || led(flips(1, 2)), verdict: Verdict::Breaks(5) },
    Removal { rule: Mutation::FenceOnlyLabelled, protocol: || elected(flips(2, 2)), verdict: Verdict::Breaks(9) },
    Removal { rule: Mutation::FenceWithoutTerm, protocol: || led(flips(2, 3)), verdict: Verdict::Breaks(10) },
    Removal { rule: Mutation::LabelAnyVersion, protocol: || elected(flips(1, 2)), verdict: Verdict::Breaks(8) },
    Removal { rule: Mutation::FenceAnyVersion, protocol: || led(flips(2, 3)), verdict: Verdict::Breaks(11) },
    Removal { rule: Mutation::LabelBelowOwnTerm, protocol: || led(flips(2, 3)), verdict: Verdict::Breaks(9) },
    Removal {
        rule: Mutation::ForgetUnfenced,
        protocol: || {
            let mut three = elected(flips(3, 2));
            three.begin.pods = 3;
            three
        },
        verdict: Verdict::Breaks(19),
    },
    Removal {
        rule: Mutation::AbsentIsFenced,
        protocol: || led(Budget { delete_pod: 1, create_pod: 1, flip: 1, elect: 3, ..QUIET }),
        verdict: Verdict::Breaks(13),
    },
    Removal {
        rule: Mutation::AbsentIsDropped,
        protocol: || {
            let unfenced = Record { holder: Some(1), unfenced: 1, ..FIRST };
            let mut world = protocol(Some(Content::Term(unfenced)), false, QUIET);
            world.begin.pods = 3;
            world.begin.stale = Some(Record { term: 2, ..FIRST });
            world
        },
        verdict: Verdict::Unnoticed(
            "a controller that has not seen a former holder has not seen the holder's label either, and asks the server before it deposes it; kept as a cheap defence",
        ),
    },
    Removal { rule: Mutation::ListOnlyLabelled, protocol: || elected(flips(2, 2)), verdict: Verdict::Breaks(12) },
    Removal {
        rule: Mutation::NamesForUids,
        protocol: || led(Budget { delete_pod: 1, create_pod: 1, ..QUIET }),
        verdict: Verdict::Breaks(5),
    },
    Removal { rule: Mutation::LabelBeforeSwap, protocol: || led(flips(1, 2)), verdict: Verdict::Breaks(4) },
    Removal { rule: Mutation::PutAnyVersion, protocol: || fresh(flips(1, 3)), verdict: Verdict::Breaks(18) },
    Removal {
        rule: Mutation::PutWithoutUid,
        protocol: || led(Budget { delete_lease: 1, flip: 2, elect: 3, ..QUIET }),
        verdict: Verdict::Breaks(9),
    },
    Removal {
        rule: Mutation::FillWithoutList,
        protocol: || elected(Budget { delete_lease: 1, flip: 2, ..QUIET }),
        verdict: Verdict::Breaks(15),
    },
    Removal {
        rule: Mutation::FillFromCache,
        protocol: || led(Budget { delete_lease: 1, delete_pod: 1, create_pod: 1, ..QUIET }),
        verdict: Verdict::Breaks(16),
    },
    Removal {
        rule: Mutation::CreateWithHolder,
        protocol: || fresh(Budget { delete_lease: 1, flip: 1, elect: 3, ..QUIET }),
        verdict: Verdict::Breaks(9),
    },
    Removal {
        rule: Mutation::CountTerms,
        protocol: || led(Budget { delete_lease: 1, elect: 3, ..QUIET }),
        verdict: Verdict::Breaks(9),
    },
    Removal {
        rule: Mutation::SweepTerm,
        protocol: || led(Budget { flip: 2, unlabel: 1, ..QUIET }),
        verdict: Verdict::Breaks(11),
    },
    Removal { rule: Mutation::FenceHigherTerm, protocol: || led(flips(3, 3)), verdict: Verdict::Breaks(15) },
    Removal {
        rule: Mutation::PatchWithoutUid,
        protocol: || led(Budget { delete_pod: 1, create_pod: 1, flip: 1, ..QUIET }),
        verdict: Verdict::Unnoticed(
            "no two pods ever have the same resourceVersion, so that it alone tells them apart; kept as a cheap defence",
        ),
    },
    Removal {
        rule: Mutation::ElectUnclaimed,
        protocol: || {
            let budget = Budget { edit_selector: 1, delete_lease: 1, delay: 1, elect: 3, ..QUIET };
            Protocol { controllers: 1, selectors: &[NOT_A], ..protocol(Some(Content::Blank(0)), false, budget) }
        },
        verdict: Verdict::Breaks(21),
    },
    Removal {
        rule: Mutation::ClaimAnyVersion,
        protocol: || protocol(Some(Content::Term(FIRST)), true, flips(1, 2)),
        verdict: Verdict::Breaks(10),
    },
    Removal {
        rule: Mutation::TrustAnswers,
        protocol: || led(Budget { lie: 1, flip: 1, ..QUIET }),
        verdict: Verdict::Breaks(6),
    },
    Removal {
        rule: Mutation::NoChecksum,
        protocol: || led(Budget { lie: 1, flip: 1, ..QUIET }),
        verdict: Verdict::Breaks(4),
    },
    Removal {
        rule: Mutation::RequestAtOrBelow,
        protocol: || led(Budget { request: 1, ..QUIET }),
        verdict: Verdict::Breaks(8),
    },
    Removal {
        rule: Mutation::LabelBeforeFence,
        protocol: || led(Budget { request: 1, ..QUIET }),
        verdict: Verdict::Breaks(5),
    },
    Removal {
        rule: Mutation::DrainToDraining,
        protocol: || led(Budget { drain: 2, ..QUIET }),
        verdict: Verdict::Unsettled(2),
    },
    Removal {
        rule: Mutation::DrainIsIneligible,
        protocol: || led(Budget { drain: 2, ..QUIET }),
        verdict: Verdict::Unsettled(2),
    },
    Removal { rule: Mutation::PreemptAtEqualScore, protocol: || led(QUIET), verdict: Verdict::Unsettled(0) },
    Removal {
        rule: Mutation::PreemptFromDraining,
        protocol: || led(Budget { drain: 1, prefer: 1, ..QUIET }),
        verdict: Verdict::Unsettled(2),
    },
    Removal {
        rule: Mutation::OldFollowedDeposes,
        protocol: || follows(Budget { hold: 2, elect: 3, ..QUIET }),
        verdict: Verdict::Breaks(9),
    },
    Removal {
        rule: Mutation::FollowedReadFirst,
        protocol: || {
            let mut world = follows(Budget { hold: 1, ..QUIET });
            world.begin.stale = Some(Record { term: 2, ..FIRST });
            world
        },
        verdict: Verdict::Breaks(11),
    },
    Removal {
        rule: Mutation::ExpireWithoutRead,
        protocol: || follows(Budget { renew_followed: 2, ..QUIET }),
        verdict: Verdict::Breaks(6),
    },
    Removal {
        rule: Mutation::ForgetExpiry,
        protocol: || follows(Budget { lapse: 1, ..QUIET }),
        verdict: Verdict::Breaks(13),
    },
    Removal {
        rule: Mutation::OldDeletedNames,
        protocol: || follows(Budget { hold: 1, delete_followed: 1, ..QUIET }),
        verdict: Verdict::Breaks(12),
    },
];
