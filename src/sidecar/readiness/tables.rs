//! Every rule of the readiness as a row.

use super::*;

use CommandPhase::{Absent, Running, Starting, Stopping};
use Role::{Leader, ShuttingDown, Standby};

/// An event, at a second.
enum Event {
    /// The command reaches this phase, in this run.
    Command(CommandPhase, u64),
    /// A check that began in this run succeeds or fails.
    Check(u64, bool),
}
use Event::{Check, Command};

fn at(seconds: u64) -> Moment {
    Moment::after(Duration::from_secs(1000 + seconds))
}

/// The readiness with a startup timeout of 60 s after these events.
fn after(has_check: bool, events: &[(u64, Event)]) -> Readiness {
    let mut readiness = Readiness::new(Duration::from_secs(60), has_check);
    for (second, event) in events {
        match event {
            Command(phase, run) => readiness.observe(CommandState { phase: *phase, run: *run }, at(*second)),
            Check(run, true) => readiness.checked(*run, Ok(())),
            Check(run, false) => readiness.checked(*run, Err("no answer".into())),
        }
    }
    readiness
}

/// Each row: a rule, whether there is a check, the events, the role, the second, the state, a part of the line.
type Row<'a> = (&'a str, bool, &'a [(u64, Event)], Role, u64, State, &'a str);

