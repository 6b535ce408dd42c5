//! Properties of the schedule under any events, delays and failures.

use proptest::prelude::*;

use super::schedule::Step;
use super::tables::{Event, Machine, OPTIONS, play_on};

use Event::{Abandon, AllEnds, Lead, LeadForEver, MainEnds, ShortenGrace, Withdraw};
use Step::{Finish, Kill, RemoveFile, Start, Terminate, Withdrawn, WriteFile};

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..20_000_u64, 1..4_u64).prop_map(|(until, turn)| Lead(until, turn)),
        1 => (1..4_u64).prop_map(LeadForEver),
        1 => (0..8000_u64).prop_map(Withdraw),
        1 => (0..4000_u64).prop_map(ShortenGrace),
        1 => Just(Abandon),
        1 => Just(MainEnds),
        1 => Just(AllEnds),
    ]
}

fn machine() -> impl Strategy<Value = Machine> {
    let kills = prop_oneof![Just(1), 2..6_u32, Just(u32::MAX)];
    let hangs_from = prop_oneof![2 => Just(u64::MAX), 1 => 0..20_000_u64];
    (kills, 1..4_usize, hangs_from, any::<bool>()).prop_map(|(kills, tries, hangs_from, changes_file)| Machine {
        kills,
        tries,
        hangs_from,
        changes_file,
    })
}

/// Observes events and steps, and computes what is due. Times are milliseconds; `u64::MAX` is never.
struct Judge {
    until: u64,
    turn: u64,
    over: u64,
    /// The grace of a withdrawal that is not confirmed.
    withdrawing: Option<u64>,
    abandoned: Option<u64>,
    running: bool,
    /// Ends, after SIGTERM or the end of the first process.
    stopping: bool,
    /// When it must be killed.
    end_by: u64,
    killed: Option<u64>,
    /// The file may exist.
    exists: bool,
    /// A task with the file never ends.
    hangs: bool,
    removed: Option<u64>,
    /// From when on the file must not exist.
    remove_by: u64,
}

impl Judge {
    fn new() -> Self {
        Self {
            until: 0,
            turn: 0,
            over: 0,
            withdrawing: None,
            abandoned: None,
            running: false,
            stopping: false,
            end_by: u64::MAX,
            killed: None,
            exists: false,
            hangs: false,
            removed: None,
            remove_by: u64::MAX,
        }
    }

    /// Checks that nothing was overdue before this time.
    fn check(&self, now: u64) -> Result<(), TestCaseError> {
        let before = |margin: u64| if self.until == u64::MAX { u64::MAX } else { self.until.saturating_sub(margin) };
        if self.running {
            let over = self.turn <= self.over;
            prop_assert!(self.stopping || !over && now <= before(4000), "{now}: no SIGTERM; until {}", self.until);
            match self.killed {
                None => prop_assert!(now <= self.end_by.min(before(1000)), "{now}: lives; until {}", self.until),
                Some(killed) => prop_assert!(now <= killed + 1000, "{now}: killed last at {killed}"),
            }
        }
        if self.exists && !self.hangs {
            let due = self.remove_by.min(before(100));
            match self.removed {
                None => prop_assert!(now <= due, "{now}: file exists; until {}", self.until),
                Some(removed) => prop_assert!(now <= removed + 200, "{now}: removed last at {removed}"),
            }
        }
        Ok(())
    }

    fn on_event(&mut self, now: u64, event: Event) {
        match event {
            Lead(until, turn) => self.leads(until, turn),
            LeadForEver(turn) => self.leads(u64::MAX, turn),
            Withdraw(grace) => {
                (self.over, self.withdrawing) = (self.over.max(self.turn), Some(grace));
                self.remove_by = self.remove_by.min(now);
            }
            ShortenGrace(grace) => {
                self.withdrawing = self.withdrawing.map(|before| before.min(grace));
                if self.running && self.stopping {
                    self.end_by = self.end_by.min(now + grace);
                }
            }
            Abandon => {
                (self.over, self.withdrawing) = (u64::MAX, None);
                self.abandoned.get_or_insert(now);
                self.remove_by = self.remove_by.min(now);
                if self.running && self.stopping {
                    self.end_by = self.end_by.min(now + 3000);
                }
            }
            MainEnds if self.running && !self.stopping => (self.stopping, self.end_by) = (true, now),
            MainEnds => {}
            AllEnds => self.gone(),
        }
    }

