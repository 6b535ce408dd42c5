//! Concurrency: the three work queues with their sizes, and the slot that a running piece of work holds in its queue.

use std::future::Future;
use std::sync::Arc;

use super::key::Key;
use super::queue::Queue;

/// Elections that are reconciled at a time, half as many of one namespace ([`Shares`](super::queue::Shares)). More would not
/// make an API server faster: each response would come later, also the one that a failover waits for.
const RECONCILES: usize = 32;

/// Elections whose background writes are sent at a time, half as many of one namespace.
const BACKGROUND: usize = 16;

/// Reconciles that may have yielded their slots at a time. Each costs some kilobytes.
const YIELDED: usize = 2_048;

/// Deleted Elections whose labels are removed at a time.
const CLEANUPS: usize = 8;

/// Returns a queue of Elections to reconcile.
pub fn elections() -> Arc<Queue<Key>> {
    Arc::new(Queue::new(RECONCILES, YIELDED))
}

/// Returns a queue of Elections with background writes.
pub fn background() -> Arc<Queue<Key>> {
    Arc::new(Queue::new(BACKGROUND, 0))
}

/// Returns a queue of deleted Elections whose labels are to be removed.
pub fn cleanups() -> Arc<Queue<Key>> {
    Arc::new(Queue::new(CLEANUPS, 0))
}

/// The slot that a piece of work holds in its queue.
#[derive(Debug)]
pub struct Slot(Option<(Arc<Queue<Key>>, Key)>);

impl Slot {
    /// Returns the slot that the queue gave to this key.
    pub fn new(queue: Arc<Queue<Key>>, key: Key) -> Self {
        Self(Some((queue, key)))
    }

    /// Returns a slot of no queue.
    #[cfg(test)]
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// Yields the slot to other work while it awaits `wait`, which many pieces of work wait for together.
    pub async fn yield_slot<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let Self(slot) = self;
        if let Some((queue, key)) = slot {
            queue.yield_slot(key);
        }
        let output = wait.await;
        if let Some((queue, key)) = slot {
            queue.reclaim_slot(key).await;
        }
        output
    }
}
