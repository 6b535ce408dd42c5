//! The workers, which run what is due in the queues, each piece of work in a task of its own.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, warn};

use super::background;
use super::cleanup;
use super::key::Key;
use super::queue::{Outcome, Queue};
use super::reconcile::Reconciler;
use super::replicas::Activity;
use super::server::ApiServer;
use super::shared::Shared;
use super::slots::Slot;

/// Time for requests in flight to finish at shutdown. A healthy API server responds within milliseconds.
pub const GRACE: Duration = Duration::from_secs(3);

/// Starts the workers. They end when the queues are closed, or when this replica is no longer active.
pub fn start<S: ApiServer>(shared: &Arc<Shared<S>>, activity: &Activity) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    let reconciler = Arc::new(Reconciler::default());
    let began = Instant::now();
    shared.elections.open();
    shared.background.open();
    shared.cleanups.open();
    // Changes while this replica was on standby.
    let everything = shared.world().everything();
    shared.queue(everything);
    let electing = {
        let shared = shared.clone();
        move |key, since: Instant, slot| {
            let (shared, reconciler) = (shared.clone(), reconciler.clone());
            // The failover duration of this replica excludes the time before it was active.
            async move { reconciler.reconcile(&shared, &key, since.max(began), slot).await }
        }
    };
    workers.spawn(shared.server.around(work(shared.clone(), shared.elections.clone(), activity.clone(), electing)));
    let following = {
        let shared = shared.clone();
        move |key, _, _| {
            let shared = shared.clone();
            async move { background::write(&shared, &key).await }
        }
    };
    let work_off = work(shared.clone(), shared.background.clone(), activity.clone(), following);
    workers.spawn(shared.server.around(work_off));
    let cleaning = {
        let shared = shared.clone();
        move |key, _, _| {
            let shared = shared.clone();
            async move { cleanup::clean_up(&shared, &key).await }
        }
    };
    workers.spawn(shared.server.around(work(shared.clone(), shared.cleanups.clone(), activity.clone(), cleaning)));
    workers
}

/// Closes the queues, and waits for requests in flight.
pub async fn stop<S: ApiServer>(shared: &Shared<S>, mut workers: JoinSet<()>) {
    shared.elections.close();
    shared.background.close();
    shared.cleanups.close();
    let finished = tokio::time::timeout(GRACE, async { while workers.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        warn!("giving up requests without a response after {} s", GRACE.as_secs());
    }
}

/// Runs what is due in the queue until the queue is closed, and waits for the last piece of work. A panic ends one piece of work,
/// not the controller.
async fn work<S: ApiServer, F>(
    shared: Arc<Shared<S>>,
    queue: Arc<Queue<Key>>,
    activity: Activity,
    each: impl Fn(Key, Instant, Slot) -> F,
) where
    F: Future<Output = Outcome> + Send + 'static,
{
    let mut pieces = JoinSet::new();
    while let Some((key, since)) = queue.next().await {
        // A process that was paused finds here, before anything else, that another replica is active.
        if !activity.is_active() {
            queue.finish(key, Outcome::Requeue(Instant::now()));
            break;
        }
        let piece = each(key.clone(), since, Slot::new(queue.clone(), key.clone()));
        let queue = queue.clone();
        pieces.spawn(shared.server.around(async move {
            let outcome = AssertUnwindSafe(piece).catch_unwind().await.unwrap_or_else(|_| {
                error!(election = %key, "a bug in Podium ended the work on this Election, retrying with backoff");
                Outcome::Backoff
            });
            queue.finish(key, outcome);
        }));
        while pieces.try_join_next().is_some() {}
    }
    while pieces.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use tokio::time::sleep;

    use super::*;
    use crate::controller::fixtures::{Script, shared};
    use crate::controller::slots::{cleanups, elections};

    /// Duration of a write to a webhook that does not respond.
    const HANGS: Duration = Duration::from_secs(10);

    fn key(namespace: &str, number: usize) -> Key {
        Key { namespace: namespace.into(), name: format!("web-{number}") }
    }

    /// Start of each piece of work. Those in namespaces `hangs…` hang and fail, others take 50 ms.
    struct Work {
        queue: Arc<Queue<Key>>,
        begun: Arc<Mutex<BTreeMap<Key, Instant>>>,
        _running: JoinSet<()>,
    }

    impl Work {
        fn new(queue: Arc<Queue<Key>>, yields: bool) -> Self {
            queue.open();
            let begun: Arc<Mutex<BTreeMap<Key, Instant>>> = Arc::default();
            let noted = begun.clone();
            let each = move |key: Key, _, mut slot: Slot| {
                noted.lock().unwrap().insert(key.clone(), Instant::now());
                async move {
                    if !key.namespace.starts_with("hangs") {
                        sleep(Duration::from_millis(50)).await;
                        return Outcome::Done;
                    }
                    if yields {
                        slot.yield_slot(sleep(HANGS)).await
                    } else {
                        sleep(HANGS).await
                    }
                    Outcome::Backoff
                }
            };
            let shared = Arc::new(shared(Script::default(), []));
            let mut running = JoinSet::new();
            running.spawn(super::work(shared, queue.clone(), Activity::always(), each));
            Self { queue, begun, _running: running }
        }

        fn add(&self, namespace: &str, count: usize) {
            for number in 0..count {
                self.queue.add(key(namespace, number), Instant::now());
            }
        }

        /// Returns how long an Election of another namespace waits for its start.
        async fn waits(&self, number: usize) -> Duration {
            let (one, asked) = (key("other", number), Instant::now());
            self.queue.add(one.clone(), asked);
            loop {
                sleep(Duration::from_millis(10)).await;
                if let Some(begun) = self.begun.lock().unwrap().get(&one) {
                    return *begun - asked;
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_webhook_does_not_delay_other_namespaces() {
        for (queue, namespaces) in [(elections(), 1), (elections(), 3), (cleanups(), 1), (cleanups(), 3)] {
            let work = Work::new(queue, false);
            for namespace in 0..namespaces {
                work.add(&format!("hangs-{namespace}"), 40);
                sleep(Duration::from_millis(10)).await;
            }
            for number in 0..200 {
                let waited = work.waits(number).await;
                assert!(waited < Duration::from_millis(100), "{namespaces} hang: {waited:?}");
                sleep(Duration::from_millis(300)).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_hanging_namespaces_do_not_block_others() {
        let work = Work::new(elections(), false);
        for namespace in 0..30 {
            work.add(&format!("hangs-{namespace}"), 40);
        }
        let mut waited = Vec::new();
        for number in 0..200 {
            waited.push(work.waits(number).await);
            sleep(Duration::from_millis(300)).await;
        }
        waited.sort_unstable();
        // When all of them hang at once, each has its turn.
        assert!(waited[150] < Duration::from_millis(100) && waited[199] <= 2 * HANGS, "{:?}", &waited[140..]);
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_lists_do_not_delay_other_namespaces() {
        let work = Work::new(elections(), true);
        work.add("hangs", 5_000);
        for number in 0..50 {
            let waited = work.waits(number).await;
            assert!(waited < Duration::from_millis(100), "{waited:?}");
            sleep(Duration::from_millis(300)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn single_namespace_gets_half_of_the_slots() {
        let work = Work::new(elections(), false);
        work.add("alone", 160);
        sleep(Duration::from_millis(499)).await;
        assert_eq!(work.begun.lock().unwrap().len(), 160, "16 every 50 ms");
    }
}
