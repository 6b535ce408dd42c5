//! The schedule, case by case.

use std::time::Duration;

use podium_campaign::Moment;

use super::schedule::{Schedule, ScheduleOptions, Step};

/// An event. Times are milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// The lead lasts until this time, in this turn.
    Lead(u64, u64),
    /// The lead is unlimited, in this turn.
    LeadForEver(u64),
    Withdraw(u64),
    ShortenGrace(u64),
    Abandon,
    /// The first process of the command ends.
    MainEnds,
    /// All processes of the command end.
    AllEnds,
}

use Event::{Abandon, AllEnds, Lead, LeadForEver, MainEnds, ShortenGrace, Withdraw};

/// The results of the steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// The number of kills until no process of the command lives.
    pub kills: u32,
    /// Of so many changes of the file, all but the last one fail.
    pub tries: usize,
    /// From this time on, tasks with the file never end.
    pub hangs_from: u64,
    /// The file is changed before every check.
    pub changes_file: bool,
}

/// All steps succeed.
const GOOD: Machine = Machine { kills: 1, tries: 1, hangs_from: u64::MAX, changes_file: false };

/// SIGTERM 4 s before the deadline, SIGKILL 1 s before it.
pub(super) const OPTIONS: ScheduleOptions =
    ScheduleOptions { file: true, command: true, lateness: Duration::from_secs(1), grace: Duration::from_secs(3) };

fn at(millis: u64) -> Moment {
    Moment::after(Duration::from_millis(millis))
}

fn apply(schedule: &mut Schedule, event: Event, now: Moment) {
    match event {
        Lead(until, turn) => schedule.lead(at(until), turn),
        LeadForEver(turn) => schedule.lead(Moment::NEVER, turn),
        Withdraw(grace) => schedule.withdraw(Duration::from_millis(grace)),
        ShortenGrace(grace) => schedule.shorten_grace(Duration::from_millis(grace), now),
        Abandon => schedule.abandon(now),
        MainEnds => schedule.main_ended(now),
        AllEnds => {
            schedule.gone();
        }
    }
}

/// Plays the events. The command ends when it is killed, all other steps succeed. Checks of the file are left out.
fn play(options: ScheduleOptions, events: &[(u64, Event)]) -> Vec<(u64, Step)> {
    let steps = play_on(GOOD, options, events);
    steps.into_iter().filter(|(_, step, _)| *step != Step::CheckFile).map(|(at, step, _)| (at, step)).collect()
}

/// Plays the events on this machine, until nothing is due for a minute. Returns the steps, and whether they succeeded.
pub(super) fn play_on(machine: Machine, options: ScheduleOptions, events: &[(u64, Event)]) -> Vec<(u64, Step, bool)> {
    let mut schedule = Schedule::new(options);
    let mut steps: Vec<(u64, Step, bool)> = Vec::new();
    let end = events.last().map_or(0, |(when, _)| *when) + 60_000;
    let mut events = events.iter().peekable();
    let (mut now, mut kills, mut changes) = (Moment::START, 0, 0);
    loop {
        while let Some((_, event)) = events.next_if(|(when, _)| at(*when) <= now) {
            apply(&mut schedule, *event, now);
        }
        let wakes = loop {
            let step = schedule.next(now);
            let hangs = now >= at(machine.hangs_from);
            let mut succeeds = true;
            match step {
                Step::Wait(at) => break at,
                Step::WriteFile | Step::RemoveFile | Step::CheckFile if hangs => succeeds = false,
                Step::WriteFile | Step::RemoveFile => {
                    changes += 1;
                    succeeds = changes % machine.tries == 0;
                    match step {
                        _ if !succeeds => schedule.file_failed(now),
                        Step::WriteFile => schedule.file_written(now),
                        _ => schedule.file_removed(),
                    }
                }
                Step::CheckFile => schedule.file_checked(!machine.changes_file, now),
                Step::Start => {
                    kills = 0;
                    schedule.started();
                }
                Step::Kill => {
                    kills += 1;
                    succeeds = kills >= machine.kills;
                    if succeeds {
                        schedule.gone();
                    }
                }
                Step::Terminate | Step::Withdrawn | Step::Finish => {}
            }
            steps.push((u64::try_from((now - Moment::START).as_millis()).unwrap(), step, succeeds));
            assert!(steps.len() < 10_000, "it comes to an end: {:?}", &steps[9_900..]);
            if step == Step::Finish {
                return steps;
            }
        };
        let next = events.peek().map(|(when, _)| at(*when));
        let Some(next) = [wakes, next].into_iter().flatten().min() else { return steps };
        assert!(next > now, "time goes on");
        if next > at(end) {
            return steps;
        }
        now = next;
    }
}