    fn leads(&mut self, until: u64, turn: u64) {
        (self.until, self.turn) = (self.until.max(until), self.turn.max(turn));
        if self.turn > self.over {
            self.remove_by = u64::MAX;
        }
    }

    fn gone(&mut self) {
        (self.running, self.stopping, self.end_by, self.killed) = (false, false, u64::MAX, None);
    }

    fn on_step(&mut self, now: u64, step: Step, succeeded: bool) -> Result<(), TestCaseError> {
        prop_assert!(!self.hangs || !matches!(step, WriteFile | RemoveFile | Step::CheckFile), "{now}: one thing at a time");
        match step {
            WriteFile => {
                prop_assert!(self.turn > self.over, "{now}: written in a turn that is over");
                (self.exists, self.removed, self.remove_by) = (true, None, u64::MAX);
                self.hangs = !succeeded;
            }
            RemoveFile => {
                (self.exists, self.removed) = (!succeeded, Some(now));
                self.hangs = !succeeded;
            }
            Step::CheckFile => self.hangs = !succeeded,
            Start => {
                prop_assert!(!self.running && self.turn > self.over, "{now}: started twice, or in a turn that is over");
                self.running = true;
            }
            Terminate => {
                prop_assert!(self.running && !self.stopping, "{now}: two SIGTERMs");
                (self.stopping, self.end_by) = (true, now + self.withdrawing.unwrap_or(3000));
            }
            Kill => {
                prop_assert!(self.running && self.stopping, "{now}: killed without SIGTERM");
                self.killed = Some(now);
                if succeeded {
                    self.gone();
                }
            }
            Withdrawn => {
                prop_assert!(!self.running && !self.exists, "{now}: something is left");
                (self.until, self.withdrawing) = (0, None);
            }
            Finish => {
                let patient = self.abandoned.is_some_and(|since| now < since + 10_000);
                prop_assert!(!(self.running || self.exists && patient), "{now}: something is left");
            }
            Step::Wait(_) => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Under any events, delays and failures: the command receives SIGTERM in time before the deadline, after a withdrawal and after the
    /// exit of the sidecar, then SIGKILL until it has ended. The file is removed in time, with retries while it exists.
    #[test]
    fn nothing_outlives_the_lead(
        mut event in prop::collection::vec((0..20_000_u64, event()), 1..12), machine in machine(),
    ) {
        event.sort_by_key(|(when, _)| *when);
        let steps = play_on(machine, OPTIONS, &event);
        type Input = Result<Event, (Step, bool)>;
        let mut all: Vec<(u64, Input)> = event.iter().map(|(when, event)| (*when, Ok(*event))).collect();
        all.extend(steps.iter().map(|(when, step, succeeded)| (*when, Err((*step, *succeeded)))));
        // Stable: the events of one time come before the steps.
        all.sort_by_key(|(when, _)| *when);
        let (mut judge, mut last) = (Judge::new(), 0);
        for (now, what) in all {
            // A step that is due at this time may come at this time.
            if now > last {
                judge.check(now)?;
            }
            last = now;
            match what {
                Ok(event) => judge.on_event(now, event),
                // A change of the file that failed at once is retried.
                Err((step @ (WriteFile | RemoveFile), false)) if now < machine.hangs_from => {
                    judge.on_step(now, step, false)?;
                    judge.hangs = false;
                    judge.exists &= step == RemoveFile;
                }
                Err((step, succeeded)) => judge.on_step(now, step, succeeded)?,
            }
        }
        let ends = judge.abandoned.is_some() || judge.over >= judge.turn || judge.until < u64::MAX;
        let (dies, obeys) = (machine.kills < u32::MAX, !judge.hangs);
        prop_assert!(!ends || !judge.running || !dies, "the command has ended in the end: {steps:?}");
        prop_assert!(!ends || !judge.exists || !obeys, "the file is gone in the end: {steps:?}");
    }
}
