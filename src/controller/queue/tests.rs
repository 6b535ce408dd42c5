//! Order and concurrency of a queue.

use super::*;

impl Grouped for &str {
    /// `group/name`; all keys without a group share one.
    fn group(&self) -> &str {
        self.split_once('/').map_or("", |(group, _)| group)
    }
}

fn queue() -> Queue<&'static str> {
    open(1_000, 0)
}

fn open(slots: usize, yielded: usize) -> Queue<&'static str> {
    let queue = Queue::new(slots, yielded);
    queue.open();
    queue
}

#[tokio::test(start_paused = true)]
async fn groups_take_turns_and_the_earliest_key_of_a_group_comes_first() {
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
async fn due_key_stays_due_when_it_is_added_again() {
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
async fn key_runs_once_at_its_earliest_time() {
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
async fn key_that_is_added_while_it_runs_runs_again_afterwards() {
    let queue = queue();
    let start = Instant::now();
    queue.add("a", start);
    queue.next().await;
    queue.add("a", start);
    let waiting = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
    assert!(waiting.is_err(), "a key runs once at a time");
    queue.finish("a", Outcome::Done);
    assert_eq!(queue.next().await.map(|(key, _)| key), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn backoff_grows_up_to_a_bound() {
    let queue = queue();
    queue.add("a", Instant::now());
    let mut waits = Vec::new();
    for _ in 0..12 {
        let before = Instant::now();
        queue.next().await;
        waits.push(Instant::now() - before);
        queue.finish("a", Outcome::Backoff);
    }
    assert!(waits.is_sorted());
    assert!(waits[1] < Duration::from_millis(60) && waits[11] < Duration::from_secs(16), "{waits:?}");
    queue.next().await;
    queue.finish("a", Outcome::Requeue(Instant::now()));
    let before = Instant::now();
    queue.next().await;
    assert_eq!(Instant::now(), before, "success resets the backoff");
}

#[tokio::test(start_paused = true)]
async fn work_that_is_not_before_waits_whatever_happens_and_a_failure_only_until_something_does() {
    let second = Duration::from_secs(1);
    type Ends = fn(Instant) -> Outcome;
    let cases: [(Ends, Duration); 3] = [
        (|_| Outcome::Backoff, Duration::ZERO),
        (|_| Outcome::StrictBackoff, BACKOFF.0),
        (|now| Outcome::RetryAfter(now + Duration::from_secs(1)), second),
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
        assert!(queue.lock().not_before.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn closed_queue_keeps_nothing_and_reopened_queue_runs_added_keys() {
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
    queue.finish("a", Outcome::Backoff);
    assert_eq!(queue.next().await, None);
    let state = format!("{:?}", queue.lock());
    assert!(!["gone", "\"a\"", "\"c\"", "\"d\""].iter().any(|key| state.contains(key)), "{state}");
    // "b" did not finish. It holds no slot, and can run again.
    queue.open();
    queue.add("b", Instant::now());
    assert_eq!(queue.next().await.map(|(key, _)| key), Some("b"));
    queue.add("c", Instant::now());
    assert_eq!(queue.next().await.map(|(key, _)| key), Some("c"));
}

#[tokio::test(start_paused = true)]
async fn depth_counts_due_keys_that_do_not_run() {
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
async fn closed_queue_ends_waiting_workers() {
    let queue = queue();
    let (next, ()) = tokio::join!(queue.next(), async { queue.close() });
    assert_eq!(next, None);
}

/// Adds this number of keys of a group.
fn add_many(queue: &Queue<&'static str>, group: &str, count: usize) {
    for number in 0..count {
        queue.add(format!("{group}/{number}").leak(), Instant::now());
    }
}

/// Takes keys until none is returned within a millisecond.
async fn given(queue: &Queue<&'static str>) -> Vec<&'static str> {
    let mut given = Vec::new();
    while let Ok(Some((key, _))) = tokio::time::timeout(Duration::from_millis(1), queue.next()).await {
        given.push(key);
    }
    given
}

#[tokio::test(start_paused = true)]
async fn groups_that_release_nothing_leave_slots_for_another() {
    let queue = open(32, 0);
    for (group, count) in [("one", 16), ("two", 8), ("three", 4)] {
        add_many(&queue, group, 40);
        assert_eq!(given(&queue).await.len(), count, "{group}");
    }
    queue.add("other/a", Instant::now());
    assert_eq!(given(&queue).await, ["other/a"]);
    queue.finish("other/a", Outcome::Done);
    // All groups get slots that one releases.
    for number in 0..16 {
        queue.finish(format!("one/{number}").leak(), Outcome::Done);
    }
    let given = given(&queue).await;
    assert!(["one", "two", "three"].iter().all(|group| given.iter().any(|key| key.starts_with(group))), "{given:?}");
}

#[tokio::test(start_paused = true)]
async fn slow_work_holds_no_slot_and_counts_for_its_group() {
    let queue = open(8, 0);
    for group in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        add_many(&queue, group, 40);
    }
    assert_eq!(given(&queue).await.len(), 8, "all slots");
    queue.add("other/a", Instant::now());
    assert_eq!(given(&queue).await, [""; 0]);
    let began = Instant::now();
    let mut most = Vec::new();
    while !most.contains(&"other/a") {
        most.extend(queue.next().await.map(|(key, _)| key));
    }
    // Its turn comes after those of all others.
    assert!(began.elapsed() <= 3 * SLOW, "{:?}", began.elapsed());
    // However long they hang, these groups do not start all of their work.
    for _ in 0..100 {
        tokio::time::advance(SLOW).await;
        most.extend(given(&queue).await);
    }
    assert!(most.len() <= 24, "{}", most.len());
    assert!(queue.lock().slots.free() >= 7, "the other group keeps its slot");
    queue.finish("other/a", Outcome::Done);
    queue.add("other/b", Instant::now());
    assert_eq!(given(&queue).await, ["other/b"]);
}

#[tokio::test(start_paused = true)]
async fn yielded_work_holds_no_slot() {
    let queue = open(2, 8);
    add_many(&queue, "a", 40);
    let mut yielded = Vec::new();
    loop {
        let more = given(&queue).await;
        if more.is_empty() {
            break;
        }
        more.iter().for_each(|key| queue.yield_slot(key));
        yielded.extend(more);
    }
    queue.add("other/a", Instant::now());
    assert_eq!(given(&queue).await, ["other/a"], "{} others have yielded", yielded.len());
    assert!(yielded.len() >= 7, "half of 2, of 4 and of 8");
    // Work that reclaims a slot waits, and leaves the last slot to work that has not started.
    let back = queue.reclaim_slot(&yielded[0]);
    tokio::pin!(back);
    let waits = tokio::time::timeout(Duration::from_millis(1), &mut back).await;
    assert!(waits.is_err());
    queue.finish("other/a", Outcome::Done);
    back.await;
    let another = tokio::time::timeout(Duration::from_millis(1), queue.reclaim_slot(&yielded[1])).await;
    assert!(another.is_err());
}
