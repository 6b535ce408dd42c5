//! The options of the sidecar, and those of the two sidecars that it replaces.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, ValueEnum};
use podium::sidecar::{self, LockKind, Mode, Options, PodIdentity};
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

/// The status file of SupportTools' sidecar.
const STATUS_FILE: &str = "/tmp/leader_status";

/// The minimum of `--max-age`.
const SHORTEST_AGE: Duration = Duration::from_secs(3);

/// The form of a command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `podium sidecar`
    #[default]
    Sidecar,
    /// The options of Kubernetes' leader-elector, without a subcommand.
    Contrib,
    /// The environment of SupportTools' leader-elector, without arguments.
    SupportTools,
    /// `podium run`
    Run,
}

#[derive(Clone, Debug, Default, Args)]
pub struct SidecarArgs {
    /// follow: publish the leader of an Election. campaign: elect a leader among the sidecars of the pods. Default: follow, and
    /// campaign in the forms of the old leader-electors, which have no subcommand.
    #[arg(long, env = "PODIUM_MODE", value_enum)]
    mode: Option<ModeName>,
    /// Name of the Election's Lease, or of the lock in campaign mode.
    #[arg(long, env = "PODIUM_ELECTION", value_name = "NAME")]
    election: Option<String>,
    /// Namespace of --election. Default: the namespace of the pod ($POD_NAMESPACE, or that of its ServiceAccount), outside a pod
    /// that of the kubeconfig; `default` for a campaign of `podium sidecar`, as in the old leader-electors.
    #[arg(long, env = "PODIUM_ELECTION_NAMESPACE", value_name = "NAMESPACE")]
    election_namespace: Option<String>,
    /// Name of this pod for the others. Default: $POD_NAME; for `podium sidecar` and `podium run` the name of the pod; the host name.
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// Campaign mode: lease duration, after which another pod replaces a leader that does not renew. The leader steps down after half
    /// of it without a renewal, and renews four times as often. Whole seconds.
    #[arg(long, env = "PODIUM_TTL", value_parser = duration, value_name = "DURATION")]
    ttl: Option<Duration>,
    /// Use the ServiceAccount of the pod, even if KUBECONFIG is set.
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
    /// Address of the HTTP server: 0.0.0.0:4040, or localhost:4040.
    #[arg(long, env = "PODIUM_HTTP", value_name = "ADDRESS")]
    http: Option<String>,
    /// Campaign mode: kind of the lock. `endpointsleases`: both, for the migration from Endpoints to a Lease.
    #[arg(long, env = "PODIUM_LOCK", value_enum)]
    lock: Option<LockName>,
    /// Status file: exists only while this pod leads, and contains its name. In a directory: the file `leader`. A path that ends with a
    /// slash is a directory, which is created.
    #[arg(long, env = "PODIUM_FILE", value_name = "PATH")]
    file: Option<PathBuf>,
    /// Follow mode: maximum age of leader information before it is reported as unknown. Costs three requests in that time. Default:
    /// unlimited, so that an outage of the API server deposes no leader.
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

/// A leader-elector for pods: of those that campaign for a lock, one leads.
#[derive(Debug, Parser)]
#[command(name = "podium", version, args_override_self = true)]
struct Old {
    #[command(flatten)]
    sidecar: SidecarArgs,
    /// Ignored, as in the old leader-elector.
    #[arg(hide = true)]
    ignored: Vec<String>,
}

impl SidecarArgs {
    /// Parses a command line without subcommand. Exits if that fails.
    pub fn parse_as(form: Form, mut arguments: Vec<OsString>) -> Self {
        match form {
            // It ignores all arguments.
            Form::SupportTools => arguments.truncate(1),
            // A shell splits them into words.
            Form::Contrib => arguments = arguments.into_iter().flat_map(words).collect(),
            Form::Sidecar | Form::Run => {}
        }
        let Old { sidecar, ignored: _ } = Old::parse_from(arguments);
        sidecar.called_as(form)
    }

    /// Returns the same options in another form.
    pub fn called_as(self, form: Form) -> Self {
        Self { form, ..self }
    }
}

/// The options, completed from the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resolved {
    election: String,
    /// `None`: the namespace of the pod.
    namespace: Option<String>,
    me: PodIdentity,
    /// The name of the pod was not given, so it is the host name.
    is_named_by_host: bool,
    mode: Mode,
    http: Option<String>,
    file: Option<PathBuf>,
    sources: &'static [Source],
    announce: bool,
    /// Messages about options without effect.
    notes: Vec<String>,
}

