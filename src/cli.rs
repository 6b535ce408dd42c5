//! The command line.

mod client;
mod environment;
mod leader_elect;
mod list;
mod log;
mod old;
mod plugin;
mod pod;
mod ready;
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
use clap::{ArgAction, ArgGroup, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use client::{EXPLICIT, client};
use k8s_openapi::jiff::Timestamp;
use leader_elect::LeaderElectArgs;
use list::List;
use log::LogArgs;
use plugin::PluginCommand;
use podium::controller;
use podium::controller::cleanup::command::{self, Removed};
use podium::controller::identity::Identity;
use podium::controller::key::Scope;
use podium::controller::kube_server::KubeServer;
use podium::controller::limits::Limits;
use podium::controller::options::{Http, Options, Telemetry};
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
    /// Run the controller: watch Elections, their Leases and pods, and elect leaders. Connects to the cluster in $KUBECONFIG, or to
    /// the cluster that it runs in.
    Controller(ControllerArgs),
    /// Remove Podium's labels from pods: after narrowing the controller's --namespaces, or before uninstalling Podium. Elections and
    /// Leases stay. A running controller labels the leaders of its Elections again.
    Cleanup(CleanupArgs),
    /// Report the leader to the application in the same pod, by HTTP and in a file: the leader of an Election, or with `--mode
    /// campaign` the leader that the sidecars elect among themselves.
    Sidecar(SidecarArgs),
    /// Run a command only while this pod is the leader. Exits with the command's exit code.
    Run(RunArgs),
    #[command(flatten)]
    Plugin(PluginCommand),
    /// Print the CustomResourceDefinition of Election, for `kubectl apply -f -`.
    Crd,
    /// Print the reference page of the controller's metrics and Events, in Markdown.
    #[command(hide = true)]
    Metrics,
    /// Started by the sidecar, not by users: writes the status file and runs the command.
    #[command(hide = true)]
    Watchdog,
}

#[derive(Debug, Args)]
struct ControllerArgs {
    /// Namespaces to serve, separated by commas. Default: the whole cluster.
    #[arg(long, env = "PODIUM_NAMESPACES", value_parser = list::namespaces, value_name = "NAMESPACES")]
    namespaces: Vec<List>,
    /// Label keys that Elections may use, separated by commas; `*/name` allows any prefix.
    #[arg(
        long,
        env = "PODIUM_ALLOWED_LABEL_KEYS",
        value_parser = list::label_keys,
        value_name = "LABEL_KEYS",
        default_value = list::LABEL_KEYS
    )]
    allowed_label_keys: Vec<List>,
    /// Address to serve /healthz, /readyz and /metrics on: `:8080`, `127.0.0.1:8080`, `[::1]:8080`. Default: none.
    #[arg(long, env = "PODIUM_HTTP", value_name = "ADDRESS:PORT")]
    http: Option<String>,
    /// Serve series for each Election on /metrics, with its name and its leader as labels.
    #[arg(
        long,
        env = "PODIUM_METRICS_PER_ELECTION",
        value_name = "true|false",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true"
    )]
    metrics_per_election: bool,
    #[command(flatten)]
    leader_elect: LeaderElectArgs,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where").required(true))]
struct CleanupArgs {
    /// Namespaces to clean up, separated by commas.
    #[arg(long, short, value_parser = list::namespaces, value_name = "NAMESPACES", group = "where")]
    namespaces: Vec<List>,
    /// Clean up all namespaces.
    #[arg(long, short = 'A', group = "where")]
    all_namespaces: bool,
    /// Label keys that the controller was allowed to write. On pods of deleted Elections, the labels under these keys that Podium
    /// set are removed.
    #[arg(
        long,
        env = "PODIUM_ALLOWED_LABEL_KEYS",
        value_parser = list::label_keys,
        value_name = "LABEL_KEYS",
        default_value = list::LABEL_KEYS
    )]
    allowed_label_keys: Vec<List>,
    /// Only print the labels that would be removed.
    #[arg(long)]
    dry_run: bool,
}

/// An error message and the exit code: 2 for an invalid command line or environment, otherwise 1 or the command's own.
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

