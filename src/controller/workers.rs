//! The workers: what the queues give out is worked on, each piece in a task of its own, so many at a time.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, warn};

use super::background;
use super::observe::world::Key;
use super::queue::{Outcome, Queue};
use super::reconcile::Reconciler;
use super::replicas::Activity;
use super::server::Server;
use super::shared::Shared;
use super::sweep;

/// How many Elections are worked on at a time. More would not make an API server faster, only each of its answers later, and with
/// them the one change of leader that comes among many.
const PLACES: usize = 16;

/// How many Elections' background writes are sent at a time.
const BACKGROUND: usize = 8;

/// How many more may stand aside meanwhile. Each costs some kilobytes while it does.
const ASIDE: usize = 2_048;

/// How long writes in flight may take to finish. An API server that is well answers within milliseconds.
pub const GRACE: Duration = Duration::from_secs(3);

/// A place among those that are worked on at a time.
#[derive(Debug)]
pub struct Place {
    all: Arc<Semaphore>,
    own: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// A free one among so many.
    async fn among(all: Arc<Semaphore>) -> Self {
        let own = all.clone().acquire_owned().await.ok();
        Self { all, own }
    }

    /// One that nobody else wants.
    #[cfg(test)]
    pub fn alone() -> Self {
        Self { all: Arc::new(Semaphore::new(1)), own: None }
    }

    /// Waits for what many wait for together, and leaves the place to others meanwhile.
    pub async fn aside<T>(&mut self, wait: impl Future<Output = T>) -> T {
        self.own = None;
        let answer = wait.await;
        *self = Self::among(self.all.clone()).await;
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
    shared.sweeps.open();
    let electing = {
        let shared = shared.clone();
        move |key, since: Instant, place| {
            let (shared, reconciler) = (shared.clone(), reconciler.clone());
            // What another replica did not do is not counted as this one's delay.
            async move { reconciler.reconcile(&shared, &key, since.max(began), place).await }
        }
    };
    workers.spawn(shared.server.around(work(shared.clone(), shared.elections.clone(), activity.clone(), PLACES, electing)));
    let following = {
        let shared = shared.clone();
        move |key, _, _| {
            let shared = shared.clone();
            async move { background::write(&shared, &key).await }
        }
    };
    let work_off = work(shared.clone(), shared.background.clone(), activity.clone(), BACKGROUND, following);
    workers.spawn(shared.server.around(work_off));
    let sweeping = {
        let shared = shared.clone();
        move |key, _, _| {
            let shared = shared.clone();
            async move { sweep::sweep(&shared, &key).await }
        }
    };
    workers.spawn(shared.server.around(work(shared.clone(), shared.sweeps.clone(), activity.clone(), 1, sweeping)));
    workers
}

/// Lets nobody begin anything, and waits for what is in flight.
pub async fn stop<S: Server>(shared: &Shared<S>, mut workers: JoinSet<()>) {
    shared.elections.close();
    shared.background.close();
    shared.sweeps.close();
    let finished = tokio::time::timeout(GRACE, async { while workers.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        warn!("some requests were not answered within {} s and are given up", GRACE.as_secs());
    }
}

/// Takes from the queue what is due, until it is closed, and ends when the last piece of work has. A panic ends one piece of
/// work, not the controller.
async fn work<S: Server, F>(
    shared: Arc<Shared<S>>,
    queue: Arc<Queue<Key>>,
    activity: Activity,
    places: usize,
    each: impl Fn(Key, Instant, Place) -> F,
) where
    F: Future<Output = Outcome> + Send + 'static,
{
    let (places, begun) = (Arc::new(Semaphore::new(places)), Arc::new(Semaphore::new(places + ASIDE)));
    let mut pieces = JoinSet::new();
    loop {
        let one = Place::among(begun.clone()).await;
        let place = Place::among(places.clone()).await;
        let Some((key, since)) = queue.next().await else { break };
        // A process that was paused learns here, before anything else, that it was replaced meanwhile.
        if !activity.is_active() {
            queue.finish(key, Outcome::Again(Instant::now()));
            break;
        }
        let piece = each(key.clone(), since, place);
        let queue = queue.clone();
        pieces.spawn(shared.server.around(async move {
            let outcome = AssertUnwindSafe(piece).catch_unwind().await.unwrap_or_else(|_| {
                error!(election = %key, "a bug in Podium stopped the work on this Election; it is tried again later");
                Outcome::Failed
            });
            queue.finish(key, outcome);
            drop(one);
        }));
        while pieces.try_join_next().is_some() {}
    }
    while pieces.join_next().await.is_some() {}
}
