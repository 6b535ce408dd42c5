//! The workers: what the queues give out is worked on, each piece in a task of its own, so many at a time.

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
use super::observe::world::Key;
use super::queue::{Outcome, Queue};
use super::reconcile::Reconciler;
use super::replicas::Activity;
use super::server::Server;
use super::shared::Shared;

/// How many Elections are worked on at a time: half as many of one namespace ([`Shares`](super::queue::Shares)). More would not make
/// an API server faster, only each of its answers later, and with them the one change of leader that comes among many.
const PLACES: usize = 32;

/// How many Elections' background writes are sent at a time, half as many of one namespace.
const BACKGROUND: usize = 16;

/// How many more may stand aside meanwhile. Each costs some kilobytes while it does.
const ASIDE: usize = 2_048;

/// How many names are removed at a time.
const CLEANUPS: usize = 8;

/// How long writes in flight may take to finish. An API server that is well answers within milliseconds.
pub const GRACE: Duration = Duration::from_secs(3);

/// A queue of Elections to decide about.
pub fn elections() -> Arc<Queue<Key>> {
    Arc::new(Queue::new(PLACES, ASIDE))
}

/// A queue of Elections with writes that nobody waits for.
pub fn background() -> Arc<Queue<Key>> {
    Arc::new(Queue::new(BACKGROUND, 0))
}

/// A queue of names of Elections whose leftovers are to be removed.
pub fn cleanups() -> Arc<Queue<Key>> {
    Arc::new(Queue::new(CLEANUPS, 0))
}

/// A place among those that are worked on at a time.
#[derive(Debug)]
pub struct Place(Option<(Arc<Queue<Key>>, Key)>);

impl Place {
    /// One that nobody else wants.
    #[cfg(test)]
    pub fn alone() -> Self {
        Self(None)
    }

    /// Waits for what many wait for together, and leaves the place to others meanwhile.
    pub async fn aside<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let Self(place) = self;
        if let Some((queue, key)) = place {
            queue.stand_aside(key);
        }
        let answer = wait.await;
        if let Some((queue, key)) = place {
            queue.come_back(key).await;
        }
        answer
    }
}

