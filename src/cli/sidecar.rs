//! The options of the sidecar: its own, and those of the two sidecars that it replaces.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, ValueEnum};
use podium::sidecar::{self, LockKind, Me, Mode, Options};
use podium::watchdog::{CommandOptions, Finished, WatchdogOptions};
use podium_campaign::{Clock, Timing};
use tracing::warn;

use super::Failure;
use super::client::{EXPLICIT, Place, Source, client};
use super::environment;
use super::leader_elect::duration;
use super::log::LogArgs;
use super::old::words;
use super::run::Run;
use super::termination;

/// Where SupportTools' sidecar writes the leader's name.
const STATUS_FILE: &str = "/tmp/leader_status";

/// The shortest age of information that may be asked for.
const SHORTEST_AGE: Duration = Duration::from_secs(3);

/// How the sidecar was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `podium sidecar`
    #[default]
    Sidecar,
    /// With the options of Kubernetes' leader-elector and no subcommand.
    Contrib,
    /// With the environment of SupportTools' leader-elector, and nothing else.
    SupportTools,
    /// `podium run`
    Run,
}

#[derive(Clone, Debug, Default, Args)]
pub struct SidecarArgs {
    /// follow: tell whom others elected, usually an Election's controller. campaign: elect, together with the sidecars of the
    /// other pods. Default: follow; without the subcommand, as the old leader-electors are called, campaign.
    #[arg(long, env = "PODIUM_MODE", value_enum)]
    mode: Option<ModeName>,
    /// The name of the Election's Lease, or of the object that those who campaign elect on.
    #[arg(long, env = "PODIUM_ELECTION", value_name = "NAME")]
    election: Option<String>,
    /// Its namespace. Default: the pod's own ($POD_NAMESPACE, or that of its ServiceAccount), elsewhere the kubeconfig's; of
    /// those who campaign, as ever, `default`.
    #[arg(long, env = "PODIUM_ELECTION_NAMESPACE", value_name = "NAMESPACE")]
    election_namespace: Option<String>,
    /// The name by which this pod is known to the others. Default: $POD_NAME, or the host's name; called as `podium sidecar` or
    /// `podium run` in a pod, before the host's the pod's.
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// Of those who campaign: how long the others wait for a leader that is seen no more. It leads for half as long without an
    /// answer of the API server, and renews four times as often. Whole seconds.
    #[arg(long, env = "PODIUM_TTL", value_parser = duration, value_name = "DURATION")]
    ttl: Option<Duration>,
    /// Use the pod's ServiceAccount, also where KUBECONFIG is set.
    #[arg(
        long,
        action = ArgAction::Set,
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true"
    )]
    use_cluster_credentials: bool,
    /// Answer HTTP requests here: 0.0.0.0:4040, or localhost:4040.
    #[arg(long, env = "PODIUM_HTTP", value_name = "ADDRESS")]
    http: Option<String>,
    /// What those who campaign elect on. `endpointsleases`: both, for the way from the one to the other.
    #[arg(long, env = "PODIUM_LOCK", value_enum)]
    lock: Option<LockName>,
    /// While this pod leads, its name is in this file; else there is no such file. Of a directory, it is the file `leader` in it. A path
    /// that ends with a slash is a directory, which is made.
    #[arg(long, env = "PODIUM_FILE", value_name = "PATH")]
    file: Option<PathBuf>,
    /// Of those who follow an Election: what it said last is repeated no longer than so, which takes three requests in that time.
    /// Default: until it says something else, so that an outage of the API server deposes nobody.
    #[arg(long, env = "PODIUM_MAX_AGE", value_parser = duration, value_name = "DURATION")]
    max_age: Option<Duration>,
    #[command(flatten)]
    log: LogArgs,
    #[arg(skip)]
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeName {
    Follow,
    Campaign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LockName {
    Endpoints,
    #[value(alias = "leases")]
    Lease,
    Endpointsleases,
}

/// A leader-elector for pods: exactly one of those that campaign for the same lock leads.
#[derive(Debug, Parser)]
#[command(name = "podium", version, args_override_self = true)]
struct Old {
    #[command(flatten)]
    sidecar: SidecarArgs,
    /// The old leader-elector took no notice of these, either.
    #[arg(hide = true)]
    ignored: Vec<String>,
}

impl SidecarArgs {
    /// Reads a command line without subcommand. Exits where it is not understood.
    pub fn parse_as(form: Form, mut arguments: Vec<OsString>) -> Self {
        match form {
            // It looked at none.
            Form::SupportTools => arguments.truncate(1),
            // A shell passed them on, and split them into words.
            Form::Contrib => arguments = arguments.into_iter().flat_map(words).collect(),
            Form::Sidecar | Form::Run => {}
        }
        let Old { sidecar, ignored: _ } = Old::parse_from(arguments);
        sidecar.called_as(form)
    }

    /// The same, called otherwise.
    pub fn called_as(self, form: Form) -> Self {
        Self { form, ..self }
    }
}

/// What the options and the environment mean together.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resolved {
    election: String,
    /// `None`: the pod's own.
    namespace: Option<String>,
    me: Me,
    /// Whether the host's name stands for the pod's, which nobody gave.
    is_named_by_host: bool,
    mode: Mode,
    http: Option<String>,
    file: Option<PathBuf>,
    sources: &'static [Source],
    announce: bool,
    /// What is without effect, for people.
    notes: Vec<String>,
}

