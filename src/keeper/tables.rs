//! Tables for the schedule, and what holds in all of them.

use std::time::Duration;

use proptest::prelude::*;

use super::schedule::{Limits, Schedule, Step};
use crate::campaign::Moment;

/// What happens to a keeper. Times are milliseconds.
#[derive(Clone, Copy, Debug)]
enum News {
    /// Leads until then, in this turn.
    Lead(u64, u64),
    /// Leads without an end, in this turn.
    LeadForEver(u64),
    Withdraw(u64),
    Abandon,
    /// The command's own process ends.
    MainEnds,
    /// Everything of the command ends.
    AllEnds,
}

use News::{Abandon, AllEnds, Lead, LeadForEver, MainEnds, Withdraw};

/// SIGTERM 4 s before the deadline, SIGKILL 1 s before it.
const LIMITS: Limits = Limits { file: true, command: true, lateness: Duration::from_secs(1), grace: Duration::from_secs(3) };

fn at(millis: u64) -> Moment {
    Moment::after(Duration::from_millis(millis))
}

fn apply(schedule: &mut Schedule, news: News, now: Moment) {
    match news {
        Lead(until, turn) => schedule.lead(at(until), turn),
        LeadForEver(turn) => schedule.lead(Moment::NEVER, turn),
        Withdraw(grace) => schedule.withdraw(Duration::from_millis(grace)),
        Abandon => schedule.abandon(now),
        MainEnds => schedule.main_ended(now),
        AllEnds => {
            schedule.gone();
        }
    }
}

/// Plays the news. The command ends when it is killed, and not before unless it is said; everything else succeeds.
fn play(limits: Limits, news: &[(u64, News)]) -> Vec<(u64, Step)> {
    let mut schedule = Schedule::new(limits);
    let mut steps = Vec::new();
    let mut news = news.iter().peekable();
    let mut now = Moment::START;
    loop {
        while let Some((_, happens)) = news.next_if(|(when, _)| at(*when) <= now) {
            apply(&mut schedule, *happens, now);
        }
        let wakes = loop {
            let step = schedule.next(now);
            match step {
                Step::Wait(at) => break at,
                Step::Show => schedule.shown(),
                Step::Hide => schedule.hidden(),
                Step::Start => schedule.started(),
                Step::Kill => {
                    schedule.gone();
                }
                Step::Terminate | Step::Withdrawn | Step::Finish => {}
            }
            steps.push((u64::try_from((now - Moment::START).as_millis()).unwrap(), step));
            if step == Step::Finish {
                return steps;
            }
        };
        let next = news.peek().map(|(when, _)| at(*when));
        let Some(next) = [wakes, next].into_iter().flatten().min() else { return steps };
        assert!(next > now, "time goes on");
        now = next;
    }
}

use Step::{Finish, Hide, Kill, Show, Start, Terminate, Withdrawn};

#[test]
fn without_a_renewal_everything_ends_before_the_deadline() {
    let expected = [(0, Show), (0, Start), (6000, Terminate), (9000, Kill), (9900, Hide)];
    assert_eq!(play(LIMITS, &[(0, Lead(10_000, 1))]), expected);
}

#[test]
fn a_renewal_moves_the_deadline_but_never_to_an_earlier_time() {
    let expected = [(0, Show), (0, Start), (11_000, Terminate), (14_000, Kill), (14_900, Hide)];
    assert_eq!(play(LIMITS, &[(0, Lead(10_000, 1)), (5000, Lead(15_000, 1)), (5001, Lead(12_000, 1))]), expected);
}

#[test]
fn a_lead_without_an_end_is_ended_by_nothing_but_a_withdrawal() {
    assert_eq!(play(LIMITS, &[(0, LeadForEver(1))]), [(0, Show), (0, Start)]);
    let expected = [(0, Show), (0, Start), (5000, Hide), (5000, Terminate), (7000, Kill), (7000, Withdrawn)];
    assert_eq!(play(LIMITS, &[(0, LeadForEver(1)), (5000, Withdraw(2000))]), expected);
}

#[test]
fn nothing_begins_when_the_deadline_has_passed_or_the_command_would_be_stopped_at_once() {
    assert_eq!(play(LIMITS, &[(5000, Lead(5000, 1))]), []);
    assert_eq!(play(LIMITS, &[(5000, Lead(5050, 1))]), []);
    assert_eq!(play(LIMITS, &[(5000, Lead(9000, 1))]), [(5000, Show), (8900, Hide)]);
    let renewed = [(5000, Show), (6000, Start), (16_000, Terminate), (19_000, Kill), (19_900, Hide)];
    assert_eq!(play(LIMITS, &[(5000, Lead(9000, 1)), (6000, Lead(20_000, 1))]), renewed);
}