fn assert_rows(rows: &[Row<'_>]) {
    for (rule, has_check, events, role, second, state, words) in rows {
        let verdict = after(*has_check, events).verdict(*role, at(*second));
        assert_eq!(verdict.state, *state, "{rule}: {verdict:?}");
        assert!(verdict.line.contains(words), "{rule}: {verdict:?}");
        assert!(!verdict.line.contains('\n'), "{rule}: one line");
    }
}

#[test]
fn standby_is_ready_and_a_stopping_process_is_not() {
    let rows: &[Row<'_>] = &[
        ("nothing is known", true, &[], Standby, 0, State::Standby, "standby:"),
        ("standby without a check", false, &[], Standby, 9999, State::Standby, "standby:"),
        (
            "standby after its command ended",
            true,
            &[(0, Command(Running, 1)), (1, Check(1, false)), (2, Command(Absent, 1))],
            Standby,
            3,
            State::Standby,
            "standby:",
        ),
        ("lead lost before the start", true, &[(0, Command(Starting, 1))], Standby, 1, State::Standby, "standby:"),
        (
            "lead lost, and the command still runs",
            true,
            &[(0, Command(Running, 1)), (1, Check(1, true))],
            Standby,
            2,
            State::Stopping,
            "the command is being stopped",
        ),
        ("command being stopped on a standby", true, &[(0, Command(Stopping, 1))], Standby, 1, State::Stopping, "stopped"),
        (
            "command being stopped on the leader",
            true,
            &[(0, Command(Running, 1)), (1, Check(1, true)), (2, Command(Stopping, 1))],
            Leader,
            3,
            State::Stopping,
            "stopped",
        ),
        (
            "command without a check being stopped",
            false,
            &[(0, Command(Running, 1)), (2, Command(Stopping, 1))],
            Leader,
            3,
            State::Stopping,
            "stopped",
        ),
        ("shutdown of a standby", true, &[], ShuttingDown, 0, State::Stopping, "shutting down"),
        (
            "shutdown of a leader that is ready",
            true,
            &[(0, Command(Running, 1)), (1, Check(1, true))],
            ShuttingDown,
            2,
            State::Stopping,
            "shutting down",
        ),
        (
            "shutdown within the startup",
            true,
            &[(0, Command(Running, 1))],
            ShuttingDown,
            2,
            State::Stopping,
            "shutting down",
        ),
    ];
    assert_rows(rows);
}

#[test]
fn leader_is_ready_while_it_starts_and_then_while_its_check_succeeds() {
    let rows: &[Row<'_>] = &[
        ("elected, and nothing reported", true, &[], Leader, 0, State::Starting, "has not started yet"),
        ("command about to start", true, &[(0, Command(Starting, 1))], Leader, 59, State::Starting, "has not started yet"),
        (
            "command that does not start",
            true,
            &[(0, Command(Starting, 1))],
            Leader,
            60,
            State::NotReady,
            "not started within 60s",
        ),
        (
            "the same without a check",
            false,
            &[(0, Command(Starting, 1))],
            Leader,
            60,
            State::NotReady,
            "not started within 60s",
        ),
        ("no check yet", true, &[(0, Command(Running, 1))], Leader, 59, State::Starting, "no check has ended"),
        (
            "failed checks within the startup",
            true,
            &[(0, Command(Running, 1)), (2, Check(1, false))],
            Leader,
            59,
            State::Starting,
            "no answer",
        ),
        (
            "startup ends by its timeout",
            true,
            &[(0, Command(Running, 1)), (2, Check(1, false))],
            Leader,
            60,
            State::NotReady,
            "not ready within 60s of its start: no answer",
        ),
        (
            "startup ends without any result",
            true,
            &[(0, Command(Running, 1))],
            Leader,
            60,
            State::NotReady,
            "no check has ended",
        ),
        (
            "startup counts from the start of the command",
            true,
            &[(0, Command(Starting, 1)), (50, Command(Running, 1))],
            Leader,
            109,
            State::Starting,
            "is starting",
        ),
        (
            "first success",
            true,
            &[(0, Command(Running, 1)), (2, Check(1, false)), (4, Check(1, true))],
            Leader,
            5,
            State::Ready,
            "is ready",
        ),
        (
            "success ends the startup",
            true,
            &[(0, Command(Running, 1)), (2, Check(1, true)), (4, Check(1, false))],
            Leader,
            5,
            State::NotReady,
            "not ready: no answer",
        ),
        (
            "recovery",
            true,
            &[(0, Command(Running, 1)), (2, Check(1, true)), (4, Check(1, false)), (6, Check(1, true))],
            Leader,
            7,
            State::Ready,
            "is ready",
        ),
        (
            "late first success",
            true,
            &[(0, Command(Running, 1)), (70, Check(1, true))],
            Leader,
            71,
            State::Ready,
            "is ready",
        ),
        (
            "ready after the startup timeout",
            true,
            &[(0, Command(Running, 1)), (2, Check(1, true))],
            Leader,
            500,
            State::Ready,
            "is ready",
        ),
        (
            "without a check the command is ready while it runs",
            false,
            &[(0, Command(Running, 1))],
            Leader,
            500,
            State::Ready,
            "the command runs",
        ),
        (
            "the next run starts anew",
            true,
            &[
                (0, Command(Running, 1)),
                (2, Check(1, true)),
                (4, Check(1, false)),
                (5, Command(Stopping, 1)),
                (6, Command(Absent, 1)),
                (100, Command(Running, 2)),
            ],
            Leader,
            159,
            State::Starting,
            "no check has ended",
        ),
        (
            "a next run whose end was not observed",
            true,
            &[(0, Command(Running, 1)), (2, Check(1, true)), (4, Check(1, false)), (100, Command(Running, 2))],
            Leader,
            159,
            State::Starting,
            "no check has ended",
        ),
        (
            "a check of the run before does not count",
            true,
            &[(0, Command(Running, 1)), (100, Command(Running, 2)), (101, Check(1, true))],
            Leader,
            160,
            State::NotReady,
            "no check has ended",
        ),
        (
            "a check that ends while the command is stopped does not count",
            true,
            &[(0, Command(Running, 1)), (1, Command(Stopping, 1)), (2, Check(1, true)), (3, Command(Running, 1))],
            Leader,
            4,
            State::Starting,
            "no check has ended",
        ),
    ];
    assert_rows(rows);
}

#[test]
fn checks_are_due_while_the_command_runs() {
    for (phase, due) in [(Absent, None), (Starting, None), (Running, Some(3)), (Stopping, None)] {
        assert_eq!(after(true, &[(0, Command(phase, 3))]).check_due(), due, "{phase:?}");
        assert_eq!(after(false, &[(0, Command(phase, 3))]).check_due(), None, "{phase:?} without a check");
    }
}

#[test]
fn startup_ends_where_the_verdict_changes() {
    for (events, end) in [
        (&[][..], None),
        (&[(0, Command(Starting, 1))][..], Some(60)),
        (&[(0, Command(Starting, 1)), (7, Command(Running, 1))][..], Some(67)),
        (&[(7, Command(Running, 1)), (8, Check(1, false))][..], Some(67)),
        (&[(7, Command(Running, 1)), (8, Check(1, true)), (9, Check(1, false))][..], None),
        (&[(7, Command(Running, 1)), (8, Command(Stopping, 1))][..], None),
    ] {
        let readiness = after(true, events);
        assert_eq!(readiness.startup_ends(), end.map(at));
        if let Some(end) = end {
            assert_eq!(readiness.verdict(Leader, at(end - 1)).state, State::Starting);
            assert_eq!(readiness.verdict(Leader, at(end)).state, State::NotReady);
        }
    }
    assert_eq!(after(false, &[(7, Command(Running, 1))]).startup_ends(), None);
}

#[test]
fn only_states_with_a_leader_to_replace_are_not_ready() {
    let ready = |state| Verdict { state, line: String::new() }.is_ready();
    assert_eq!([State::Standby, State::Starting, State::Ready].map(ready), [true; 3]);
    assert_eq!([State::NotReady, State::Stopping].map(ready), [false; 2]);
}
