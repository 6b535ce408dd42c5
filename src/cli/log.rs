//! What is logged, and how.

use std::io;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

#[derive(Clone, Debug, Default, Args)]
pub struct LogArgs {
    /// How log lines look.
    #[arg(long, env = "PODIUM_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, or directives such as `podium=debug,kube_client=debug`.
    #[arg(long, env = "PODIUM_LOG", default_value = "info")]
    log: String,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LogArgs {
    /// Logs to stderr from now on.
    ///
    /// # Errors
    /// Directives that are not understood.
    pub fn begin(self) -> Result<(), String> {
        let Self { log_format, log } = self;
        // What goes wrong with requests is said by Podium, once and with the remedy; the client would say it again.
        let filter = EnvFilter::try_new(format!("kube_client=off,kube_runtime=off,{log}"))
            .map_err(|error| format!("--log {log:?} is not understood: {error}"))?;
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
        match log_format {
            LogFormat::Text => subscriber.with_target(false).with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
            LogFormat::Json => subscriber.json().flatten_event(true).init(),
        }
        Ok(())
    }
}
