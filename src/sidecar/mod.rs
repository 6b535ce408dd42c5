//! The sidecar: tells the application beside it who leads, by HTTP and by a file, and lets a command run only while this pod
//! leads.
//!
//! It either **follows** the Lease by which an Election's controller elects, or **campaigns** itself against the sidecars of
//! the other pods ([`crate::campaign`]). One that campaigns and finds that an Election has claimed the Lease follows from
//! then on, for good; one that follows never campaigns. So no order of starts and deletions makes two who elect.

mod follow;
mod follower;
mod http;
mod legacy;
mod path;
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
pub use self::follower::Me;
use self::legacy::{EndpointsAndLeaseLock, EndpointsLock};
use self::view::View;
use crate::api::names;
use crate::http::Server;
use crate::watchdog::{Finished, WatchdogError, WatchdogOptions, supervise};

/// What a sidecar is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who this is.
    pub me: Me,
    /// Where the lock is.
    pub namespace: String,
    /// The lock's name, which is the Election's.
    pub election: String,
    /// Whether it elects, or tells whom others elected.
    pub mode: Mode,
    /// How old may be what an Election's Lease said last. `None`: it stands until something else is seen, so that an outage of the
    /// API server deposes nobody.
    pub max_age: Option<Duration>,
    /// Whether the command may run although nothing ends it on a pod that is cut off: in a term that this one only follows.
    pub without_heartbeats: bool,
    /// Where it listens for HTTP, if it does: `0.0.0.0:4040`.
    pub http: Option<String>,
    /// Print `<name> is the leader` to stdout on each change, as the old leader-elector did.
    pub announce: bool,
    /// The file that exists, and the command that runs, while this process leads.
    pub watchdog: Option<WatchdogOptions>,
    /// The clocks.
    pub clock: Clock,
}

/// Whether a sidecar elects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does, together with those of the other pods.
    Campaign {
        /// On which lock.
        lock: LockKind,
        /// The durations.
        timing: Timing,
        /// See [`CampaignConfig::request_timeout`].
        request_timeout: Option<Duration>,
    },
    /// It tells whom others elected.
    Follow,
}

/// What those who campaign elect on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// An annotation on Endpoints, as the old leader-elector.
    Endpoints,
    /// A Lease.
    Lease,
    /// Both, for the way from the one to the other.
    EndpointsAndLease,
}

/// Why a sidecar cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The HTTP address cannot be listened on.
    #[error("cannot listen on --http {address}: {error}; use a free port of an address of this host, such as 0.0.0.0:4040")]
    Http {
        /// The address as it was given.
        address: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The file cannot be kept, or the command cannot be run.
    #[error(transparent)]
    Watchdog(#[from] WatchdogError),
    /// An Election has taken over what was campaigned for, and nothing would end the command in its terms.
    #[error(
        "{0}, and nothing would end the command of a leader that is cut off: use --without-heartbeats if that is acceptable"
    )]
    Adopted(Claimed),
    /// The durations or the identity do not work.
    #[error(transparent)]
    Settings(#[from] InvalidConfig),
}

impl SidecarError {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Watchdog(error) => error.exit_code(),
            Self::Http { .. } | Self::Settings(_) | Self::Adopted(_) => 1,
        }
    }
}

/// Completes when nothing hangs on leadership any more.
type End = Shared<BoxFuture<'static, ()>>;

/// Runs until `stop` completes, or the command has ended. Then nothing claims to lead any more, and the lock is released.
///
/// # Errors
/// What makes it useless from the start. Everything else is waited out, and told in the log.
pub async fn run(client: Client, options: Options, stop: impl Future<Output = ()>) -> Result<Finished, SidecarError> {
    let standing = watch::Sender::new(LeadershipState::default());
    let leadership = Leadership::new(standing.subscribe(), options.clock.clone());
    let renewals = matches!(options.mode, Mode::Campaign { .. }).then(Arc::<Renewals>::default);
    let view = View::new(&options.me.name, leadership.clone(), renewals.clone());
    let mut background = tokio::task::JoinSet::new();
    if let Some(address) = &options.http {
        let server = Server::bind(address).await.map_err(|error| SidecarError::Http { address: address.clone(), error })?;
        info!(address = %server.address(), "answering");
        let view = view.clone();
        background.spawn(async move { match http::serve(server, view).await {} });
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
                // Nobody elects or follows any more.
                _ = gave_up => {}
            }
            view.withdraw();
        };
        let finished = match options.watchdog.clone() {
            Some(watchdog) => supervise(watchdog, leadership, stop).await,
            None => {
                stop.await;
                Ok(Finished::Stopped)
            }
        };
        view.withdraw();
        // Nothing hangs on the lead any more: the lock may be released.
        drop(ended);
        finished
    };
    let electing = async {
        let elected = elect(client, &options, standing, &view, renewals, end).await;
        drop(give_up);
        elected
    };
    let (finished, elected) = join(work, electing).await;
    elected?;
    Ok(finished?)
}

