//! The explorations.

use crate::protocol::{Begin, Protocol};
use crate::world::{ALL, Budget, Content, Record, Selector, Uids};

/// A world to explore completely.
pub struct Exploration {
    pub name: &'static str,
    pub protocol: fn() -> Protocol,
    /// Number of distinct states.
    pub states: usize,
    /// Impossible events in this world.
    pub without: &'static [&'static str],
}

/// Nothing happens without a controller.
pub const QUIET: Budget = Budget {
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
    delete_election: 0,
    edit_selector: 0,
    move_pod: 0,
    lie: 0,
    request: 0,
    drain: 0,
    prefer: 0,
    hold: 0,
    renew_followed: 0,
    lapse: 0,
    delete_followed: 0,
    elect: 2,
};

pub fn protocol(lease: Option<Content>, led: bool, budget: Budget) -> Protocol {
    let begin = Begin { lease, pods: 2, led, claimed: 0, stale: None };
    Protocol { controllers: 2, begin, budget, status: false, removed: None, liveness: true, follows: false, selectors: &[] }
}

pub fn fresh(budget: Budget) -> Protocol {
    protocol(None, false, budget)
}

/// Pod a leads, and pod b is claimed ahead.
pub fn led(budget: Budget) -> Protocol {
    claimed(protocol(Some(Content::Term(FIRST)), true, budget))
}

/// Pod a was elected and is not labeled yet.
pub fn elected(budget: Budget) -> Protocol {
    claimed(protocol(Some(Content::Term(FIRST)), false, budget))
}

/// All pods are claimed.
fn claimed(protocol: Protocol) -> Protocol {
    let begin = Begin { claimed: Uids::MAX, ..protocol.begin };
    Protocol { begin, ..protocol }
}

/// The only controller misses the outcome of one of its writes.
fn alone(budget: Budget) -> Protocol {
    Protocol { controllers: 1, selectors: &[ALL, NOT_A], ..elected(Budget { delay: 1, elect: 3, ..budget }) }
}

/// Pod a campaigns without the controller.
fn campaign(budget: Budget) -> Protocol {
    protocol(Some(Content::Campaign(0)), false, budget)
}

/// Pod a leads, and a followed Lease names it.
pub fn follows(budget: Budget) -> Protocol {
    Protocol { follows: true, ..led(budget) }
}

/// The selector that matches all pods but pod a.
pub const NOT_A: Selector = ALL & !1;

pub const FIRST: Record = Record { holder: Some(0), term: 3, unfenced: 0, request: 0, expired: false };

/// For worlds with one controller.
const RACED: &str = "sometimes two controllers would replace the same Lease";

const REPLACED: &str = "somewhere a former holder is fenced and another pod leads";