/// Makes sense of the options.
fn resolve(
    args: &SidecarArgs,
    env: impl Fn(&str) -> Option<String>,
    names: Vec<String>,
    host: String,
) -> Result<Resolved, String> {
    let given = |name: &str| env(name).filter(|value| !value.is_empty());
    let given = &given;
    let nonempty = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let run = args.form == Form::Run;
    let by_environment = !run && args.election.is_none() && (args.form == Form::SupportTools || env("LEASE_NAME").is_some());
    let (election, namespace) = if by_environment {
        let needed =
            |name: &str| given(name).ok_or_else(|| format!("{name} is not set: LEASE_NAME and NAMESPACE name the Lease"));
        (needed("LEASE_NAME")?, Some(needed("NAMESPACE")?))
    } else {
        let election = nonempty(&args.election)
            .ok_or("--election is missing or empty: name the Election, or what the pods elect on")?;
        (election, nonempty(&args.election_namespace))
    };
    let old = matches!(args.form, Form::Contrib | Form::SupportTools) || by_environment;
    let mode = args.mode.unwrap_or(if old { ModeName::Campaign } else { ModeName::Follow });
    if let Some(age) = args.max_age.filter(|age| *age < SHORTEST_AGE) {
        return Err(format!(
            "--max-age {age:?} is too short: use at least {SHORTEST_AGE:?}, because it costs three requests in that time"
        ));
    }
    let mut notes = Vec::new();
    let (mode, namespace) = match mode {
        ModeName::Follow => {
            if args.ttl.is_some() || args.lock.is_some() {
                notes.push("--ttl and --lock have no effect on one that follows".into());
            }
            (Mode::Follow, namespace)
        }
        ModeName::Campaign => {
            let timing = match args.ttl {
                // Nobody called it by these before.
                _ if run => run_timing(args.ttl)?,
                None if by_environment => environment::timing(given)?,
                ttl => timing(ttl)?,
            };
            let request_timeout = run.then_some(timing.retry_period);
            let lock = match args.lock {
                Some(LockName::Endpoints) => LockKind::Endpoints,
                Some(LockName::Lease) => LockKind::Lease,
                Some(LockName::Endpointsleases) => LockKind::EndpointsAndLease,
                None if by_environment || run => LockKind::Lease,
                None => LockKind::Endpoints,
            };
            let namespace = namespace.or_else(|| (!run).then(|| "default".into()));
            (Mode::Campaign { lock, timing, request_timeout }, namespace)
        }
    };
    let file = args.file.clone().or_else(|| environment::status_directory(given));
    if by_environment {
        notes.extend(environment::without_effect(names, given, args.ttl.is_none() && matches!(mode, Mode::Campaign { .. })));
    }
    let name = nonempty(&args.id).or_else(|| given("POD_NAME"));
    let sources: &[Source] = match args.form {
        _ if args.use_cluster_credentials => &[Source::InCluster],
        Form::Sidecar | Form::Run => EXPLICIT,
        Form::Contrib => &[Source::Kubeconfig, Source::InCluster, Source::Home],
        Form::SupportTools => &[Source::InCluster, Source::Kubeconfig],
    };
    Ok(Resolved {
        election,
        namespace,
        is_named_by_host: name.is_none() && !old,
        me: Me { name: name.unwrap_or(host), uid: given("POD_UID") },
        mode,
        http: nonempty(&args.http).or_else(|| given("HEALTH_PORT").map(|port| format!(":{port}"))),
        file: file.or_else(|| by_environment.then(|| STATUS_FILE.into())),
        sources,
        announce: args.form == Form::Contrib,
        notes,
    })
}

