//! The controller: observe, decide, act.
//!
//! [`watch`] feeds the caches in [`observe`], which know whom a change concerns; [`queue`] gives out the Elections that are
//! due to the [`workers`]; [`reconcile`] takes a snapshot, lets the pure core decide, and [`act`] carries out the plan through [`server`], the
//! one narrow door to the API server. [`cleanup`] is a loop of its own. Of several replicas, [`replicas`] makes one active. [`monitor`] tells
//! whoever asks how all of that goes.

pub mod act;
pub mod announce;
pub mod answer;
pub mod background;
pub mod cleanup;
pub mod complaints;
pub mod disputes;
pub mod identity;
pub mod joint;
pub mod monitor;
pub mod observe;
pub mod queue;
pub mod reconcile;
pub mod replicas;
pub mod server;
pub mod shared;
pub mod watch;
pub mod workers;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Resource};
use podium_campaign::{Claimed, InvalidConfig};
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::api::Election;
use crate::http;
use monitor::Monitor;
use observe::cached::{self, PodObject};
use observe::settings::Limits;
use observe::stream::Kind;
use observe::world::Scope;
use replicas::{Candidacy, Replica};
use server::{KubeServer, Server};
use shared::Shared;

/// How long the own Lease's release may take after what is in flight has ended ([`workers::GRACE`]). Together less than the 5 s
/// within which a controller that is told to stop has ended, whatever the API server does.
const RELEASE: Duration = Duration::from_millis(1500);

/// Tells the time of the wall clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a controller is told at its start.
#[derive(Clone)]
pub struct Options {
    /// What it watches.
    pub scope: Scope,
    /// What Elections may make it do.
    pub limits: Limits,
    /// Who it is, in Events.
    pub instance: String,
    /// Its wall clock. It tunes stability and dates Events, never safety.
    pub clock: Clock,
    /// How it campaigns against other replicas to be the active one. `None`: it does not, and always elects.
    pub candidacy: Option<Candidacy>,
    /// How it tells about itself by HTTP. `None`: not at all.
    pub http: Option<Http>,
}

/// Changes what is logged: directives as those of `--log`, or why they are not understood.
pub type SetLog = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The HTTP server of a controller.
#[derive(Clone)]
pub struct Http {
    /// Address to listen on: `ADDRESS:PORT`, or `:PORT` for all interfaces.
    pub address: String,
    /// What it serves.
    pub telemetry: Telemetry,
}

/// Options of what the HTTP server serves.
#[derive(Clone)]
pub struct Telemetry {
    /// Changes the log level, for clients on the same machine or in the same pod.
    pub set_log: SetLog,
    /// Whether `/metrics` has series for each Election.
    pub per_election: bool,
}

/// Why a controller cannot go on. Everything that the API server does is waited out instead.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// A watch or the campaign ended, which it never should.
    #[error("a watch ended: this is a bug in Podium; start it again")]
    Bug,
    /// Nobody could ask it how it is.
    #[error("cannot listen on --http {address}: {error}")]
    Http {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The durations of the own Lease do not work together.
    #[error(transparent)]
    Settings(#[from] InvalidConfig),
    /// An Election has the own Lease.
    #[error(
        "{0}: delete that Election or give it another leaseName, or give this controller another Lease by --leader-elect-resource-name"
    )]
    OwnLease(#[from] Claimed),
}

/// Runs the controller until `stop` completes, and finishes what is in flight.
///
/// The client's own retries must be off.
///
/// # Errors
/// See [`Fatal`].
pub async fn run(client: Client, options: Options, stop: impl Future<Output = ()>) -> Result<(), Fatal> {
    let monitor = Monitor::new(&options, true);
    let client = monitor.listening(&client);
    let server = KubeServer::new(client.clone(), options.limits.clone());
    run_monitored(server, client, options, monitor, stop).await
}

/// As [`run`], with every read and write of a pass through `server`, which may stand between the controller and the API
/// server; the watches and the campaign of replicas are `client`'s own.
///
/// # Errors
/// As [`run`].
pub async fn run_through<S: Server>(
    server: S,
    client: Client,
    options: Options,
    stop: impl Future<Output = ()>,
) -> Result<(), Fatal> {
    let monitor = Monitor::new(&options, false);
    run_monitored(server, client, options, monitor, stop).await
}

async fn run_monitored<S: Server>(
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
            let server = http::Server::bind(&address).await.map_err(|error| Fatal::Http { address, error })?;
            Some((server, telemetry))
        }
    };
    // Beside the first lists: who is alone does not wait for one after the other.
    let mut replica = Replica::start(&server, &client, options.candidacy.clone())?;
    let shared = Arc::new(Shared::new(server, options, monitor));
    let mut telling = JoinSet::new();
    if let Some((server, telemetry)) = http {
        info!(address = %server.address(), "answering");
        let served = monitor::http::serve(server, shared.clone(), replica.activity.clone(), telemetry);
        telling.spawn(async { match served.await {} });
    }
    let (synced, mut served) = channel::channel(false);
    let mut watches = start_watches(&client, &shared, &scope, synced);
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
            // Before the caches of a namespace have their first lists, absence would look like loss, and nothing in it is due.
            if served.wait_for(|synced| *synced).await.is_err() {
                // The watches have ended, which is seen below.
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
            // One noticed it by itself, or a bug ended it: all of them begin anew.
            _ = workers.join_next() => None,
        };
        match ended {
            Some(None) => replica.abandon(),
            Some(Some(_)) => {}
            None => warn!("this replica is not the active one any more: no new work is begun"),
        }
        workers::stop(&shared, workers).await;
        if let Some(ended) = ended {
            break ended;
        }
    };
    let Some(ended) = ended else {
        // It stays, and says why, until a person starts it again: a restart by itself might come in the midst of the restore.
        replica.abandon();
        stop.await;
        return Ok(());
    };
    // What is in flight has ended: now another replica may begin.
    replica.leave(RELEASE).await;
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