/// Completes the options.
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
        let election =
            nonempty(&args.election).ok_or("--election must not be empty: name the Lease of the Election, or the lock")?;
        (election, nonempty(&args.election_namespace))
    };
    let old = matches!(args.form, Form::Contrib | Form::SupportTools) || by_environment;
    let mode = args.mode.unwrap_or(if old { ModeName::Campaign } else { ModeName::Follow });
    if let Some(age) = args.max_age.filter(|age| *age < SHORTEST_AGE) {
        return Err(format!(
            "--max-age {age:?} is too short: must be at least {SHORTEST_AGE:?}, because it costs three requests in that time"
        ));
    }
    let mut notes = Vec::new();
    let (mode, namespace) = match mode {
        ModeName::Follow => {
            if args.ttl.is_some() || args.lock.is_some() {
                notes.push("--ttl and --lock have no effect in follow mode".into());
            }
            (Mode::Follow, namespace)
        }
        ModeName::Campaign => {
            let timing = match args.ttl {
                // `podium run` has no former defaults.
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
        me: PodIdentity { name: name.unwrap_or(host), uid: given("POD_UID") },
        mode,
        http: nonempty(&args.http).or_else(|| given("HEALTH_PORT").map(|port| format!(":{port}"))),
        file: file.or_else(|| by_environment.then(|| STATUS_FILE.into())),
        sources,
        announce: args.form == Form::Contrib,
        notes,
    })
}

/// Derives the durations like the old leader-elector.
fn timing(ttl: Option<Duration>) -> Result<Timing, String> {
    let ttl = ttl.unwrap_or(Duration::from_secs(10));
    let lease_duration = Duration::from_secs(ttl.as_secs());
    if lease_duration.is_zero() {
        return Err(format!("--ttl {ttl:?} is too short: must be at least 1s, because a lock holds whole seconds"));
    }
    let timing = Timing { lease_duration, renew_deadline: lease_duration / 2, retry_period: lease_duration / 4 };
    timing.validate().map_err(|error| format!("--ttl {ttl:?} cannot be used: its {error}"))?;
    Ok(timing)
}

/// Derives the durations in the proportions of client-go's defaults. The renew deadline is more than half of the duration, because
/// the command must end within it.
fn run_timing(ttl: Option<Duration>) -> Result<Timing, String> {
    let ttl = ttl.unwrap_or(Timing::default().lease_duration);
    let lease_duration = Duration::from_secs(ttl.as_secs());
    let timing = Timing { lease_duration, renew_deadline: lease_duration * 2 / 3, retry_period: lease_duration * 2 / 15 };
    timing.validate().map_err(|error| format!("--ttl {ttl:?} cannot be used: its {error}"))?;
    Ok(timing)
}

/// Runs the sidecar, and its command while it leads.
pub fn begin(args: SidecarArgs, run: Option<Run>) -> Result<Finished, Failure> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let resolved = resolve(&args, |name| std::env::var(name).ok(), names, host).map_err(Failure::usage)?;
    let max_age = args.max_age;
    let allow_overlap = run.as_ref().is_some_and(|run| run.allow_overlap);
    let readiness = run.as_ref().map(|run| run.readiness.clone());
    let command = run.map(|run| run.command_options(resolved.mode)).transpose().map_err(Failure::usage)?;
    args.log.begin().map_err(Failure::usage)?;
    // One thread is enough for a few requests per minute.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("failed to start: {error}"))?;
    let result: Result<Finished, Failure> = runtime.block_on(async {
        let stop = termination().map_err(|error| format!("failed to listen for signals: {error}"))?;
        let Resolved { election, namespace, me, is_named_by_host, mode, http, file, sources, announce, mut notes } =
            resolved;
        if http.is_none() && readiness.as_ref().is_some_and(|readiness| readiness.check.is_some()) {
            notes.push("--ready-url and --ready-command have no effect without --http, which serves /readyz".into());
        }
        let (client, place) = client(sources).await?;
        notes.iter().for_each(|note| warn!("{note}"));
        let me = identified(me, is_named_by_host, &place);
        let namespace = self::namespace(namespace, &place, mode);
        // Two commands of this pod never run at once.
        let lock = format!("{namespace}/{election}/{}", me.name);
        let command = command.map(|command| CommandOptions { lock, ..command });
        let (program, identity) = ("/proc/self/exe".into(), me.name.clone());
        let needs_watchdog = file.is_some() || command.is_some();
        let watchdog = WatchdogOptions { program, identity, file, command, lateness: WatchdogOptions::LATENESS };
        let watchdog = needs_watchdog.then_some(watchdog);
        let clock = Clock::machine();
        let options =
            Options { me, namespace, election, mode, max_age, allow_overlap, http, readiness, announce, watchdog, clock };
        sidecar::run(client, options, stop).await.map_err(|error| Failure::with_code(error.exit_code(), error.to_string()))
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Completes name and UID from the pod.
fn identified(me: PodIdentity, is_named_by_host: bool, place: &Place) -> PodIdentity {
    let Some(pod) = &place.pod else { return me };
    let name = if is_named_by_host { pod.name.clone() } else { me.name };
    PodIdentity { name, uid: me.uid.or_else(|| Some(pod.uid.clone())) }
}

/// Returns the given namespace, or that of the pod.
fn namespace(named: Option<String>, place: &Place, mode: Mode) -> String {
    let Place { pod_namespace, default_namespace, pod: _ } = place;
    let own = pod_namespace.clone().unwrap_or_else(|| default_namespace.clone());
    let campaigns = matches!(mode, Mode::Campaign { .. });
    if campaigns && named.as_deref() == Some("default") && pod_namespace.is_some() && own != "default" {
        warn!(
            "campaigning in namespace default, as the old leader-elector does, not in that of the pod: use \
             --election-namespace={own} for that"
        );
    }
    named.unwrap_or(own)
}

#[cfg(test)]
mod tests;
