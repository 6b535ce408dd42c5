//! The command line.

mod client;
mod environment;
mod leader_elect;
mod list;
mod log;
mod old;
mod pod;
#[cfg(test)]
mod reference;
mod run;
mod sidecar;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgGroup, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use client::{NAMED, client};
use k8s_openapi::jiff::Timestamp;
use leader_elect::LeaderElectArgs;
use list::List;
use log::LogArgs;
use podium::controller::identity::Identity;
use podium::controller::observe::settings::Limits;
use podium::controller::observe::world::Scope;
use podium::controller::server::KubeServer;
use podium::controller::sweep::command::{self, Swept};
use podium::controller::{self, Http, Options};
use run::RunArgs;
use sidecar::SidecarArgs;
use tokio::signal::unix::{SignalKind, signal};

/// Leader election as a Kubernetes resource.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Elect leaders: watch Elections, their Leases and pods. The cluster is that of $KUBECONFIG, or the one this runs in.
    Controller(ControllerArgs),
    /// Take Podium's labels from pods where no controller does it any more: after --namespaces of the controller was narrowed,
    /// or before Podium is removed. Elections and Leases stay. A controller that serves the pods labels their leaders again.
    Sweep(SweepArgs),
    /// Tell the application beside this who leads, by HTTP and by a file: whom an Election's controller elected, or (`--mode
    /// campaign`) whom the sidecars elect among themselves.
    Sidecar(SidecarArgs),
    /// Run a command only while this pod leads: the sidecar with a command. It exits with what the command exits with.
    Run(RunArgs),
    /// Print the CustomResourceDefinition of Election, for `kubectl apply -f -`.
    Crd,
    /// Print the reference of the controller's metrics, docs/reference/metrics.md.
    #[command(hide = true)]
    Metrics,
    /// Started by the sidecar, never by people: keeps the status file and runs the command.
    #[command(hide = true)]
    Watchdog,
}

#[derive(Debug, Args)]
struct ControllerArgs {
    /// Serve these namespaces only, separated by commas. Default: the whole cluster.
    #[arg(long, env = "PODIUM_NAMESPACES", value_parser = list::namespaces, value_name = "NAMESPACES")]
    namespaces: Vec<List>,
    /// The label keys that Elections may use, separated by commas; `*/name` stands for any prefix.
    #[arg(
        long,
        env = "PODIUM_LABEL_KEYS",
        value_parser = list::label_keys,
        value_name = "LABEL_KEYS",
        default_value = list::LABEL_KEYS
    )]
    label_keys: Vec<List>,
    /// Answer HTTP requests here: `:8080`, `127.0.0.1:8080`, `[::1]:8080`. /healthz: whether it lives; /readyz: whether it knows
    /// what it decides on; /metrics: docs/reference/metrics.md. Default: nowhere.
    #[arg(long, env = "PODIUM_HTTP", value_name = "ADDRESS:PORT")]
    http: Option<String>,
    #[command(flatten)]
    leader_elect: LeaderElectArgs,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where").required(true))]
struct SweepArgs {
    /// The namespaces to sweep, separated by commas.
    #[arg(long, short, value_parser = list::namespaces, value_name = "NAMESPACES", group = "where")]
    namespaces: Vec<List>,
    /// Sweep all namespaces.
    #[arg(long, short = 'A', group = "where")]
    all_namespaces: bool,
    /// The label keys that the controller was allowed to write. Pods that were claimed by an Election which is gone lose every
    /// label under these.
    #[arg(
        long,
        env = "PODIUM_LABEL_KEYS",
        value_parser = list::label_keys,
        value_name = "LABEL_KEYS",
        default_value = list::LABEL_KEYS
    )]
    label_keys: Vec<List>,
    /// Only print what would be removed.
    #[arg(long)]
    dry_run: bool,
}

/// What went wrong, and what to exit with: 2 where the command line or the environment is not understood, else 1, or what a
/// command says.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub fn usage(message: String) -> Self {
        Self { code: 2, message }
    }

    pub fn with_code(code: u8, message: String) -> Self {
        Self { code, message }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { code: 1, message }
    }
}

/// Parses the command line and runs what it says.
pub fn run() -> ExitCode {
    let done = |()| 0;
    let result = match parse() {
        Command::Crd => print_crd().map(done).map_err(Failure::from),
        Command::Metrics => print("the page", &podium::controller::monitor::table::page()).map(done).map_err(Failure::from),
        Command::Controller(args) => run_controller(args).map(done).map_err(Failure::from),
        Command::Sweep(args) => run_sweep(args).map(done).map_err(Failure::from),
        Command::Sidecar(args) => sidecar::begin(args, None).map(drop).map(done),
        Command::Run(args) => run::run_command(args),
        Command::Watchdog => keep().map(done).map_err(Failure::from),
    };
    let Failure { code, message } = match result {
        Ok(code) => return ExitCode::from(code),
        Err(failure) => failure,
    };
    eprintln!("podium: {message}");
    ExitCode::from(code)
}