/// Parses the command line and runs the subcommand.
pub fn run() -> ExitCode {
    let done = |()| 0;
    let result = match parse() {
        Command::Crd => print_crd().map(done).map_err(Failure::from),
        Command::Metrics => print("the page", &podium::controller::monitor::table::page()).map(done).map_err(Failure::from),
        Command::Controller(args) => run_controller(args).map(done).map_err(Failure::from),
        Command::Cleanup(args) => run_cleanup(args).map(done).map_err(Failure::from),
        Command::Plugin(command) => plugin::run(command).map(done).map_err(Failure::from),
        Command::Sidecar(args) => sidecar::begin(args, None).map(drop).map(done),
        Command::Run(args) => run::run_command(args),
        Command::Watchdog => run_watchdog().map(done).map_err(Failure::from),
    };
    let Failure { code, message } = match result {
        Ok(code) => return ExitCode::from(code),
        Err(failure) => failure,
    };
    eprintln!("podium: {message}");
    ExitCode::from(code)
}

fn run_watchdog() -> Result<(), String> {
    podium::watchdog::process::run().map_err(|error| format!("the watchdog failed: {error}"))
}

/// Parses a command line with a subcommand, or that of one of the old sidecars.
fn parse() -> Command {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Skips the parser, whose code pages would be half of the watchdog's memory.
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
        // The reader closed the pipe, for example `head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| format!("failed to print {what}: {error}")),
    }
}

fn run_controller(args: ControllerArgs) -> Result<(), String> {
    let ControllerArgs { namespaces, allowed_label_keys, http, metrics_per_election, leader_elect, log } = args;
    #[cfg(not(feature = "otlp"))]
    let set_log = log.begin()?;
    #[cfg(feature = "otlp")]
    let (set_log, export) = log.begin_exporting()?;
    let telemetry = Telemetry { set_log, per_election: metrics_per_election };
    let http = http.map(|address| Http { address, telemetry });
    let namespaces: BTreeSet<String> = list::entries(namespaces);
    let scope = if namespaces.is_empty() { Scope::Cluster } else { Scope::Namespaces(namespaces) };
    let label_keys = list::patterns(allowed_label_keys);
    let (instance, identity) = instance();
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("failed to start: {error}"))?;
    let result = runtime.block_on(async {
        let stop = termination().map_err(|error| format!("failed to listen for signals: {error}"))?;
        let (client, place) = client(EXPLICIT).await?;
        let (own_lease, candidacy) = leader_elect.candidacy(&scope, place, identity)?;
        let limits = Limits { label_keys, own_lease: Some(own_lease) };
        let options = Options { scope, limits, instance, clock: Arc::new(Timestamp::now), candidacy, http };
        controller::run(client, options, stop).await.map_err(|error| error.to_string())
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    // After the last reconcile.
    #[cfg(feature = "otlp")]
    if let Some(export) = export {
        export.end();
    }
    result
}

fn run_cleanup(args: CleanupArgs) -> Result<(), String> {
    let CleanupArgs { namespaces, all_namespaces, allowed_label_keys, dry_run } = args;
    let namespaces: BTreeSet<String> = list::entries(namespaces);
    let limits = Limits { label_keys: list::patterns(allowed_label_keys), own_lease: None };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("failed to start: {error}"))?;
    runtime.block_on(async {
        let (client, _) = client(EXPLICIT).await?;
        let server = KubeServer::new(client.clone(), limits.clone());
        let namespaces = if all_namespaces { command::namespaces(&client).await? } else { namespaces };
        for namespace in namespaces {
            let print = |Removed { pod, key, value, restored }: &Removed| {
                let dry = if dry_run { " (dry run)" } else { "" };
                let done = restored.as_ref().map_or("removed".into(), |restored| format!("replaced by {restored}"));
                // The cleanup continues if the reader closes the pipe.
                let _ = writeln!(io::stdout(), "{namespace}/{pod}: {key}={value} {done}{dry}");
            };
            let removed = command::clean_up_namespace(&server, &namespace, &limits.label_keys, dry_run, print).await;
            removed.map_err(|refusal| format!("failed to clean up the namespace {namespace}: {refusal}"))?;
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

/// Returns the controller's name in Events, its pod's or its host's, and its identity among the replicas.
fn instance() -> (String, Identity) {
    let trimmed = |name: String| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    if let Some(name) = std::env::var("POD_NAME").ok().and_then(trimmed) {
        return (name.clone(), Identity::of_pod(name));
    }
    let name = std::fs::read_to_string("/etc/hostname").ok().and_then(trimmed).unwrap_or_else(|| "podium".into());
    (name.clone(), Identity::of_host(name))
}