use Step::{Finish, Kill, RemoveFile, Start, Terminate, Withdrawn, WriteFile};

#[test]
fn file_and_command_end_before_the_deadline_without_a_renewal() {
    let expected = [(0, WriteFile), (0, Start), (6000, Terminate), (9000, Kill), (9900, RemoveFile)];
    assert_eq!(play(OPTIONS, &[(0, Lead(10_000, 1))]), expected);
}

#[test]
fn renewal_never_moves_the_deadline_to_an_earlier_time() {
    let expected = [(0, WriteFile), (0, Start), (11_000, Terminate), (14_000, Kill), (14_900, RemoveFile)];
    assert_eq!(play(OPTIONS, &[(0, Lead(10_000, 1)), (5000, Lead(15_000, 1)), (5001, Lead(12_000, 1))]), expected);
}

#[test]
fn unlimited_lead_ends_only_by_a_withdrawal() {
    assert_eq!(play(OPTIONS, &[(0, LeadForEver(1))]), [(0, WriteFile), (0, Start)]);
    let expected = [(0, WriteFile), (0, Start), (5000, Terminate), (5000, RemoveFile), (7000, Kill), (7000, Withdrawn)];
    assert_eq!(play(OPTIONS, &[(0, LeadForEver(1)), (5000, Withdraw(2000))]), expected);
}

#[test]
fn nothing_starts_after_or_just_before_the_deadline() {
    assert_eq!(play(OPTIONS, &[(5000, Lead(5000, 1))]), []);
    assert_eq!(play(OPTIONS, &[(5000, Lead(5050, 1))]), []);
    assert_eq!(play(OPTIONS, &[(5000, Lead(9000, 1))]), [(5000, WriteFile), (8900, RemoveFile)]);
    let renewed = [(5000, WriteFile), (6000, Start), (16_000, Terminate), (19_000, Kill), (19_900, RemoveFile)];
    assert_eq!(play(OPTIONS, &[(5000, Lead(9000, 1)), (6000, Lead(20_000, 1))]), renewed);
}

#[test]
fn renewal_after_sigterm_keeps_the_file_and_the_command_restarts_only_in_a_new_turn() {
    let events = [(0, Lead(10_000, 1)), (7000, Lead(30_000, 1)), (12_000, Lead(31_000, 1)), (13_000, Lead(32_000, 2))];
    let expected = [(0, WriteFile), (0, Start), (6000, Terminate), (9000, Kill), (13_000, Start)];
    let ended = [(28_000, Terminate), (31_000, Kill), (31_900, RemoveFile)];
    assert_eq!(play(OPTIONS, &events), [&expected[..], &ended].concat());
}

#[test]
fn renewals_after_a_withdrawal_extend_the_grace_and_start_nothing() {
    let events = [(0, Lead(10_000, 1)), (2000, Withdraw(20_000)), (5000, Lead(15_000, 1)), (8000, Lead(18_000, 1))];
    let expected = [(0, WriteFile), (0, Start), (2000, Terminate), (2000, RemoveFile), (17_000, Kill), (17_000, Withdrawn)];
    assert_eq!(play(OPTIONS, &events), expected);
    // A renewal that crosses the message about the end.
    let events = [(0, Lead(10_000, 1)), (2000, Withdraw(0)), (2001, Lead(12_000, 1))];
    assert_eq!(play(OPTIONS, &events)[2..], [(2000, Terminate), (2000, Kill), (2000, RemoveFile), (2000, Withdrawn)]);
}

