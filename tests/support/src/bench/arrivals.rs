//! Objects from a watch, with their times of arrival.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::Result;

/// Bound on every wait of a benchmark.
const DEADLINE: Duration = Duration::from_secs(120);

/// Objects from one watch. All runs share it, because a run with a new watch would measure its start.
pub struct Arrivals<K>(mpsc::UnboundedReceiver<(Instant, K)>);

impl<K> Arrivals<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// Starts a watch of what `config` selects. Existing objects arrive first.
    pub fn of(api: Api<K>, config: watcher::Config) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut objects = watcher(api, config).default_backoff().applied_objects().boxed();
            while let Some(object) = objects.next().await {
                let Ok(object) = object else { continue };
                if sender.send((Instant::now(), object)).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// Drops everything that has arrived.
    pub fn forget(&mut self) {
        while self.0.try_recv().is_ok() {}
    }

    /// Waits for the first object that satisfies the condition. Returns its time of arrival, too.
    pub async fn first(&mut self, satisfies: impl Fn(&K) -> bool) -> Result<(Instant, K)> {
        let found = async {
            while let Some((arrived, object)) = self.0.recv().await {
                if satisfies(&object) {
                    return Ok((arrived, object));
                }
            }
            Err("the watch ended".into())
        };
        tokio::time::timeout(DEADLINE, found).await?
    }
}