/// Begins to work on what is due, until the queues are closed or this replica is not the active one any more.
pub fn start<S: Server>(shared: &Arc<Shared<S>>, activity: &Activity) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    let reconciler = Arc::new(Reconciler::default());
    let began = Instant::now();
    shared.elections.open();
    shared.background.open();
    shared.cleanups.open();
    // What happened while this replica stood by.
    let everything = shared.world().everything();
    shared.queue(everything);
    let electing = {
        let shared = shared.clone();
        move |key, since: Instant, place| {
            let (shared, reconciler) = (shared.clone(), reconciler.clone());
            // What another replica did not do is not counted as this one's delay.
            async move { reconciler.reconcile(&shared, &key, since.max(began), place).await }
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

/// Lets nobody begin anything, and waits for what is in flight.
pub async fn stop<S: Server>(shared: &Shared<S>, mut workers: JoinSet<()>) {
    shared.elections.close();
    shared.background.close();
    shared.cleanups.close();
    let finished = tokio::time::timeout(GRACE, async { while workers.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        warn!("some requests were not answered within {} s and are given up", GRACE.as_secs());
    }
}

/// Takes from the queue what is due, until it is closed, and ends when the last piece of work has. How much is worked on at a time,
/// the queue says. A panic ends one piece of work, not the controller.
async fn work<S: Server, F>(
    shared: Arc<Shared<S>>,
    queue: Arc<Queue<Key>>,
    activity: Activity,
    each: impl Fn(Key, Instant, Place) -> F,
) where
    F: Future<Output = Outcome> + Send + 'static,
{
    let mut pieces = JoinSet::new();
    while let Some((key, since)) = queue.next().await {
        // A process that was paused learns here, before anything else, that it was replaced meanwhile.
        if !activity.is_active() {
            queue.finish(key, Outcome::Again(Instant::now()));
            break;
        }
        let piece = each(key.clone(), since, Place(Some((queue.clone(), key.clone()))));
        let queue = queue.clone();
        pieces.spawn(shared.server.around(async move {
            let outcome = AssertUnwindSafe(piece).catch_unwind().await.unwrap_or_else(|_| {
                error!(election = %key, "a bug in Podium stopped the work on this Election; it is tried again later");
                Outcome::Failed
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

    /// How long a write behind a webhook hangs that does not answer.
    const HANGS: Duration = Duration::from_secs(10);

    fn key(namespace: &str, number: usize) -> Key {
        Key { namespace: namespace.into(), name: format!("web-{number}") }
    }

    /// When each piece of work began, where those in namespaces called `hangs…` hang, and fail; others take 50 ms.
    struct World {
        queue: Arc<Queue<Key>>,
        begun: Arc<Mutex<BTreeMap<Key, Instant>>>,
        _working: JoinSet<()>,
    }

    impl World {
        fn new(queue: Arc<Queue<Key>>, aside: bool) -> Self {
            queue.open();
            let begun: Arc<Mutex<BTreeMap<Key, Instant>>> = Arc::default();
            let noted = begun.clone();
            let each = move |key: Key, _, mut place: Place| {
                noted.lock().unwrap().insert(key.clone(), Instant::now());
                async move {
                    if !key.namespace.starts_with("hangs") {
                        sleep(Duration::from_millis(50)).await;
                        return Outcome::Done;
                    }
                    if aside {
                        place.aside(sleep(HANGS)).await
                    } else {
                        sleep(HANGS).await
                    }
                    Outcome::Failed
                }
            };
            let shared = Arc::new(shared(Script::default(), []));
            let mut working = JoinSet::new();
            working.spawn(work(shared, queue.clone(), Activity::always(), each));
            Self { queue, begun, _working: working }
        }

        fn add(&self, namespace: &str, count: usize) {
            for number in 0..count {
                self.queue.add(key(namespace, number), Instant::now());
            }
        }

        /// How long it takes until one in another namespace is begun.
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
    async fn elections_behind_a_webhook_that_hangs_do_not_hold_up_those_of_other_namespaces() {
        for (queue, namespaces) in [(elections(), 1), (elections(), 3), (cleanups(), 1), (cleanups(), 3)] {
            let world = World::new(queue, false);
            for namespace in 0..namespaces {
                world.add(&format!("hangs-{namespace}"), 40);
                sleep(Duration::from_millis(10)).await;
            }
            for number in 0..200 {
                let waited = world.waits(number).await;
                assert!(waited < Duration::from_millis(100), "{namespaces} hang: {waited:?}");
                sleep(Duration::from_millis(300)).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_namespaces_hang_others_do_not_wait_for_all_of_them() {
        let world = World::new(elections(), false);
        for namespace in 0..30 {
            world.add(&format!("hangs-{namespace}"), 40);
        }
        let mut waited = Vec::new();
        for number in 0..200 {
            waited.push(world.waits(number).await);
            sleep(Duration::from_millis(300)).await;
        }
        waited.sort_unstable();
        // Where all of them hang at once, each has its turn.
        assert!(waited[150] < Duration::from_millis(100) && waited[199] <= 2 * HANGS, "{:?}", &waited[140..]);
    }

    #[tokio::test(start_paused = true)]
    async fn lists_that_hang_do_not_keep_other_namespaces_from_beginning() {
        let world = World::new(elections(), true);
        world.add("hangs", 3 * ASIDE);
        for number in 0..50 {
            let waited = world.waits(number).await;
            assert!(waited < Duration::from_millis(100), "{waited:?}");
            sleep(Duration::from_millis(300)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_is_alone_has_half_of_the_places() {
        let world = World::new(elections(), false);
        world.add("alone", 160);
        sleep(Duration::from_millis(499)).await;
        assert_eq!(world.begun.lock().unwrap().len(), 160, "16 each 50 ms");
    }
}