#[test]
fn withdrawal_without_renewals_ends_by_the_deadline() {
    let events = [(0, Lead(10_000, 1)), (2000, Withdraw(60_000))];
    let expected = [(0, WriteFile), (0, Start), (2000, Terminate), (2000, RemoveFile), (9000, Kill), (9000, Withdrawn)];
    assert_eq!(play(OPTIONS, &events), expected);
}

#[test]
fn exit_of_the_sidecar_removes_the_file_at_once_and_ends_the_command_within_grace_and_deadline() {
    let events = [(0, Lead(10_000, 1)), (1000, Abandon)];
    let expected = [(0, WriteFile), (0, Start), (1000, Terminate), (1000, RemoveFile), (4000, Kill), (4000, Finish)];
    assert_eq!(play(OPTIONS, &events), expected);
    let late = play(OPTIONS, &[(0, Lead(10_000, 1)), (5900, Abandon)]);
    assert_eq!(late[2..], [(5900, Terminate), (5900, RemoveFile), (8900, Kill), (8900, Finish)]);
    let later = play(OPTIONS, &[(0, Lead(10_000, 1)), (8000, Abandon)]);
    assert_eq!(later[2..], [(6000, Terminate), (8000, RemoveFile), (9000, Kill), (9000, Finish)]);
    let never_led = play(OPTIONS, &[(0, Abandon)]);
    assert_eq!(never_led, [(0, Finish)]);
}

#[test]
fn exit_of_the_sidecar_during_a_long_withdrawal_shortens_the_grace() {
    let events = [(0, LeadForEver(1)), (1000, Withdraw(60_000)), (2000, Abandon)];
    let expected = [(0, WriteFile), (0, Start), (1000, Terminate), (1000, RemoveFile), (5000, Kill), (5000, Finish)];
    assert_eq!(play(OPTIONS, &events), expected);
}

#[test]
fn descendants_of_an_ended_command_are_killed_at_once_or_after_the_rest_of_the_grace() {
    assert_eq!(play(OPTIONS, &[(0, LeadForEver(1)), (1000, MainEnds)]), [(0, WriteFile), (0, Start), (1000, Kill)]);
    let events = [(0, Lead(10_000, 1)), (6500, MainEnds)];
    assert_eq!(play(OPTIONS, &events)[2..], [(6000, Terminate), (9000, Kill), (9900, RemoveFile)]);
    let events = [(0, Lead(10_000, 1)), (6500, AllEnds)];
    assert_eq!(play(OPTIONS, &events)[2..], [(6000, Terminate), (9900, RemoveFile)]);
}

#[test]
fn kills_are_repeated_with_backoff() {
    let mut schedule = Schedule::new(ScheduleOptions { file: false, ..OPTIONS });
    let mut now = at(0);
    schedule.lead(Moment::NEVER, 1);
    assert_eq!(schedule.next(now), Start);
    schedule.started();
    schedule.main_ended(now);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert_eq!(schedule.next(now), Kill);
        let Step::Wait(Some(again)) = schedule.next(now) else { panic!("it must be killed again") };
        pauses.push((again - now).as_millis());
        now = again;
    }
    assert_eq!(pauses, [40, 80, 160, 320, 640, 1000, 1000, 1000, 1000]);
}

#[test]
fn failed_file_task_is_retried_and_does_not_block_the_command() {
    let mut schedule = Schedule::new(OPTIONS);
    schedule.lead(at(10_000), 1);
    assert_eq!(schedule.next(at(0)), WriteFile);
    schedule.file_failed(at(0));
    assert_eq!(schedule.next(at(0)), Start);
    schedule.started();
    assert_eq!(schedule.next(at(0)), Step::Wait(Some(at(200))));
    assert_eq!(schedule.next(at(200)), WriteFile);
    schedule.file_written(at(200));
    schedule.withdraw(Duration::ZERO);
    assert_eq!((schedule.next(at(300)), schedule.next(at(300))), (Terminate, Kill));
    schedule.gone();
    assert_eq!(schedule.next(at(300)), RemoveFile);
    schedule.file_failed(at(300));
    assert_eq!(schedule.next(at(300)), Step::Wait(Some(at(500))), "not withdrawn while the file is there");
    assert_eq!(schedule.next(at(500)), RemoveFile);
    schedule.file_removed();
    assert_eq!(schedule.next(at(500)), Withdrawn);
}

