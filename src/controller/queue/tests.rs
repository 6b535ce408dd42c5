//! What is given out, in which order, and to how many at a time.

use super::*;

impl Grouped for &str {
    /// `group/name`; without a group all are of the same one.
    fn group(&self) -> &str {
        self.split_once('/').map_or("", |(group, _)| group)
    }
}

fn queue() -> Queue<&'static str> {
    open(1_000, 0)
}

fn open(places: usize, aside: usize) -> Queue<&'static str> {
    let queue = Queue::new(places, aside);
    queue.open();
    queue
}

#[tokio::test(start_paused = true)]
async fn groups_take_turns_and_in_each_the_earliest_comes_first() {
    let queue = queue();
    let start = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    let storm: Vec<&str> = (100..100 + 2 * TURN).map(|number| &*format!("storm/{number}").leak()).collect();
    for key in &storm {
        queue.add(*key, start);
    }
    let mut given = Vec::new();
    given.extend(queue.next().await.map(|(key, _)| key));
    queue.add("other/2", Instant::now());
    queue.add("other/1", start);
    queue.add("third/later", Instant::now() + Duration::from_secs(1));
    for _ in 0..2 * TURN + 2 {
        given.extend(queue.next().await.map(|(key, _)| key));
    }
    let others = ["other/1", "other/2"];
    let expected = [&storm[..TURN], &others, &storm[TURN..], &["third/later"]].concat();
    assert_eq!(given, expected);
    for key in given {
        queue.finish(key, Outcome::Done);
    }
    assert_eq!(queue.depth(), 0);
    let state = queue.lock();
    assert!(state.due.is_empty() && state.turns.is_empty() && state.waiting.is_empty(), "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_due_stays_so_when_it_is_asked_for_again() {
    let queue = queue();
    let start = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    for key in ["a", "b"] {
        queue.add(key, Instant::now());
    }
    queue.next().await;
    queue.add("b", start);
    assert_eq!(queue.depth(), 1);
    assert_eq!(queue.next().await.map(|(key, _)| key), Some("b"));
    assert_eq!(queue.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_given_out_once_at_its_earliest_time() {
    let queue = queue();
    let start = Instant::now();
    queue.add("a", start + Duration::from_secs(9));
    queue.add("a", start + Duration::from_secs(2));
    queue.add("b", start + Duration::from_secs(5));
    assert_eq!(queue.next().await, Some(("a", start + Duration::from_secs(2))));
    assert_eq!(queue.next().await, Some(("b", start + Duration::from_secs(5))));
    assert_eq!(Instant::now(), start + Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_while_it_runs_runs_again_afterwards() {
    let queue = queue();
    let start = Instant::now();
    queue.add("a", start);
    queue.next().await;
    queue.add("a", start);
    let waiting = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
    assert!(waiting.is_err(), "one at a time");
    queue.finish("a", Outcome::Done);
    assert_eq!(queue.next().await.map(|(key, _)| key), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn failures_wait_longer_and_longer_up_to_a_bound() {
    let queue = queue();
    queue.add("a", Instant::now());
    let mut waits = Vec::new();
    for _ in 0..12 {
        let before = Instant::now();
        queue.next().await;
        waits.push(Instant::now() - before);
        queue.finish("a", Outcome::Failed);
    }
    assert!(waits.is_sorted());
    assert!(waits[1] < Duration::from_millis(60) && waits[11] < Duration::from_secs(16), "{waits:?}");
    queue.next().await;
    queue.finish("a", Outcome::Again(Instant::now()));
    let before = Instant::now();
    queue.next().await;
    assert_eq!(Instant::now(), before, "success forgets the failures");
}

#[tokio::test(start_paused = true)]
async fn work_that_is_held_off_waits_whatever_happens_and_a_failure_only_until_something_does() {
    let second = Duration::from_secs(1);
    type Ends = fn(Instant) -> Outcome;
    let cases: [(Ends, Duration); 3] = [
        (|_| Outcome::Failed, Duration::ZERO),
        (|_| Outcome::HeldOff, BACKOFF.0),
        (|now| Outcome::Later(now + Duration::from_secs(1)), second),
    ];
    for (outcome, delay) in cases {
        let (queue, start) = (queue(), Instant::now());
        queue.add("a", start);
        queue.next().await;
        queue.finish("a", outcome(start));
        queue.add("a", start);
        queue.next().await;
        assert_eq!(start.elapsed().as_millis() / 10, delay.as_millis() / 10, "{:?}", outcome(start));
        queue.finish("a", Outcome::Done);
        assert!(queue.lock().held_off.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_keeps_nothing_and_gives_out_again_what_is_added_when_it_is_open() {
    let queue = Queue::new(4, 0);
    queue.add("early", Instant::now());
    queue.open();
    for key in ["a", "b"] {
        queue.add(key, Instant::now());
        assert_eq!(queue.next().await.map(|(key, _)| key), Some(key));
    }
    queue.add("a", Instant::now());
    queue.add("c", Instant::now());
    queue.add("d", Instant::now() + Duration::from_secs(1));
    queue.close();
    for number in 0..1_000 {
        queue.add(format!("gone/{number}").leak(), Instant::now());
    }
    queue.finish("a", Outcome::Failed);
    assert_eq!(queue.next().await, None);
    let state = format!("{:?}", queue.lock());
    assert!(!["gone", "\"a\"", "\"c\"", "\"d\""].iter().any(|key| state.contains(key)), "{state}");
    // "b" was not finished, and neither holds a place nor is in its own way.
    queue.open();
    queue.add("b", Instant::now());
    assert_eq!(queue.next().await.map(|(key, _)| key), Some("b"));
    queue.add("c", Instant::now());
    assert_eq!(queue.next().await.map(|(key, _)| key), Some("c"));
}

#[tokio::test(start_paused = true)]
async fn as_deep_as_what_is_due_and_not_given_out() {
    let queue = queue();
    let now = Instant::now();
    for key in ["a", "b"] {
        queue.add(key, now);
    }
    queue.add("later", now + Duration::from_secs(5));
    assert_eq!(queue.depth(), 2);
    queue.next().await;
    assert_eq!(queue.depth(), 1);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(queue.depth(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_ends_its_waiters() {
    let queue = queue();
    let (next, ()) = tokio::join!(queue.next(), async { queue.close() });
    assert_eq!(next, None);
}

/// Adds so many keys of a group.
fn add_many(queue: &Queue<&'static str>, group: &str, count: usize) {
    for number in 0..count {
        queue.add(format!("{group}/{number}").leak(), Instant::now());
    }
}

/// What is given out until nothing more is for a moment.
async fn given(queue: &Queue<&'static str>) -> Vec<&'static str> {
    let mut given = Vec::new();
    while let Ok(Some((key, _))) = tokio::time::timeout(Duration::from_millis(1), queue.next()).await {
        given.push(key);
    }
    given
}

#[tokio::test(start_paused = true)]
async fn groups_that_give_nothing_back_leave_places_for_another() {
    let queue = open(32, 0);
    for (group, count) in [("one", 16), ("two", 8), ("three", 4)] {
        add_many(&queue, group, 40);
        assert_eq!(given(&queue).await.len(), count, "{group}");
    }
    queue.add("other/a", Instant::now());
    assert_eq!(given(&queue).await, ["other/a"]);
    queue.finish("other/a", Outcome::Done);
    // What one gives back all get.
    for number in 0..16 {
        queue.finish(format!("one/{number}").leak(), Outcome::Done);
    }
    let given = given(&queue).await;
    assert!(["one", "two", "three"].iter().all(|group| given.iter().any(|key| key.starts_with(group))), "{given:?}");
}

#[tokio::test(start_paused = true)]
async fn what_takes_too_long_holds_no_place_and_counts_for_its_group_all_the_same() {
    let queue = open(8, 0);
    for group in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        add_many(&queue, group, 40);
    }
    assert_eq!(given(&queue).await.len(), 8, "all places");
    queue.add("other/a", Instant::now());
    assert_eq!(given(&queue).await, [""; 0]);
    let began = Instant::now();
    let mut most = Vec::new();
    while !most.contains(&"other/a") {
        most.extend(queue.next().await.map(|(key, _)| key));
    }
    // Its turn comes when all others have had one.
    assert!(began.elapsed() <= 3 * SLOW, "{:?}", began.elapsed());
    // However long they hang: not all that there is to do in these groups is begun.
    for _ in 0..100 {
        tokio::time::advance(SLOW).await;
        most.extend(given(&queue).await);
    }
    assert!(most.len() <= 24, "{}", most.len());
    assert!(queue.lock().places.free() >= 7, "the other one has its place still");
    queue.finish("other/a", Outcome::Done);
    queue.add("other/b", Instant::now());
    assert_eq!(given(&queue).await, ["other/b"]);
}

#[tokio::test(start_paused = true)]
async fn those_that_stand_aside_do_so_in_the_place_of_nobody() {
    let queue = open(2, 8);
    add_many(&queue, "a", 40);
    let mut aside = Vec::new();
    loop {
        let more = given(&queue).await;
        if more.is_empty() {
            break;
        }
        more.iter().for_each(|key| queue.stand_aside(key));
        aside.extend(more);
    }
    queue.add("other/a", Instant::now());
    assert_eq!(given(&queue).await, ["other/a"], "whatever hangs in {} others", aside.len());
    assert!(aside.len() >= 7, "half of 2, of 4 and of 8");
    // Those that come back wait for a place, and leave the last one to what has not begun.
    let back = queue.come_back(&aside[0]);
    tokio::pin!(back);
    let waits = tokio::time::timeout(Duration::from_millis(1), &mut back).await;
    assert!(waits.is_err());
    queue.finish("other/a", Outcome::Done);
    back.await;
    let another = tokio::time::timeout(Duration::from_millis(1), queue.come_back(&aside[1])).await;
    assert!(another.is_err());
}