/// Sees to it that somebody leads, or watches others do so, until `end`.
async fn elect(
    client: Client,
    options: &Options,
    standing: watch::Sender<LeadershipState>,
    view: &View,
    renewals: Option<Arc<Renewals>>,
    end: End,
) -> Result<(), SidecarError> {
    let Options { me, namespace, election, mode, max_age, without_heartbeats, watchdog, clock, .. } = options;
    let has_command = watchdog.as_ref().is_some_and(|watchdog| watchdog.command.is_some());
    match *mode {
        Mode::Follow => {}
        Mode::Campaign { lock, timing, request_timeout } => {
            // Another pod of this name may live, on a node that is cut off: a second command has to wait for its end.
            let resumes = !has_command;
            let settings = CampaignConfig { timing, request_timeout, resumes, ..CampaignConfig::new(&me.name) };
            let endpoints = EndpointsLock::new(client.clone(), namespace, election).field_manager(names::MANAGER);
            // By this mark an Election of the same name may take the Lease over.
            let lease = LeaseLock::new(client.clone(), namespace, election)
                .field_manager(names::MANAGER)
                .annotation(names::ELECTOR, names::SIDECAR);
            let campaign = Campaigning {
                settings,
                clock: clock.clone(),
                standing: standing.clone(),
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
                Err(claimed) if has_command && !without_heartbeats => {
                    standing.send_replace(LeadershipState::default());
                    return Err(SidecarError::Adopted(claimed));
                }
                Err(claimed) => info!("{claimed}: following it from now on"),
            }
        }
    }
    let follower = Follower::new(me.clone(), *max_age);
    let leadership = Leadership::new(standing.subscribe(), clock.clone());
    let follow = Follow::new(client.clone(), (namespace, election), follower, clock.clone(), standing);
    tokio::select! {
        biased;
        () = end => Ok(()),
        never = waiting::look_for_pod(client, namespace, me, leadership, view) => match never {},
        never = follow.run() => match never {},
    }
}

/// A campaign that is about to begin, whatever the lock is.
struct Campaigning {
    settings: CampaignConfig,
    clock: Clock,
    standing: watch::Sender<LeadershipState>,
    renewals: Arc<Renewals>,
    end: End,
}

impl Campaigning {
    async fn on<L: Lock>(self, lock: L) -> Result<Result<(), Claimed>, InvalidConfig> {
        let Self { settings, clock, standing, renewals, end } = self;
        info!(identity = settings.identity, "campaigning for the {}", lock.describe());
        let campaign = Campaign::with_clock(lock, settings, clock)?.publish_to(standing).count_renewals(renewals);
        Ok(campaign.run(end).await)
    }
}

/// Says who leads, whenever that changes, and counts it.
async fn announce(mut view: View, print: bool) {
    let mut told = None;
    loop {
        let answer = view.answer();
        // Before the first word of the API server there is nothing to say.
        if answer.age.is_some() && told.as_ref() != Some(&answer.name) {
            info!(leader = answer.name, is_leader = answer.is_leader, term = answer.term, "the leader");
            if print {
                let printed = writeln!(io::stdout(), "{} is the leader", answer.name);
                if let Err(error) = printed {
                    error!("cannot write to stdout: {error}");
                }
            }
            if !answer.name.is_empty() {
                view.leader_changed();
            }
            told = Some(answer.name);
        }
        view.changed().await;
    }
}
