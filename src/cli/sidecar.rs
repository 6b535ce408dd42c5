//! The options of the sidecar: its own, and those of the two sidecars that it replaces.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, ValueEnum};
use podium::campaign::{Clock, Timing};
use podium::keeper::{CommandLine, Duty, Finished};
use podium::sidecar::{self, LockKind, Me, Mode, Options};
use tracing::{info, warn};

use super::Failure;
use super::client::{NAMED, Place, Source, client};
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
    /// The name by which this pod is known to the others. Default: $POD_NAME, or the host's name.
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
    /// While this pod leads, its name is in this file; else there is no such file. Of a directory, it is the file `leader` in it.
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
    mode: Mode,
    http: Option<String>,
    file: Option<PathBuf>,
    sources: &'static [Source],
    announce: bool,
    /// What is without effect, for people.
    notes: Vec<&'static str>,
}

/// Makes sense of the options.
fn resolve(args: &SidecarArgs, env: impl Fn(&str) -> Option<String>, host: String) -> Result<Resolved, String> {
    let given = |name: &str| env(name).filter(|value| !value.is_empty());
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
                notes.push("--ttl and --lock have no effect on one that follows");
            }
            (Mode::Follow, namespace)
        }
        ModeName::Campaign => {
            let timing = match args.ttl {
                // Nobody called it by these before.
                _ if run => run_timing(args.ttl)?,
                None if by_environment => Timing::default(),
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
    let file = args.file.clone().or_else(|| given("STATUS_DIR").or_else(|| given("LEASE_DIRECTORY")).map(PathBuf::from));
    let sources: &[Source] = match args.form {
        _ if args.use_cluster_credentials => &[Source::InCluster],
        Form::Sidecar | Form::Run => NAMED,
        Form::Contrib => &[Source::Kubeconfig, Source::InCluster, Source::Home],
        Form::SupportTools => &[Source::InCluster, Source::Kubeconfig],
    };
    Ok(Resolved {
        election,
        namespace,
        me: Me { name: nonempty(&args.id).or_else(|| given("POD_NAME")).unwrap_or(host), uid: given("POD_UID") },
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
    let resolved = resolve(&args, |name| std::env::var(name).ok(), host).map_err(Failure::usage)?;
    let max_age = args.max_age;
    let without_heartbeats = run.as_ref().is_some_and(|run| run.without_heartbeats);
    let command = run.map(|run| run.command_line(resolved.mode)).transpose().map_err(Failure::usage)?;
    args.log.begin().map_err(Failure::usage)?;
    // One thread is enough for a few requests in a minute.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("failed to start: {error}"))?;
    let result: Result<Finished, Failure> = runtime.block_on(async {
        let stop = termination().map_err(|error| format!("failed to listen for signals: {error}"))?;
        let Resolved { election, namespace, me, mode, http, file, sources, announce, notes } = resolved;
        let (client, place) = client(sources).await?;
        notes.iter().for_each(|note| info!("{note}"));
        let namespace = self::namespace(namespace, &place, mode);
        // No second command of this pod runs while one lives.
        let lock = format!("{namespace}/{election}/{}", me.name);
        let command = command.map(|command| CommandLine { lock, ..command });
        let (program, identity) = ("/proc/self/exe".into(), me.name.clone());
        let needs_keeper = file.is_some() || command.is_some();
        let duty = Duty { program, identity, file, command, lateness: Duty::LATENESS };
        let duty = needs_keeper.then_some(duty);
        let clock = Clock::machine();
        let options = Options { me, namespace, election, mode, max_age, without_heartbeats, http, announce, duty, clock };
        sidecar::run(client, options, stop).await.map_err(|error| Failure::with_code(error.exit_code(), error.to_string()))
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// The namespace that was named, or the pod's own.
fn namespace(named: Option<String>, place: &Place, mode: Mode) -> String {
    let Place { pod_namespace, default_namespace } = place;
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
mod tests {
    use super::super::old::old_form;
    use super::*;

    fn line(line: &str) -> Vec<OsString> {
        words(line.into())
    }

    fn environment(variables: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    fn old(line: &str, variables: &'static [(&'static str, &'static str)]) -> Result<Resolved, String> {
        let form = old_form(&self::line(line), environment(variables)).expect("an old form");
        resolve(&SidecarArgs::parse_as(form, self::line(line)), environment(variables), "host".into())
    }

    fn new(line: &str) -> Result<Resolved, String> {
        let Old { sidecar, .. } = Old::try_parse_from(self::line(line)).map_err(|error| error.to_string())?;
        resolve(&sidecar, |_| None, "host".into())
    }

    fn campaign(lock: LockKind, lease: u64, renew: u64, retry: u64) -> Mode {
        let millis = Duration::from_millis;
        let timing = Timing { lease_duration: millis(lease), renew_deadline: millis(renew), retry_period: millis(retry) };
        Mode::Campaign { lock, timing, request_timeout: None }
    }

    #[test]
    fn the_old_leader_electors_options_mean_what_they_meant() {
        let resolved = old("podium --election=example --http=0.0.0.0:4040", &[]).unwrap();
        assert_eq!(resolved.mode, campaign(LockKind::Endpoints, 10_000, 5_000, 2_500));
        assert_eq!((resolved.election.as_str(), resolved.namespace.as_deref()), ("example", Some("default")));
        assert_eq!((resolved.http.as_deref(), resolved.file.clone()), (Some("0.0.0.0:4040"), None));
        assert_eq!((resolved.me.name.as_str(), resolved.announce), ("host", true));
        // The image's own --id comes first, and the user's wins.
        let line = "/app/server --id=a --election example --election-namespace prod --ttl 1m0s --use-cluster-credentials=true \
                    stray --id=b";
        let resolved = old(line, &[("POD_NAME", "web-0")]).unwrap();
        assert_eq!((resolved.me.name.as_str(), resolved.namespace.as_deref()), ("b", Some("prod")));
        assert_eq!(resolved.mode, campaign(LockKind::Endpoints, 60_000, 30_000, 15_000));
        assert_eq!(resolved.sources, [Source::InCluster]);
        let unsplit = vec!["podium".into(), "--election=example --http=:4040".into()];
        let sidecar = SidecarArgs::parse_as(Form::Contrib, unsplit);
        assert_eq!((sidecar.election.as_deref(), sidecar.http.as_deref()), (Some("example"), Some(":4040")));
    }

    #[test]
    fn supporttools_environment_means_what_it_meant() {
        let resolved = old("podium", &[("LEASE_NAME", "example"), ("NAMESPACE", "prod")]).unwrap();
        assert_eq!(resolved.mode, campaign(LockKind::Lease, 15_000, 10_000, 2_000));
        assert_eq!((resolved.election.as_str(), resolved.namespace.as_deref()), ("example", Some("prod")));
        assert_eq!(resolved.file, Some("/tmp/leader_status".into()));
        let with_arguments = old("/main whatever --it=is", &[("LEASE_NAME", "example"), ("NAMESPACE", "prod")]);
        assert_eq!(with_arguments, Ok(resolved));
        for missing in [[("LEASE_NAME", "example")], [("NAMESPACE", "prod")]] {
            let error = resolve(
                &SidecarArgs { form: Form::SupportTools, ..SidecarArgs::default() },
                |name| missing.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
                "host".into(),
            );
            assert!(error.is_err_and(|error| error.contains("is not set")));
        }
    }

    #[test]
    fn with_the_subcommand_a_sidecar_follows() {
        let resolved = new("sidecar --election example").unwrap();
        assert_eq!((resolved.mode, resolved.namespace), (Mode::Follow, None));
        let resolved = new("sidecar --mode campaign --election example --lock lease --ttl 15s").unwrap();
        assert_eq!(resolved.mode, campaign(LockKind::Lease, 15_000, 7_500, 3_750));
        assert_eq!(new("sidecar --election x --ttl 15s").unwrap().notes.len(), 1);
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_remedy() {
        for (line, remedy) in [
            ("sidecar", "--election is missing"),
            ("sidecar --election=", "name the Election"),
            ("sidecar --mode campaign --election x --ttl 900ms", "use at least 1s"),
            ("sidecar --election x --ttl soon", "such as 15s"),
            ("sidecar --election x --lock configmaps", "endpoints"),
            ("sidecar --election x --max-age 1s", "use at least 3s"),
        ] {
            let error = new(line).unwrap_err();
            assert!(error.contains(remedy), "{line}: {error}");
        }
    }
}