#[test]
fn a_renewal_after_sigterm_saves_the_file_but_not_the_command_which_begins_again_only_in_a_new_turn() {
    let news = [(0, Lead(10_000, 1)), (7000, Lead(30_000, 1)), (12_000, Lead(31_000, 1)), (13_000, Lead(32_000, 2))];
    let expected = [(0, Show), (0, Start), (6000, Terminate), (9000, Kill), (13_000, Start)];
    let ended = [(28_000, Terminate), (31_000, Kill), (31_900, Hide)];
    assert_eq!(play(LIMITS, &news), [&expected[..], &ended].concat());
}

#[test]
fn after_a_withdrawal_renewals_of_the_same_turn_give_the_command_time_and_begin_nothing() {
    let news = [(0, Lead(10_000, 1)), (2000, Withdraw(20_000)), (5000, Lead(15_000, 1)), (8000, Lead(18_000, 1))];
    let expected = [(0, Show), (0, Start), (2000, Hide), (2000, Terminate), (17_000, Kill), (17_000, Withdrawn)];
    assert_eq!(play(LIMITS, &news), expected);
    // One that crosses the news of the end.
    let news = [(0, Lead(10_000, 1)), (2000, Withdraw(0)), (2001, Lead(12_000, 1))];
    assert_eq!(play(LIMITS, &news)[2..], [(2000, Hide), (2000, Terminate), (2000, Kill), (2000, Withdrawn)]);
}

#[test]
fn a_withdrawal_without_renewals_is_over_by_the_deadline_whatever_grace_was_asked_for() {
    let news = [(0, Lead(10_000, 1)), (2000, Withdraw(60_000))];
    let expected = [(0, Show), (0, Start), (2000, Hide), (2000, Terminate), (9000, Kill), (9000, Withdrawn)];
    assert_eq!(play(LIMITS, &news), expected);
}

#[test]
fn without_an_elector_the_file_goes_at_once_and_the_command_within_grace_and_deadline() {
    let news = [(0, Lead(10_000, 1)), (1000, Abandon)];
    let expected = [(0, Show), (0, Start), (1000, Hide), (1000, Terminate), (4000, Kill), (4000, Finish)];
    assert_eq!(play(LIMITS, &news), expected);
    let late = play(LIMITS, &[(0, Lead(10_000, 1)), (5900, Abandon)]);
    assert_eq!(late[2..], [(5900, Hide), (5900, Terminate), (8900, Kill), (8900, Finish)]);
    let later = play(LIMITS, &[(0, Lead(10_000, 1)), (8000, Abandon)]);
    assert_eq!(later[2..], [(6000, Terminate), (8000, Hide), (9000, Kill), (9000, Finish)]);
    let never_led = play(LIMITS, &[(0, Abandon)]);
    assert_eq!(never_led, [(0, Finish)]);
}

#[test]
fn an_elector_that_dies_during_a_long_withdrawal_leaves_the_command_the_short_grace() {
    let news = [(0, LeadForEver(1)), (1000, Withdraw(60_000)), (2000, Abandon)];
    let expected = [(0, Show), (0, Start), (1000, Hide), (1000, Terminate), (5000, Kill), (5000, Finish)];
    assert_eq!(play(LIMITS, &news), expected);
}

#[test]
fn what_a_command_leaves_behind_is_killed_at_once_or_has_the_rest_of_the_grace_if_there_is_one() {
    assert_eq!(play(LIMITS, &[(0, LeadForEver(1)), (1000, MainEnds)]), [(0, Show), (0, Start), (1000, Kill)]);
    let news = [(0, Lead(10_000, 1)), (6500, MainEnds)];
    assert_eq!(play(LIMITS, &news)[2..], [(6000, Terminate), (9000, Kill), (9900, Hide)]);
    let news = [(0, Lead(10_000, 1)), (6500, AllEnds)];
    assert_eq!(play(LIMITS, &news)[2..], [(6000, Terminate), (9900, Hide)]);
}

#[test]
fn what_does_not_die_is_killed_again_and_again_ever_more_rarely() {
    let mut schedule = Schedule::new(LIMITS);
    let mut now = at(0);
    schedule.lead(Moment::NEVER, 1);
    assert_eq!(schedule.next(now), Show);
    schedule.shown();
    assert_eq!(schedule.next(now), Start);
    schedule.started();
    schedule.main_ended(now);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert_eq!(schedule.next(now), Kill);
        let Step::Wait(Some(again)) = schedule.next(now) else { panic!("it has to be killed again") };
        pauses.push((again - now).as_millis());
        now = again;
    }
    assert_eq!(pauses, [40, 80, 160, 320, 640, 1000, 1000, 1000, 1000]);
}