#[test]
fn watchdog_without_a_sidecar_gives_up_on_the_file_after_10_s() {
    let mut schedule = Schedule::new(ScheduleOptions { command: false, ..OPTIONS });
    schedule.lead(Moment::NEVER, 1);
    assert_eq!(schedule.next(at(0)), WriteFile);
    schedule.file_written(at(0));
    schedule.abandon(at(0));
    for tried in (0..10_000).step_by(200) {
        assert_eq!(schedule.next(at(tried)), RemoveFile);
        schedule.file_failed(at(tried));
    }
    assert_eq!(schedule.next(at(10_000)), RemoveFile);
    schedule.file_failed(at(10_000));
    assert_eq!(schedule.next(at(10_000)), Finish);
}

#[test]
fn start_behind_another_command_is_retried_until_it_would_be_stopped() {
    let mut schedule = Schedule::new(ScheduleOptions { file: false, ..OPTIONS });
    schedule.lead(at(4500), 1);
    for tried in [0, 200, 400] {
        assert_eq!(schedule.next(at(tried)), Start);
        schedule.start_failed(at(tried));
        assert_eq!(schedule.next(at(tried)), Step::Wait(Some(at(tried + 200))));
    }
    assert_eq!(schedule.next(at(600)), Step::Wait(None));
}

#[test]
fn loss_of_leadership_during_termination_shortens_the_grace() {
    let events = [(0, LeadForEver(1)), (1000, Withdraw(25_000)), (2000, ShortenGrace(3000))];
    let expected = [(0, WriteFile), (0, Start), (1000, Terminate), (1000, RemoveFile), (5000, Kill), (5000, Withdrawn)];
    assert_eq!(play(OPTIONS, &events), expected);
    // It ends nothing by itself.
    let events = [(0, LeadForEver(1)), (1000, ShortenGrace(0)), (2000, Withdraw(1000)), (2500, ShortenGrace(3000))];
    assert_eq!(play(OPTIONS, &events)[2..], [(2000, Terminate), (2000, RemoveFile), (3000, Kill), (3000, Withdrawn)]);
}

#[test]
fn changed_file_is_restored_with_the_next_renewal_or_within_5_s() {
    let changes_file = Machine { changes_file: true, ..GOOD };
    let shows = |events: &[(u64, Event)]| -> Vec<u64> {
        let steps = play_on(changes_file, ScheduleOptions { command: false, ..OPTIONS }, events);
        steps.iter().filter(|(_, step, _)| *step == WriteFile).map(|(at, ..)| *at).take(4).collect()
    };
    assert_eq!(shows(&[(0, LeadForEver(1))]), [0, 5000, 10_000, 15_000]);
    assert_eq!(shows(&[(0, Lead(10_000, 1)), (2000, Lead(12_000, 1)), (4000, Lead(14_000, 1))]), [0, 2000, 4000, 9000]);
    // Not after the turn is over.
    assert_eq!(shows(&[(0, LeadForEver(1)), (1000, Withdraw(0))]), [0]);
}

#[test]
fn hanging_volume_keeps_no_command_alive() {
    for hangs_from in [0, 1, 5000] {
        let machine = Machine { hangs_from, ..GOOD };
        for (events, killed) in [
            (vec![(0, Lead(10_000, 1))], 9000),
            (vec![(0, LeadForEver(1)), (6000, Withdraw(1000))], 7000),
            (vec![(0, LeadForEver(1)), (6000, Abandon)], 9000),
        ] {
            let steps = play_on(machine, OPTIONS, &events);
            let kill = steps.iter().find(|(_, step, _)| *step == Kill).map(|(at, ..)| *at);
            assert_eq!(kill, Some(killed), "{events:?} {steps:?}");
        }
    }
}
