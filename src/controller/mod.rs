//! The controller: observe, decide, act.
//!
//! [`watch`] feeds the caches in [`observe`], which know whom a change concerns; [`queue`] gives out the Elections that are
//! due; [`reconcile`] takes a snapshot, lets the pure core decide, and [`act`] carries out the plan through [`server`], the
//! one narrow door to the API server. [`sweep`] is a loop of its own.

pub mod act;
pub mod announce;
pub mod complaints;
pub mod observe;
pub mod queue;
pub mod reconcile;
pub mod server;
pub mod shared;
pub mod sweep;
pub mod watch;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Resource};
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::api::Election;
use observe::cached::{self, PodObject};
use observe::settings::LabelKeys;
use observe::stream::Kind;
use observe::world::{Key, Scope};
use queue::{Outcome, Queue};
use reconcile::Reconciler;
use server::{KubeServer, Server};
use shared::Shared;

/// How many Elections are worked on at a time.
const WORKERS: usize = 32;

/// How long writes in flight may take to finish after the request to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Tells the time of the wall clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a controller is told at its start.
#[derive(Clone)]
pub struct Options {
    /// What it watches.
    pub scope: Scope,
    /// The label keys that it may write.
    pub label_keys: LabelKeys,
    /// Who it is, in Events.
    pub instance: String,
    /// Its wall clock. It tunes stability and dates Events, never safety.
    pub clock: Clock,
}

/// A watch ended, which it never should: there is a bug, and the process is of no use any more.
#[derive(Debug, thiserror::Error)]
#[error("a watch ended: this is a bug in Podium; start it again")]
pub struct WatchEnded;

/// Runs the controller until `stop` completes, and finishes what is in flight.
///
/// The client's own retries must be off.
///
/// # Errors
/// [`WatchEnded`]. Everything that the API server does is waited out instead.
pub async fn run(client: Client, options: Options, stop: impl Future<Output = ()>) -> Result<(), WatchEnded> {
    let server = KubeServer::new(client.clone(), options.label_keys.clone());
    run_through(server, client, options, stop).await
}

/// As [`run`], with every read and write of a pass through `server`, which may stand between the controller and the API
/// server; the watches are `client`'s own.
///
/// # Errors
/// As [`run`].
pub async fn run_through<S: Server>(
    server: S,
    client: Client,
    options: Options,
    stop: impl Future<Output = ()>,
) -> Result<(), WatchEnded> {
    let scope = options.scope.clone();
    let shared = Arc::new(Shared::new(server, options));
    let (synced, mut all_synced) = channel::channel(false);
    let mut watches = start_watches(&client, &shared, &scope, synced);
    let mut workers = JoinSet::new();

    tokio::pin!(stop);
    tokio::select! {
        biased;
        () = &mut stop => return Ok(()),
        // Before every cache has its first list, absence would look like loss.
        _ = all_synced.wait_for(|synced| *synced) => {}
        _ = watches.join_next() => return Err(WatchEnded),
    }
    info!("caches in sync, electing");
    start_workers(&shared, &mut workers);

    let ended = tokio::select! {
        biased;
        () = &mut stop => Ok(()),
        _ = watches.join_next() => Err(WatchEnded),
    };
    shared.elections.close();
    shared.sweeps.close();
    let finished = tokio::time::timeout(GRACE, async { while workers.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        warn!("some requests were not answered within {} s and are given up", GRACE.as_secs());
    }
    ended
}

/// The objects of one kind in the whole cluster or in one namespace.
fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn start_watches<S: Server>(
    client: &Client,
    shared: &Arc<Shared<S>>,
    scope: &Scope,
    synced: channel::Sender<bool>,
) -> JoinSet<()> {
    let synced = Arc::new(synced);
    let mut watches = JoinSet::new();
    for namespace in scope.watches() {
        let namespace = namespace.as_deref();
        let keys = shared.keys.clone();
        let elections = api::<DeserializeGuard<Election>>(client, namespace);
        let convert = move |election| cached::election(election, &keys);
        let watch = watch::watch(shared.clone(), elections, Kind::Elections, convert, synced.clone());
        watches.spawn(shared.server.around(watch));
        let leases = api::<Lease>(client, namespace);
        let watch = watch::watch(shared.clone(), leases, Kind::Leases, cached::lease, synced.clone());
        watches.spawn(shared.server.around(watch));
        let pods = api::<PodObject>(client, namespace);
        let watch = watch::watch(shared.clone(), pods, Kind::Pods, cached::pod, synced.clone());
        watches.spawn(shared.server.around(watch));
    }
    watches
}

fn start_workers<S: Server>(shared: &Arc<Shared<S>>, workers: &mut JoinSet<()>) {
    let reconciler = Arc::new(Reconciler::default());
    for _ in 0..WORKERS {
        let (queue, server, shared, reconciler) = (shared.elections.clone(), shared, shared.clone(), reconciler.clone());
        let work = work(queue, move |key, since| {
            let (shared, reconciler) = (shared.clone(), reconciler.clone());
            async move { reconciler.reconcile(&shared, &key, since).await }
        });
        workers.spawn(server.server.around(work));
    }
    let (queue, server, shared) = (shared.sweeps.clone(), shared, shared.clone());
    let work = work(queue, move |key, _| {
        let shared = shared.clone();
        async move { sweep::sweep(&shared, &key).await }
    });
    workers.spawn(server.server.around(work));
}

/// Takes from the queue what is due, until it is closed. A panic ends one piece of work, not the controller.
async fn work<F: Future<Output = Outcome>>(queue: Arc<Queue<Key>>, each: impl Fn(Key, Instant) -> F) {
    while let Some((key, since)) = queue.next().await {
        let outcome = AssertUnwindSafe(each(key.clone(), since)).catch_unwind().await.unwrap_or_else(|_| {
            error!(election = %key, "a bug in Podium stopped the work on this Election; it is tried again later");
            Outcome::Failed
        });
        queue.finish(key, outcome);
    }
}
