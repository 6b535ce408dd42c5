//! The sidecar: publishes the leader to the application in the same pod, by HTTP and by a file, and runs a command only while this
//! pod leads.
//!
//! It either **follows** the Lease of an Election, which the controller writes, or **campaigns** against the sidecars of the other
//! pods ([`podium_campaign`]). A campaigning sidecar whose Lease an Election has claimed follows from then on; a following one
//! never campaigns. So no order of starts and deletions leads to two electors.

mod follow;
mod follower;
mod http;
mod legacy;
mod metrics;
mod path;
mod readiness;
mod ready_url;
mod readyz;
mod view;
mod waiting;

use std::future::Future;
use std::io;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, join};
use kube::Client;
use podium_campaign::{
    Campaign, CampaignConfig, Claimed, Clock, InvalidConfig, Leadership, LeadershipState, LeaseLock, Lock, Renewals, Timing,
};
use tokio::sync::{oneshot, watch};
use tracing::{error, info};

use self::follow::Follow;
use self::follower::Follower;
pub use self::follower::PodIdentity;
use self::legacy::{EndpointsAndLeaseLock, EndpointsLock};
pub use self::ready_url::ReadyUrl;
use self::readyz::Readyz;
pub use self::readyz::{ReadinessOptions, ReadyCheck};
use self::view::View;
use crate::api::names;
use crate::http::Server;
use crate::watchdog::{Finished, WatchdogError, WatchdogOptions, command_monitor, supervise};

/// Options of a sidecar.
#[derive(Clone, Debug)]
pub struct Options {
    /// The pod of this process.
    pub me: PodIdentity,
    /// The namespace of the lock.
    pub namespace: String,
    /// The name of the lock. For an Election: its Lease.
    pub election: String,
    /// Follow or campaign.
    pub mode: Mode,
    /// The maximum age of an observation of an Election. `None`: it stands until the next observation, so that an outage of the API
    /// server deposes no leader.
    pub max_age: Option<Duration>,
    /// Runs the command although nothing ends it on a leader that a partition separates: in a term that this process follows.
    pub allow_overlap: bool,
    /// The address of the HTTP server, such as `0.0.0.0:4040`.
    pub http: Option<String>,
    /// Serves `/readyz`: the readiness of the command. `None`: there is no command.
    pub readiness: Option<ReadinessOptions>,
    /// Prints `<name> is the leader` on each change, as the old leader-elector does.
    pub announce: bool,
    /// The status file and the command of the watchdog.
    pub watchdog: Option<WatchdogOptions>,
    /// The clocks.
    pub clock: Clock,
}

/// The mode of a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Elects a leader together with the sidecars of the other pods.
    Campaign {
        /// The kind of the lock.
        lock: LockKind,
        /// The durations.
        timing: Timing,
        /// See [`CampaignConfig::request_timeout`].
        request_timeout: Option<Duration>,
    },
    /// Publishes the leader that others elected.
    Follow,
}

/// The kind of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// An annotation on Endpoints, as the old leader-elector.
    Endpoints,
    /// A Lease.
    Lease,
    /// Both, for the migration from Endpoints to a Lease.
    EndpointsAndLease,
}

/// An error that ends a sidecar.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The HTTP address cannot be used.
    #[error("cannot listen on --http {address}: {error}; use a free port of an address of this host, such as 0.0.0.0:4040")]
    Http {
        /// The address.
        address: String,
        /// The cause.
        #[source]
        error: io::Error,
    },
    /// The watchdog failed.
    #[error(transparent)]
    Watchdog(#[from] WatchdogError),
    /// An Election has adopted the Lease, and nothing would end the command in its terms.
    #[error("{0}, and nothing stops the command of a leader that a partition separates: use --allow-overlap to accept that")]
    Adopted(Claimed),
    /// The durations or the identity are invalid.
    #[error(transparent)]
    Settings(#[from] InvalidConfig),
}

impl SidecarError {
    /// Returns the exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Watchdog(error) => error.exit_code(),
            Self::Http { .. } | Self::Settings(_) | Self::Adopted(_) => 1,
        }
    }
}

/// Completes when nothing depends on leadership.
type End = Shared<BoxFuture<'static, ()>>;

