//! The command line.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use k8s_openapi::jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use podium::controller::observe::settings::LabelKeys;
use podium::controller::observe::world::Scope;
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
    /// Print the CustomResourceDefinition of Election, for `kubectl apply -f -`.
    Crd,
}

#[derive(Debug, Args)]
struct ControllerArgs {
    /// Serve these namespaces only, separated by commas. Default: the whole cluster.
    #[arg(long, env = "PODIUM_NAMESPACES", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// The label keys that Elections may use, separated by commas; `*/name` stands for any prefix.
    #[arg(long, env = "PODIUM_LABEL_KEYS", value_delimiter = ',', default_value = "leader,*/leader")]
    label_keys: Vec<String>,
    /// How log lines look.
    #[arg(long, env = "PODIUM_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, or directives such as `podium=debug,kube_client=debug`.
    #[arg(long, env = "PODIUM_LOG", default_value = "info")]
    log: String,
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
        Command::Controller(args) => run_controller(args),
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
    let ControllerArgs { namespaces, label_keys, log_format, log } = args;
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
    let options =
        Options { scope, label_keys: LabelKeys::new(label_keys), instance: instance(), clock: Arc::new(Timestamp::now) };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("failed to start: {error}"))?;
    let result = runtime.block_on(async {
        let stop = termination().map_err(|error| format!("failed to listen for signals: {error}"))?;
        controller::run(client().await?, options, stop).await.map_err(|error| error.to_string())
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// A client without retries of its own: they would hide whether the first write was applied.
async fn client() -> Result<Client, String> {
    // Named or none: the current context of whoever starts this may be any cluster.
    let config = match Kubeconfig::from_env() {
        Ok(Some(kubeconfig)) => Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await,
        Ok(None) => return in_cluster(),
        Err(error) => Err(error),
    };
    client_of(config.map_err(|error| format!("the file that KUBECONFIG names cannot be used: {error}"))?)
}

fn in_cluster() -> Result<Client, String> {
    let config = Config::incluster().map_err(|error| {
        format!("no cluster to work with: set KUBECONFIG to a kubeconfig file, or run inside a cluster ({error})")
    })?;
    client_of(config)
}

fn client_of(mut config: Config) -> Result<Client, String> {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    // kube waits for the answer to a list, or for a watch to begin, for ever. A watch is ended by the server after 290 s, so
    // a connection that is silent for longer is dead.
    config.read_timeout = Some(Duration::from_secs(300));
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|error| format!("the cluster's configuration cannot be used: {error}"))
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

/// Who this controller is: its pod's name, else its host's.
fn instance() -> String {
    let hostname = || std::fs::read_to_string("/etc/hostname").ok();
    let name = std::env::var("POD_NAME").ok().or_else(hostname).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "podium".into() } else { name.into() }
}