#[test]
fn a_file_that_cannot_be_changed_is_tried_again_and_holds_up_no_command() {
    let mut schedule = Schedule::new(LIMITS);
    schedule.lead(at(10_000), 1);
    assert_eq!(schedule.next(at(0)), Show);
    schedule.file_failed(at(0));
    assert_eq!(schedule.next(at(0)), Start);
    schedule.started();
    assert_eq!(schedule.next(at(0)), Step::Wait(Some(at(200))));
    assert_eq!(schedule.next(at(200)), Show);
    schedule.shown();
    schedule.withdraw(Duration::ZERO);
    assert_eq!(schedule.next(at(300)), Hide);
    schedule.file_failed(at(300));
    assert_eq!((schedule.next(at(300)), schedule.next(at(300))), (Terminate, Kill));
    schedule.gone();
    assert_eq!(schedule.next(at(300)), Step::Wait(Some(at(500))), "not withdrawn while the file is there");
    assert_eq!(schedule.next(at(500)), Hide);
    schedule.hidden();
    assert_eq!(schedule.next(at(500)), Withdrawn);
}

#[test]
fn a_keeper_without_an_elector_does_not_try_for_ever_to_remove_a_file() {
    let mut schedule = Schedule::new(Limits { command: false, ..LIMITS });
    schedule.lead(Moment::NEVER, 1);
    assert_eq!(schedule.next(at(0)), Show);
    schedule.shown();
    schedule.abandon(at(0));
    for tried in (0..10_000).step_by(200) {
        assert_eq!(schedule.next(at(tried)), Hide);
        schedule.file_failed(at(tried));
    }
    assert_eq!(schedule.next(at(10_000)), Hide);
    schedule.file_failed(at(10_000));
    assert_eq!(schedule.next(at(10_000)), Finish);
}

#[test]
fn a_command_that_waits_for_the_end_of_another_is_tried_until_it_would_be_stopped() {
    let mut schedule = Schedule::new(Limits { file: false, ..LIMITS });
    schedule.lead(at(4500), 1);
    for tried in [0, 200, 400] {
        assert_eq!(schedule.next(at(tried)), Start);
        schedule.start_failed(at(tried));
        assert_eq!(schedule.next(at(tried)), Step::Wait(Some(at(tried + 200))));
    }
    assert_eq!(schedule.next(at(600)), Step::Wait(None));
}

fn news() -> impl Strategy<Value = News> {
    prop_oneof![
        4 => (0..20_000_u64, 1..4_u64).prop_map(|(until, turn)| Lead(until, turn)),
        1 => (0..8000_u64).prop_map(Withdraw),
        1 => Just(Abandon),
        1 => Just(MainEnds),
        1 => Just(AllEnds),
    ]
}

proptest! {
    /// Whatever is heard, and whenever it wakes up: the keeper asks to be woken before something would outlive the deadline,
    /// and when it is awake nothing does.
    #[test]
    fn nothing_outlives_the_deadline(mut news in prop::collection::vec((0..20_000_u64, news()), 1..12)) {
        news.sort_by_key(|(when, _)| *when);
        let mut until = 0;
        let steps = play(LIMITS, &news);
        let (mut shown, mut running) = (false, false);
        let mut all: Vec<(u64, Result<News, Step>)> = news.iter().map(|(when, news)| (*when, Ok(*news))).collect();
        all.extend(steps.iter().map(|(when, step)| (*when, Err(*step))));
        // Steady: the news of one time come before the steps.
        all.sort_by_key(|(when, _)| *when);
        for (now, what) in all {
            // Between two entries nothing changed, so what is there now was there all the time.
            prop_assert!(!shown || now <= until - 100, "{now}: shown until {until}");
            prop_assert!(!running || now <= until - 1000, "{now}: runs until {until}");
            match what {
                Ok(Lead(later, _)) => until = until.max(later),
                Ok(AllEnds) => running = false,
                Err(Show) => shown = true,
                Err(Hide) => shown = false,
                Err(Start) => running = true,
                Err(Kill) => running = false,
                Ok(_) | Err(_) => {}
            }
        }
        prop_assert!(!shown && !running, "everything has ended in the end: {steps:?}");
    }
}