/// Runs until `stop` completes or the command has ended. Then this process has stopped claiming to lead, and has released the lock.
///
/// # Errors
/// Errors that a retry does not solve. All others are logged and retried.
pub async fn run(client: Client, options: Options, stop: impl Future<Output = ()>) -> Result<Finished, SidecarError> {
    let state = watch::Sender::new(LeadershipState::default());
    let leadership = Leadership::new(state.subscribe(), options.clock.clone());
    let renewals = matches!(options.mode, Mode::Campaign { .. }).then(Arc::<Renewals>::default);
    let view = View::new(&options.me.name, leadership.clone(), renewals.clone());
    let (monitor, reporter) = command_monitor();
    let mut background = tokio::task::JoinSet::new();
    if let Some(address) = &options.http {
        let server = Server::bind(address).await.map_err(|error| SidecarError::Http { address: address.clone(), error })?;
        info!(address = %server.address(), "serving HTTP");
        let readiness = options
            .readiness
            .clone()
            .map(|readiness| (Readyz::new(&readiness, monitor, view.clone(), options.clock.clone()), readiness));
        let (view, readyz) = (view.clone(), readiness.as_ref().map(|(readyz, _)| readyz.clone()));
        background.spawn(async move { match http::serve(server, view, readyz).await {} });
        if let Some((readyz, readiness)) = readiness {
            background.spawn(async move { match readyz.run(readiness).await {} });
        }
    }
    let announcing = announce(view.clone(), options.announce);
    background.spawn(announcing);
    background.spawn(waiting::remind(view.clone()));
    let (give_up, gave_up) = oneshot::channel::<()>();
    let (ended, end) = oneshot::channel::<()>();
    let end = end.map(drop).boxed().shared();
    let work = async {
        let stop = async {
            tokio::select! {
                () = stop => {}
                // Electing or following failed.
                _ = gave_up => {}
            }
            view.withdraw();
        };
        let finished = match options.watchdog.clone() {
            Some(watchdog) => supervise(watchdog, leadership, reporter, stop).await,
            None => {
                stop.await;
                Ok(Finished::Stopped)
            }
        };
        view.withdraw();
        // Nothing depends on leadership: the lock may be released.
        drop(ended);
        finished
    };
    let electing = async {
        let elected = elect(client, &options, state, &view, renewals, end).await;
        drop(give_up);
        elected
    };
    let (finished, elected) = join(work, electing).await;
    elected?;
    Ok(finished?)
}

/// Campaigns or follows until `end`.
async fn elect(
    client: Client,
    options: &Options,
    state: watch::Sender<LeadershipState>,
    view: &View,
    renewals: Option<Arc<Renewals>>,
    end: End,
) -> Result<(), SidecarError> {
    let Options { me, namespace, election, mode, max_age, allow_overlap, watchdog, clock, .. } = options;
    let has_command = watchdog.as_ref().is_some_and(|watchdog| watchdog.command.is_some());
    match *mode {
        Mode::Follow => {}
        Mode::Campaign { lock, timing, request_timeout } => {
            // Another pod of this name may live on a node behind a partition: a second command must wait for its end.
            let resumes = !has_command;
            let settings = CampaignConfig { timing, request_timeout, resumes, ..CampaignConfig::new(&me.name) };
            let endpoints = EndpointsLock::new(client.clone(), namespace, election).field_manager(names::MANAGER);
            // With this annotation an Election of the same name may adopt the Lease.
            let lease = LeaseLock::new(client.clone(), namespace, election)
                .field_manager(names::MANAGER)
                .annotation(names::ELECTOR, names::SIDECAR);
            let campaign = CampaignStart {
                settings,
                clock: clock.clone(),
                state: state.clone(),
                renewals: renewals.unwrap_or_default(),
                end: end.clone(),
            };
            let over = match lock {
                LockKind::Endpoints => campaign.on(endpoints).await?,
                LockKind::Lease => campaign.on(lease).await?,
                LockKind::EndpointsAndLease => campaign.on(EndpointsAndLeaseLock::new(endpoints, lease, &me.name)).await?,
            };
            match over {
                Ok(()) => return Ok(()),
                Err(claimed) if has_command && !allow_overlap => {
                    state.send_replace(LeadershipState::default());
                    return Err(SidecarError::Adopted(claimed));
                }
                Err(claimed) => info!("{claimed}: following it"),
            }
        }
    }
    let follower = Follower::new(me.clone(), *max_age);
    let leadership = Leadership::new(state.subscribe(), clock.clone());
    let follow = Follow::new(client.clone(), (namespace, election), follower, clock.clone(), state);
    tokio::select! {
        biased;
        () = end => Ok(()),
        never = waiting::find_own_pod(client, namespace, me, leadership, view) => match never {},
        never = follow.run() => match never {},
    }
}

/// A campaign on a lock of any kind.
struct CampaignStart {
    settings: CampaignConfig,
    clock: Clock,
    state: watch::Sender<LeadershipState>,
    renewals: Arc<Renewals>,
    end: End,
}

impl CampaignStart {
    async fn on<L: Lock>(self, lock: L) -> Result<Result<(), Claimed>, InvalidConfig> {
        let Self { settings, clock, state, renewals, end } = self;
        info!(identity = settings.identity, "campaigning for the {}", lock.describe());
        let campaign = Campaign::with_clock(lock, settings, clock)?.publish_to(state).count_renewals(renewals);
        Ok(campaign.run(end).await)
    }
}

/// Logs and counts each change of the leader.
async fn announce(mut view: View, print: bool) {
    let mut announced = None;
    loop {
        let leader = view.leader();
        // Nothing is known before the first response.
        if leader.age.is_some() && announced.as_ref() != Some(&leader.name) {
            info!(leader = leader.name, is_leader = leader.is_leader, term = leader.term, "the leader");
            if print {
                let printed = writeln!(io::stdout(), "{} is the leader", leader.name);
                if let Err(error) = printed {
                    error!("cannot write to stdout: {error}");
                }
            }
            if !leader.name.is_empty() {
                view.leader_changed();
            }
            announced = Some(leader.name);
        }
        view.changed().await;
    }
}
