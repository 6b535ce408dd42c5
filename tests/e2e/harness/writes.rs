//! Counts all revisions of pods, Leases, Elections and Events of a namespace. Excludes the controller's own Lease, which is
//! renewed as long as a replica runs.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, WatchParams};
use podium::api::Election;
use podium_test_support::recorder::{follow_metadata, position};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::controller::OWN_LEASE;
use super::scenario::Scenario;
use super::waiting::eventually;

/// Without writes for this long there is quiet: longer than any delay of the controller except late backoff.
pub const QUIET: Duration = Duration::from_secs(3);

/// Number of writes of each object.
pub struct Writes {
    seen: Arc<Mutex<Seen>>,
    _watches: JoinSet<String>,
}

struct Seen {
    /// By kind and name, as in `Lease web`.
    counts: BTreeMap<String, usize>,
    last: Instant,
}

impl Scenario {
    /// Starts to count writes in the namespace.
    pub async fn writes(&self) -> Writes {
        let seen = Arc::new(Mutex::new(Seen { counts: BTreeMap::new(), last: Instant::now() }));
        let mut watches = JoinSet::new();
        count::<Pod>(self.api(), &seen, &mut watches).await;
        count::<Lease>(self.api(), &seen, &mut watches).await;
        count::<Election>(self.api(), &seen, &mut watches).await;
        count::<Event>(self.api(), &seen, &mut watches).await;
        Writes { seen, _watches: watches }
    }
}

impl Writes {
    /// Number of writes of this object, such as `Lease web`.
    pub fn of(&self, object: &str) -> usize {
        self.counts().get(object).copied().unwrap_or_default()
    }

    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }

    /// Number of writes of all objects of this kind.
    pub fn all(&self, kind: &str) -> usize {
        self.counts().iter().filter(|(object, _)| object.split(' ').next() == Some(kind)).map(|(_, count)| count).sum()
    }

    /// The object of this kind with the most writes, and their number.
    pub fn most(&self, kind: &str) -> (String, usize) {
        let counts = self.counts().into_iter().filter(|(object, _)| object.split(' ').next() == Some(kind));
        counts.max_by_key(|(_, count)| *count).unwrap_or_default()
    }

    /// Resets the counts.
    pub fn forget(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).counts.clear();
    }

    /// Waits until nothing was written for [`QUIET`].
    pub async fn quiet(&self) {
        eventually(&format!("nothing is written for {} s", QUIET.as_secs()), async || {
            let (last, counts) = {
                let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                (seen.last, seen.counts.clone())
            };
            if last.elapsed() >= QUIET { Ok(()) } else { Err(format!("{counts:?}")) }
        })
        .await;
    }
}

async fn count<K>(api: Api<K>, seen: &Arc<Mutex<Seen>>, watches: &mut JoinSet<String>)
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + 'static,
{
    let from = position(&api, &ListParams::default().limit(1), false).await;
    let (seen, kind) = (seen.clone(), K::kind(&()));
    // After a gap the count stays, and a test that waits for a write fails.
    watches.spawn(follow_metadata(api, WatchParams::default(), from, move |object, _| {
        let name = object.metadata.name.unwrap_or_default();
        if kind == "Lease" && name.starts_with(OWN_LEASE) {
            return;
        }
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.counts.entry(format!("{kind} {name}")).or_default() += 1;
        seen.last = Instant::now();
    }));
}