/// As the old leader-elector derived its durations.
fn timing(ttl: Option<Duration>) -> Result<Timing, String> {
    let ttl = ttl.unwrap_or(Duration::from_secs(10));
    let lease_duration = Duration::from_secs(ttl.as_secs());
    if lease_duration.is_zero() {
        return Err(format!("--ttl {ttl:?} is too short: use at least 1s, because a lock holds whole seconds"));
    }
    let timing = Timing { lease_duration, renew_deadline: lease_duration / 2, retry_period: lease_duration / 4 };
    timing.validate().map_err(|error| format!("--ttl {ttl:?} cannot be used: its {error}"))?;
    Ok(timing)
}

/// With client-go's defaults, and in the same proportions where there is a `--ttl`: a command needs more of a deadline than a
/// half, to be stopped in time.
fn run_timing(ttl: Option<Duration>) -> Result<Timing, String> {
    let ttl = ttl.unwrap_or(Timing::default().lease_duration);
    let lease_duration = Duration::from_secs(ttl.as_secs());
    let timing = Timing { lease_duration, renew_deadline: lease_duration * 2 / 3, retry_period: lease_duration * 2 / 15 };
    timing.validate().map_err(|error| format!("--ttl {ttl:?} cannot be used: its {error}"))?;
    Ok(timing)
}

/// Runs the sidecar, and a command while it leads, if there is one.
pub fn begin(args: SidecarArgs, run: Option<Run>) -> Result<Finished, Failure> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let resolved = resolve(&args, |name| std::env::var(name).ok(), names, host).map_err(Failure::usage)?;
    let max_age = args.max_age;
    let without_heartbeats = run.as_ref().is_some_and(|run| run.without_heartbeats);
    let command = run.map(|run| run.command_options(resolved.mode)).transpose().map_err(Failure::usage)?;
    args.log.begin().map_err(Failure::usage)?;
    // One thread is enough for a few requests in a minute.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("failed to start: {error}"))?;
    let result: Result<Finished, Failure> = runtime.block_on(async {
        let stop = termination().map_err(|error| format!("failed to listen for signals: {error}"))?;
        let Resolved { election, namespace, me, is_named_by_host, mode, http, file, sources, announce, notes } = resolved;
        let (client, place) = client(sources).await?;
        notes.iter().for_each(|note| warn!("{note}"));
        let me = identified(me, is_named_by_host, &place);
        let namespace = self::namespace(namespace, &place, mode);
        // No second command of this pod runs while one lives.
        let lock = format!("{namespace}/{election}/{}", me.name);
        let command = command.map(|command| CommandOptions { lock, ..command });
        let (program, identity) = ("/proc/self/exe".into(), me.name.clone());
        let needs_watchdog = file.is_some() || command.is_some();
        let watchdog = WatchdogOptions { program, identity, file, command, lateness: WatchdogOptions::LATENESS };
        let watchdog = needs_watchdog.then_some(watchdog);
        let clock = Clock::machine();
        let options =
            Options { me, namespace, election, mode, max_age, without_heartbeats, http, announce, watchdog, clock };
        sidecar::run(client, options, stop).await.map_err(|error| Failure::with_code(error.exit_code(), error.to_string()))
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Who this is, where the pod itself says more than was given.
fn identified(me: Me, is_named_by_host: bool, place: &Place) -> Me {
    let Some(pod) = &place.pod else { return me };
    let name = if is_named_by_host { pod.name.clone() } else { me.name };
    Me { name, uid: me.uid.or_else(|| Some(pod.uid.clone())) }
}

/// The namespace that was named, or the pod's own.
fn namespace(named: Option<String>, place: &Place, mode: Mode) -> String {
    let Place { pod_namespace, default_namespace, pod: _ } = place;
    let own = pod_namespace.clone().unwrap_or_else(|| default_namespace.clone());
    let campaigns = matches!(mode, Mode::Campaign { .. });
    if campaigns && named.as_deref() == Some("default") && pod_namespace.is_some() && own != "default" {
        warn!(
            "campaigning in the namespace default, as the old leader-elector does, not in the pod's own: \
             --election-namespace={own} would"
        );
    }
    named.unwrap_or(own)
}

#[cfg(test)]
mod tests;
