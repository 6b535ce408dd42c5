//! What is explored, and which rules are removed.

use crate::mutation::Mutation;
use crate::protocol::{Begin, Protocol};
use crate::world::{Budget, Content, Record};

/// A world that is explored to the end.
pub struct Exploration {
    pub name: &'static str,
    pub protocol: fn() -> Protocol,
    /// How many different states there are.
    pub states: usize,
    /// What cannot happen in it.
    pub without: &'static [&'static str],
}

/// A rule that is removed from a world.
pub struct Removal {
    pub rule: Mutation,
    pub protocol: fn() -> Protocol,
    pub verdict: Verdict,
}

pub enum Verdict {
    /// A promise breaks after so many steps.
    Breaks(usize),
    /// Nothing breaks, because something else keeps the promise.
    Unnoticed(&'static str),
}

/// Nothing happens by itself.
const QUIET: Budget = Budget {
    delete_lease: 0,
    edit_lease: 0,
    delete_pod: 0,
    create_pod: 0,
    flip: 0,
    wipe_status: 0,
    unlabel: 0,
    suspend: 0,
    renew: 0,
    crash: 0,
    lose_answer: 0,
    delay: 0,
    elect: 2,
};

fn protocol(lease: Option<Content>, led: bool, budget: Budget) -> Protocol {
    let begin = Begin { lease, pods: 2, led, stale: None };
    Protocol { controllers: 2, begin, budget, status: false, removed: None, liveness: true }
}

/// There is no Lease yet.
fn fresh(budget: Budget) -> Protocol {
    protocol(None, false, budget)
}

/// Pod a leads.
fn led(budget: Budget) -> Protocol {
    protocol(Some(Content::Term(FIRST)), true, budget)
}

/// Pod a was elected and is not labelled yet.
fn elected(budget: Budget) -> Protocol {
    protocol(Some(Content::Term(FIRST)), false, budget)
}

/// Pod a campaigns by itself.
fn campaign(budget: Budget) -> Protocol {
    protocol(Some(Content::Campaign(0)), false, budget)
}

const FIRST: Record = Record { holder: Some(0), term: 3, unfenced: 0 };

const REPLACED: &str = "somewhere a former holder is fenced and another pod leads";

pub const EXPLORATIONS: [Exploration; 12] = [
    Exploration {
        name: "first election, Lease deleted",
        protocol: || fresh(Budget { delete_lease: 1, ..QUIET }),
        states: 14_909,
        without: &[REPLACED],
    },
    Exploration { name: "readiness", protocol: || led(Budget { flip: 2, elect: 3, ..QUIET }), states: 25_820, without: &[] },
    Exploration {
        name: "pod re-created",
        protocol: || led(Budget { delete_pod: 1, create_pod: 1, ..QUIET }),
        states: 873,
        without: &[REPLACED],
    },
    Exploration {
        name: "pod re-created, readiness",
        protocol: || Protocol { liveness: false, ..led(Budget { delete_pod: 1, create_pod: 1, flip: 1, ..QUIET }) },
        states: 69_097,
        without: &[],
    },
    Exploration {
        name: "Lease deleted, readiness",
        protocol: || led(Budget { delete_lease: 1, flip: 1, elect: 3, ..QUIET }),
        states: 51_126,
        without: &[],
    },
    Exploration {
        name: "Lease edited, readiness",
        protocol: || led(Budget { edit_lease: 1, flip: 1, elect: 3, ..QUIET }),
        states: 55_214,
        without: &[],
    },
    Exploration {
        name: "answers lost and late",
        protocol: || led(Budget { flip: 2, lose_answer: 1, delay: 1, elect: 2, ..QUIET }),
        states: 284_999,
        without: &[],
    },
    Exploration {
        name: "crashes",
        protocol: || elected(Budget { flip: 2, crash: 1, ..QUIET }),
        states: 95_654,
        without: &[],
    },
    Exploration {
        name: "adoption of a campaign",
        protocol: || campaign(Budget { renew: 1, flip: 1, ..QUIET }),
        states: 119_284,
        without: &[],
    },
    Exploration {
        name: "status wiped",
        protocol: || Protocol { status: true, ..led(Budget { wipe_status: 1, flip: 1, ..QUIET }) },
        states: 55_878,
        without: &[],
    },
    Exploration {
        name: "suspended and resumed, label taken",
        protocol: || led(Budget { suspend: 2, flip: 1, unlabel: 1, ..QUIET }),
        states: 161_973,
        without: &[],
    },
    Exploration {
        name: "three controllers",
        protocol: || Protocol { controllers: 3, ..led(Budget { flip: 1, ..QUIET }) },
        states: 7_403,
        without: &[],
    },
];

/// What `make model` explores beyond that.
pub const LARGE: [Exploration; 4] = [
    Exploration {
        name: "large: Lease deleted, pod re-created, readiness",
        protocol: || Protocol {
            liveness: false,
            ..led(Budget { delete_lease: 1, delete_pod: 1, create_pod: 1, flip: 1, elect: 3, ..QUIET })
        },
        states: 16_844_883,
        without: &[],
    },
    Exploration {
        name: "large: three pods, pod re-created, readiness",
        protocol: || {
            let mut large = led(Budget { delete_pod: 1, create_pod: 1, flip: 1, ..QUIET });
            large.begin.pods = 3;
            large.liveness = false;
            large
        },
        states: 94_696,
        without: &[],
    },
    Exploration {
        name: "large: three controllers, readiness",
        protocol: || Protocol { controllers: 3, liveness: false, ..led(Budget { flip: 2, ..QUIET }) },
        states: 2_292_718,
        without: &[],
    },
    Exploration {
        name: "large: adoption, pod re-created",
        protocol: || Protocol { liveness: false, ..campaign(Budget { renew: 1, delete_pod: 1, create_pod: 1, ..QUIET }) },
        states: 439_288,
        without: &[],
    },
];

fn flips(count: u8, elect: u8) -> Budget {
    Budget { flip: count, elect, ..QUIET }
}

pub const REMOVALS: [Removal; 21] = [
    Removal { rule: Mutation::NoFence, protocol: || led(flips(1, 2)), verdict: Verdict::Breaks(9) },
    Removal { rule: Mutation::FenceOnlyLabelled, protocol: || elected(flips(2, 2)), verdict: Verdict::Breaks(9) },
    Removal { rule: Mutation::FenceWithoutTerm, protocol: || led(flips(2, 3)), verdict: Verdict::Breaks(11) },
    Removal { rule: Mutation::LabelAnyVersion, protocol: || elected(flips(1, 2)), verdict: Verdict::Breaks(11) },
    Removal { rule: Mutation::FenceAnyVersion, protocol: || led(flips(2, 3)), verdict: Verdict::Breaks(11) },
    Removal { rule: Mutation::LabelBelowOwnTerm, protocol: || led(flips(2, 3)), verdict: Verdict::Breaks(10) },
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
        verdict: Verdict::Breaks(11),
    },
    Removal {
        rule: Mutation::AbsentIsDropped,
        protocol: || {
            let unfenced = Record { holder: Some(1), term: 3, unfenced: 1 };
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
        verdict: Verdict::Breaks(13),
    },
    Removal { rule: Mutation::LabelBeforeSwap, protocol: || led(flips(1, 2)), verdict: Verdict::Breaks(6) },
    Removal { rule: Mutation::PutAnyVersion, protocol: || fresh(flips(1, 3)), verdict: Verdict::Breaks(14) },
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
        verdict: Verdict::Breaks(14),
    },
    Removal {
        rule: Mutation::CreateWithHolder,
        protocol: || fresh(Budget { delete_lease: 1, flip: 1, elect: 3, ..QUIET }),
        verdict: Verdict::Breaks(6),
    },
    Removal {
        rule: Mutation::CountTerms,
        protocol: || led(Budget { delete_lease: 1, elect: 3, ..QUIET }),
        verdict: Verdict::Breaks(14),
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
];
