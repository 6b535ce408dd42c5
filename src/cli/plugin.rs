//! The commands of the kubectl plugin that show an Election, and change its leader.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use podium::plugin::change::{self, How};
use podium::plugin::cluster::Cluster;
use podium::plugin::console;
use podium::plugin::failure::Failure;
use podium::plugin::{explain, history, leader, status, suspend, switchover};

use super::client;
use super::leader_elect::duration;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Show Elections in a table, or one Election in detail: leader, term, candidates in the order of succession, conditions and
    /// last changes.
    Status(StatusArgs),
    /// Explain one Election: which candidates are eligible, which one would lead next and why, and what would have to change.
    Explain(ExplainArgs),
    /// Print the name of the leader's pod, as in `kubectl logs $(kubectl podium leader web)`. Exits with 1 if no pod leads.
    Leader(NameArgs),
    /// Show the changes of leader that are still known, oldest first: time, term, leader and cause.
    History(ExplainArgs),
    /// Request a planned change of leader.
    Switchover(SwitchoverArgs),
    /// Suspend elections: the leader stays, and no other pod is elected.
    Suspend(SuspendArgs),
    /// Resume suspended elections.
    Resume(SuspendArgs),
}

/// The cluster, as kubectl selects it.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Kubeconfig file. Default: the files in $KUBECONFIG, then `~/.kube/config`, then the cluster that the command runs in.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig. Default: its current context.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Namespace. Default: that of the context.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Json,
    Yaml,
    Wide,
    Name,
}

/// The form of an explanation.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Document {
    Json,
    Yaml,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DryRun {
    None,
    Client,
    Server,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Election. Default: all of the namespace.
    #[arg(value_name = "NAME", conflicts_with_all = ["all_namespaces", "selector"])]
    name: Option<String>,
    /// Show the Elections of all namespaces.
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Label selector of Elections.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// Form of the output.
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Format>,
    /// Print changes until interrupted, each Election as a row of the table.
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub struct NameArgs {
    /// Election.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Election.
    #[arg(value_name = "NAME")]
    name: String,
    /// Form of the output.
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Document>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// How a change is made.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Only check the change: `client` sends nothing, `server` lets the API server check it without storing it.
    #[arg(long, value_name = "MODE", default_value = "none")]
    dry_run: DryRun,
    /// Wait until the change has taken effect. Exits with 1 and what it waits for after --timeout.
    #[arg(long)]
    wait: bool,
    /// Time to wait.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    timeout: Duration,
}

#[derive(Debug, Args)]
pub struct SwitchoverArgs {
    /// Election.
    #[arg(value_name = "NAME")]
    name: String,
    /// Pod that becomes the leader. Default: the next in the order of succession.
    #[arg(long, value_name = "POD")]
    to: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub struct SuspendArgs {
    /// Election.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

impl ChangeArgs {
    fn how(self) -> How {
        let Self { dry_run, wait, timeout } = self;
        let dry_run = match dry_run {
            DryRun::None => change::DryRun::None,
            DryRun::Client => change::DryRun::Client,
            DryRun::Server => change::DryRun::Server,
        };
        How { dry_run, wait: wait.then_some(timeout) }
    }
}

impl ClusterArgs {
    async fn connect(self) -> Result<Cluster, Failure> {
        let Self { kubeconfig, context, namespace } = self;
        let connected = client::of_user(kubeconfig.as_deref(), context.as_deref()).await;
        let (client, default_namespace) = connected.map_err(Failure::Failed)?;
        let namespace = namespace.filter(|namespace| !namespace.is_empty()).unwrap_or(default_namespace);
        Ok(Cluster { client, namespace })
    }
}

fn document(format: Option<Document>) -> console::Output {
    match format {
        None => console::Output::Text,
        Some(Document::Json) => console::Output::Json,
        Some(Document::Yaml) => console::Output::Yaml,
    }
}

/// Runs the command.
pub fn run(command: PluginCommand) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("failed to start: {error}"))?;
    let result = runtime.block_on(dispatch(command));
    // A closed pipe is no error.
    result.map_err(Failure::message).or_else(|message| message.map_or(Ok(()), Err))
}

async fn dispatch(command: PluginCommand) -> Result<(), Failure> {
    match command {
        PluginCommand::Status(StatusArgs { name, all_namespaces, selector, output, watch, cluster }) => {
            let output = match output {
                None => console::Output::Text,
                Some(Format::Json) => console::Output::Json,
                Some(Format::Yaml) => console::Output::Yaml,
                Some(Format::Wide) => console::Output::Wide,
                Some(Format::Name) => console::Output::Name,
            };
            let options = status::Options { name, all_namespaces, selector, output, watch };
            status::run(&cluster.connect().await?, &options).await
        }
        PluginCommand::Explain(ExplainArgs { name, output, cluster }) => {
            explain::run(&cluster.connect().await?, &name, document(output)).await
        }
        PluginCommand::Leader(NameArgs { name, cluster }) => leader::run(&cluster.connect().await?, &name).await,
        PluginCommand::History(ExplainArgs { name, output, cluster }) => {
            history::run(&cluster.connect().await?, &name, document(output)).await
        }
        PluginCommand::Switchover(SwitchoverArgs { name, to, change, cluster }) => {
            switchover::run(&cluster.connect().await?, &name, to.as_deref(), change.how()).await
        }
        PluginCommand::Suspend(SuspendArgs { name, change, cluster }) => {
            suspend::run(&cluster.connect().await?, &name, true, change.how()).await
        }
        PluginCommand::Resume(SuspendArgs { name, change, cluster }) => {
            suspend::run(&cluster.connect().await?, &name, false, change.how()).await
        }
    }
}
