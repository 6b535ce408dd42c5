//! The controller: observe, decide, act.
//!
//! [`watch`] feeds the caches in [`observe`]. [`queue`] orders the Elections that a change affects, and the [`workers`] run
//! them. [`reconcile`] takes a snapshot, lets the pure core decide, and [`act`] carries out the plan through [`server`], the only
//! path to the API server. [`background`] and [`cleanup`] have queues of their own. [`replicas`] elects the active replica.
//! [`monitor`] keeps health and metrics, which [`http`] serves.
//!
//! Modules import only from modules before them in the order that `tests/layers.rs` declares.

pub mod act;
pub mod announce;
pub mod answer;
pub mod background;
pub mod cleanup;
pub mod coalesced;
pub mod disputes;
pub mod followed;
pub mod http;
pub mod identity;
pub mod key;
pub mod kube_server;
pub mod limits;
pub mod monitor;
pub mod nodes;
pub mod observe;
pub mod options;
pub mod outranking;
pub mod problem_log;
pub mod queue;
pub mod reconcile;
pub mod replicas;
pub mod server;
pub mod shared;
pub mod slots;
pub mod watch;
pub mod workers;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Resource};
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::api::Election;
use crate::http::Server as HttpServer;
use key::{Kind, Scope};
use kube_server::KubeServer;
use monitor::Monitor;
use observe::cached::{self, PodObject};
use options::{Fatal, Http, Options};
use replicas::Replica;
use server::ApiServer;
use shared::Shared;

/// Time to release Podium's own Lease after requests in flight have ended ([`workers::GRACE`]). Together they stay below the 5 s
/// within which a controller ends after SIGTERM, whatever the API server does.
const RELEASE: Duration = Duration::from_millis(1500);

/// Runs the controller until `stop` completes, and finishes requests in flight.
///
/// The client's own retries must be off.
///
/// # Errors
/// See [`Fatal`].
pub async fn run(client: Client, options: Options, stop: impl Future<Output = ()>) -> Result<(), Fatal> {
    let monitor = Monitor::new(&options, true);
    let client = monitor.monitored(&client);
    let server = KubeServer::new(client.clone(), options.limits.clone());
    run_monitored(server, client, options, monitor, stop).await
}

/// Runs the controller with `server`, through which all reads and writes of reconciles go. Watches and the campaign of the
/// replicas use `client`.
///
/// # Errors
/// As [`run`].
pub async fn run_through<S: ApiServer>(
    server: S,
    client: Client,
    options: Options,
    stop: impl Future<Output = ()>,
) -> Result<(), Fatal> {
    let monitor = Monitor::new(&options, false);
    run_monitored(server, client, options, monitor, stop).await
}

async fn run_monitored<S: ApiServer>(
    server: S,
    client: Client,
    options: Options,
    monitor: Arc<Monitor>,
    stop: impl Future<Output = ()>,
) -> Result<(), Fatal> {
    let scope = options.scope.clone();
    let http = match options.http.clone() {
        None => None,
        Some(Http { address, telemetry }) => {
            let server = HttpServer::bind(&address).await.map_err(|error| Fatal::Http { address, error })?;
            Some((server, telemetry))
        }
    };
    // The campaign runs during the first lists, so that a single replica does not wait for both in turn.
    let mut replica = Replica::start(&server, &client, options.candidacy.clone())?;
    let shared = Arc::new(Shared::new(server, options, monitor));
    let mut serving = JoinSet::new();
    if let Some((server, telemetry)) = http {
        info!(address = %server.address(), "serving HTTP");
        let served = http::serve(server, shared.clone(), replica.activity.clone(), telemetry);
        serving.spawn(async { match served.await {} });
    }
    let (synced, mut served) = channel::channel(false);
    let mut watches = start_watches(&client, &shared, &scope, synced);
    watches.spawn(shared.server.around(nodes::observe(shared.clone(), client.clone())));
    watches.spawn(shared.server.around(followed::expire(shared.clone())));
    let mut activity = replica.activity.clone();
    let stop = async {
        stop.await;
        shared.monitor.health.end();
    };
    tokio::pin!(stop);
    let halted = shared.halted();
    tokio::pin!(halted);
    let ended = loop {
        let begins = async {
            // Before the first lists of a namespace, an absent object would look like a deleted one.
            if served.wait_for(|synced| *synced).await.is_err() {
                // The watches have ended: the select below returns.
                std::future::pending::<()>().await;
            }
            activity.begins().await;
        };
        tokio::select! {
            biased;
            () = &mut stop => break Some(Ok(())),
            () = &mut halted => break None,
            ended = replica.ended() => break Some(Err(ended.map_or(Fatal::Bug, Fatal::OwnLease))),
            _ = watches.join_next() => break Some(Err(Fatal::Bug)),
            () = begins => {}
        }
        info!("caches in sync, electing");
        let mut workers = workers::start(&shared, &activity);
        let ended = tokio::select! {
            biased;
            () = &mut stop => Some(Some(Ok(()))),
            () = &mut halted => Some(None),
            ended = replica.ended() => Some(Some(Err(ended.map_or(Fatal::Bug, Fatal::OwnLease)))),
            _ = watches.join_next() => Some(Some(Err(Fatal::Bug))),
            () = activity.ends() => None,
            // A worker found the replica inactive, or a bug ended it: all of them start again.
            _ = workers.join_next() => None,
        };
        match ended {
            Some(None) => replica.abandon(),
            Some(Some(_)) => {}
            None => warn!("this replica is no longer active: starting no new work"),
        }
        workers::stop(&shared, workers).await;
        if let Some(ended) = ended {
            break ended;
        }
    };
    let Some(ended) = ended else {
        // The process stays and reports why until a person restarts it: a restart by itself might come during the restore.
        replica.abandon();
        stop.await;
        return Ok(());
    };
    // Requests in flight have ended: another replica may become active.
    replica.leave(RELEASE).await;
    ended
}

/// Returns the API of one kind in the whole cluster or in one namespace.
fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn start_watches<S: ApiServer>(
    client: &Client,
    shared: &Arc<Shared<S>>,
    scope: &Scope,
    synced: channel::Sender<bool>,
) -> JoinSet<()> {
    let synced = Arc::new(synced);
    let mut watches = JoinSet::new();
    for namespace in scope.watches() {
        let namespace = namespace.as_deref();
        let client = |kind| shared.monitor.watching(client, (kind, namespace.map(str::to_owned)));
        let limits = shared.limits.clone();
        let elections = api::<DeserializeGuard<Election>>(&client(Kind::Elections), namespace);
        let convert = move |election| cached::election(election, &limits);
        let watch = watch::watch(shared.clone(), elections, Kind::Elections, convert, synced.clone());
        watches.spawn(shared.server.around(watch));
        let leases = api::<DeserializeGuard<Lease>>(&client(Kind::Leases), namespace);
        let watch = watch::watch(shared.clone(), leases, Kind::Leases, cached::lease, synced.clone());
        watches.spawn(shared.server.around(watch));
        let pods = api::<PodObject>(&client(Kind::Pods), namespace);
        let watch = watch::watch(shared.clone(), pods, Kind::Pods, cached::pod, synced.clone());
        watches.spawn(shared.server.around(watch));
    }
    watches
}
