//! The driver against a lock in memory.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::fixture::{Behavior, MemoryLock};
use super::*;

fn clock() -> Clock {
    let start = Instant::now();
    Clock::new(move || Moment::after(start.elapsed()), || Timestamp::UNIX_EPOCH)
}

fn campaign(lock: &MemoryLock, identity: &str) -> Campaign<MemoryLock> {
    Campaign::with_clock(lock.clone(), CampaignConfig::new(identity), clock()).unwrap()
}

/// Campaigns in the background. Dropping the sender stops the campaign.
fn start(
    lock: &MemoryLock,
    identity: &str,
) -> (Leadership, oneshot::Sender<()>, tokio::task::JoinHandle<Result<(), Claimed>>) {
    let campaign = campaign(lock, identity);
    let leadership = campaign.leadership();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(campaign.run(async {
        let _ = stopped.await;
    }));
    (leadership, stop, task)
}

#[tokio::test(start_paused = true)]
async fn only_renewals_of_the_leader_are_counted() {
    let lock = MemoryLock::new(false);
    let renewals = [(); 2].map(|()| Arc::<Renewals>::default());
    let count = |of: usize| [&renewals[of].succeeded, &renewals[of].failed].map(|count| count.load(Ordering::Relaxed));
    let mut running = Vec::new();
    for (identity, renewals) in ["a", "b"].iter().zip(&renewals) {
        let campaign = campaign(&lock, identity).count_renewals(renewals.clone());
        running.push((campaign.leadership(), tokio::spawn(campaign.run(std::future::pending()))));
        running[0].0.gained().await;
    }
    assert_eq!(count(0), [0, 0], "an acquisition is no renewal");
    // The leader renews every 2 s; the other one reads.
    sleep(Duration::from_secs(21)).await;
    assert_eq!((count(0), count(1)), ([10, 0], [0, 0]));
    lock.behavior(Behavior::Denied);
    running[0].0.lost().await;
    let [succeeded, failed] = count(0);
    assert!(succeeded == 10 && (3..=6).contains(&failed), "10 s of trying every 2 s: {failed}");
    sleep(Duration::from_secs(60)).await;
    assert_eq!((count(0), count(1)), ([10, failed], [0, 0]), "only a leader renews");
}

#[tokio::test(start_paused = true)]
async fn single_campaigner_leads_at_once_and_renews_once_per_period() {
    let lock = MemoryLock::new(false);
    let began = Instant::now();
    let (mut leadership, _stop, _task) = start(&lock, "a");
    assert!(leadership.gained().await);
    assert_eq!((Instant::now(), lock.holder().as_str()), (began, "a"));
    let before = lock.requests();
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        assert!(leadership.leads());
    }
    let renewals = lock.requests() - before;
    assert!((29..=31).contains(&renewals), "{renewals} in a minute");
    assert_eq!(leadership.holder().map(|holder| (holder.identity, holder.expired)), Some(("a".into(), false)));
}

