//! How much is written: every revision of pods, Leases, Elections and Events of a namespace, counted as it happens. Without the
//! Lease by which replicas of the controller elect the active one: that is renewed as long as one runs.

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

/// How long nothing must have been written until there is quiet: longer than any delay of the controller but the later ones of
/// its backoff.
pub const QUIET: Duration = Duration::from_secs(3);

/// How often each object was written.
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
    /// Counts what is written in the namespace from now on.
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
    /// How often this object was written: `Lease web`.
    pub fn of(&self, object: &str) -> usize {
        self.counts().get(object).copied().unwrap_or_default()
    }

    /// How often each object was written.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }

    /// How often objects of this kind were written, all together.
    pub fn all(&self, kind: &str) -> usize {
        self.counts().iter().filter(|(object, _)| object.split(' ').next() == Some(kind)).map(|(_, count)| count).sum()
    }

    /// The object of this kind that was written most often, and how often.
    pub fn most(&self, kind: &str) -> (String, usize) {
        let counts = self.counts().into_iter().filter(|(object, _)| object.split(' ').next() == Some(kind));
        counts.max_by_key(|(_, count)| *count).unwrap_or_default()
    }

    /// Counts from nothing again.
    pub fn forget(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).counts.clear();
    }

    /// Waits until nothing at all was written for [`QUIET`].
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
    // After a gap the count stays as it is, and the test fails where it waits for a write.
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