pub const EXPLORATIONS: [Exploration; 30] = [
    Exploration {
        name: "first election, Lease deleted",
        protocol: || fresh(Budget { delete_lease: 1, ..QUIET }),
        states: 28_603,
        without: &[REPLACED],
    },
    Exploration { name: "readiness", protocol: || led(Budget { flip: 2, elect: 3, ..QUIET }), states: 25_784, without: &[] },
    Exploration {
        name: "pod re-created",
        protocol: || led(Budget { delete_pod: 1, create_pod: 1, ..QUIET }),
        states: 2_347,
        without: &[REPLACED],
    },
    Exploration {
        name: "pod re-created, readiness",
        protocol: || Protocol { liveness: false, ..led(Budget { delete_pod: 1, create_pod: 1, flip: 1, ..QUIET }) },
        states: 175_551,
        without: &[],
    },
    Exploration {
        name: "Lease deleted, readiness",
        protocol: || led(Budget { delete_lease: 1, flip: 1, elect: 3, ..QUIET }),
        states: 51_076,
        without: &[],
    },
    Exploration {
        name: "Lease edited, readiness",
        protocol: || led(Budget { edit_lease: 1, flip: 1, elect: 3, ..QUIET }),
        states: 55_288,
        without: &[],
    },
    Exploration {
        name: "answers lost and late",
        protocol: || led(Budget { flip: 2, lose_answer: 1, delay: 1, elect: 2, ..QUIET }),
        states: 284_343,
        without: &[],
    },
    Exploration {
        name: "crashes",
        protocol: || elected(Budget { flip: 2, crash: 1, ..QUIET }),
        states: 93_086,
        without: &[],
    },
    Exploration {
        name: "adoption of a campaign",
        protocol: || claimed(campaign(Budget { renew: 1, flip: 1, ..QUIET })),
        states: 119_212,
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
        states: 156_183,
        without: &[],
    },
    Exploration {
        name: "three controllers",
        protocol: || Protocol { controllers: 3, ..led(Budget { flip: 1, ..QUIET }) },
        states: 7_403,
        without: &[],
    },
    Exploration {
        name: "Election created anew with another selector",
        protocol: || alone(Budget { delete_election: 1, ..QUIET }),
        states: 6_925,
        without: &[RACED],
    },
    Exploration {
        name: "selector edited, Lease deleted",
        protocol: || alone(Budget { edit_selector: 2, delete_lease: 1, ..QUIET }),
        states: 16_867,
        without: &[RACED],
    },
    Exploration {
        name: "pod moved, Lease deleted",
        protocol: || elected(Budget { move_pod: 1, delete_lease: 1, ..QUIET }),
        states: 128_381,
        without: &[],
    },
    Exploration {
        name: "pod moved, Lease edited",
        protocol: || Protocol { liveness: false, ..elected(Budget { move_pod: 1, edit_lease: 1, ..QUIET }) },
        states: 141_397,
        without: &[],
    },
    Exploration {
        name: "pods unclaimed, readiness",
        protocol: || protocol(Some(Content::Term(FIRST)), true, Budget { flip: 1, lose_answer: 1, ..QUIET }),
        states: 4_241,
        without: &[],
    },
    Exploration {
        name: "writes altered, readiness",
        protocol: || elected(Budget { lie: 1, flip: 1, elect: 3, ..QUIET }),
        states: 10_662,
        without: &[],
    },
    Exploration {
        name: "switchover requested, readiness",
        protocol: || led(Budget { request: 1, flip: 1, elect: 3, ..QUIET }),
        states: 63_616,
        without: &[],
    },
    Exploration {
        name: "switchover requested, answers lost and late",
        protocol: || led(Budget { request: 1, lose_answer: 1, delay: 1, ..QUIET }),
        states: 7_607,
        without: &[],
    },
    Exploration {
        name: "switchover requested, Lease deleted, answers late",
        protocol: || alone(Budget { request: 1, delete_lease: 1, ..QUIET }),
        states: 9_066,
        without: &[RACED],
    },
    Exploration {
        name: "nodes drain, readiness",
        protocol: || led(Budget { drain: 2, flip: 1, ..QUIET }),
        states: 114_517,
        without: &[],
    },
    Exploration {
        name: "priorities change",
        protocol: || led(Budget { prefer: 2, elect: 3, ..QUIET }),
        states: 8_864,
        without: &[],
    },
    Exploration {
        name: "followed Lease changes hands",
        protocol: || follows(Budget { hold: 2, ..QUIET }),
        states: 156_078,
        without: &[],
    },
    Exploration {
        name: "followed Lease changes hands, answers lost and late",
        protocol: || follows(Budget { hold: 1, lose_answer: 1, delay: 1, ..QUIET }),
        states: 11_548,
        without: &[],
    },
    Exploration {
        name: "followed Lease expires",
        protocol: || follows(Budget { lapse: 1, renew_followed: 1, elect: 3, ..QUIET }),
        states: 6_455,
        without: &[REPLACED],
    },
    Exploration {
        name: "followed Lease expires, changes hands",
        protocol: || follows(Budget { lapse: 1, hold: 1, elect: 3, ..QUIET }),
        states: 71_021,
        without: &[],
    },
    Exploration {
        name: "followed Lease expires, crash",
        protocol: || follows(Budget { lapse: 1, crash: 1, elect: 3, ..QUIET }),
        states: 1_078,
        without: &[REPLACED],
    },
    Exploration {
        name: "followed Lease deleted, changes hands",
        protocol: || follows(Budget { delete_followed: 1, hold: 1, elect: 3, ..QUIET }),
        states: 20_860,
        without: &[],
    },
    Exploration {
        name: "switchover, drain and priority, answers late",
        protocol: || Protocol { controllers: 1, ..led(Budget { request: 1, drain: 1, prefer: 1, delay: 1, ..QUIET }) },
        states: 49_499,
        without: &[RACED],
    },
];

/// Further explorations of `make model`.
pub const LARGE: [Exploration; 8] = [
    Exploration {
        name: "large: Election created anew with another selector",
        protocol: || Protocol {
            selectors: &[ALL, NOT_A],
            liveness: false,
            ..elected(Budget { delete_election: 1, elect: 3, ..QUIET })
        },
        states: 691_545,
        without: &[],
    },
    Exploration {
        name: "large: selector edited, Lease deleted",
        protocol: || Protocol {
            selectors: &[ALL, NOT_A],
            liveness: false,
            ..elected(Budget { edit_selector: 1, delete_lease: 1, elect: 3, ..QUIET })
        },
        states: 499_517,
        without: &[],
    },
    Exploration {
        name: "large: writes altered, readiness, Lease deleted",
        protocol: || Protocol { liveness: false, ..elected(Budget { lie: 1, flip: 1, delete_lease: 1, elect: 3, ..QUIET }) },
        states: 2_138_377,
        without: &[],
    },
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
        states: 232_897,
        without: &[],
    },
    Exploration {
        name: "large: three controllers, readiness",
        protocol: || Protocol { controllers: 3, liveness: false, ..led(Budget { flip: 2, ..QUIET }) },
        states: 3_004_526,
        without: &[],
    },
    Exploration {
        name: "large: adoption, pod re-created",
        protocol: || Protocol { liveness: false, ..campaign(Budget { renew: 1, delete_pod: 1, create_pod: 1, ..QUIET }) },
        states: 439_288,
        without: &[],
    },
    Exploration {
        name: "large: followed Lease changes hands",
        protocol: || follows(Budget { hold: 2, elect: 3, ..QUIET }),
        states: 228_786,
        without: &[],
    },
];