fn keep() -> Result<(), String> {
    podium::watchdog::process::run().map_err(|error| format!("failed to keep the lead: {error}"))
}

/// A command line with a subcommand, or as one of the old sidecars is called.
fn parse() -> Command {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Without the parser, whose pages of the program would be half of the watchdog's memory.
    if arguments.get(1).is_some_and(|command| command == "watchdog") {
        return Command::Watchdog;
    }
    match old::old_form(&arguments, |name| std::env::var(name).ok()) {
        Some(form) => Command::Sidecar(SidecarArgs::parse_as(form, arguments)),
        None => {
            let mut command = Cli::command();
            let matches = command.try_get_matches_from_mut(arguments).unwrap_or_else(|error| error.exit());
            let parsed = list::refuse_empty(&matches).map_err(|why| command.error(ErrorKind::InvalidValue, why));
            match parsed.and_then(|()| Cli::from_arg_matches(&matches)) {
                Ok(cli) => cli.command,
                Err(error) => error.exit(),
            }
        }
    }
}

fn print_crd() -> Result<(), String> {
    let yaml = serde_yaml::to_string(&podium::api::custom_resource_definition())
        .map_err(|error| format!("failed to print the CustomResourceDefinition: {error}"))?;
    print("the CustomResourceDefinition", &yaml)
}

fn print(what: &str, text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| format!("failed to print {what}: {error}")),
    }
}

fn run_controller(args: ControllerArgs) -> Result<(), String> {
    let ControllerArgs { namespaces, label_keys, http, leader_elect, log } = args;
    #[cfg(not(feature = "otlp"))]
    let set_log = log.begin()?;
    #[cfg(feature = "otlp")]
    let (set_log, export) = log.begin_exporting()?;
    let http = http.map(|address| Http { address, set_log });
    let namespaces: BTreeSet<String> = list::entries(namespaces);
    let scope = if namespaces.is_empty() { Scope::Cluster } else { Scope::Namespaces(namespaces) };
    let label_keys = list::patterns(label_keys);
    let (instance, identity) = instance();
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("failed to start: {error}"))?;
    let result = runtime.block_on(async {
        let stop = termination().map_err(|error| format!("failed to listen for signals: {error}"))?;
        let (client, place) = client(NAMED).await?;
        let (own_lease, candidacy) = leader_elect.candidacy(&scope, place, identity)?;
        let limits = Limits { label_keys, own_lease: Some(own_lease) };
        let options = Options { scope, limits, instance, clock: Arc::new(Timestamp::now), candidacy, http };
        controller::run(client, options, stop).await.map_err(|error| error.to_string())
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    // Now that no pass is left.
    #[cfg(feature = "otlp")]
    if let Some(export) = export {
        export.end();
    }
    result
}

fn run_sweep(args: SweepArgs) -> Result<(), String> {
    let SweepArgs { namespaces, all_namespaces, label_keys, dry_run } = args;
    let namespaces: BTreeSet<String> = list::entries(namespaces);
    let limits = Limits { label_keys: list::patterns(label_keys), own_lease: None };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("failed to start: {error}"))?;
    runtime.block_on(async {
        let (client, _) = client(NAMED).await?;
        let server = KubeServer::new(client.clone(), limits.clone());
        let namespaces = if all_namespaces { command::namespaces(&client).await? } else { namespaces };
        for namespace in namespaces {
            let tell = |Swept { pod, key, value }: &Swept| {
                let dry = if dry_run { " (dry run)" } else { "" };
                // A reader that has seen enough does not end the sweep.
                let _ = writeln!(io::stdout(), "{namespace}/{pod}: {key}={value} removed{dry}");
            };
            let swept = command::sweep_namespace(&server, &namespace, &limits.label_keys, dry_run, tell).await;
            swept.map_err(|refusal| format!("failed to sweep the namespace {namespace}: {refusal}"))?;
        }
        Ok(())
    })
}

/// Completes on SIGTERM or SIGINT.
fn termination() -> io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Who this controller is in Events: its pod's name, else its host's; and among the replicas.
fn instance() -> (String, Identity) {
    let trimmed = |name: String| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    if let Some(name) = std::env::var("POD_NAME").ok().and_then(trimmed) {
        return (name.clone(), Identity::of_pod(name));
    }
    let name = std::fs::read_to_string("/etc/hostname").ok().and_then(trimmed).unwrap_or_else(|| "podium".into());
    (name.clone(), Identity::of_host(name))
}