#[tokio::test(start_paused = true)]
async fn leader_without_responses_stops_at_its_deadline_and_leads_again_later() {
    let lock = MemoryLock::new(false);
    for behavior in [Behavior::Unresponsive, Behavior::ResponseLost, Behavior::Denied, Behavior::Ignored] {
        let (mut leadership, stop, task) = start(&lock, "a");
        assert!(leadership.gained().await);
        lock.behavior(behavior);
        let began = Instant::now();
        timeout(Duration::from_secs(60), leadership.lost()).await.expect("the lead ends");
        let led_for = began.elapsed();
        assert!(led_for <= Duration::from_millis(10_001) && led_for >= Duration::from_secs(8), "{behavior:?}: {led_for:?}");
        assert!(!leadership.leads());
        assert!(leadership.problem().is_some());
        lock.behavior(Behavior::Normal);
        assert!(leadership.gained().await, "{behavior:?}");
        assert_eq!(leadership.problem(), None);
        drop(stop);
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn altered_writes_make_no_leader() {
    let lock = MemoryLock::new(true);
    let (mut leadership, _stop, _task) = start(&lock, "a");
    assert!(leadership.gained().await);
    lock.behavior(Behavior::Altered);
    let began = Instant::now();
    leadership.lost().await;
    assert!(began.elapsed() <= Duration::from_secs(2), "with the next renewal");
    let (other, _stop, _task) = start(&lock, "b");
    let before = lock.requests();
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        assert!(!leadership.leads() && !other.leads());
    }
    let requests = lock.requests() - before;
    assert!(requests <= 60, "{requests} in a minute");
    for problem in [leadership.problem(), other.problem()] {
        let problem = problem.expect("it is reported");
        assert!(problem.contains("holderIdentity is \"\" instead of") && problem.contains("admission"), "{problem}");
    }
    lock.behavior(Behavior::Normal);
    timeout(Duration::from_secs(20), async {
        while !(leadership.leads() || other.leads()) {
            sleep(Duration::from_millis(100)).await
        }
    })
    .await
    .expect("one leads");
}

#[tokio::test(start_paused = true)]
async fn leadership_expires_by_the_clock_if_the_campaign_is_not_polled() {
    let lock = MemoryLock::new(false);
    let campaign = campaign(&lock, "a");
    let mut leadership = campaign.leadership();
    let gained = async { leadership.gained().await };
    // The campaign leads and is never polled again, as in a process that hangs.
    tokio::select! {
        _ = campaign.run(std::future::pending()) => {}
        gained = gained => assert!(gained),
    }
    assert!(leadership.leads());
    sleep(Duration::from_millis(9_999)).await;
    assert!(leadership.leads());
    sleep(Duration::from_millis(2)).await;
    assert!(!leadership.leads());
}

#[tokio::test(start_paused = true)]
async fn stopped_leader_releases_and_a_watching_campaigner_leads_at_once() {
    for (watched, within) in [(true, Duration::from_millis(1)), (false, Duration::from_secs_f64(2.0 * 2.2))] {
        let lock = MemoryLock::new(watched);
        let (mut first, stop, task) = start(&lock, "a");
        assert!(first.gained().await);
        let (mut second, _stop, _task) = start(&lock, "b");
        sleep(Duration::from_secs(60)).await;
        assert!(first.leads() && !second.leads());
        let began = Instant::now();
        drop(stop);
        task.await.unwrap().unwrap();
        assert!(!first.leads());
        assert!(second.gained().await);
        assert!(began.elapsed() <= within, "watched: {watched}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn watching_follower_sends_no_requests_while_the_leader_renews() {
    let lock = MemoryLock::new(true);
    let (mut first, _stop, _task) = start(&lock, "a");
    assert!(first.gained().await);
    let (_second, _stop, _task) = start(&lock, "b");
    sleep(Duration::from_secs(3)).await;
    let before = lock.requests();
    sleep(Duration::from_secs(60)).await;
    let requests = lock.requests() - before;
    assert!((29..=31).contains(&requests), "{requests}: the renewals alone");
}

#[tokio::test(start_paused = true)]
async fn killed_leader_is_replaced_after_the_lease_duration_and_no_sooner() {
    let lock = MemoryLock::new(false);
    let (mut first, _stop, task) = start(&lock, "a");
    assert!(first.gained().await);
    let (mut second, _stop, _task) = start(&lock, "b");
    sleep(Duration::from_secs(5)).await;
    task.abort();
    let (led_until, began) = (first.remaining().unwrap(), Instant::now());
    assert!(second.gained().await);
    assert!(began.elapsed() > led_until, "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn stop_without_responses_ends_soon() {
    let lock = MemoryLock::new(false);
    let (mut leadership, stop, task) = start(&lock, "a");
    assert!(leadership.gained().await);
    lock.behavior(Behavior::Unresponsive);
    sleep(Duration::from_secs(3)).await;
    drop(stop);
    // The renewal that is in flight, then the release: half a deadline each.
    timeout(Duration::from_secs(11), task).await.expect("it ends").unwrap().unwrap();
    assert!(!leadership.leads());
}

#[tokio::test(start_paused = true)]
async fn acquisition_with_a_lost_response_is_released_on_stop() {
    let lock = MemoryLock::new(false);
    lock.behavior(Behavior::ResponseLost);
    let (_leadership, stop, task) = start(&lock, "a");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(lock.holder(), "a");
    drop(stop);
    sleep(Duration::from_millis(1)).await;
    lock.behavior(Behavior::Normal);
    task.await.unwrap().unwrap();
    assert_eq!(lock.holder(), "");
}

/// Counts running work.
struct Alive(Arc<Mutex<Vec<String>>>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.lock().unwrap().pop();
    }
}

#[tokio::test(start_paused = true)]
async fn work_runs_only_while_leading_and_is_dropped_before_the_release() {
    let lock = MemoryLock::new(true);
    let (working, begun) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
    let (stop, stopped) = oneshot::channel::<()>();
    let (alive, count) = (working.clone(), begun.clone());
    let work = move || {
        *count.lock().unwrap() += 1;
        alive.lock().unwrap().push("work".to_owned());
        let alive = Alive(alive.clone());
        async move {
            let _alive = alive;
            std::future::pending::<()>().await
        }
    };
    let campaign = campaign(&lock, "a");
    let mut leadership = campaign.leadership();
    let task = tokio::spawn(campaign.lead(work, async {
        let _ = stopped.await;
    }));
    leadership.gained().await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!((*begun.lock().unwrap(), working.lock().unwrap().len()), (1, 1));
    lock.behavior(Behavior::Unresponsive);
    leadership.lost().await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(working.lock().unwrap().len(), 0, "dropped at the deadline");
    lock.behavior(Behavior::Normal);
    leadership.gained().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((*begun.lock().unwrap(), working.lock().unwrap().len()), (2, 1), "started again");

    let mut changes = lock.changes.subscribe();
    drop(stop);
    loop {
        let written = changes.recv().await.unwrap().unwrap();
        if !written.record.is_held() {
            break;
        }
    }
    assert_eq!(working.lock().unwrap().len(), 0, "dropped before the release");
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn work_is_not_polled_after_a_suspension_beyond_the_deadline() {
    let lock = MemoryLock::new(false);
    let (start, suspended) = (Instant::now(), Arc::new(Mutex::new(Duration::ZERO)));
    let asleep = suspended.clone();
    let moment = move || Moment::after(start.elapsed() + *asleep.lock().unwrap());
    let clock = Clock::new(moment, || Timestamp::UNIX_EPOCH);
    let campaign = Campaign::with_clock(lock.clone(), CampaignConfig::new("a"), clock).unwrap();
    let mut leadership = campaign.leadership();
    tokio::select! {
        _ = campaign.run(std::future::pending()) => {}
        _ = leadership.gained() => {}
    }
    let outcome = leadership.during(async {
        sleep(Duration::from_secs(1)).await;
        *suspended.lock().unwrap() = Duration::from_secs(60);
        tokio::task::yield_now().await;
        "still polled"
    });
    assert_eq!(outcome.await, None);
}

#[tokio::test(start_paused = true)]
async fn claimed_lock_ends_the_campaign_and_names_the_election() {
    let lock = MemoryLock::new(true);
    let (mut leadership, _stop, task) = start(&lock, "a");
    assert!(leadership.gained().await);
    let claimed = {
        let mut state = lock.state.lock().unwrap();
        let seen = state.lock.as_mut().unwrap();
        seen.claimed_by = Some("web".into());
        seen.version.resource_version = "99".into();
        seen.clone()
    };
    lock.changes.send(Some(claimed)).unwrap();
    let ended = timeout(Duration::from_secs(60), task).await.expect("it ends");
    let error = ended.unwrap().unwrap_err();
    assert!(error.to_string().starts_with("Lease default/test belongs to the Election web"), "{error}");
    assert!(!leadership.leads() && !leadership.gained().await);
}

#[test]
fn invalid_config_makes_no_campaign() {
    let error =
        Campaign::with_clock(MemoryLock::new(false), CampaignConfig::new(""), Clock::machine()).map(drop).unwrap_err();
    assert_eq!(error.field, "identity");
}

#[tokio::test(start_paused = true)]
async fn nominated_campaign_asks_for_a_nomination_and_releases_the_lock_after_its_work() {
    let lock = MemoryLock::new(true);
    lock.release();
    let (nominate, nomination) = watch::channel(None);
    let (work, works) = watch::channel(false);
    let wanted = Arc::<Notify>::default();
    let clock = clock();
    let settings = CampaignConfig { nominated: true, resumes: false, ..CampaignConfig::new("a") };
    let campaign = Campaign::with_clock(lock.clone(), settings, clock.clone()).unwrap();
    let campaign = campaign.nominated_by(Nominations { nomination, wanted: wanted.clone(), works });
    let mut leadership = campaign.leadership();
    let _task = tokio::spawn(campaign.run(std::future::pending()));
    let read = |is_nominated| nominate.send_replace(Some(Nomination { is_nominated, asked: clock.moment() }));
    let before = clock.moment();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(lock.holder(), "", "it is not nominated");
    nominate.send_replace(Some(Nomination { is_nominated: true, asked: before }));
    timeout(Duration::from_secs(1), wanted.notified()).await.unwrap();
    assert_eq!((lock.holder().as_str(), leadership.leads()), ("a", false));
    read(true);
    assert!(timeout(Duration::from_secs(1), leadership.gained()).await.unwrap());
    work.send_replace(true);
    read(false);
    timeout(Duration::from_secs(1), leadership.lost()).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(lock.holder(), "a", "its work goes on");
    work.send_replace(false);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(lock.holder(), "", "it was released");
}
