//! The driver against a lock that answers as it is told, in virtual time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::fixture::{Shared, Weather};
use super::*;

fn clock() -> Clock {
    let start = Instant::now();
    Clock::new(move || Moment::after(start.elapsed()), || Timestamp::UNIX_EPOCH)
}

fn campaign(lock: &Shared, identity: &str) -> Campaign<Shared> {
    Campaign::with_clock(lock.clone(), CampaignConfig::new(identity), clock()).unwrap()
}

/// Campaigns in the background. What is returned tells who leads, and stops it when it is dropped.
fn start(lock: &Shared, identity: &str) -> (Leadership, oneshot::Sender<()>, tokio::task::JoinHandle<Result<(), Claimed>>) {
    let campaign = campaign(lock, identity);
    let leadership = campaign.leadership();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(campaign.run(async {
        let _ = stopped.await;
    }));
    (leadership, stop, task)
}

#[tokio::test(start_paused = true)]
async fn what_a_leader_renews_and_fails_to_is_counted_and_what_others_do_is_not() {
    let lock = Shared::new(false);
    let renewals = [(); 2].map(|()| Arc::<Renewals>::default());
    let count = |of: usize| [&renewals[of].succeeded, &renewals[of].failed].map(|count| count.load(Ordering::Relaxed));
    let mut running = Vec::new();
    for (identity, renewals) in ["a", "b"].iter().zip(&renewals) {
        let campaign = campaign(&lock, identity).count_renewals(renewals.clone());
        running.push((campaign.leadership(), tokio::spawn(campaign.run(std::future::pending()))));
        running[0].0.gained().await;
    }
    assert_eq!(count(0), [0, 0], "to be elected is no renewal");
    // Renewed every 2 s; the other one reads.
    sleep(Duration::from_secs(21)).await;
    assert_eq!((count(0), count(1)), ([10, 0], [0, 0]));
    lock.weather(Weather::Denied);
    running[0].0.lost().await;
    let [succeeded, failed] = count(0);
    assert!(succeeded == 10 && (3..=6).contains(&failed), "10 s of trying every 2 s: {failed}");
    sleep(Duration::from_secs(60)).await;
    assert_eq!((count(0), count(1)), ([10, failed], [0, 0]), "who does not lead has nothing to renew");
}

#[tokio::test(start_paused = true)]
async fn who_is_alone_leads_without_waiting_and_renews_once_in_a_period() {
    let lock = Shared::new(false);
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
async fn a_leader_that_is_not_answered_stops_at_its_deadline_and_leads_again_when_it_is_answered() {
    let lock = Shared::new(false);
    for weather in [Weather::Silent, Weather::Deaf, Weather::Denied, Weather::Kept] {
        let (mut leadership, stop, task) = start(&lock, "a");
        assert!(leadership.gained().await);
        lock.weather(weather);
        let began = Instant::now();
        timeout(Duration::from_secs(60), leadership.lost()).await.expect("it does not lead for ever");
        let led = began.elapsed();
        assert!(led <= Duration::from_millis(10_001) && led >= Duration::from_secs(8), "{weather:?}: {led:?}");
        assert!(!leadership.leads());
        assert!(leadership.trouble().is_some());
        lock.weather(Weather::Fine);
        assert!(leadership.gained().await, "{weather:?}");
        assert_eq!(leadership.trouble(), None);
        drop(stop);
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_leads_on_writes_that_the_server_stores_otherwise_and_somebody_does_soon_after() {
    let lock = Shared::new(true);
    let (mut leadership, _stop, _task) = start(&lock, "a");
    assert!(leadership.gained().await);
    lock.weather(Weather::Altered);
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
    for trouble in [leadership.trouble(), other.trouble()] {
        let trouble = trouble.expect("it is told");
        assert!(trouble.contains("holderIdentity is \"\" instead of") && trouble.contains("admission"), "{trouble}");
    }
    lock.weather(Weather::Fine);
    timeout(Duration::from_secs(20), async {
        while !(leadership.leads() || other.leads()) {
            sleep(Duration::from_millis(100)).await
        }
    })
    .await
    .expect("somebody leads");
}

#[tokio::test(start_paused = true)]
async fn leadership_is_answered_from_the_clock_though_nobody_runs_the_campaign() {
    let lock = Shared::new(false);
    let campaign = campaign(&lock, "a");
    let mut leadership = campaign.leadership();
    let gained = async { leadership.gained().await };
    // It wins, and is never polled again, as in a process that hangs.
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
async fn who_stops_releases_and_the_next_one_leads_at_once_where_it_watches() {
    for (watched, within) in [(true, Duration::from_millis(1)), (false, Duration::from_secs_f64(2.0 * 2.2))] {
        let lock = Shared::new(watched);
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
async fn who_watches_reads_nothing_while_the_leader_renews() {
    let lock = Shared::new(true);
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
async fn who_is_killed_is_replaced_after_the_lease_duration_and_no_sooner() {
    let lock = Shared::new(false);
    let (mut first, _stop, task) = start(&lock, "a");
    assert!(first.gained().await);
    let (mut second, _stop, _task) = start(&lock, "b");
    sleep(Duration::from_secs(5)).await;
    task.abort();
    let (led_until, began) = (first.left().unwrap(), Instant::now());
    assert!(second.gained().await);
    assert!(began.elapsed() > led_until, "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_nothing_is_answered_ends_soon() {
    let lock = Shared::new(false);
    let (mut leadership, stop, task) = start(&lock, "a");
    assert!(leadership.gained().await);
    lock.weather(Weather::Silent);
    sleep(Duration::from_secs(3)).await;
    drop(stop);
    // The renewal that is in flight, then the release: half a deadline each.
    timeout(Duration::from_secs(11), task).await.expect("it ends").unwrap().unwrap();
    assert!(!leadership.leads());
}

#[tokio::test(start_paused = true)]
async fn an_acquisition_whose_answer_was_lost_is_released_by_who_stops() {
    let lock = Shared::new(false);
    lock.weather(Weather::Deaf);
    let (_leadership, stop, task) = start(&lock, "a");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(lock.holder(), "a");
    drop(stop);
    sleep(Duration::from_millis(1)).await;
    lock.weather(Weather::Fine);
    task.await.unwrap().unwrap();
    assert_eq!(lock.holder(), "");
}

/// Counts those that are alive.
struct Alive(Arc<Mutex<Vec<String>>>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.lock().unwrap().pop();
    }
}

#[tokio::test(start_paused = true)]
async fn work_is_done_only_while_leading_and_is_dropped_before_the_lock_is_released() {
    let lock = Shared::new(true);
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
    lock.weather(Weather::Silent);
    leadership.lost().await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(working.lock().unwrap().len(), 0, "dropped at the deadline");
    lock.weather(Weather::Fine);
    leadership.gained().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((*begun.lock().unwrap(), working.lock().unwrap().len()), (2, 1), "begun anew");

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
async fn work_is_not_polled_after_a_suspension_in_which_the_deadline_passed_unnoticed_by_timers() {
    let lock = Shared::new(false);
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
        "went on"
    });
    assert_eq!(outcome.await, None);
}

#[tokio::test(start_paused = true)]
async fn a_claimed_lock_ends_the_campaign_with_an_error_that_names_the_election() {
    let lock = Shared::new(true);
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
fn settings_that_do_not_work_make_no_campaign() {
    let error = Campaign::with_clock(Shared::new(false), CampaignConfig::new(""), Clock::machine()).map(drop).unwrap_err();
    assert_eq!(error.field, "identity");
}
