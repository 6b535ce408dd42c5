//! What is logged, and how.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use podium::controller::SetLog;
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
    /// Logs to stderr from now on. Returns what changes what is logged.
    ///
    /// # Errors
    /// Directives that are not understood.
    pub fn begin(self) -> Result<SetLog, String> {
        let Self { log_format, log } = self;
        let begins = filter(&log).map_err(|error| format!("--log {log:?} is not understood: {error}"))?;
        let subscriber = tracing_subscriber::fmt().with_env_filter(begins).with_writer(io::stderr);
        Ok(match log_format {
            LogFormat::Text => {
                let subscriber = subscriber.with_target(false).with_ansi(io::stderr().is_terminal());
                let subscriber = subscriber.with_filter_reloading();
                let handle = subscriber.reload_handle();
                subscriber.init();
                Arc::new(move |log| handle.reload(filter(log)?).map_err(|error| error.to_string()))
            }
            LogFormat::Json => {
                let subscriber = subscriber.json().flatten_event(true).with_filter_reloading();
                let handle = subscriber.reload_handle();
                subscriber.init();
                Arc::new(move |log| handle.reload(filter(log)?).map_err(|error| error.to_string()))
            }
        })
    }
}

/// What goes wrong with requests is said by Podium, once and with the remedy; the client would say it again.
fn filter(log: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(format!("kube_client=off,kube_runtime=off,{log}")).map_err(|error| error.to_string())
}
