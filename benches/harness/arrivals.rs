//! What a watch delivers, and when.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::Result;

/// How long anything that a benchmark waits for may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// The objects that a watch delivers. One watch for all runs: a new one would measure how long it takes to begin.
pub struct Arrivals<K>(mpsc::UnboundedReceiver<(Instant, K)>);

impl<K> Arrivals<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// Begins to watch what `config` selects. The objects that are there arrive first.
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

    /// Forgets what arrived so far.
    pub fn forget(&mut self) {
        while self.0.try_recv().is_ok() {}
    }

    /// The first object that fulfils the condition, and when it arrived.
    pub async fn first(&mut self, fulfils: impl Fn(&K) -> bool) -> Result<(Instant, K)> {
        let found = async {
            while let Some((arrived, object)) = self.0.recv().await {
                if fulfils(&object) {
                    return Ok((arrived, object));
                }
            }
            Err("the watch ended".into())
        };
        tokio::time::timeout(DEADLINE, found).await?
    }
}
