//! The command line.

mod leader_elect;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use k8s_openapi::jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use leader_elect::{LeaderElectArgs, Place};
use podium::controller::identity::Identity;
use podium::controller::observe::settings::{LabelKeys, Limits};
use podium::controller::observe::world::Scope;
use podium::controller::server::KubeServer;
use podium::controller::sweep::command::{self, Swept};
use podium::controller::{self, Options};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

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
    /// Print the CustomResourceDefinition of Election, for `kubectl apply -f -`.
    Crd,
    /// Started by the sidecar, never by people: keeps the status file and runs the command.
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Keeper,
}

#[derive(Debug, Args)]
struct ControllerArgs {
    /// Serve these namespaces only, separated by commas. Default: the whole cluster.
    #[arg(long, env = "PODIUM_NAMESPACES", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// The label keys that Elections may use, separated by commas; `*/name` stands for any prefix.
    #[arg(long, env = "PODIUM_LABEL_KEYS", value_delimiter = ',', default_value = "leader,*/leader")]
    label_keys: Vec<String>,
    #[command(flatten)]
    leader_elect: LeaderElectArgs,
    /// How log lines look.
    #[arg(long, env = "PODIUM_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, or directives such as `podium=debug,kube_client=debug`.
    #[arg(long, env = "PODIUM_LOG", default_value = "info")]
    log: String,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where").required(true))]
struct SweepArgs {
    /// The namespaces to sweep, separated by commas.
    #[arg(long, short, value_delimiter = ',', group = "where")]
    namespaces: Vec<String>,
    /// Sweep all namespaces.
    #[arg(long, short = 'A', group = "where")]
    all_namespaces: bool,
    /// The label keys that the controller was allowed to write. Pods that were claimed by an Election which is gone lose every
    /// label under these.
    #[arg(long, env = "PODIUM_LABEL_KEYS", value_delimiter = ',', default_value = "leader,*/leader")]
    label_keys: Vec<String>,
    /// Only print what would be removed.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Parses the command line and runs what it says.
pub fn run() -> ExitCode {
    let Cli { command } = Cli::parse();
    let result = match command {
        Command::Crd => print_crd(),
        #[cfg(target_os = "linux")]
        Command::Keeper => podium::keeper::process::run().map_err(|error| format!("failed to keep the lead: {error}")),
        Command::Controller(args) => run_controller(args),
        Command::Sweep(args) => run_sweep(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("podium: {message}");
            ExitCode::FAILURE
        }
    }
}

fn print_crd() -> Result<(), String> {
    let yaml = serde_yaml::to_string(&podium::api::custom_resource_definition())
        .map_err(|error| format!("failed to print the CustomResourceDefinition: {error}"))?;
    match io::stdout().write_all(yaml.as_bytes()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| format!("failed to print the CustomResourceDefinition: {error}")),
    }
}

fn run_controller(args: ControllerArgs) -> Result<(), String> {
    let ControllerArgs { namespaces, label_keys, leader_elect, log_format, log } = args;
    // What goes wrong with requests is said by the controller, once and with the remedy; the client would say it again.
    let filter = EnvFilter::try_new(format!("kube_client=off,kube_runtime=off,{log}"))
        .map_err(|error| format!("--log {log:?} is not understood: {error}"))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match log_format {
        LogFormat::Text => subscriber.with_target(false).with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    let namespaces: Vec<String> = namespaces.into_iter().filter(|namespace| !namespace.is_empty()).collect();
    let scope = if namespaces.is_empty() { Scope::Cluster } else { Scope::Namespaces(namespaces.into_iter().collect()) };
    let label_keys = LabelKeys::new(label_keys);
    let (instance, identity) = instance();
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("failed to start: {error}"))?;
    let result = runtime.block_on(async {
        let stop = termination().map_err(|error| format!("failed to listen for signals: {error}"))?;
        let (client, place) = client().await?;
        let (own_lease, candidacy) = leader_elect.candidacy(&scope, place, identity)?;
        let limits = Limits { label_keys, own_lease: Some(own_lease) };
        let options = Options { scope, limits, instance, clock: Arc::new(Timestamp::now), candidacy };
        controller::run(client, options, stop).await.map_err(|error| error.to_string())
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

fn run_sweep(args: SweepArgs) -> Result<(), String> {
    let SweepArgs { namespaces, all_namespaces, label_keys, dry_run } = args;
    let limits = Limits { label_keys: LabelKeys::new(label_keys), own_lease: None };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("failed to start: {error}"))?;
    runtime.block_on(async {
        let (client, _) = client().await?;
        let server = KubeServer::new(client.clone(), limits.clone());
        let namespaces = if all_namespaces { command::namespaces(&client).await? } else { namespaces.into_iter().collect() };
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

/// A client without retries of its own: they would hide whether the first write was applied.
async fn client() -> Result<(Client, Place), String> {
    // Named or none: the current context of whoever starts this may be any cluster.
    let (mut config, in_cluster) = match Kubeconfig::from_env() {
        Ok(Some(kubeconfig)) => {
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
            (config.map_err(|error| unusable(&error))?, false)
        }
        Ok(None) => (in_cluster()?, true),
        Err(error) => return Err(unusable(&error)),
    };
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    // kube waits for the answer to a list, or for a watch to begin, for ever. A watch is ended by the server after 290 s, so
    // a connection that is silent for longer is dead.
    config.read_timeout = Some(Duration::from_secs(300));
    config.reset_reader_on_write = true;
    let default_namespace = config.default_namespace.clone();
    let told = std::env::var("POD_NAMESPACE").ok().filter(|namespace| !namespace.is_empty());
    let pod_namespace = told.or_else(|| in_cluster.then(|| default_namespace.clone()));
    let client = Client::try_from(config).map_err(|error| format!("the cluster's configuration cannot be used: {error}"))?;
    Ok((client, Place { pod_namespace, default_namespace }))
}

fn unusable(error: &kube::config::KubeconfigError) -> String {
    format!("the file that KUBECONFIG names cannot be used: {error}")
}

fn in_cluster() -> Result<Config, String> {
    Config::incluster().map_err(|error| {
        format!("no cluster to work with: set KUBECONFIG to a kubeconfig file, or run inside a cluster ({error})")
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
